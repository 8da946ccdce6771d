"""The DICOM images that a map was made from: whose they are, and where each lies."""

from __future__ import annotations

import gzip
import os
import warnings
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.grid import Grid, fault_of, lay_out
from napari_metaqsm.io.nifti import Space

_UNREADABLE = (
    InvalidDicomError,
    OSError,
    EOFError,
    zlib.error,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    NotImplementedError,
)
_PHASE_WORDS = {"P", "PHASE", "PHASE MAP", "PHASE DIFFERENCE"}
_MAGNITUDE_WORDS = {"M", "MAGNITUDE", "M_FFE", "M_SE", "M_IR"}
_GREATEST_TURN = 1e-3  # between images of one stack: rounding of direction cosines


@dataclass(frozen=True)
class ImageReference:
    """One image of the source: an instance, or a frame of one, counted from 1."""

    sop_class: str
    sop_instance: str
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class Stack:
    """Parallel images of one part and one echo, each place once.

    Parameters
    ----------
    header : the elements of the whole file of its first image, without its pixels, its frames and what
        is private
    images : one for each position of ``grid``
    part : "magnitude", "phase" or "other"
    """

    header: pydicom.Dataset
    grid: Grid
    images: tuple[ImageReference, ...]
    part: str
    echo_time_ms: float | None


@dataclass(frozen=True, eq=False)
class Source:
    """The stacks of one study, in the order in which they are taken to have given a map.

    Parameters
    ----------
    series_numbers : all that are taken among the files
    """

    stacks: tuple[Stack, ...]
    series_numbers: frozenset[int]

    def stack_of(self, space: Space) -> Stack:
        """The stack that maps of ``space`` were made from.

        Raises
        ------
        InputError
            When the space is not known, or lies in no stack.
        """
        if not space.known:
            raise InputError("the maps hold no affine; where they lie in the DICOM series is not known")
        faults = []
        for stack in self.stacks:
            fault = fault_of(lay_out(space, stack.grid).grid, stack.grid)
            if not fault:
                return stack
            faults.append(fault)
        raise InputError(
            f"the map lies elsewhere than the DICOM series: {faults[0]}; give the series it was made from"
        )


def read_source(dicom_paths: str | os.PathLike | Sequence[str | os.PathLike]) -> Source:
    """Read whose the images are and where they lie: classic or enhanced, compressed by gzip or not.

    Parameters
    ----------
    dicom_paths : files, or folders with files at any depth; what is no DICOM image is passed over

    Returns
    -------
    Source; magnitudes come first that lie where a phase lies, the earliest echo before the others

    Raises
    ------
    InputError
        When there are no images, or images of several patients or studies.
    """
    given = [dicom_paths] if isinstance(dicom_paths, (str, os.PathLike)) else list(dicom_paths)
    frames: dict[tuple, list[_Frame]] = defaultdict(list)
    headers: dict[Path, pydicom.Dataset] = {}
    for path in _files(map(Path, given)):
        header = _read_header(path)
        if header is None:
            continue
        for frame in _frames(header, path):
            frames[frame.key].append(frame)
            headers[path] = header
    if not headers:
        names = ", ".join(str(path) for path in given[:3]) or "the list of paths"
        raise InputError(f"{names} holds no MR images in DICOM; give the series that the maps were made from")
    _check_one_study(list(headers.values()))
    stacks = [_stack(alike, headers) for alike in frames.values()]
    places = [stack.grid for stack in stacks if stack.part == "phase"]
    stacks.sort(
        key=lambda s: (
            s.part != "magnitude",
            not any(_same_place(s.grid, place) for place in places),
            int(s.header.get("SeriesNumber") or 0),
            s.echo_time_ms or 0.0,
        )
    )
    numbers = frozenset(int(h.get("SeriesNumber") or 0) for h in headers.values())
    return Source(tuple(stacks), numbers)


# ------------------------------------------------------------------------------------------ files
def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            for folder, _, names in os.walk(path):
                yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))
        elif path.is_file():
            yield path
        else:
            raise InputError(f"{path} does not exist; give a folder or files in DICOM")


def _read_header(path: Path) -> pydicom.Dataset | None:
    """Everything but the pixels; None where it is no MR image."""
    try:
        with open(path, "rb") as file:
            start = file.read(132)
        compressed = start[:2] == b"\x1f\x8b"
        if not compressed and start[128:] != b"DICM":
            return None
        with gzip.open(path) if compressed else open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are not as the standard has them
            header = pydicom.dcmread(file, stop_before_pixels=True)
    except _UNREADABLE:
        return None
    return header if header.get("Modality") == "MR" and header.get("Rows") else None


def _check_one_study(headers: Sequence[pydicom.Dataset]) -> None:
    for keyword, what in (("PatientID", "patients"), ("StudyInstanceUID", "studies")):
        found = {str(header.get(keyword) or "") for header in headers}
        if len(found) > 1:
            raise InputError(f"there are images of {len(found)} {what}; give those of one")
    if not headers[0].get("StudyInstanceUID"):
        raise InputError("the images name no study (StudyInstanceUID); it must be inherited")


# ----------------------------------------------------------------------------------------- frames
@dataclass(frozen=True, eq=False)
class _Frame:
    """One image, wherever it stood."""

    path: Path
    reference: ImageReference
    series: str
    part: str
    echo_time_ms: float | None
    orientation: np.ndarray
    position: np.ndarray
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]

    @property
    def key(self) -> tuple:
        """What images of one stack have in common."""
        turned = tuple(np.round(self.orientation / _GREATEST_TURN).astype(int).ravel())
        return self.series, self.part, self.echo_time_ms, turned, self.spacing_mm, self.shape


def _frames(header: pydicom.Dataset, path: Path) -> Iterator[_Frame]:
    """Every image of a file that lies somewhere."""
    shared = next(iter(header.get("SharedFunctionalGroupsSequence") or ()), pydicom.Dataset())
    each = header.get("PerFrameFunctionalGroupsSequence")
    for number, own in enumerate(each or [header], 1):
        groups = [own, shared, header]
        try:
            orientation = np.array(
                _find(groups, "PlaneOrientationSequence", "ImageOrientationPatient"), float
            )
            position = np.array(_find(groups, "PlanePositionSequence", "ImagePositionPatient"), float)
            spacing = np.array(_find(groups, "PixelMeasuresSequence", "PixelSpacing"), float)
            echo = _find(groups, "MREchoSequence", "EffectiveEchoTime" if each else "EchoTime")
            if orientation.shape != (6,) or position.shape != (3,) or spacing.shape != (2,):
                continue
            directions = orientation.reshape(2, 3)
            lengths = np.linalg.norm(directions, axis=1, keepdims=True)
            if not np.isfinite([*position, *spacing, *orientation]).all() or lengths.min() < 0.5:
                continue
            yield _Frame(
                path,
                ImageReference(str(header.SOPClassUID), str(header.SOPInstanceUID), number if each else None),
                str(header.get("SeriesInstanceUID")),
                _part(groups),
                float(echo) if echo not in (None, "") else None,
                directions / lengths,
                position,
                (float(spacing[0]), float(spacing[1])),
                (int(header.Rows), int(header.Columns)),
            )
        except _UNREADABLE:
            continue


def _find(groups: Sequence[pydicom.Dataset], sequence: str, keyword: str) -> object:
    """A value of a frame: in its functional group, the shared one, or the header of a classic image."""
    for group in groups:
        for item in (*(group.get(sequence) or ()), group):
            value = item.get(keyword)
            if value not in (None, ""):
                return value
    return None


def _part(groups: Sequence[pydicom.Dataset]) -> str:
    component = str(_find(groups, "MRImageFrameTypeSequence", "ComplexImageComponent") or "").lower()
    if component in ("magnitude", "phase"):
        return component
    kind = _find(groups, "MRImageFrameTypeSequence", "FrameType") or groups[-1].get("ImageType") or ()
    words = {str(word).upper() for word in (kind if isinstance(kind, MultiValue) else [kind])}
    if "MOSAIC" in words:  # a whole volume in one image, whose position is not that of its slices
        return "other"
    return "phase" if words & _PHASE_WORDS else "magnitude" if words & _MAGNITUDE_WORDS else "other"


# ----------------------------------------------------------------------------------------- stacks
def _stack(frames: Sequence[_Frame], headers: dict[Path, pydicom.Dataset]) -> Stack:
    first = frames[0]
    normal = np.cross(*first.orientation)
    ordered = sorted(frames, key=lambda frame: float(frame.position @ normal))
    along = np.array([frame.position @ normal for frame in ordered])
    # An image that was sent twice, or measured again at its place, is there once.
    kept = [0, *(n for n in range(1, len(ordered)) if along[n] - along[n - 1] > 1e-3)]
    header = headers[ordered[0].path]
    if len(kept) > 1:
        spacing = float(np.median(np.diff(along[kept])))
    else:
        thickness = header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1.0
        spacing = float(thickness)
    positions = np.array([ordered[n].position for n in kept])
    grid = Grid(first.orientation, first.spacing_mm, first.shape, positions, spacing)
    references = tuple(ordered[n].reference for n in kept)
    return Stack(_without_frames(header), grid, references, first.part, first.echo_time_ms)


def _without_frames(header: pydicom.Dataset) -> pydicom.Dataset:
    kept = pydicom.Dataset()
    for element in header:
        if not element.tag.is_private and element.keyword not in (
            "SharedFunctionalGroupsSequence",
            "PerFrameFunctionalGroupsSequence",
        ):
            kept.add(element)
    return kept


def _same_place(one: Grid, other: Grid) -> bool:
    return (
        one.size == other.size
        and float(np.abs(one.positions - other.positions).max()) < one.tolerance_mm
        and float(np.abs(one.steps_mm - other.steps_mm).max()) < one.tolerance_mm / max(one.shape)
    )

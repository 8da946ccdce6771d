"""The DICOM images that a map was made from: whose they are, and where each lies."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.errors import BytesLengthException
from pydicom.uid import generate_uid

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.files import open_unpacked
from napari_metaqsm.io.dicom.fingerprint import series_of
from napari_metaqsm.io.dicom.grid import Grid, Layout, lay_out, settle
from napari_metaqsm.io.dicom.headers import Headers, read_headers
from napari_metaqsm.io.dicom.series import find_runs
from napari_metaqsm.io.dicom.stacks import Stack, stack
from napari_metaqsm.io.nifti import Space

# Unit vectors whose length is off by less are so by their decimals; they stay as they stand there.
_ROUNDED = 1e-4
_COMPLEX = ("real", "imaginary")
UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
_OF_FRAMES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


@dataclass(frozen=True)
class ImageReference:
    """One image of the source: an instance, or a frame of one, counted from 1."""

    sop_class: str
    sop_instance: str
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class Original:
    """Parallel images of one part and one echo, each place once.

    Parameters
    ----------
    header : the file of its first image, without its pixels, its frames and what is private
    images : one for each position of ``grid``
    stack : as it was read; the maps hold nothing of it
    """

    header: pydicom.Dataset
    grid: Grid
    images: tuple[ImageReference, ...]
    stack: Stack


@dataclass(frozen=True, eq=False)
class Source:
    """The images of one study, in the order in which they are taken to have given a map.

    Parameters
    ----------
    series_numbers : all that are taken among the files of the study, by images or by anything else
    headers : of all files
    """

    originals: tuple[Original, ...]
    series_numbers: frozenset[int]
    headers: Headers | None = None

    def lay_out(self, space: Space) -> tuple[int, Layout]:
        """Which of ``originals`` maps of ``space`` were made from, and their layout among its images.

        Raises
        ------
        InputError
            When the space is not known, or lies in none.
        """
        if not (space.known and np.isfinite(space.affine).all() and np.linalg.det(space.affine)):
            raise InputError("the maps hold no affine; where they lie in the DICOM series is not known")
        first: InputError | None = None
        for number, original in enumerate(self.originals):
            try:
                layout = lay_out(space, original.grid)
                return number, replace(layout, grid=settle(layout.grid, original.grid))
            except InputError as error:
                first = first or error
        raise InputError(f"{first}; give the series that it was made from") from first

    def check_made(self, record: Mapping[str, Any]) -> None:
        """Refuse maps that the record says were made from other DICOM files than these.

        So no map gets the identity of another patient, or one that was taken from the files it was made
        from. Where the record names no DICOM series, as of maps made from NIfTI, their place must do.
        """
        if not self.is_of(record):
            named = _series_named(record.get("inputs"))
            numbers = ", ".join(sorted({str(about["series"]) for about in named}))
            raise InputError(
                f"the maps were made from other DICOM files (series {numbers} in their record); "
                "give those, or make the maps from these"
            )

    def is_of(self, record: Mapping[str, Any]) -> bool:
        """Whether a record names the images, or no DICOM series at all."""
        named = list(_series_named(record.get("inputs")))
        wanted = [about.get("sha256") for about in named]
        # One of magnitude and phase tells; the other may have lost an echo on the way, or be elsewhere.
        return not named or any(
            about["sha256"] in wanted for alike in self._alike(named) for about in series_of(alike)
        )

    def _alike(self, named: Sequence[Mapping[str, Any]]) -> Iterator[list[Stack]]:
        """What a series in a record may have been: all images of a part, or those of them that were used."""
        numbers = {about["series"] for about in named if isinstance(about["series"], int)}
        by_part: dict[tuple[int, str], list[Stack]] = {}
        for one in (original.stack for original in self.originals):
            if one.series_number in numbers:
                # Phase that was computed from real and imaginary parts was made from both.
                part = "complex" if one.part in _COMPLEX else one.part
                by_part.setdefault((one.series_number, part), []).append(one)
        yield from by_part.values()
        # Where slices lack or files are there twice, fewer are used: those that are found in the same way.
        if self.headers is None or not numbers or not numbers <= self.series_numbers:
            return
        for difference in (None, True, False):
            for run in find_runs(self.headers, sorted(numbers), difference).runs:
                yield from ([*stacks] for part, stacks in run.parts.items() if part not in _COMPLEX)
                yield [stack for part, stacks in run.parts.items() if part in _COMPLEX for stack in stacks]


def _series_named(inputs: Any) -> Iterator[Mapping[str, Any]]:
    """The DICOM series that a record's inputs tell of: of files a list for each, of layers one inside."""
    if isinstance(inputs, Mapping) and "series" in inputs and "files" in inputs:
        yield inputs
    elif isinstance(inputs, Mapping):
        for within in inputs.values():
            yield from _series_named(within)
    elif isinstance(inputs, Sequence) and not isinstance(inputs, str):
        for within in inputs:
            yield from _series_named(within)


def read_source(
    dicom_paths: str | os.PathLike | Sequence[str | os.PathLike], record: Mapping[str, Any] | None = None
) -> Source:
    """Read whose the images are and where they lie: classic or enhanced, compressed by gzip or not.

    Parameters
    ----------
    dicom_paths : files, or folders with files at any depth; what is no DICOM image is passed over
    record : of a map; among images of several patients or studies, those that it was made from are taken

    Returns
    -------
    Source; magnitudes come first, by series and echo

    Raises
    ------
    InputError
        When there are no images, or images of several patients or studies and no record tells which.
    """
    given = [dicom_paths] if isinstance(dicom_paths, (str, os.PathLike)) else list(dicom_paths)
    headers = read_headers(given)
    if not headers.images:
        names = ", ".join(Path(path).name for path in given[:3]) or "nothing"
        why = f" ({headers.refused[0][1]})" if headers.refused else ""
        raise InputError(f"{names} holds no MR images in DICOM{why}; give the series the maps were made from")
    stacks = stack(headers.images)
    read = {path: _whole_header(path) for path in dict.fromkeys(one.header.path for one in stacks)}
    owners: dict[tuple[str, str], list[Stack]] = {}
    for one in stacks:
        owners.setdefault(_owner(read[one.header.path]), []).append(one)
    sources = {owner: _source(of_one, read, headers) for owner, of_one in owners.items()}
    named = record is not None and any(_series_named(record.get("inputs")))
    if len(sources) > 1 and named:
        sources = {owner: source for owner, source in sources.items() if source.is_of(record)} or sources
    _check_one_study(list(sources))
    return next(iter(sources.values()))


def _owner(header: pydicom.Dataset) -> tuple[str, str]:
    """Patient and study."""
    return str(header.get("PatientID") or ""), str(header.get("StudyInstanceUID") or "")


def _source(stacks: list[Stack], read: Mapping[Path, pydicom.Dataset], headers: Headers) -> Source:
    def rank(one: Stack) -> tuple:
        return (
            not one.images[0].measured,
            one.part != "magnitude",
            one.series_number,
            one.echo_time_s or 0.0,
        )

    no_frame = generate_uid(prefix=None)  # of reference, of those that name none
    originals = []
    for one in sorted(stacks, key=rank):
        header = read[one.header.path]
        if not header.get("FrameOfReferenceUID"):
            header.FrameOfReferenceUID = no_frame
        originals.append(_original(one, header))
    study = stacks[0].header.study_uid
    images = tuple(image for image in headers.images if image.header.study_uid == study)
    numbers = frozenset(number for of_study, number in headers.series if of_study == study)
    return Source(tuple(originals), numbers, dataclasses.replace(headers, images=images))


def _original(images: Stack, header: pydicom.Dataset) -> Original:
    first = images.images[0]
    directions = np.array(first.orientation).reshape(2, 3)
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    if np.abs(lengths - 1).max() > _ROUNDED:
        directions = directions / lengths
    stated = header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1.0
    grid = Grid(
        directions,
        first.spacing_mm,
        first.shape,
        np.array([image.position for image in images.images]),
        images.spacing_mm or float(stated),
    )
    references = tuple(
        ImageReference(
            str(header.SOPClassUID), image.header.sop_uid, image.frame + 1 if first.header.enhanced else None
        )
        for image in images.images
    )
    return Original(header, grid, references, images)


def _whole_header(path: Path) -> pydicom.Dataset:
    """Everything that is public, and of the whole file rather than of a frame."""
    with open_unpacked(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that are not as the standard has them
        read = pydicom.dcmread(file, stop_before_pixels=True)
        kept = pydicom.Dataset()
        for tag in [*read.keys()]:
            # What cannot be read cannot be handed on.
            with contextlib.suppress(BytesLengthException, ValueError, TypeError, ArithmeticError):
                if not tag.is_private and keyword_for_tag(tag) not in _OF_FRAMES:
                    kept.add(read[tag])
    for keyword in UIDS:
        if kept.get(keyword) and kept[keyword].VM > 1:
            raise InputError(f"{path.name} has several {keyword}s; it must have one")
    return kept


def _check_one_study(owners: Sequence[tuple[str, str]]) -> None:
    for found, what in zip(zip(*owners, strict=True), ("patients", "studies"), strict=True):
        if len(set(found)) > 1:
            raise InputError(f"there are images of {len(set(found))} {what}; give those of one")
    if not owners[0][1]:
        raise InputError("the images name no study (StudyInstanceUID), so the maps have none to join")

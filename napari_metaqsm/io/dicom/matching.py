"""Stacks to NIfTI by dcm2niix: which of its files is which stack, checked against the headers."""

from __future__ import annotations

import dataclasses
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.dcm2niix import run_dcm2niix
from napari_metaqsm.io.dicom.files import is_plain, open_unpacked
from napari_metaqsm.io.dicom.headers import Image, part_of
from napari_metaqsm.io.dicom.stacks import Stack
from napari_metaqsm.io.nifti import Space, read
from napari_metaqsm.io.sidecar import sidecar_content, sidecar_path
from napari_metaqsm.method import steps

# Corners of the converted array lie where the header says to within this part of a voxel.
_CORNER_TOLERANCE = 0.05
# Converted values follow the stored ones on a straight line to within this part of their range.
_LINE_TOLERANCE = 2e-3


class _Unpacked:
    """Where the bytes of each DICOM file lie under a plain name."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.paths: dict[Path, Path] = {}

    def __getitem__(self, path: Path) -> Path:
        if path not in self.paths:
            plain = self.folder / f"{len(self.paths):06d}.dcm"
            if is_plain(path):
                _link(path.resolve(), plain)
            else:
                with open_unpacked(path) as packed, plain.open("wb") as file:
                    shutil.copyfileobj(packed, file)
            self.paths[path] = plain
        return self.paths[path]


def _link(source: Path, link: Path) -> None:
    try:
        link.symlink_to(source)
    except OSError:  # where links are not allowed
        shutil.copyfile(source, link)


@dataclass(frozen=True)
class NIfTI:
    """A converted stack.

    Parameters
    ----------
    file : with all slices that its DICOM files hold
    space : of the slices of the stack
    voxels : where its pixels lie there, see :func:`check_place`
    cut : the slices of the stack in the file's array
    said : by dcm2niix
    """

    file: Path
    space: Space
    voxels: np.ndarray
    cut: tuple[slice, slice, slice]
    said: Mapping[str, Any]

    @property
    def frequency_mhz(self) -> float | None:
        """The imaging frequency, where it is told."""
        return self.said.get("ImagingFrequency")

    def array(self) -> np.ndarray:
        """(i, j, k), of the slices of the stack."""
        return read(self.file)[0][self.cut]


def converted_stacks(stacks: Sequence[Stack], label: str, work: Path) -> dict[int, NIfTI]:
    """Every stack as NIfTI, by ``id``; stacks that share a file are converted together.

    Raises
    ------
    InputError
        When dcm2niix makes nothing of a stack, or something that is not in the place of the headers or has
        not the values of the images.
    """
    unpacked = _Unpacked(work / "unpacked")
    jobs = _jobs(stacks)
    images: dict[int, NIfTI] = {}
    for index in steps(len(jobs), f"Converting {label}"):
        job = jobs[index]
        label = f"series {job[0].series_number}"
        folder, made = work / f"in{index}", work / f"out{index}"
        folder.mkdir()
        made.mkdir()
        for path in dict.fromkeys(image.header.path for s in job for image in s.images):
            _link(unpacked[path].resolve(), folder / unpacked[path].name)
        # It takes slices apart whose echo times differ in the last digit alone.
        alone = len(job) == 1 and not job[0].header.enhanced
        files = run_dcm2niix(folder, made, label, index / len(jobs), one_volume=alone)
        images.update(_assigned(job, files, label, unpacked))
    return images


def _jobs(stacks: Sequence[Stack]) -> list[list[Stack]]:
    jobs: list[tuple[set[Path], list[Stack]]] = []
    for one in stacks:
        files = {image.header.path for image in one.images}
        home = next((job for job in jobs if job[0] & files), None)
        if home is None:
            jobs.append((files, [one]))
        else:
            home[0].update(files)
            home[1].append(one)
    return [job for _, job in jobs]


def _assigned(
    stacks: Sequence[Stack], files: Sequence[Path], label: str, unpacked: _Unpacked
) -> dict[int, NIfTI]:
    """Which file is which stack: by part and echo time as dcm2niix states them, and by place and values."""
    said = {
        file: sidecar_content(sidecar_path(file)) if sidecar_path(file).is_file() else {} for file in files
    }
    assigned: dict[int, NIfTI] = {}
    for one in stacks:
        alone = len(stacks) == len(files) == 1
        reasons = []
        in_files = one if not one.header.enhanced else one.cut_from or one
        for file in files:
            if not alone and not _is_of(one, said[file]):
                continue
            try:
                array, space = read(file)
                voxels = check_place(in_files, space)
                _check_values(in_files, array, voxels, unpacked)
            except InputError as error:
                reasons.append(str(error))
                continue
            cut, voxels = _cut(one, in_files, voxels, space.shape)
            space = dataclasses.replace(space, shape=array[cut].shape)
            assigned[id(one)] = NIfTI(file, _exact(one, space, voxels), voxels, cut, said[file])
            break
        if id(one) not in assigned:
            why = "; ".join(reasons) or "none of its files has that part and echo time"
            raise InputError(
                f"what dcm2niix made of the {one.part.replace('_', ' ')} of {label} is not it: {why}"
            )
    return assigned


def _is_of(one: Stack, said: Mapping[str, Any]) -> bool:
    types = said.get("ImageType")
    words = [str(t).upper() for t in types] if isinstance(types, list) else []
    # It adds what it converted at the end, and nothing where that is the magnitude of a mixed file.
    part = part_of(words[-1:]) or part_of(words) or "magnitude"
    time = said.get("EchoTime")
    if one.echo_time_s is not None and isinstance(time, (int, float)) and abs(time - one.echo_time_s) > 2e-5:
        return False
    return part == one.images[0].part


# ------------------------------------------------------------------------------------- checks
def check_place(one: Stack, space: Space) -> np.ndarray:
    """Where the header's pixels lie in a converted array.

    Returns
    -------
    (4, 3) voxel indices: of the first pixel, and the steps to the next column, row and slice

    Raises
    ------
    InputError
        When they lie on no voxels of the array, or the array has more or fewer.
    """
    rows, columns = one.images[0].shape
    count = len(one.images)
    inverse = np.linalg.inv(space.affine)
    index = _in_ras(one) @ inverse[:3, :3].T
    index[0] += inverse[:3, 3]
    steps_on_grid = np.rint(index)
    reach = np.array([1, max(columns - 1, 1), max(rows - 1, 1), max(count - 1, 1)])[:, None]
    off = float(np.abs((index - steps_on_grid) * reach).max())
    ends = steps_on_grid[0] + steps_on_grid[1:].T @ np.array([columns - 1, rows - 1, count - 1])
    highest = np.maximum(steps_on_grid[0], ends)
    sizes = "×".join(map(str, space.shape))
    if space.shape != tuple(np.abs(steps_on_grid[1:].T @ np.array([columns, rows, count])).astype(int)):
        raise InputError(f"it has {sizes} voxels, but the headers {columns}×{rows}×{count}")
    if off > _CORNER_TOLERANCE or (highest != np.array(space.shape) - 1).any():
        raise InputError("its affine puts the voxels elsewhere than the headers do")
    return steps_on_grid.astype(int)


def _cut(
    one: Stack, in_files: Stack, voxels: np.ndarray, shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], np.ndarray]:
    """The part of a converted array that one stack is of the stack in the files, and its pixels there."""
    to_slice = voxels[3]
    before = in_files.images.index(one.images[0])
    ends = [voxels[0] + n * to_slice for n in (before, before + len(one.images) - 1)]
    axis = int(np.abs(to_slice).argmax())
    low, high = sorted(int(end[axis]) for end in ends)
    cut = [slice(0, size) for size in shape]
    cut[axis] = slice(low, high + 1)
    start = ends[0].copy()
    start[axis] -= low
    return tuple(cut), np.vstack([start, voxels[1:]])


def _exact(one: Stack, space: Space, voxels: np.ndarray) -> Space:
    """The space with the affine of the headers, in place of one that dcm2niix rounded on its way.

    It rounds differently for classic and for enhanced files, and the last digit of a voxel size can turn a
    phase wrap; the headers say the same in both.
    """
    affine = np.eye(4)
    place = _in_ras(one)
    affine[:3, :3] = place[1:].T @ np.linalg.inv(voxels[1:].T)
    affine[:3, 3] = place[0] - affine[:3, :3] @ voxels[0]
    header = space.header.copy()
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    return Space(space.shape, header.get_sform(), header, space.known, space.note)


def _in_ras(one: Stack) -> np.ndarray:
    """(4, 3) mm in NIfTI's sense: the first pixel, and the steps to the next column, row and slice."""
    first, last = one.images[0], one.images[-1]
    along_row, along_column = np.array(first.orientation).reshape(2, 3)
    between_rows, between_columns = first.spacing_mm
    start = np.array(first.position)
    to_slice = (np.array(last.position) - start) / max(len(one.images) - 1, 1)
    lps = np.stack([start, along_row * between_columns, along_column * between_rows, to_slice])
    return lps * [-1, -1, 1]


def _check_values(one: Stack, array: np.ndarray, voxels: np.ndarray, unpacked: _Unpacked) -> None:
    """Raise `InputError` unless the middle slice holds the stored values, up to scale and offset.

    Compressed pixels, which only dcm2niix decodes here, are not compared.
    """
    stored = _stored(one.images[len(one.images) // 2], unpacked)
    if stored is None or array.ndim != 3 or np.ptp(stored) == 0:
        return
    start, to_column, to_row, to_slice = voxels
    rows, columns = (n[..., None] for n in np.indices(stored.shape))
    at = start + to_slice * (len(one.images) // 2) + columns * to_column + rows * to_row
    values = array[tuple(np.moveaxis(at, -1, 0))].astype(np.float64)
    slope, offset = np.polyfit(stored.ravel(), values.ravel(), 1)
    if np.abs(slope * stored + offset - values).max() > _LINE_TOLERANCE * max(np.ptp(values), 1e-9):
        raise InputError("its values are not those of the DICOM images")


def _stored(image: Image, unpacked: _Unpacked) -> np.ndarray | None:
    """Stored values (row, column) of one image; None where its pixels are compressed."""
    if image.header.transfer_syntax not in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"):
        return None
    from pydicom.pixels import pixel_array

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            index = image.frame if image.header.enhanced else None
            return np.asarray(pixel_array(unpacked[image.header.path], index=index), np.float64)
        except (ValueError, AttributeError, NotImplementedError, RuntimeError, OSError):
            return None  # what dcm2niix makes of it is all there is

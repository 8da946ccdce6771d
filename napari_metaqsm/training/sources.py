"""Where susceptibility comes from: label maps of heads, maps in files, or geometric shapes alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool3d

from napari_metaqsm.errors import InputError
from napari_metaqsm.scan import Triple
from napari_metaqsm.simulation.anatomy import OUTSIDE_BRAIN

# Label that takes the place of higher numbers, all outside the brain.
SOFT = 127
# Fluid in sulci up to twice as wide belongs to the brain.
SULCUS_MM = 4.0


@dataclass(frozen=True)
class Head:
    """Labels (i, j, k) uint8 of a head, axes to the right, anterior and superior, and its brain mask."""

    labels: Tensor
    brain: Tensor
    voxel_size_mm: Triple


@dataclass(frozen=True)
class Map:
    """A susceptibility map (i, j, k) in ppm, zero outside the brain."""

    susceptibility: Tensor
    voxel_size_mm: Triple


@dataclass(frozen=True)
class Sources:
    """What subjects are made from; with neither heads nor maps, from geometric shapes alone."""

    heads: tuple[Head, ...] = ()
    maps: tuple[Map, ...] = ()


def load_sources(
    labels: Path | None = None,
    numbers: Sequence[int] | None = None,
    maps: Sequence[Path] = (),
    device: torch.device | str = "cpu",
) -> Sources:
    """Sources from files, on ``device``.

    Parameters
    ----------
    labels : folder of label maps (NIfTI, FreeSurfer's numbers), each with a number in its name
    numbers : which of them; all if None
    maps : susceptibility maps in ppm (NIfTI), zero outside the brain

    Raises
    ------
    InputError
        When a file or a number is not there.
    """
    device = torch.device(device)
    heads = []
    for path in [] if labels is None else _chosen(Path(labels), numbers):
        values, size = _read(path, np.int32)
        values = np.where(values > 255, SOFT, values).astype(np.uint8)
        tensor = torch.from_numpy(values).to(device)
        heads.append(Head(tensor, _brain(tensor, size), size))
    read = [_read(Path(path), np.float32) for path in maps]
    return Sources(tuple(heads), tuple(Map(torch.from_numpy(v).to(device), size) for v, size in read))


def numbered_maps(folder: Path) -> dict[int, Path]:
    """The label maps in a folder by the last number in their names, in that order.

    Raises
    ------
    InputError
        When there is none.
    """
    there = {
        int(re.findall(r"\d+", p.name)[-1]): p for p in folder.glob("*.nii*") if re.search(r"\d", p.stem)
    }
    if not there:
        raise InputError(f"labels is {folder}; it must be a folder of numbered label maps (NIfTI)")
    return dict(sorted(there.items()))


def _chosen(folder: Path, numbers: Sequence[int] | None) -> list[Path]:
    there = numbered_maps(folder)
    missing = sorted(set(numbers or ()) - set(there))
    if missing:
        raise InputError(f"{folder} has no label map {missing[0]}; it has {', '.join(map(str, there))}")
    return list(there.values()) if numbers is None else [there[n] for n in numbers]


def _read(path: Path, kind: type) -> tuple[np.ndarray, Triple]:
    """The array, axes nearest to the right, anterior and superior, cropped to what is not zero."""
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    image = nib.as_closest_canonical(nib.load(path))
    values = np.asarray(image.dataobj)
    values = np.nan_to_num(values.reshape(values.shape[:3])).astype(kind)
    places = [np.flatnonzero(values.any(axis=tuple({0, 1, 2} - {a}))) for a in range(3)]
    box = tuple(slice(p[0], p[-1] + 1) for p in places)
    return np.ascontiguousarray(values[box]), tuple(float(s) for s in image.header.get_zooms()[:3])


def _brain(labels: Tensor, size_mm: Triple) -> Tensor:
    """The brain with its ventricles and the fluid in its sulci, bool."""
    table = torch.ones(256, dtype=torch.bool, device=labels.device)
    table[list(OUTSIDE_BRAIN)] = False
    brain = table[labels.long()]
    closed = _widened(~_widened(brain, size_mm), size_mm).logical_not_()
    head = torch.tensor([0, SOFT, 129], device=labels.device)
    return brain | (closed & ~torch.isin(labels, head.to(labels)))


def _widened(mask: Tensor, size_mm: Triple) -> Tensor:
    values = mask[None, None].to(torch.float16 if mask.is_cuda else torch.float32)
    for axis, size in enumerate(size_mm):
        width = [1, 1, 1]
        width[axis] = 2 * round(SULCUS_MM / size) + 1
        values = max_pool3d(values, width, stride=1, padding=[w // 2 for w in width])
    return values[0, 0] > 0

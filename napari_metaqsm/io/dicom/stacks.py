"""Images to stacks: all slices of one part and one echo of one series, in their order, and what lacks."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from napari_metaqsm.io.dicom.facts import Facts
from napari_metaqsm.io.dicom.headers import Header, Image

# Orientations, pixel sizes and positions count as one within these: headers are rounded.
_SAME_DIRECTION = 2e-3
_SAME_MM = 0.02
_TE_TOLERANCE_S = 2e-5
# Slices are where they should be to within this part of their spacing.
_OFF = 0.2
# Fewer slices than these are no volume that has a field of its own.
FEWEST_SLICES = 4


@dataclass(frozen=True, eq=False)
class Stack:
    """Images of one part, one echo and one orientation.

    Parameters
    ----------
    images : along their normal
    part : of :attr:`Image.part`, or "phase_difference"
    repeated : how many images there were at each place; the first of them was taken
    cut_from : the stack that this one is the middle of; None where it is whole
    """

    images: tuple[Image, ...]
    part: str
    repeated: int = 1
    cut_from: Stack | None = None

    @property
    def header(self) -> Header:
        return self.images[0].header

    @property
    def series_number(self) -> int:
        return self.header.series_number

    @cached_property
    def echo_time_s(self) -> float | None:
        """That of most of its images."""
        times = [image.echo_time_s for image in self.images if image.echo_time_s is not None]
        return statistics.mode(sorted(times)) if times else None

    @property
    def echo(self) -> tuple[float, int]:
        """Sorts the echoes: by time, or by number where no time is stated."""
        if self.echo_time_s is not None:
            return self.echo_time_s, 0
        return 0.0, self.images[0].echo_number or 0

    def is_same_echo(self, other: Stack) -> bool:
        """Whether two stacks are of one echo, of one part or of different ones."""
        if (self.echo_time_s is None) != (other.echo_time_s is None):
            return False
        if self.echo_time_s is None:
            # One without a number is not told apart from any.
            return 0 in (self.echo[1], other.echo[1]) or self.echo[1] == other.echo[1]
        return abs(self.echo[0] - other.echo[0]) <= _TE_TOLERANCE_S

    @cached_property
    def time_s(self) -> float | None:
        """When its first image was acquired."""
        times = [image.time_s for image in self.images if image.time_s is not None]
        return min(times) if times else None

    @cached_property
    def normal(self) -> np.ndarray:
        return normal(self.images[0])

    @cached_property
    def heights_mm(self) -> np.ndarray:
        """Where the slices lie along their normal, ascending."""
        return np.array([image.position for image in self.images]) @ self.normal

    @cached_property
    def spacing_mm(self) -> float:
        """Between neighbours, 0 of a single slice."""
        return float(np.median(np.diff(self.heights_mm))) if len(self.images) > 1 else 0.0

    def gaps(self) -> list[int]:
        """The numbers, from 1, that the slices missing between others would have."""
        steps = np.diff(self.heights_mm) / (self.spacing_mm or 1)
        lost, number = [], 1
        for step in np.rint(steps).astype(int):
            lost += range(number + 1, number + min(int(step), 10_000))
            number += max(1, int(step))
        return lost

    def uneven(self) -> bool:
        """Whether slices lie elsewhere than at multiples of their spacing, or beside each other."""
        steps = np.diff(self.heights_mm) / (self.spacing_mm or 1)
        places = np.array([image.position for image in self.images])
        aside = places - np.outer(self.heights_mm, self.normal)
        drift = np.linalg.norm(aside - aside[0], axis=1).max()
        return bool(
            np.abs(steps - np.rint(steps)).max(initial=0) > _OFF or drift > _OFF * max(self.spacing_mm, 0.1)
        )

    def only(self, heights_mm: Sequence[float]) -> Stack:
        """The stack with the slices at these heights alone."""
        kept = [
            image
            for image, height in zip(self.images, self.heights_mm, strict=True)
            if np.abs(np.asarray(heights_mm) - height).min() < _OFF * self.spacing_mm
        ]
        return dataclasses.replace(self, images=tuple(kept), cut_from=self.cut_from or self)


def normal(image: Image) -> np.ndarray:
    """From slice to slice: the cross product of an image's two directions."""
    return np.cross(image.orientation[:3], image.orientation[3:])


def same_grid(one: Stack, other: Stack) -> bool:
    """Whether two stacks have the same pixels, whichever of their slices are there."""
    a, b = one.images[0], other.images[0]
    if a.shape != b.shape or not np.allclose(a.orientation, b.orientation, atol=_SAME_DIRECTION):
        return False
    if not np.allclose(a.spacing_mm, b.spacing_mm, atol=_SAME_MM):
        return False
    between = np.subtract(b.position, a.position)
    spacing = one.spacing_mm or other.spacing_mm
    if abs(one.spacing_mm - other.spacing_mm) > _OFF * spacing or not spacing:
        return False
    height = float(between @ one.normal)
    aside = np.linalg.norm(between - height * one.normal)
    off = abs(height / spacing - round(height / spacing))
    together = one.heights_mm[0] <= other.heights_mm[-1] and other.heights_mm[0] <= one.heights_mm[-1]
    return bool(aside < _OFF * min(a.spacing_mm) and off < _OFF and together)


def stack(images: Iterable[Image]) -> list[Stack]:
    """All stacks among the images, those of few slices too."""
    groups: dict[tuple, list[Image]] = {}
    for image in images:
        header = image.header
        key = (
            header.study_uid, header.series_uid, header.series_number, header.enhanced, image.part,
            tuple(round(x, 2) for x in image.orientation),
            tuple(round(x, 2) for x in image.spacing_mm),
            image.shape,
        )  # fmt: skip
        groups.setdefault(key, []).append(image)
    return [_ordered(echo) for group in groups.values() for echo in _echoes(group)]


def _echoes(images: Iterable[Image]) -> list[list[Image]]:
    """Images apart by echo time, or by echo number where there is no time; headers round the times."""
    numbered: dict[int | None, list[Image]] = {}
    timed: list[list[Image]] = []
    for image in sorted(images, key=lambda image: image.echo_time_s or 0.0):
        if image.echo_time_s is None:
            numbered.setdefault(image.echo_number, []).append(image)
        elif timed and image.echo_time_s - timed[-1][0].echo_time_s <= _TE_TOLERANCE_S:
            timed[-1].append(image)
        else:
            timed.append([image])
    return [*numbered.values(), *timed]


def _ordered(images: list[Image]) -> Stack:
    """One stack, by height; where several images lie at one place, the first of each."""
    along = normal(images[0])
    images = sorted(images, key=lambda image: (round(float(np.dot(image.position, along)), 2), image.order))
    places: list[list[Image]] = []
    for _, group in itertools.groupby(images, key=lambda i: round(float(np.dot(i.position, along)), 2)):
        places.append(list(group))
    first = [place[0] for place in places]
    return Stack(tuple(first), first[0].part, max(map(len, places)))


def facts_of(stacks: Sequence[Stack], slice_axis: int = 2) -> Facts:
    """What is known of one part and its echoes, for the vendor's rule."""
    image, header = stacks[0].images[0], stacks[0].header
    return Facts(
        manufacturer=header.manufacturer,
        model=header.model,
        software=header.software,
        image_type=image.image_type,
        part=stacks[0].part,
        echo_times_s=tuple(s.echo_time_s for s in stacks if s.echo_time_s is not None),
        b0_tesla=header.b0_tesla,
        enhanced=header.enhanced,
        series_number=header.series_number,
        description=header.description,
        rescale=image.rescale,
        real_world=image.real_world,
        slice_axis=slice_axis,
        private=header.private,
    )


def columns_of(stacks: Sequence[Stack]) -> dict[str, str]:
    """What is told of one part of a run: series, kind of DICOM, echo times, size."""
    rows, columns = stacks[0].images[0].shape
    return {
        "series": ", ".join(map(str, sorted({s.series_number for s in stacks}))),
        "DICOM": "enhanced" if stacks[0].header.enhanced else "classic",
        "echo times (ms)": ", ".join(
            "?" if s.echo_time_s is None else f"{s.echo_time_s * 1000:g}" for s in stacks
        ),
        "voxels": f"{columns}×{rows}×{len(stacks[0].images)}",
    }


def describe(part: str, stacks: Sequence[Stack]) -> str:
    """One part of a run in words."""
    return f"{part.replace('_', ' ')}: " + ", ".join(f"{k} {v}" for k, v in columns_of(stacks).items())

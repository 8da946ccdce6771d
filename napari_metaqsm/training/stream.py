"""The examples of a training run: which one comes at which step, and as what the network sees it.

The example of a step depends on the run's seed and on its place alone, so that a run that was resumed
goes on with the examples that it would have had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from napari_metaqsm.network.conditions import encode, measure_level
from napari_metaqsm.network.model import Prepared, prepare
from napari_metaqsm.network.unet import Architecture
from napari_metaqsm.training.examples import Example, Recipe, Subject, acquire, make_subject
from napari_metaqsm.training.shapes import Draw
from napari_metaqsm.training.sources import Sources


class Sample(NamedTuple):
    """One example as the network sees it."""

    prepared: Prepared
    code: Tensor
    example: Example


def make_sample(example: Example, architecture: Architecture) -> Sample:
    """Channels and code of an example, its level measured as it is of a scan in use."""
    local_field, mask, magnitude, _, geometry = example
    level = measure_level(local_field, mask, geometry)
    code = encode(geometry, level, architecture.conditions).to(local_field.device, non_blocking=True)
    return Sample(prepare(local_field, mask, geometry, magnitude, level, architecture), code, example)


def window_of(sample: Sample, shape: Sequence[int], generator: torch.Generator) -> Sample:
    """A part of ``shape`` around a random voxel of the mask.

    Its channels and its code are those of the whole scan: the network in use sees whole heads, whose
    closed-form map and level a scan as small as the part would not have.
    """
    prepared, code, example = sample
    inside = torch.nonzero(example.mask)
    draw = Draw(generator)
    middle = inside[draw.integer(0, len(inside) - 1)].tolist()
    box = []
    for at, n, whole in zip(middle, shape, example.mask.shape, strict=True):
        first = min(max(at - draw.integer(0, n - 1), 0), whole - n)
        box.append(slice(first, first + n))
    box = tuple(box)
    local_field, mask, magnitude, susceptibility, geometry = example
    return Sample(
        prepared._replace(channels=prepared.channels[(..., *box)], start=prepared.start[box]),
        code,
        Example(
            local_field[box],
            mask[box],
            None if magnitude is None else magnitude[box],
            susceptibility[box],
            geometry.with_shape(shape),
        ),
    )


def generator_for(device: torch.device, *place: object) -> torch.Generator:
    """A generator on ``device`` seeded by all of ``place`` together."""
    digest = hashlib.blake2b(repr(place).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


class Stream:
    """Examples by step and slot, the place within the step.

    Each slot has a subject of its own, so that the examples of one step differ in geometry. Subjects
    are exchanged after ``acquisitions`` steps, not all at the same step.

    Parameters
    ----------
    device : on which the sources lie and the examples are made
    seed, rank : of the run, and of the process among those that train together
    slots : examples of one step
    acquisitions : made of one subject before the next is made
    """

    def __init__(
        self,
        sources: Sources,
        recipe: Recipe,
        device: torch.device,
        seed: int,
        rank: int,
        slots: int,
        acquisitions: int,
    ) -> None:
        self.sources, self.recipe, self.device = sources, recipe, device
        self.seed, self.rank = seed, rank
        self.slots, self.acquisitions = slots, acquisitions
        self._subjects: dict[int, tuple[int, Subject]] = {}

    def example(self, step: int, slot: int) -> Example:
        """The example in ``slot`` of ``step``."""
        turn, acquisition = divmod(step + slot * self.acquisitions // self.slots, self.acquisitions)
        if self._subjects.get(slot, (None,))[0] != turn:
            self._subjects.pop(slot, None)  # its memory is free before the next one is made
            generator = self._generator("subject", slot, turn)
            self._subjects[slot] = turn, make_subject(self.sources, self.recipe, generator)
        generator = self._generator("acquisition", slot, turn, acquisition)
        return acquire(self._subjects[slot][1], self.recipe, generator)

    def sample(self, step: int, slot: int, architecture: Architecture, window: Sequence[int]) -> Sample:
        """The example in ``slot`` of ``step``, or the ``window`` of it that is learned from."""
        sample = make_sample(self.example(step, slot), architecture)
        return window_of(sample, window, self._generator("window", slot, step)) if window else sample

    def _generator(self, *place: object) -> torch.Generator:
        return generator_for(self.device, self.seed, self.rank, *place)

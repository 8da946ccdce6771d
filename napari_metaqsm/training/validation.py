"""Scans that training never sees, and how far the network's maps of them lie from the truth."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_metaqsm.evaluation.metrics import demeaned, nrmse
from napari_metaqsm.evaluation.picture import comparison_picture
from napari_metaqsm.network.conditions import Level
from napari_metaqsm.network.model import finish, prepare
from napari_metaqsm.network.unet import Architecture, UNet
from napari_metaqsm.scan import Geometry, Triple
from napari_metaqsm.training.examples import Example, Recipe, acquire, make_subject
from napari_metaqsm.training.sources import Sources
from napari_metaqsm.training.stream import Sample, generator_for, make_sample

# Of each head at each voxel size: sources without heads count as one.
SCANS = 2
UNKNOWN = Level(0.0, 0.0)  # the fixed map does not ask
CLOSED_FORM = Architecture(inputs=("l2",), residual=True, adapted=False)


class Validation:
    """Fixed scans of the held-out heads, at a few voxel sizes; B0 along the last axis.

    Parameters
    ----------
    sources : of the held-out heads, on ``device``
    voxels_mm : sizes at which each is scanned
    """

    def __init__(
        self,
        sources: Sources,
        recipe: Recipe,
        architecture: Architecture,
        device: torch.device,
        voxels_mm: tuple[Triple, ...],
        seed: int,
    ) -> None:
        self.samples: dict[str, list[Sample]] = {}
        apart = [dataclasses.replace(sources, heads=(head,), maps=()) for head in sources.heads]
        for size in voxels_mm:
            name = "x".join(f"{s:g}" for s in size)
            geometry = Geometry(recipe.shape, size)
            self.samples[name] = []
            for head, source in enumerate(apart or [sources]):
                for scan in range(SCANS):
                    generator = generator_for(device, seed, "validation", name, head, scan)
                    example = _scan(source, recipe, generator, geometry)
                    self.samples[name].append(make_sample(example, architecture))
        self.closed_form = {
            name: [nrmse(*_pair(closed_form(s.example), s.example)) for s in samples]
            for name, samples in self.samples.items()
        }

    def run(self, network: UNet, autocast: torch.dtype | None, folder: Path, step: int) -> dict[str, float]:
        """NRMSE in % by voxel size, of the network and of the closed form; pictures go into ``folder``."""
        found, folder = {}, Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, samples in self.samples.items():
            maps = [infer(network, sample, autocast) for sample in samples]
            errors = [nrmse(*_pair(chi, s.example)) for chi, s in zip(maps, samples, strict=True)]
            found[f"nrmse/{name}"] = float(np.mean(errors))
            found[f"nrmse_l2/{name}"] = float(np.mean(self.closed_form[name]))
            first = samples[0].example
            shown = {"Truth": first.susceptibility, "Network": maps[0], "Closed-form L2": closed_form(first)}
            mask = first.mask.cpu().numpy()
            picture = comparison_picture(
                {title: demeaned(chi.cpu().numpy(), mask) for title, chi in shown.items()}, first.geometry
            )
            picture.save(folder / f"{step:07d}_{name}.png")
        found["nrmse"] = math.fsum(found[f"nrmse/{name}"] for name in self.samples) / len(self.samples)
        return found


def _scan(source: Sources, recipe: Recipe, generator: torch.Generator, geometry: Geometry) -> Example:
    """The next scan that has anything to find in it; a corner of a head has not."""
    while True:
        example = acquire(make_subject(source, recipe, generator, geometry), recipe, generator)
        if example.susceptibility.any():
            return example


@torch.no_grad()
def infer(network: UNet, sample: Sample, autocast: torch.dtype | None) -> Tensor:
    """Susceptibility (i, j, k) in ppm of one sample."""
    plain, channels = network.specialise(sample.code), sample.prepared.channels
    with torch.autocast(channels.device.type, autocast, enabled=autocast is not None):
        output = plain(channels)
    return finish(output[0, 0], sample.prepared, sample.example.mask)


def closed_form(example: Example) -> Tensor:
    """The closed-form L2 map in ppm, as it goes into the network."""
    prepared = prepare(example.local_field, example.mask, example.geometry, None, UNKNOWN, CLOSED_FORM)
    return finish(torch.zeros_like(prepared.start), prepared, example.mask)


def _pair(chi: Tensor, example: Example) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(a.cpu().numpy() for a in (chi, example.susceptibility, example.mask))

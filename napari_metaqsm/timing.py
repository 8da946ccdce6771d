"""How long a method will take on this machine: measured once on a small head, then by every run.

Kept are the seconds of a run for each method, device and octave of n, the voxels of the box around the mask.
In between, time is linear in ``n log2 n``, beyond the largest run it grows with it, and what the smallest run
took is spent at every size.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from platformdirs import user_cache_path
from torch.nn.functional import interpolate

from napari_metaqsm.device import choose_device
from napari_metaqsm.errors import InputError
from napari_metaqsm.method import Method, running
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.pipeline import Step, run_step
from napari_metaqsm.scan import Acquisition, Geometry

# Of the grids measured on: the first run compiles, reads weights and plans transforms, the second tells
# what is spent at any size, and the others tell the rest; the last is left out where a run is long already.
FIXED_VOXELS = 12_000
MEASURED_VOXELS = (300_000, 1_200_000)
LEAST_SIDE = 12
# A machine has other work too: shorter runs than this are repeated, and the shortest counts.
LONG_S = 1.0
REPEATS = 3
# Of a grid, where no mask says it yet: what the box around a head takes.
BOX_SHARE = 0.5


_Runs = dict[str, tuple[int, float]]


class Timed(NamedTuple):
    """One run: voxels of the box around its mask, seconds, and the device that computed."""

    voxels: int
    seconds: float
    device: str


def times_file() -> Path:
    """Where this user's times are kept."""
    return user_cache_path("napari-metaqsm", appauthor=False) / "times.json"


class Times:
    """What is known of how long methods take, in a file; where that cannot be used, in memory alone."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._runs = _read(file)

    def estimate(self, entry: Method, voxels: int, device: str = "auto") -> float | None:
        """Seconds for a mask in a box of ``voxels``; None where nothing has been measured."""
        runs = sorted(self._runs.get(_key(entry, device), {}).values())
        if not runs:
            return None
        work, seconds = [_work(n) for n, _ in runs], [s for _, s in runs]
        wanted = _work(voxels)
        if len(runs) == 1:
            return seconds[0] * wanted / work[0]
        if wanted <= work[-1]:
            return float(np.interp(wanted, work, seconds))
        slope = (seconds[-1] - seconds[0]) / (work[-1] - work[0])
        return seconds[-1] + max(slope, 0.0) * (wanted - work[-1])

    def learn(self, entry: Method, *runs: Timed) -> None:
        """Take in what runs took; of one octave, the newest counts as much as all before it."""
        for voxels, seconds, device in runs:
            known = self._runs.setdefault(_key(entry, device), {})
            octave = str(round(math.log2(voxels)))
            if octave in known:
                before, then = known[octave]
                seconds = (seconds + then * _work(voxels) / _work(before)) / 2
            known[octave] = (voxels, seconds)
        self._write()

    def _write(self) -> None:
        """Into the file, beside what other windows have written there since it was read."""
        here = f"{_machine()} | "
        now = f"{here}{_version()} | "
        kept = {**_read(self.file), **self._runs}
        kept = {key: runs for key, runs in kept.items() if key.startswith(now) or not key.startswith(here)}
        partial = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(kept, indent=1), encoding="utf-8")
            partial.replace(self.file)
        except OSError:
            pass  # a folder that cannot be written costs no more than measuring again


def measure(entry: Method, geometry: Geometry, device: str = "auto") -> list[Timed]:
    """Run an inversion with its defaults on a head scanned coarsely, in a grid as long as this scan's.

    Raises
    ------
    InputError
        When the method cannot work on such a scan.
    Cancelled
        When the caller's ``running`` block says so.
    """
    with running():  # its notices are of no scan
        _least(entry, geometry, FIXED_VOXELS, device, repeats=1)
        runs = [_least(entry, geometry, FIXED_VOXELS, device, REPEATS)]
        for voxels in MEASURED_VOXELS:
            runs.append(_least(entry, geometry, voxels, device, REPEATS))
            if runs[-1].seconds > max(LONG_S, 2 * runs[0].seconds):
                break
    return runs


def _least(entry: Method, geometry: Geometry, voxels: int, device: str, repeats: int) -> Timed:
    """The shortest of several runs, or of one that is long."""
    step = Step(entry.stage, entry.name, entry.make_parameters())
    small = _small_scan(step, geometry, voxels)
    data = _small_head(small)
    runs: list[Timed] = []
    while len(runs) < repeats and (not runs or runs[-1].seconds < LONG_S):
        started = time.perf_counter()
        record = run_step(step, data, small, Acquisition((0.01, 0.02), 3.0), device).record
        seconds = time.perf_counter() - started
        runs.append(Timed(box_voxels(data["mask"]), seconds, record["device"]))
    return min(runs, key=lambda run: run.seconds)


def box_voxels(mask: np.ndarray) -> int:
    """Voxels of the box around a mask (i, j, k); of an empty one, of the grid."""
    inside = np.asarray(mask) != 0
    voxels = 1
    for axis in range(3):
        touched = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        if not touched.size:
            return inside.size
        voxels *= int(touched[-1] - touched[0] + 1)
    return voxels


def spoken_time(seconds: float | None) -> str:
    """Seconds as one says them: "about 8 s"."""
    if seconds is None:
        return "not yet measured"
    if seconds < 1:
        return "under 1 s"
    if seconds < 10:
        return f"about {seconds:.0f} s"
    if seconds < 57.5:
        return f"about {5 * round(seconds / 5)} s"
    if seconds < 3570:
        return f"about {max(1, round(seconds / 60))} min"
    return f"about {seconds / 3600:.2g} h"


# ------------------------------------------------------------------------------------ the file
def _read(file: Path) -> dict[str, _Runs]:
    """What stands in the file; empty where there is none, or none that can be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {key: _usable(runs) for key, runs in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _usable(runs: Mapping[str, Any]) -> _Runs:
    usable = {str(int(octave)): (int(voxels), float(s)) for octave, (voxels, s) in runs.items()}
    if not all(voxels > 0 and 0 < s < math.inf for voxels, s in usable.values()):
        raise ValueError("a run took no time, or for ever")
    return usable


def _key(entry: Method, device: str) -> str:
    where = choose_device(device)
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else where.type
    return f"{_machine()} | {_version()} | {entry.stage} {entry.name} | {name}"


@cache
def _machine() -> str:
    return f"{platform.node()}, {platform.machine()}, {torch.get_num_threads()} threads"


@cache
def _version() -> str:
    try:
        return version("napari-metaqsm")
    except PackageNotFoundError:
        return "not installed"


def _work(voxels: int) -> float:
    return voxels * math.log2(max(voxels, 2))


# ------------------------------------------------------------------------------ the small head
def _small_scan(step: Step, geometry: Geometry, voxels: int) -> Geometry:
    """A grid of about so many voxels, of this scan's proportions, whatever its own size.

    It is as long as the scan's, so that a margin in mm takes the same part of it; only for a method that
    refuses such voxels are they the scan's own.
    """
    scale = (voxels / math.prod(geometry.shape)) ** (1 / 3)
    shape = tuple(max(round(n * scale), LEAST_SIDE) for n in geometry.shape)
    sides = zip(geometry.voxel_size_mm, geometry.shape, shape, strict=True)
    scaled = replace(geometry, shape=shape, voxel_size_mm=tuple(size * n / m for size, n, m in sides))
    try:
        if step.entry.check is not None:
            step.entry.check(scaled, step.parameters)
    except InputError:
        return geometry.with_shape(shape)
    return scaled


def _small_head(geometry: Geometry) -> dict[str, np.ndarray]:
    """Arrays as an inversion asks for: regions of two tissues and a few strong voxels in an ellipsoid."""
    generator = torch.Generator().manual_seed(0)
    axes = [torch.linspace(-1, 1, n) for n in geometry.shape]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    mask = z**2 + y**2 + x**2 < 0.8
    coarse = torch.randn([1, 1, *(max(n // 6, 2) for n in geometry.shape)], generator=generator)
    tissue = interpolate(coarse, geometry.shape, mode="trilinear")[0, 0] > 0.3
    veins = torch.rand(geometry.shape, generator=generator) > 0.99
    susceptibility = torch.where(veins, 0.3, 0.06 * tissue) * mask
    noise = torch.full(geometry.shape, 0.003)
    field = dipole_field(susceptibility, geometry) + noise * torch.randn(geometry.shape, generator=generator)
    magnitude = (1 + 0.4 * tissue - 0.6 * veins) * mask
    arrays = {"local_field": field, "mask": mask, "magnitude": magnitude, "noise": noise}
    return {name: values.numpy() for name, values in arrays.items()}

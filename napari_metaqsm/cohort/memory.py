"""How much memory a scan will take, told from its headers before anything is read, and who gets how much."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psutil
from distributed.system import MEMORY_LIMIT

from napari_metaqsm.cohort.plan import Item
from napari_metaqsm.errors import InputError
from napari_metaqsm.io.nifti import shape_of
from napari_metaqsm.pipeline import Step

GB = 1e9
# A worker that has loaded everything and holds no scan, with what its allocator keeps of those before.
PROCESS_BYTES = 1.0 * GB
# Working memory of a method in float32 volumes above what it is given, where its mask fills the scan
# (``tests/benchmarks/cohort.py --memory``); a field fit's grows with the echoes, and the network of brain
# extraction has a size of its own.
VOLUMES = {
    "nonlinear_fit": 8, "weighted_mean": 8, "brain": 6, "phase_quality": 8, "threshold": 6,
    "resharp": 8, "vsharp": 10, "lbv": 8, "pdf": 27, "tkd": 8, "l2": 8,
}  # fmt: skip
PER_ECHO = {"nonlinear_fit": 4, "weighted_mean": 4, "phase_quality": 2}
FIXED_BYTES = {"brain": 1.0 * GB}
# The goal that every iterative method is tested against (tests/benchmarks/test_memory.py) is 30; in a worker
# the allocator keeps some more.
MOST_VOLUMES = 36
# A network's channels, the margin around the mask among them; where that is more, it computes in blocks.
# What it takes beside are its weights and the buffers of the library that convolves.
_NETWORK_VOLUMES, NETWORK_BYTES, _BUFFER_BYTES = 90, 4 * GB, 0.3 * GB
# Of its maps: total field, noise, residual, quality, mask, local field, eroded mask; then one by inversion.
_MAPS = 6
# What a report's pictures and what is read and written in blocks take beside.
_REPORT_BYTES, _REPORT_VOLUMES = 0.2 * GB, 17


@dataclass(frozen=True)
class Need:
    """Bytes that a scan takes: ``held`` while it waits, ``peak`` while it is computed (held among it)."""

    held: float
    peak: float

    @property
    def worker(self) -> float:
        """Of a worker that computes one such scan while it has read the next and writes the last."""
        return PROCESS_BYTES + self.peak + 2 * self.held


def need_of(item: Item, chain: Sequence[Step]) -> Need:
    """What a scan needs, by its headers.

    Raises
    ------
    InputError
        When a header cannot be read.
    """
    shapes = {role: shape_of(paths[0]) for role, paths in item.scan.files.items()}
    voxels = math.prod(next(iter(shapes.values()))[:3])
    # One header tells of all echoes; that they are alike is seen when they are read.
    series = sum(len(item.scan.files[role]) * math.prod(shape) for role, shape in shapes.items()) / voxels
    echoes = series / 2
    inversions = sum(step.stage == "inversion" for step in chain)
    held = 4 * voxels * (series + _MAPS + inversions)
    working = max(_working(step, 4 * voxels, echoes) for step in chain)
    return Need(held, held + max(working, _REPORT_BYTES + 4 * voxels * _REPORT_VOLUMES))


def _working(step: Step, volume: float, echoes: float) -> float:
    """Bytes that a step takes above what it is given."""
    if step.entry.kind == "learned":
        return _BUFFER_BYTES + min(volume * _NETWORK_VOLUMES, NETWORK_BYTES + volume * MOST_VOLUMES)
    volumes = VOLUMES.get(step.method, MOST_VOLUMES) + PER_ECHO.get(step.method, 0) * echoes
    return FIXED_BYTES.get(step.method, 0) + volume * volumes


def free_bytes() -> float:
    """Memory that is free now, within what this process may use."""
    return 0.9 * min(psutil.virtual_memory().available, MEMORY_LIMIT)


@dataclass(frozen=True)
class Share:
    """Who gets how much of a machine: so many workers, with so many threads and bytes each."""

    workers: int
    threads: int
    bytes: float


def share_out(
    needs: Iterable[Need], *, cores: int, free: float, workers: int | None = None, gpus: int = 0
) -> Share:
    """Workers for these scans, on this machine.

    Parameters
    ----------
    needs : of the scans that fit; the largest decides
    workers : as asked for, else one for each core as far as memory goes
    gpus : further workers, one for each card

    Raises
    ------
    InputError
        When so many workers as asked for do not have the memory, or not even one has it.
    """
    needs = list(needs)
    largest = max((need.worker for need in needs), default=PROCESS_BYTES)
    most = int(free // largest) - gpus
    wanted = workers or max(1, min(cores, most, len(needs)))
    if needs and most < wanted:
        raise InputError(
            f"{_count(wanted + gpus)} of {largest / GB:.1f} GB would be needed, and {free / GB:.1f} GB "
            "are free; take fewer workers, or a machine with more memory"
        )
    # What is left over is shared out too: an estimate that is a little low then costs nothing.
    return Share(wanted, max(1, cores // wanted), min(free / (wanted + gpus), 1.5 * largest))


def fits(need: Need, free: float) -> str:
    """Why a scan cannot be computed in so much memory, in words; "" where it can."""
    if need.worker <= free:
        return ""
    return f"it would take {need.worker / GB:.1f} GB of memory, and {free / GB:.1f} GB are free"


def statement(share: Share, gpus: int = 0) -> str:
    """ "2 workers, each up to 3.1 GB of memory and 1 thread"."""
    threads = f"{share.threads} thread{'s' if share.threads > 1 else ''}"
    cards = f", and one for each of {gpus} GPU{'s' if gpus > 1 else ''}" if gpus else ""
    return f"{_count(share.workers)}, each up to {share.bytes / GB:.1f} GB of memory and {threads}{cards}"


def _count(workers: int) -> str:
    return f"{workers} worker{'s' if workers > 1 else ''}"

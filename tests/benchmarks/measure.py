"""How the benchmarks measure: seconds, FFT pairs, and the peak of memory."""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft

M_MMAP_THRESHOLD = -3  # of malloc.h
# Environment of a process that measures memory: every array by itself from the first on. Memory that malloc
# has once on its heap is given out again later, and counted, whatever it is told then.
ARRAYS_ALONE = {"MALLOC_MMAP_THRESHOLD_": str(2**16)}


class FFTPair:
    """The unit of time: one real forward and inverse 3-D transform of a volume by SciPy, two threads."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.volume = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        self.seconds()  # the first one pays for memory and plans

    def seconds(self) -> float:
        """Of the fastest of five, their results kept until the next as a loop keeps them."""
        return min(timed(self._transform)[0] for _ in range(5))

    def _transform(self) -> None:
        self.spectrum = scipy.fft.rfftn(self.volume, workers=2)
        self.back = scipy.fft.irfftn(self.spectrum, s=self.volume.shape, workers=2)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    value = call()
    return time.perf_counter() - started, value


def peak_volumes(call: Callable[[], Any], shape: tuple[int, ...]) -> float:
    """Highest resident memory during ``call`` above that before it (glibc on Linux, else not a number).

    In float32 volumes of ``shape``. Exact in a process that began with :data:`ARRAYS_ALONE`; elsewhere what
    ran before can add to it.
    """
    status = Path("/proc/self/status")
    if not (status.exists() and platform.libc_ver()[0] == "glibc"):
        return float("nan")
    libc = ctypes.CDLL(None)
    alone = ARRAYS_ALONE.items() <= os.environ.items()
    if not alone:
        libc.mallopt(M_MMAP_THRESHOLD, 2**16)
    libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = _resident(status, "VmRSS")
    call()
    peak = _resident(status, "VmHWM")
    if not alone:
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)
    return (peak - before) / (4 * np.prod(shape))


def _resident(status: Path, name: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024

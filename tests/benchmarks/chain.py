"""Speed, memory and accuracy of every method of the chain: ``python tests/benchmarks/chain.py CASE``.

CASE is the folder that the project's benchmark case was written to (256×256×64 voxels of 0.75×0.75×3 mm).
Speed is given in seconds and in FFT pairs, one pair being a real forward and inverse 3-D transform of
that volume by SciPy on two threads, timed in the same run; memory is the peak of a step above what it
began with, in float32 volumes of the case. Figures of other tools were measured on the same arrays.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import torch

from napari_metaqsm.errors import InputError
from napari_metaqsm.evaluation import metrics
from napari_metaqsm.method import methods
from napari_metaqsm.pipeline import make_step, run_step
from napari_metaqsm.scan import Acquisition, Geometry
from napari_metaqsm.units import hz_per_ppm

HZ = hz_per_ppm(3.0)
M_MMAP_THRESHOLD = -3  # of malloc.h
# What other tools took and reached on the same arrays.
PEERS = {
    "field": "ROMEO + fit 2.35 / 0.21 Hz; ROMEO, MCPC-3D-S, weighted 1.21 s, 1.42 / 0.16 Hz",
    "mask": "BET 0.61 s, Dice 0.960",
    "resharp": "QSM.rs 30 CG 700 pairs, 52.6 %; 200 CG 4600 pairs, 41.0 / 27.1 / .689",
    "tkd": "QSM.rs 13 pairs, 40.2 / 38.8 / .545",
    "l2": "CGLS, 30 iterations, 79 pairs, 40.5 / 34.6 / .496",
}


class Case:
    """The arrays of the case, in its own axes (i, j, k)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        description = json.loads((folder / "case.json").read_text())
        self.geometry = Geometry(description["N"], description["vox"])
        self.mask = self["mask"] != 0

    def __getitem__(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy")

    def echoes(self, name: str) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(self[name], -1, 0))


class FFTPair:
    """The unit of time: one real forward and inverse transform of a volume."""

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
    """Highest resident memory during ``call`` above that before it (glibc on Linux, else not a number)."""
    status = Path("/proc/self/status")
    if not (status.exists() and platform.libc_ver()[0] == "glibc"):
        return float("nan")
    libc = ctypes.CDLL(None)
    # Every array by itself, given back when it is freed: else the allocator's hoard is counted too.
    libc.mallopt(M_MMAP_THRESHOLD, 2**16)
    libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = _resident(status, "VmRSS")
    call()
    peak = _resident(status, "VmHWM")
    libc.mallopt(M_MMAP_THRESHOLD, 2**25)
    return (peak - before) / (4 * np.prod(shape))


def _resident(status: Path, name: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def field_score(case: Case, outputs: dict[str, np.ndarray]) -> str:
    error = (outputs["total_field"] * HZ - case["b0_hz_true"])[case.mask]
    return f"RMSE {np.sqrt(np.mean(error**2)):.2f} Hz, median {np.median(np.abs(error)):.3f} Hz"


def mask_score(case: Case, outputs: dict[str, np.ndarray]) -> str:
    found = outputs["mask"]
    return f"Dice {2 * (found & case.mask).sum() / (found.sum() + case.mask.sum()):.4f}"


def map_score(array: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> str:
    """Both maps demeaned in the mask first, as the figures of the other tools were made."""
    array, truth = (metrics.demeaned(each, mask) for each in (array, truth))
    scores = [metrics.nrmse(array, truth, mask), metrics.hfen(array, truth, mask, inside_only=True)]
    return f"NRMSE {scores[0]:.1f} %, HFEN {scores[1]:.1f} %, XSIM {metrics.xsim(array, truth, mask):.3f}"


def background_score(case: Case, outputs: dict[str, np.ndarray]) -> str:
    mask = outputs["eroded_mask"]
    kept = 100 * mask.sum() / case.mask.sum()
    return map_score(outputs["local_field"], case["local_clean"], mask) + f", mask kept {kept:.0f} %"


def inversion_score(case: Case, outputs: dict[str, np.ndarray]) -> str:
    return map_score(outputs["susceptibility"], case["chi"], case.mask)


def inputs_of(stage: str, case: Case) -> dict[str, np.ndarray]:
    if stage == "field":
        return {"phase": case.echoes("phase5"), "magnitude": case.echoes("mag5")}
    if stage == "mask":
        return {"magnitude": case["head"][None]}
    if stage == "background":
        return {"total_field": case["total"], "mask": case.mask}
    return {
        "local_field": case["field"],
        "mask": case.mask,
        "magnitude": case["mag"][None],
        "noise": case["nstd"],
    }


SCORES = {
    "field": field_score,
    "mask": mask_score,
    "background": background_score,
    "inversion": inversion_score,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("case", type=Path, help="folder of the benchmark case")
    parser.add_argument("--stage", choices=list(SCORES), help="only this stage")
    parser.add_argument("--repeat", type=int, default=5, help="runs, of which the median counts")
    options = parser.parse_args()
    case = Case(options.case)
    acquisition = Acquisition(tuple(case["TE"]), 3.0)
    torch.set_num_threads(2)
    pair = FFTPair(case.geometry.shape)
    print(f"one FFT pair {1000 * pair.seconds():.1f} ms; {sys.platform}, torch {torch.__version__}")
    print("| method | s | FFT pairs | volumes | reached | other tools |\n|---|---|---|---|---|---|")
    for entry in methods(options.stage):
        inputs = inputs_of(entry.stage, case)
        if not all(name in inputs for name in entry.needs):
            continue
        step = make_step(entry.stage, entry.name)

        def compute(step=step, inputs=inputs) -> dict[str, np.ndarray]:
            return run_step(step, inputs, case.geometry, acquisition).outputs

        try:
            compute()  # kernels are cached and loops compiled, as in a second scan
        except InputError as error:  # Mesa-QSM takes no voxels but those it was trained for
            print(f"| {entry.name} | | | | {error} | |")
            continue
        volumes = peak_volumes(compute, case.geometry.shape)
        # The pair is timed anew beside each run, for a machine's speed drifts.
        runs = [(*timed(compute), pair.seconds()) for _ in range(options.repeat)]
        seconds = statistics.median(run[0] for run in runs)
        pairs = statistics.median(run[0] / run[2] for run in runs)
        outputs = runs[-1][1]
        score = SCORES[entry.stage](case, outputs)
        peer = PEERS.get(entry.name, PEERS.get(entry.stage, ""))
        print(
            f"| {entry.name} | {seconds:.3f} | {pairs:.1f} | {volumes:.1f} | {score} | {peer} |", flush=True
        )


if __name__ == "__main__":
    main()

"""How many scans an hour a cohort makes: ``python tests/benchmarks/cohort.py [--subjects 50]``.

Three tables: scans per hour of 128×128×64 voxels and three echoes with one worker and with two, of one thread
each, with a cheap chain and the default one; seconds for each scan by the size of the cohort, where scans are
tiny and the chain trivial, so that what is left is what a cohort itself costs; and how busy the network is on
a device of its own with the classical steps beside it (``--device cuda`` where there is a card).

Times are taken between the first scan that ends and the last: starting the workers is told apart.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from napari_metaqsm.cohort.plan import Settings
from napari_metaqsm.cohort.run import CohortResult, plan_cohort
from napari_metaqsm.io.bids.dataset import find_scans
from napari_metaqsm.io.bids.derivatives import record_of
from napari_metaqsm.io.nifti import space_from, write
from napari_metaqsm.simulation.head import synthetic_head

sys.path.insert(0, str(Path(__file__).parents[1] / "io" / "bids"))

import made_bids

SHAPE = (128, 128, 64)
VOXEL_MM = (1.5, 1.75, 2.5)
ECHO_TIMES_S = (0.006, 0.014, 0.022)
CHEAP = {"field": "weighted_mean", "mask": "threshold", "background": "vsharp", "inversion": ("tkd",)}
TRIVIAL = {**CHEAP, "background": "resharp", "parameters": {"resharp": {"radius_mm": 8.0}}}
NETWORK = {**CHEAP, "inversion": ("metaqsm",)}
CHAINS = {"cheap": CHEAP, "default": {}}


def fitted(array: np.ndarray) -> np.ndarray:
    """A series (echo, i, j, k) on the benchmark's grid: its middle, zeros around."""
    for axis, wanted in enumerate(SHAPE, start=1):
        more = max(0, wanted - array.shape[axis])
        array = np.pad(array, [(more // 2, more - more // 2) if a == axis else (0, 0) for a in range(4)])
        first = (array.shape[axis] - wanted) // 2
        array = np.take(array, range(first, first + wanted), axis)
    return array


def make_heads(root: Path, count: int) -> None:
    """One synthetic head with noise of its own for each subject."""
    made_bids.make_dataset(root, inherit=False)
    scan, _ = synthetic_head(0, VOXEL_MM, ECHO_TIMES_S)
    signal = fitted(scan.magnitude) * np.exp(1j * fitted(scan.phase))
    space = space_from(scan.geometry.with_shape(SHAPE))
    noise = np.random.default_rng(0)
    sigma = np.abs(signal[0]).max() / 200
    for subject in range(1, count + 1):
        both = noise.normal(0, sigma, (2, *signal.shape))
        noisy = signal + both[0] + 1j * both[1]
        folder = root / f"sub-{subject:03d}" / "anat"
        folder.mkdir(parents=True)
        for part, values in (("mag", np.abs(noisy)), ("phase", np.angle(noisy))):
            for echo, echo_time in enumerate(ECHO_TIMES_S, start=1):
                stem = f"sub-{subject:03d}_echo-{echo}_part-{part}_MEGRE"
                write(folder / f"{stem}.nii.gz", values[echo - 1].astype(np.float32), space)
                unit = ', "Units": "rad"' if part == "phase" else ""
                (folder / f"{stem}.json").write_text(
                    f'{{"EchoTime": {echo_time}, "MagneticFieldStrength": 3.0{unit}}}'
                )


@dataclasses.dataclass
class Run:
    """A cohort that was run: seconds to the first scan, and for each after it."""

    result: CohortResult
    start_s: float
    each_s: float


def run(dataset: Path, out: Path, chain: dict, *, workers: int, card: bool = False, **settings: str) -> Run:
    plan = plan_cohort(dataset, out, Settings(**chain, **settings), workers=workers, cores=workers)
    plan = dataclasses.replace(plan, gpus=int(card))
    ends: list[float] = []
    began = time.perf_counter()
    result = plan.run(lambda progress: progress.latest and ends.append(time.perf_counter()))
    assert result.complete, result
    return Run(result, ends[0] - began, (ends[-1] - ends[0]) / (len(ends) - 1))


def network_seconds(dataset: Path, out: Path) -> float:
    """Of one scan in the mean, as the records tell."""
    records = [record_of(scan, out) for scan in find_scans(dataset)]
    return float(np.mean([record["steps"][-1]["seconds"] for record in records]))


def load() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--subjects", type=int, default=50)
    options.add_argument("--sizes", default="10,50,200", help="of the cohorts with the trivial chain")
    options.add_argument("--chains", default="cheap,default")
    options.add_argument("--device", default="cpu")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if chosen.subjects:
            speed(folder, chosen)
            busy(folder, chosen)
        if chosen.sizes:
            flatness(folder, [int(size) for size in chosen.sizes.split(",")])


def speed(folder: Path, chosen: argparse.Namespace) -> None:
    make_heads(folder / "heads", chosen.subjects)
    print(f"{chosen.subjects} subjects of 128×128×64 voxels, 3 echoes, load {load()}")
    print("| chain | workers | scans per hour | s per scan | s to the first | compared with one |")
    print("|---|---|---|---|---|---|")
    for name in chosen.chains.split(","):
        one = 0.0
        for workers in (1, 2):
            out = folder / f"{name}-{workers}"
            ran = run(folder / "heads", out, CHAINS[name], workers=workers, device="cpu")
            one = one or ran.each_s
            print(
                f"| {name} | {workers} | {3600 / ran.each_s:.0f} | {ran.each_s:.2f} | {ran.start_s:.1f} "
                f"| {one / ran.each_s:.2f} |",
                flush=True,
            )


def busy(folder: Path, chosen: argparse.Namespace) -> None:
    out = folder / "busy"
    beside = max(1, (os.cpu_count() or 2) - 1)
    ran = run(folder / "heads", out, NETWORK, workers=beside, card=True, device=chosen.device)
    inside, scans = network_seconds(folder / "heads", out), chosen.subjects
    # From when the first scan enters the network to when the last leaves it; of few scans this is rough.
    share = scans * inside / ((scans - 1) * ran.each_s + inside)
    print(
        f"\nnetwork on {chosen.device}, {beside} workers beside it: {inside:.2f} s in it of "
        f"{ran.each_s:.2f} s per scan, busy {share:.0%}; load {load()}",
        flush=True,
    )


def flatness(folder: Path, sizes: list[int]) -> None:
    print(f"\ntrivial chain, 20×22×16 voxels, two workers, load {load()}")
    print("| scans | s per scan | s to the first | s to find that all is done |")
    print("|---|---|---|---|")
    for size in sizes:
        root, out = folder / f"tiny-{size}", folder / f"tiny-{size}-out"
        made_bids.make_dataset(root)
        for subject in range(1, size + 1):
            made_bids.add_subject(root, f"{subject:03d}", seed=subject % 5)
        ran = run(root, out, TRIVIAL, workers=2, device="cpu")
        started = time.perf_counter()
        plan_cohort(root, out, Settings(**TRIVIAL))
        again = time.perf_counter() - started
        print(f"| {size} | {ran.each_s:.3f} | {ran.start_s:.1f} | {again:.2f} |", flush=True)


if __name__ == "__main__":
    main()

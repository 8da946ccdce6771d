"""How many scans an hour a cohort makes: ``python tests/benchmarks/cohort.py [--subjects 50]``.

One table, about six minutes on two quiet cores:

- *cheap*, *default*: scans per hour of 128×128×64 voxels and three echoes, with one worker and with two of
  one thread each. Cheap is weighted mean, threshold, V-SHARP and TKD; default is what ``metaqsm bids`` does,
  on a fifth of the subjects, since each takes so much longer.
- *trivial*: seconds for each scan by the size of the cohort, where scans are tiny, so that what is left is
  what a cohort itself costs (reading, report, writing, Dask): it should not grow. Beside it, how long it
  takes to find by a second call that all is done.
- *network*: MetaQSM on a place of its own (``--device cuda`` where there is a card) with the cheap steps of
  other scans beside it, on a fifth of the subjects. *Busy* is the time that its place computes, of the time
  from its first start to its last end (all of the run but for filling and emptying the line). *While scans
  wait* is the same of the moments only at which a prepared scan was there for it: what is lacking of 100 %
  there is lost in handing over; what busy lacks beyond that is lost in waiting for the workers that prepare.

Seconds per scan are taken from when as many scans have ended as there are workers to when the last ends; of
fewer than ten scans this is rough. The first comes after the workers have started and loaded their libraries.
The load is that of the last minute when the row was printed: above the number of workers, others were
computing too, and the row tells little.

``--memory`` is another table instead, of some minutes: the memory that a worker took at most over three
scans of one method in an otherwise cheap chain (the high-water mark of its process), against what was stated
of it in advance. The scans are cut to the brain, so that the mask fills them, which is the worst case: the
margin that methods put around it is largest then. Iterative methods do three iterations; more take no more.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from distributed import get_task_stream

from napari_metaqsm.cohort.cluster import local_cluster
from napari_metaqsm.cohort.memory import GB, Share, free_bytes, need_of
from napari_metaqsm.cohort.plan import Settings
from napari_metaqsm.cohort.run import CohortResult, plan_cohort
from napari_metaqsm.io.nifti import Space, space_from, write
from napari_metaqsm.method import methods, parameter_infos
from napari_metaqsm.simulation.head import synthetic_head

sys.path.insert(0, str(Path(__file__).parents[1] / "io" / "bids"))

import made_bids

SHAPE = (128, 128, 64)
VOXEL_MM = (1.5, 1.75, 2.5)
ECHO_TIMES_S = (0.006, 0.014, 0.022)
CHEAP = {"field": "weighted_mean", "mask": "threshold", "background": "vsharp", "inversion": ("tkd",)}
TRIVIAL = {**CHEAP, "background": "resharp", "parameters": {"resharp": {"radius_mm": 8.0}}}
NETWORK = {**CHEAP, "inversion": ("metaqsm",)}


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
        put(root, subject, {"mag": np.abs(noisy), "phase": np.angle(noisy)}, space)


def put(root: Path, subject: int, arrays: dict[str, np.ndarray], space: Space) -> None:
    """Write the echoes of one subject."""
    folder = root / f"sub-{subject:03d}" / "anat"
    folder.mkdir(parents=True)
    for part, values in arrays.items():
        for echo, echo_time in enumerate(ECHO_TIMES_S, start=1):
            stem = f"sub-{subject:03d}_echo-{echo}_part-{part}_MEGRE"
            write(folder / f"{stem}.nii.gz", values[echo - 1].astype(np.float32), space)
            unit = ', "Units": "rad"' if part == "phase" else ""
            (folder / f"{stem}.json").write_text(
                f'{{"EchoTime": {echo_time}, "MagneticFieldStrength": 3.0{unit}}}'
            )


HEAD = (
    "| cohort | scans | workers | scans per hour | s per scan | s to the first | | load |\n"
    + "|---" * 8
    + "|"
)


@dataclasses.dataclass
class Run:
    """A cohort that was run: seconds to the first scan, and for each after it."""

    result: CohortResult
    start_s: float
    each_s: float


def run(dataset: Path, out: Path, chain: dict, at_once: int = 1, **asked: Any) -> Run:
    plan = plan_cohort(dataset, out, Settings(**chain, device=asked.pop("device", "cpu")), **asked)
    ends: list[float] = []
    began = time.perf_counter()
    result = plan.run(lambda progress: progress.latest and ends.append(time.perf_counter()))
    assert result.complete, result.failed
    return Run(result, ends[0] - began, (ends[-1] - ends[at_once - 1]) / (len(ends) - at_once))


def tell(name: str, workers: str, ran: Run, beside: str = "") -> None:
    scans, load = len(ran.result.outcomes), os.getloadavg()[0]
    pace = f"{3600 / ran.each_s:.0f} | {ran.each_s:.3f} | {ran.start_s:.1f}"
    print(f"| {name} | {scans} | {workers} | {pace} | {beside} | {load:.1f} |", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--subjects", type=int, default=50)
    options.add_argument("--sizes", default="10,50,200", help="of the cohorts with the trivial chain")
    options.add_argument("--device", default="cpu", help="of the network")
    options.add_argument("--memory", action="store_true", help="the table of memory instead")
    chosen = options.parse_args()
    if chosen.memory:
        with tempfile.TemporaryDirectory() as temporary:
            tell_memory(Path(temporary))
        return
    few = max(4, chosen.subjects // 5)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_heads(folder / "heads", chosen.subjects)
        print(HEAD, flush=True)
        speed(folder, "cheap", CHEAP, chosen.subjects)
        speed(folder, "default", {}, few)
        for size in map(int, chosen.sizes.split(",")):
            flatness(folder, size)
        busy(folder, few, chosen.device)


def speed(folder: Path, name: str, chain: dict, subjects: int) -> None:
    one = 0.0
    for workers in (1, 2):
        asked = {"workers": workers, "cores": workers, "participants": labels(subjects)}
        ran = run(folder / "heads", folder / f"{name}-{workers}", chain, workers, **asked)
        one = one or ran.each_s
        tell(name, str(workers), ran, f"{one / ran.each_s:.2f} times one worker" if workers > 1 else "")


def labels(subjects: int) -> list[str]:
    return [f"{number:03d}" for number in range(1, subjects + 1)]


def flatness(folder: Path, size: int) -> None:
    root, out = folder / f"tiny-{size}", folder / f"tiny-{size}-out"
    made_bids.make_dataset(root)
    for subject in range(1, size + 1):
        made_bids.add_subject(root, f"{subject:03d}", seed=subject % 5)
    ran = run(root, out, TRIVIAL, 2, workers=2, cores=2)
    started = time.perf_counter()
    plan_cohort(root, out, Settings(**TRIVIAL, device="cpu"))
    tell("trivial", "2", ran, f"{time.perf_counter() - started:.2f} s to find that all is done")


def busy(folder: Path, subjects: int, device: str) -> None:
    beside = max(1, (os.cpu_count() or 2) - 1)
    share = Share(beside, 1, free_bytes() / (beside + 1))
    with local_cluster(share, gpus=1) as cluster, get_task_stream(cluster.client) as stream:
        asked = {"scheduler": cluster.client.scheduler.address, "participants": labels(subjects)}
        ran = run(folder / "heads", folder / "busy", NETWORK, device=device, **asked)
    prepared, inside = (spans(stream.data, part) for part in ("prepare", "infer"))
    starts, ends = zip(*inside.values(), strict=True)
    computing = sum(end - start for start, end in inside.values())
    waited = union((max(prepared[label][1], min(starts)), end) for label, (_, end) in inside.items())
    beside_it = (
        f"busy {computing / (max(ends) - min(starts)):.0%}, {computing / waited:.0%} while scans wait; "
        f"{computing / subjects:.2f} s each in the network"
    )
    tell("network", f"{beside} + {device}", ran, beside_it)


def spans(tasks: Iterable[dict], part: str) -> dict[str, tuple[float, float]]:
    """From when to when a part of the work was computed, by scan."""
    return {
        task["key"][1]: (span["start"], span["stop"])
        for task in tasks
        for span in task["startstops"]
        if task["key"][0] == part and span["action"] == "compute"
    }


def union(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that at least one of them covers."""
    covered, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered


# ---------------------------------------------------------------------------------------- memory
SCANS = 3
STAGES = ("field", "mask", "background", "inversion")


def make_tight_heads(root: Path) -> tuple[int, ...]:
    """One head cut to the box of its brain, several times, since a worker holds several; its shape."""
    made_bids.make_dataset(root, inherit=False)
    scan, truth = synthetic_head(0, (1.2, 1.2, 1.5), ECHO_TIMES_S)
    places = np.argwhere(truth["mask"])
    box = (..., *(slice(a, b + 1) for a, b in zip(places.min(0), places.max(0), strict=True)))
    arrays = {"mag": scan.magnitude[box], "phase": scan.phase[box]}
    shape = arrays["mag"].shape[1:]
    space = space_from(scan.geometry.with_shape(shape))
    for subject in range(1, SCANS + 1):
        put(root, subject, arrays, space)
    return shape


def tell_memory(folder: Path) -> None:
    """A row for every method, in a cluster of its own: what a process has had is not given back."""
    shape = make_tight_heads(folder / "heads")
    print(f"Scans of {'×'.join(map(str, shape))} voxels, {len(ECHO_TIMES_S)} echoes\n")
    print("| chain | stated, GB | taken, GB | taken / stated |\n" + "|---" * 4 + "|", flush=True)
    chains = {"default": {}}
    for stage in STAGES:
        for entry in methods(stage):
            given = {} if stage == "mask" else {"mask": "none"}  # every voxel
            chain = {**CHEAP, **given, stage: (entry.name,) if stage == "inversion" else entry.name}
            if any(info.name == "iterations" for info in parameter_infos(entry.parameters)):
                chain["parameters"] = {entry.name: {"iterations": 3}}
            chains[entry.name] = chain
    for name, chain in chains.items():
        settings = Settings(**chain, device="cpu")
        plan = plan_cohort(folder / "heads", folder / f"out-{name}", settings, workers=1)
        if not plan.jobs:
            print(f"| {name} | – | – | {plan.refused[0].reason} |", flush=True)
            continue
        stated = max(need_of(job.item, settings.chain).worker for job in plan.jobs)
        with local_cluster(plan.share) as cluster:
            there = dataclasses.replace(plan, share=None, scheduler=cluster.client.scheduler.address)
            result = there.run()
            (taken,) = cluster.client.run(most_resident).values()
        why = "" if result.complete else f" ({result.failed[0].reason})"
        print(f"| {name} | {stated / GB:.2f} | {taken / GB:.2f} | {taken / stated:.2f}{why} |", flush=True)


def most_resident() -> int:
    """Bytes that this process has had at most."""
    told = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in told if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main()

"""Speed, memory and accuracy of every method: ``python tests/benchmarks/methods.py --case FOLDER``.

One table over the project's benchmark case (every stage), the challenge of 2016 (``--qsm2016 FOLDER``; both
references) and the bundled synthetic head at four geometries. Speed is given in seconds and in FFT pairs, one
pair being a real forward and inverse 3-D transform of the scan by SciPy on two threads, timed beside each
run; memory is the peak of a step above what it began with, in float32 volumes of the scan, taken in another
process. Beside them stand the figures of other tools on the same arrays; after the table, every goal that was
missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from goals import PEERS, missed
from measure import ARRAYS_ALONE, FFTPair, peak_volumes, timed
from scans import HEADS, BenchmarkScan, Inputs, case, head, qsm2016

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import Method, methods
from napari_metaqsm.pipeline import make_step, run_step

QUALITY = {"RMSE %": 1, "NRMSE %": 1, "HFEN %": 1, "SSIM": 3, "XSIM": 3, "kept %": 1}
COLUMNS = ("scan", "method", "s", "pairs", "volumes", *QUALITY, "other tools")


def computation(entry: Method, scan: BenchmarkScan, inputs: Inputs) -> Callable[[], dict]:
    """One run of a method, after a first one: kernels are cached and loops compiled, as in a second scan."""
    step = make_step(entry.stage, entry.name)

    def compute() -> dict:
        return run_step(step, inputs.arrays, scan.geometry, inputs.acquisition).outputs

    compute()
    return compute


def run(
    entry: Method, scan: BenchmarkScan, inputs: Inputs, pair: FFTPair, repeat: int, volumes: float
) -> dict[str, dict[str, float]]:
    """Figures by the name under which the scan scores."""
    compute = computation(entry, scan, inputs)
    # The pair is timed anew beside each run, for a machine's speed drifts.
    runs = [(*timed(compute), pair.seconds()) for _ in range(repeat)]
    cost = {
        "s": statistics.median(seconds for seconds, _, _ in runs),
        "pairs": statistics.median(seconds / unit for seconds, _, unit in runs),
        "volumes": volumes,
    }
    return {name: {**cost, **figures} for name, figures in scan.score(entry.stage, runs[-1][1]).items()}


def cases(options: argparse.Namespace) -> Iterator[tuple[str, BenchmarkScan, list[tuple[Method, Inputs]]]]:
    """Every scan with the methods that it has the inputs for."""
    wanted = options.methods.split(",") if options.methods else None
    for title, scan in scans(options):
        fitting = []
        for entry in methods(options.stage):
            inputs = scan.inputs.get(entry.stage)
            if inputs is None or (wanted and entry.name not in wanted):
                continue
            if all(name in inputs.arrays for name in entry.needs):
                fitting.append((entry, inputs))
        yield title, scan, fitting


def print_peaks(options: argparse.Namespace) -> None:
    """Peaks of memory by scan and method, as JSON."""
    peaks: dict[str, dict[str, float]] = {}
    for title, scan, fitting in cases(options):
        for entry, inputs in fitting:
            try:
                compute = computation(entry, scan, inputs)
            except InputError:  # said in the table
                continue
            peaks.setdefault(title, {})[entry.name] = peak_volumes(compute, scan.geometry.shape)
    print(json.dumps(peaks))


def peaks_of_another_process() -> dict[str, dict[str, float]]:
    """What :func:`print_peaks` finds for the same arguments."""
    command = [sys.executable, *sys.argv, "--peaks"]
    done = subprocess.run(
        command, env=os.environ | ARRAYS_ALONE, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def row(name: str, entry: Method, figures: dict[str, float]) -> str:
    cells = [f"{figures['s']:.2f}", f"{figures['pairs']:.1f}", f"{figures['volumes']:.1f}"]
    cells += [f"{figures[key]:.{digits}f}" if key in figures else "" for key, digits in QUALITY.items()]
    others = {k: v for k, v in figures.items() if k not in (*QUALITY, "s", "pairs", "volumes")}
    peer = PEERS.get((name, entry.name), "")
    said = ", ".join(f"{key} {value:.3g}" for key, value in others.items())
    return f"| {name} | {entry.name} | {' | '.join(cells)} | {'; '.join(filter(None, (said, peer)))} |"


def scans(options: argparse.Namespace) -> Iterator[tuple[str, BenchmarkScan]]:
    if options.case:
        yield "case", case(options.case)
    if options.qsm2016:
        yield "qsm2016", qsm2016(options.qsm2016)
    for name, about in HEADS.items() if options.heads else ():
        yield name, head(*about, name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", type=Path, help="folder of the benchmark case")
    parser.add_argument("--qsm2016", type=Path, help="folder of the challenge of 2016")
    parser.add_argument("--no-heads", dest="heads", action="store_false", help="without the synthetic heads")
    parser.add_argument("--stage", help="only this stage")
    parser.add_argument("--methods", help="only these, with commas between them")
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the median counts")
    parser.add_argument("--peaks", action="store_true", help="print the peaks of memory alone, as JSON")
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.peaks:
        print_peaks(options)
        return
    peaks = peaks_of_another_process()
    print(f"{sys.platform}, torch {torch.__version__}\n")
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    short = []
    for title, scan, fitting in cases(options):
        pair = FFTPair(scan.geometry.shape)
        for entry, inputs in fitting:
            volumes = peaks.get(title, {}).get(entry.name, float("nan"))
            try:
                found = run(entry, scan, inputs, pair, options.repeat, volumes)
            except InputError as error:  # Mesa-QSM takes no voxels but those it was trained for
                print(f"| {title} | {entry.name} {'| ' * (len(COLUMNS) - 2)}| {error} |", flush=True)
                continue
            for name, figures in found.items():
                print(row(name, entry, figures), flush=True)
                short += missed(name, entry.name, figures)
        print(f"| {title} | one pair | {pair.seconds():.4f} {'| ' * (len(COLUMNS) - 3)}|", flush=True)
    print("\nMissed:" if short else "\nNo goal missed.")
    for text in short:
        print(f"- {text}")


if __name__ == "__main__":
    main()

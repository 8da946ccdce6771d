"""Speed, memory and exactness of the networks: ``python tests/benchmarks/network.py``.

First the network alone, on as many voxels as a mask that fills the scan leaves: Meta-QSM specialised to a
scan, its prediction included, against a Mesa-QSM of the same size; single precision against bfloat16; whole
against blocks. Then the method from field to map. Two that are compared run by turns, and the median of
their ratios counts; memory is the peak above what was held before; the longest silence, in processor time
too, is what a user may wait for after pressing cancel.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from measure import peak_volumes
from torch import Tensor

from napari_metaqsm.inversion.metaqsm import MetaQSMParameters, metaqsm
from napari_metaqsm.method import running
from napari_metaqsm.network.checkpoint import Weights, read_weights, shipped_weights
from napari_metaqsm.network.conditions import Level, encode
from napari_metaqsm.network.fused import FusedUNet
from napari_metaqsm.network.tiles import compute_in_blocks
from napari_metaqsm.network.unet import UNet
from napari_metaqsm.scan import Geometry

VOXELS_MM = (0.75, 0.75, 3.0)


class Spent(NamedTuple):
    """Seconds that passed, and seconds of the processor over the threads, which other work changes less."""

    passed: float
    worked: float

    def __str__(self) -> str:
        return f"{self.passed:.2f} | {self.worked:.2f}"


def worked() -> float:
    return time.process_time() / torch.get_num_threads()


def spent(call: Callable[[], Tensor], device: torch.device) -> Spent:
    started, began = time.perf_counter(), worked()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    passed = time.perf_counter() - started
    return Spent(passed, passed if device.type == "cuda" else worked() - began)


def middle(times: Iterable[Spent]) -> Spent:
    return Spent(*(statistics.median(values) for values in zip(*times, strict=True)))


def gigabytes(call: Callable[[], Tensor], shape: tuple[int, ...]) -> float:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 1e9
    return 4e-9 * peak_volumes(call, shape) * shape[0] * shape[1] * shape[2]


def difference(found: Tensor, exact: Tensor) -> str:
    off = (found.float() - exact).abs()
    largest, usual = off.max() / exact.abs().max(), off.norm() / exact.norm()
    return f"{float(largest):.1e} of the maximum, {float(usual):.1e} RMS"


def networks(weights: Weights, shape: tuple[int, ...], repeat: int, device: torch.device) -> None:
    network, architecture = weights.network, weights.network.architecture
    stride = architecture.stride
    padded = tuple(-(-(n + 8) // stride) * stride for n in shape)
    channels = torch.randn((1, len(architecture.inputs), *padded), device=device)
    code = encode(Geometry(padded, VOXELS_MM), Level(0.3, 0.3), architecture.conditions)
    plain = UNet(dataclasses.replace(architecture, conditions=()))

    def specialised(dtype: torch.dtype = torch.float32) -> Tensor:
        return FusedUNet(network.specialise(code), dtype, device)(channels)

    def mesa(dtype: torch.dtype = torch.float32) -> Tensor:
        return FusedUNet(plain, dtype, device)(channels)

    print(f"\n{'×'.join(map(str, padded))} voxels in the network\n")
    print("| network | s | CPU s / threads | GB |\n|---|---|---|---|")
    exact = None
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        found = specialised(dtype)
        exact = found if exact is None else exact
        pairs = [[spent(partial(call, dtype), device) for call in (specialised, mesa)] for _ in range(repeat)]
        memory = gigabytes(partial(specialised, dtype), padded)
        for title, times in zip(("Meta-QSM, specialised", "Mesa-QSM"), zip(*pairs, strict=True), strict=True):
            print(f"| {title}, {name} | {middle(times)} | {memory:.2f} |")
        ratio = statistics.median(meta.worked / mesa.worked for meta, mesa in pairs)
        print(f"| ratio, {name} | | {ratio:.3f} | |", flush=True)
    print(f"\nbfloat16 against float32: {difference(found, exact)}")
    fused = FusedUNet(network.specialise(code), torch.float32, device)
    with running():
        output, blocks = compute_in_blocks(fused, channels, architecture, exact.numel() / 2)
    print(f"{blocks} blocks against the whole: {difference(output, exact[0, 0])}", flush=True)


def method(weights: Path, shapes: list[tuple[int, ...]], repeat: int, device: torch.device) -> None:
    columns = (
        "field to map",
        "precision",
        "s",
        "CPU s / threads",
        "longest silence",
        "GB",
        "blocks",
    )
    print(f"\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for shape, precision in itertools.product(shapes, ("float32", "bfloat16")):
        geometry = Geometry(shape, VOXELS_MM)
        field = 0.02 * torch.randn(shape, device=device)
        mask = torch.ones(shape, dtype=torch.bool, device=device)
        parameters = MetaQSMParameters(precision=precision, weights=str(weights))
        said = []

        def compute(given=(field, mask, geometry, parameters), said=said) -> Tensor:
            with running(report=lambda *_: said.append(worked())) as run:
                chi = metaqsm(*given)
            compute.blocks = run.remarks["network"]["blocks"]
            return chi

        memory = gigabytes(compute, shape)
        times, silences = [], []
        for _ in range(repeat):
            said[:] = [worked()]
            times.append(spent(compute, device))
            silences.append(max(b - a for a, b in itertools.pairwise(said)))
        print(
            f"| {'×'.join(map(str, shape))} | {precision} | {middle(times)} | "
            f"{statistics.median(silences):.2f} | {memory:.2f} | {compute.blocks} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path, help="instead of those shipped")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="512×512×128 voxels too")
    options = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    device = torch.device(options.device)
    weights = options.weights or shipped_weights("metaqsm.safetensors")[0]
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{weights.name} on {where}; {sys.platform}, torch {torch.__version__}")
    networks(read_weights(weights), (256, 256, 64), options.repeat, device)
    method(weights, [(256, 256, 64), *([(512, 512, 128)] if options.large else [])], options.repeat, device)


if __name__ == "__main__":
    main()

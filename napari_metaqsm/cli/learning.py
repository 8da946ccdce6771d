"""``metaqsm evaluate`` and ``train``: what methods reach, and weights of one's own."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from napari_metaqsm.cli.app import app, progress
from napari_metaqsm.cli.options import DeviceOption, QuietOption, numbers_in
from napari_metaqsm.errors import InputError


@app.command()
def evaluate(
    methods: Annotated[
        str | None,
        typer.Option(
            help="Inversion methods with commas between them, each with its own values where they are "
            "not the defaults: tkd,tkd:threshold=0.15 [all]."
        ),
    ] = None,
    volumes: Annotated[int, typer.Option(help="Synthetic scans of each kind; 0 leaves them out.")] = 100,
    shape: Annotated[str, typer.Option(help="Voxels of a synthetic scan.")] = "256,256,64",
    seed: Annotated[int, typer.Option(help="Of the synthetic scans.", min=0)] = 0,
    labels: Annotated[
        Path | None, typer.Option(help="Folder of label maps, of which numbers 19 and 20 are used.")
    ] = None,
    qsm2016: Annotated[Path | None, typer.Option(help="Folder of the challenge of 2016.")] = None,
    case: Annotated[Path | None, typer.Option(help="Folder of the benchmark case.")] = None,
    mesa: Annotated[
        str | None, typer.Option(help="Methods of one voxel size each, likewise [those shipped].")
    ] = None,
    device: DeviceOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for tables, pictures and the record.")] = Path(
        "metaqsm-evaluation"
    ),
    quiet: QuietOption = False,
) -> None:
    """What each inversion method reaches where the truth is known, in tables."""
    from napari_metaqsm.benchmark.plan import plan
    from napari_metaqsm.benchmark.report import evaluate as evaluate_parts

    parts = plan(
        methods,
        volumes=volumes,
        shape=numbers_in("--shape", shape) or (),
        seed=seed,
        labels=labels,
        qsm2016=qsm2016,
        case=case,
        mesa=mesa,
    )
    with progress(quiet):
        files = evaluate_parts(parts, out, seed, device, say=(lambda text: None) if quiet else print)
    if not quiet:
        for file in files:
            print(file)


@app.command()
def train(
    configuration: Annotated[Path, typer.Argument(help="A TOML file, as examples/train.toml.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: weights, checkpoint, logs, pictures.")] = Path(
        "metaqsm-training"
    ),
    resume: Annotated[
        str | None,
        typer.Option(help="Go on from this folder of a run or of its pieces; auto: from --out, if it can."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="In place of the file's value: optimisation.steps=100."),
    ] = None,
    limit_minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Stop after this and save; 0 validates and saves at once."),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Train a network, on one device or, with the same command, on all of one machine or several."""
    missing = [name for name in ("lightning", "tensorboard") if find_spec(name) is None]
    if missing:
        raise InputError(
            f'training needs {" and ".join(missing)}; install them with: pip install "napari-metaqsm[train]"'
        )
    from napari_metaqsm.io.load import check_writable
    from napari_metaqsm.training.config import read_configuration
    from napari_metaqsm.training.fit import train as run_training

    settings = read_configuration(configuration, set_ or [])
    check_writable(out)
    # Lightning starts this command once more for each further device.
    quiet = quiet or os.environ.get("LOCAL_RANK", "0") != "0"
    with progress(quiet, lines=True) as run:
        report = run_training(settings, out, resume=resume, limit_minutes=limit_minutes)
    if quiet or report is None:
        return
    for text in run.notices:
        print(f"note: {text}", file=sys.stderr)
    print(report)

"""``metaqsm bids``: every scan of a BIDS dataset, by the interface that BIDS Apps share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from napari_metaqsm.cli.app import app
from napari_metaqsm.cli.options import (
    BackgroundOption,
    DeviceOption,
    FitOption,
    InvertOption,
    QuietOption,
    SetOption,
    parameters_in,
)
from napari_metaqsm.method import DEFAULT_INVERSIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_metaqsm.cohort.run import Plan, Progress


class Level(str, Enum):
    """What BIDS Apps call an analysis level."""

    participant = "participant"
    group = "group"


class _BidsCommand(TyperCommand):
    """Options that BIDS Apps let be followed by several labels: ``--participant-label 01 02``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _repeated(args, ("--participant-label", "--session-label")))


def _repeated(arguments: list[str], options: tuple[str, ...]) -> list[str]:
    """Each further value of such an option with the option before it, as this command line wants it."""
    out: list[str] = []
    option, first = "", False
    for argument in arguments:
        argument = argument.replace("_", "-") if argument.replace("_", "-") in options else argument
        if argument.startswith("-"):
            option, first = (argument if argument in options else ""), True
        elif option:
            out += [] if first else [option]
            first = False
        out.append(argument)
    return out


@app.command(cls=_BidsCommand)
def bids(
    bids_dir: Annotated[Path, typer.Argument(help="A BIDS dataset.")],
    output_dir: Annotated[Path, typer.Argument(help="The dataset of derivatives to be made of it.")],
    level: Annotated[
        Level, typer.Argument(help="participant: the scans, then the page of all; group: that page alone.")
    ],
    participant_label: Annotated[
        list[str] | None, typer.Option(help="One or several, with or without sub- [all].")
    ] = None,
    session_label: Annotated[list[str] | None, typer.Option(help="Likewise [all].")] = None,
    fit: FitOption = "nonlinear_fit",
    mask: Annotated[
        str, typer.Option(help="A mask method (brain, threshold, phase_quality), or none.")
    ] = "brain",
    masks: Annotated[
        Path | None, typer.Option(help="In place of that, derivatives with a _mask for each scan.")
    ] = None,
    background: BackgroundOption = "resharp",
    invert: InvertOption = None,
    set_: SetOption = None,
    reference: Annotated[str, typer.Option(help="Zero of the maps: brain, csf or none.")] = "brain",
    regions: Annotated[
        Path | None, typer.Option(help="Derivatives with a _dseg for each scan, to be measured.")
    ] = None,
    device: DeviceOption = "auto",
    scheduler: Annotated[
        str | None, typer.Option(help="A Dask scheduler, as tcp://host:8786 [workers on this machine].")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Scans at once [as many as cores and memory allow].")
    ] = None,
    n_cpus: Annotated[int | None, typer.Option("--n-cpus", "--nprocs", help="Cores to use [all].")] = None,
    mem_gb: Annotated[float | None, typer.Option(help="Memory to use [what is free].")] = None,
    skip_bids_validation: Annotated[
        bool, typer.Option("--skip-bids-validation", help="Taken, as BIDS Apps are; nothing is validated.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Susceptibility maps of every scan of a BIDS dataset; run it again to do what is missing."""
    from napari_metaqsm.cohort.group import write_group

    if level is Level.group:
        _print(write_group(output_dir), quiet)
        return
    from napari_metaqsm.cohort.plan import Settings
    from napari_metaqsm.cohort.run import plan_cohort

    settings = Settings(
        field=fit,
        mask=mask,
        background=background,
        inversion=tuple(invert or DEFAULT_INVERSIONS),
        parameters=parameters_in(set_ or []),
        reference=reference,
        device=device,
        masks=masks,
        regions=regions,
    )
    plan = plan_cohort(
        bids_dir,
        output_dir,
        settings,
        participants=participant_label or (),
        sessions=session_label or (),
        scheduler=scheduler,
        workers=workers,
        cores=n_cpus,
        memory_gb=mem_gb,
    )
    if dry_run:
        _tell_plan(plan)
        return
    if not quiet:
        print(plan, file=sys.stderr)
    with _watching(quiet) as watch:
        result = plan.run(watch)
    _print(result.pages, quiet)
    print(f"metaqsm: {result}", file=sys.stderr)
    if not result.complete:
        sys.exit(1)


def _print(files: list[Path] | tuple[Path, ...], quiet: bool) -> None:
    for file in () if quiet else files:
        print(file)


def _tell_plan(plan: Plan) -> None:
    """A line for every scan."""
    print(plan)
    for job in plan.jobs:
        print(f"{job.label}: to do")
    for item in plan.finished:
        print(f"{item.label}: done before")
    for outcome in plan.refused:
        print(f"{outcome.label}: {outcome.reason}")


# -------------------------------------------------------------------------------------- progress
@contextmanager
def _watching(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """What a cohort calls with its progress: a bar, or lines where there is no terminal."""
    if quiet:
        yield lambda progress: None
        return
    if not sys.stderr.isatty():
        yield _tell_line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting the workers", total=None)
        told = ""

        def show(progress: Progress) -> None:
            nonlocal told
            if progress.dashboard != told:
                told = progress.dashboard
                bar.console.print(f"Dask's dashboard: {told}", highlight=False)
            if progress.latest is not None and progress.latest.reason:
                bar.console.print(f"{progress.latest.label}: {progress.latest.reason}", highlight=False)
            description = f"{progress.failed} failed, {_left(progress)}"
            ended = progress.done + progress.failed
            bar.update(task, completed=ended, total=progress.total, description=description)

        yield show


def _tell_line(progress: Progress) -> None:
    latest = progress.latest
    if latest is None:
        if progress.dashboard:
            print(f"Dask's dashboard: {progress.dashboard}", file=sys.stderr, flush=True)
        return
    ended = progress.done + progress.failed
    what = f"{latest.label} {latest.status}" + (f" ({latest.reason})" if latest.reason else "")
    print(f"{ended} of {progress.total}, {_left(progress)}: {what}", file=sys.stderr, flush=True)


def _left(progress: Progress) -> str:
    """ "about 3 h 20 min left"."""
    if progress.seconds_left is None:
        return "time left not known yet"
    minutes = round(progress.seconds_left / 60)
    if minutes < 1:
        return f"about {round(progress.seconds_left)} s left"
    hours, minutes = divmod(minutes, 60)
    return f"about {hours} h {minutes} min left" if hours else f"about {minutes} min left"

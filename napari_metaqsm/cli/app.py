"""What every command shares: the application, exit codes, options, and what is told while it runs."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_metaqsm.errors import InputError

if TYPE_CHECKING:
    from napari_metaqsm.method import Run

app = typer.Typer(
    name="metaqsm",
    help="Quantitative susceptibility mapping: from the phase of a gradient-echo scan to susceptibility.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no list of results.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


def main() -> None:
    """Entry point: runs the command and turns what goes wrong into an exit code."""
    try:
        app(standalone_mode=True)
    except InputError as error:
        print(f"metaqsm: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("metaqsm: stopped", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        traceback.print_exc()
        print(f"metaqsm: failed: {error}", file=sys.stderr)
        sys.exit(1)


def names_file(text: str) -> bool:
    return text.endswith((".nii", ".nii.gz")) or Path(text).is_file()


def numbers_in(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.replace(" ", ",").split(",") if part)
    except ValueError:
        raise InputError(f"{option} is {text!r}; it must be numbers with commas between them") from None


def parameters_in(settings: list[str]) -> dict[str, dict[str, str]]:
    """Values by method and parameter, from "method.parameter=value"."""
    values: dict[str, dict[str, str]] = {}
    for setting in settings:
        target, equals, value = setting.partition("=")
        name, dot, key = target.partition(".")
        if not (equals and dot):
            raise InputError(f"--set is {setting!r}; it must be method.parameter=value")
        values.setdefault(name, {})[key] = value
    return values


def tell(warnings: Iterable[str], files: Iterable[Path], quiet: bool) -> None:
    if not quiet:
        for text in warnings:
            print(f"note: {text}", file=sys.stderr)
        for file in files:
            print(file)


@contextmanager
def progress(quiet: bool, *, lines: bool = False) -> Iterator[Run]:
    """A progress bar fed by whatever runs inside; where there is no terminal, nothing, or ``lines``."""
    from napari_metaqsm.method import running

    if quiet:
        with running() as run:
            yield run
        return
    if lines and not sys.stderr.isatty():
        with running(lambda done, label: print(f"{done:4.0%} {label}", file=sys.stderr, flush=True)) as run:
            yield run
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Starting", total=1.0)

        def report(done: float, label: str) -> None:
            bar.update(task, completed=done, description=label)

        with running(report) as run:
            yield run

"""What every command shares: the application, exit codes, and what is told while it runs."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from napari_metaqsm.errors import Cancelled, InputError, computer_fault
from napari_metaqsm.method import running

if TYPE_CHECKING:
    from napari_metaqsm.method import Run

_STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

app = typer.Typer(
    name="metaqsm",
    help="Quantitative susceptibility mapping: from the phase of a gradient-echo scan to susceptibility.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Entry point: runs the command and turns what goes wrong into an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        with _stoppable():
            app(standalone_mode=True)
    except InputError as error:
        _end(str(error), 2)
    except (KeyboardInterrupt, SystemExit) as error:
        stopped_by = _signal_behind(error)
        if stopped_by is None:
            raise
        _end("stopped", 128 + stopped_by)
    except Exception as error:
        fault = computer_fault(error)
        if fault is None:
            traceback.print_exc()
        _end(f"failed: {fault or error}", 1)


def _end(text: str, code: int) -> NoReturn:
    print(f"metaqsm: {' '.join(text.splitlines())}", file=sys.stderr)
    sys.exit(code)


class Stopped(KeyboardInterrupt):
    """By a signal, whose number is the first argument."""


def _signal_behind(error: BaseException | None) -> int | None:
    """The signal that led to an exception; typer makes an exit of an interrupt."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    return error.args[0] if isinstance(error, Stopped) else signal.SIGINT


def _is_loading(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return getattr(spec, "_initializing", False)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM, and a terminal that closes, stop like Ctrl-C.

    Where a library swallows the signal, or would not bear it, the next step of a method stops.
    """
    received: list[int] = []

    def stop(number: int, frame: object) -> None:
        received.append(number)
        # PyTorch loads itself from C++ in part, where an exception ends the process there and then.
        if not _is_loading("torch"):
            raise Stopped(number)

    def unraisable(told: sys.UnraisableHookArgs) -> None:
        if not isinstance(told.exc_value, Stopped):  # a signal's is not lost: it is in `received`
            tell(told)

    before, tell = {}, sys.unraisablehook
    sys.unraisablehook = unraisable
    if threading.current_thread() is threading.main_thread():
        for number in _STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
    try:
        with running(stopped=lambda: bool(received)):
            yield
    except Cancelled:
        raise (Stopped(received[0]) if received else KeyboardInterrupt) from None
    except Exception:
        # What fails after a signal does so of it: Numba finds nothing to save where compiling was ended.
        if received:
            raise Stopped(received[0]) from None
        raise
    finally:
        sys.unraisablehook = tell
        for number, handler in before.items():
            signal.signal(number, handler)


def tell(warnings: Iterable[str], files: Iterable[Path], quiet: bool, decisions: Iterable[str] = ()) -> None:
    """How data were read, and what is to be noted, on standard error; the files made, on standard output."""
    if not quiet:
        for text in decisions:
            print(f"read: {text}", file=sys.stderr)
        for text in warnings:
            print(f"note: {text}", file=sys.stderr)
        for file in files:
            print(file)


@contextmanager
def progress(quiet: bool, *, lines: bool = False) -> Iterator[Run]:
    """A progress bar fed by whatever runs inside; where there is no terminal, nothing, or ``lines``."""
    if quiet:
        with running() as run:
            yield run
    elif lines and not sys.stderr.isatty():
        with running(_print_line) as run:
            yield run
    else:
        with _bar() as report, running(report) as run:
            yield run


def _print_line(done: float, label: str) -> None:
    print(f"{done:4.0%} {label}", file=sys.stderr, flush=True)


@contextmanager
def _bar() -> Iterator[Callable[[float, str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Starting", total=1.0)
        yield lambda done, label: bar.update(task, completed=done, description=label)

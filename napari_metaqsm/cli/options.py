"""Options that stand in several commands, and what the text of an option means."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import DEFAULT_INVERSIONS

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no list of results.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
B0Option = Annotated[float | None, typer.Option(help="Field strength in tesla.")]
FitOption = Annotated[str, typer.Option(help="Field method.")]
BackgroundOption = Annotated[str, typer.Option(help="Background method.")]
InvertOption = Annotated[
    list[str] | None,
    typer.Option(help=f"Inversion method; several give several maps [{' and '.join(DEFAULT_INVERSIONS)}]."),
]
AlternatingOption = Annotated[
    bool | None,
    typer.Option(
        "--alternating-slices/--no-alternating-slices",
        help="Real and imaginary parts change sign from slice to slice, or not [the data tell].",
    ),
]
DifferenceOption = Annotated[
    bool | None,
    typer.Option(
        "--phase-difference/--no-phase-difference",
        help="The phase is the difference of two echoes, or not [names and headers tell].",
    ),
]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="A parameter, as tkd.threshold=0.15.")]


def names_file(text: str) -> bool:
    """Whether an option's text is a file, where it could be a word as well."""
    return text.endswith((".nii", ".nii.gz")) or os.path.isfile(text)


def numbers_in(option: str, text: str | None) -> tuple[float, ...] | None:
    """Numbers from "1,2.5"."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.replace(" ", ",").split(",") if part)
    except ValueError:
        raise InputError(f"{option} is {text!r}; it must be numbers with commas between them") from None


def series_in(text: str | None) -> list[int] | None:
    """Numbers of DICOM series, from "8,9"."""
    try:
        return None if text is None else [int(part) for part in text.replace(" ", ",").split(",") if part]
    except ValueError:
        raise InputError(f"--series is {text!r}; it must be whole numbers, as 8,9") from None


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


def window_in(text: str) -> tuple[float, float]:
    """Black and white in ppm, from "-0.1,0.2"."""
    numbers = numbers_in("--window", text) or ()
    if len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise InputError(f"--window is {text!r}; it must be two numbers, the smaller first, as -0.1,0.1")
    return numbers

"""A part of the benchmark: scans of one kind, who is run on them, and how the maps are scored."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from napari_metaqsm.benchmark.contenders import Contender
from napari_metaqsm.errors import InputError
from napari_metaqsm.evaluation.tables import Cell, Column, Spread, Table
from napari_metaqsm.method import announce, part, running
from napari_metaqsm.pipeline import run_step
from napari_metaqsm.scan import Geometry

# What a method may fail of on one scan, while the others go on.
KNOWN_FAILURES = (InputError, FileNotFoundError, MemoryError, torch.OutOfMemoryError)


@dataclass(frozen=True)
class Volume:
    """One scan, (i, j, k) arrays in ppm by the names that methods ask for, and what is known of it.

    Parameters
    ----------
    facts : what describes it, for the list of all runs
    truth : what its maps are compared with
    score : the figures of a map of it
    """

    name: str
    data: Mapping[str, np.ndarray | None]
    geometry: Geometry
    truth: np.ndarray
    score: Callable[[np.ndarray], dict[str, float]]
    facts: Mapping[str, Cell] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What one contender reached on one volume; without figures where it failed, and the note says why."""

    part: str
    volume: str
    facts: Mapping[str, Cell]
    contender: str
    figures: Mapping[str, float]
    seconds: float
    record: Mapping[str, Any]
    note: str

    @property
    def failed(self) -> bool:
        """Whether there was no map."""
        return not self.record

    def __str__(self) -> str:
        found = ", ".join(f"{name} {value:.4g}" for name, value in self.figures.items())
        told = found or self.note or "no figures"
        return f"{self.part} {self.volume}: {self.contender}: {told} ({self.seconds:.2f} s)"


@dataclass(frozen=True)
class Part:
    """Scans of one kind.

    Parameters
    ----------
    name : of its files
    make : makes the volume of a number from 0 to ``count`` - 1
    tables : makes the tables of the outcomes so far
    pictured : number of the volume whose maps are shown in a picture
    """

    name: str
    title: str
    contenders: Sequence[Contender]
    count: int
    make: Callable[[int], Volume]
    tables: Callable[[Sequence[Outcome]], list[Table]]
    pictured: int | None = 0


Maps = dict[str, np.ndarray]


def run_part(this: Part, device: str) -> Iterator[tuple[Volume, list[Outcome], Maps]]:
    """Each volume of a part when all contenders are done with it: outcomes and maps, by label."""
    for index in range(this.count):
        with part(index, this.count, f"{this.title} {index + 1}/{this.count}"):
            announce("making the scan")
            volume = this.make(index)
            outcomes, maps = [], {}
            for number, contender in enumerate(this.contenders):
                with part(number, len(this.contenders), contender.label):
                    outcome, found = _run(this, volume, contender, device)
                outcomes.append(outcome)
                if found is not None:
                    maps[contender.label] = found
        yield volume, outcomes, maps


def _run(this: Part, volume: Volume, contender: Contender, device: str) -> tuple[Outcome, np.ndarray | None]:
    started = time.perf_counter()
    figures: dict[str, float] = {}
    record: dict[str, Any] = {}
    found = None
    with running():  # notices go into the note
        try:
            outputs, record = run_step(contender.step, volume.data, volume.geometry, device=device)
        except KNOWN_FAILURES as error:
            note, seconds = str(error) or type(error).__name__, time.perf_counter() - started
        else:
            found = outputs["susceptibility"]
            note, seconds = "; ".join(record["warnings"]), record["seconds"]
            announce("scoring", 0.8)
            figures = volume.score(found)
    outcome = Outcome(this.name, volume.name, volume.facts, contender.label, figures, seconds, record, note)
    return outcome, found


# -------------------------------------------------------------------------------------- tables
def by_contender(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes of each contender, in the order in which they were run."""
    grouped: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        grouped.setdefault(outcome.contender, []).append(outcome)
    return grouped


def spreads(outcomes: Sequence[Outcome], names: Sequence[str]) -> list[Spread]:
    """Spread of each figure over the outcomes that have it."""
    return [Spread.of(o.figures[n] for o in outcomes if n in o.figures) for n in names]


def failures(outcomes: Sequence[Outcome]) -> str:
    """In words on how many volumes it failed and why, or what its runs warned of first."""
    failed = [o for o in outcomes if o.failed]
    if failed:
        return f"failed on {len(failed)} of {len(outcomes)}: {failed[0].note}"
    return next((o.note for o in outcomes if o.note), "")


def spread_table(
    name: str, title: str, outcomes: Sequence[Outcome], columns: Mapping[str, Column], note: str
) -> Table:
    """One row a contender: mean ± SD of each figure, seconds, and what went wrong."""
    table = Table(name, title, ["method", *columns.values(), "volumes", Column("s", 2), "note"], note=note)
    for label, own in by_contender(outcomes).items():
        scored = [o for o in own if not o.failed]
        table.rows.append(
            (
                label,
                *spreads(own, list(columns)),
                len(scored),
                Spread.of(o.seconds for o in scored),
                failures(own),
            )
        )
    return table


def runs_table(this: Part, outcomes: Sequence[Outcome]) -> Table:
    """Every run, one a row: for whoever wants to group them otherwise."""
    facts = list(dict.fromkeys(name for o in outcomes for name in o.facts))
    figures = list(dict.fromkeys(name for o in outcomes for name in o.figures))
    table = Table(
        f"{this.name}_runs",
        f"{this.title}: every run",
        ["volume", *facts, "method", *figures, "seconds", "note"],
    )
    for o in outcomes:
        table.rows.append(
            (
                o.volume,
                *(o.facts.get(n, "") for n in facts),
                o.contender,
                *(o.figures.get(n, math.nan) for n in figures),
                o.seconds,
                o.note,
            )
        )
    return table

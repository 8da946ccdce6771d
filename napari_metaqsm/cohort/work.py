"""What is done with one scan, in five parts that different processes can run.

:func:`read`, :func:`prepare` (field, mask, background), :func:`infer` (the inversions), :func:`report` and
:func:`store` take what the one before gave. None of them raises: what goes wrong becomes a :class:`Failure`,
which the others hand on. Reading and writing are parts of their own, so that they overlap with computing.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_metaqsm.cohort.outcomes import DONE, FAILED, Outcome, outcome_file, read_outcome, write_outcome
from napari_metaqsm.cohort.plan import (
    STAMP,
    Item,
    Settings,
    known_stamp,
    look_at,
    own_version,
    same_content,
    stamp_of,
)
from napari_metaqsm.cohort.summary import Summary, summarise
from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.dataset import load_scan
from napari_metaqsm.io.bids.derivatives import write_derivatives
from napari_metaqsm.io.load import describe_file
from napari_metaqsm.io.sidecar import DATASET
from napari_metaqsm.method import running
from napari_metaqsm.pipeline import Result, check_chain, go_on
from napari_metaqsm.reading.region_names import region_names
from napari_metaqsm.report.folder import read_labels, read_names
from napari_metaqsm.scan import Scan


@dataclass(frozen=True)
class Job:
    """A scan to be computed: what every part of the work is told.

    Parameters
    ----------
    version : of this package, which workers must have
    """

    item: Item
    settings: Settings
    out: Path
    version: str = field(default_factory=own_version)

    @property
    def label(self) -> str:
        return self.item.label


@dataclass(frozen=True)
class Part:
    """What the parts of the work hand on.

    Parameters
    ----------
    seconds : computed so far
    worker : that computed the most recent part
    """

    result: Result
    stamp: Mapping[str, Any]
    seconds: float = 0.0
    worker: str = ""
    regions: np.ndarray | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    summary: Summary | None = None


@dataclass(frozen=True)
class Failure:
    """Why a scan could not be done, in words.

    Parameters
    ----------
    outside : whether it is no fault of the scan: a folder has gone or is full, a worker is not fit
    """

    reason: str
    seconds: float = 0.0
    worker: str = ""
    outside: bool = False


@dataclass(frozen=True)
class Unchanged:
    """A finished scan whose files have another time, but the content that its record names."""


def _part(function: Callable[..., Any], writes: bool = False) -> Callable[..., Any]:
    """A part of the work: hands on what is no scan, times the rest, and gives a failure for an error."""

    @functools.wraps(function)
    def part(given: Any, job: Job, *others: Any) -> Any:
        if isinstance(given, (Failure, Unchanged)):
            return given
        before = given.seconds if isinstance(given, Part) else 0.0
        started = time.perf_counter()
        worker = f"{socket.gethostname()}:{os.getpid()}"
        unfit = _unfit(job)
        if unfit:
            return Failure(unfit, round(before, 3), worker, outside=True)
        try:
            with running():  # what the steps notice is in their record
                made = function(given, job, *others)
        except Exception as error:  # the outermost edge: one scan must not stop the others
            seconds = before + time.perf_counter() - started
            unfit = _unfit(job)  # a folder may have gone meanwhile
            outside = bool(unfit) or (writes and _of_storage(error))
            return Failure(unfit or in_words(error), round(seconds, 3), worker, outside)
        seconds = before + time.perf_counter() - started
        if isinstance(made, Part):
            made = dataclasses.replace(made, seconds=round(seconds, 3), worker=worker)
        return made

    return part


def _unfit(job: Job) -> str:
    """In words why this process can do no scan at all: another version, folders it does not see; else ""."""
    here = socket.gethostname()
    if own_version() != job.version:
        return f"the worker on {here} has napari-metaqsm {own_version()}; it must be {job.version}"
    for what, folder in (("dataset", job.item.scan.dataset), ("folder of the derivatives", job.out)):
        # Where a network folder was there may be an empty one now, on the local disk.
        if not os.path.isfile(folder / DATASET):  # which raises nothing where a network folder is stale
            return f"the {what} has gone, or is not seen on {here}: {folder}"
    return ""


def in_words(error: BaseException) -> str:
    """An error as one sentence for the table."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "it did not fit in the memory of its worker"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"


def _of_storage(error: BaseException) -> bool:
    """Whether the folder of the derivatives cannot be written to, which is no fault of the scan."""
    return isinstance(error, OSError) or isinstance(error.__cause__, OSError)


@_part
def read(given: None, job: Job) -> Part | Unchanged:
    """The scan from its files; unless a finished one proves to be unchanged."""
    item, settings = job.item, job.settings
    if item.trouble:
        raise InputError(item.trouble)
    seen = look_at(item)
    stamp = known_stamp(item, settings, job.out, seen)
    if stamp is not None and same_content(stamp, item):
        return Unchanged()
    scan = load_scan(item.scan, **({} if item.mask is None else {"mask": item.mask}))
    if item.mask is None and settings.mask == "none":
        scan = scan.with_mask(np.ones(scan.geometry.shape, bool))
    check_chain(scan, settings.chain)
    regions, names = _regions(item, scan)
    stamp = stamp_of(item, settings, seen, _hashes(item, scan))
    return Part(Result(scan, {}), stamp, regions=regions, names=names)


def _regions(item: Item, scan: Scan) -> tuple[np.ndarray | None, Mapping[int, str]]:
    if item.regions is None:
        return None, {}
    listed = {} if item.names is None else read_names(item.names)
    return read_labels(item.regions, scan.space), region_names(item.regions.name, listed.items())


def _hashes(item: Item, scan: Scan) -> dict[str, str]:
    """Of every file; those of which reading has told it are not read again."""
    known = {
        about["file"]: about["sha256"]
        for several in scan.sources.values()
        for about in (several if isinstance(several, list) else [several])
        if {"file", "sha256"} <= about.keys()
    }
    files = item.files()
    alone = [file.name for file in files.values()]
    return {
        name: known[file.name]
        if file.name in known and alone.count(file.name) == 1
        else describe_file(file)["sha256"]
        for name, file in files.items()
    }


@_part
def prepare(given: Part, job: Job, device: str) -> Part:
    """Field, mask and background."""
    chain = [step for step in job.settings.chain if step.stage != "inversion"]
    result = go_on(given.result, chain, device=device, reference=job.settings.reference)
    return dataclasses.replace(given, result=result)


@_part
def infer(given: Part, job: Job, device: str) -> Part:
    """The inversions."""
    chain = [step for step in job.settings.chain if step.stage == "inversion"]
    result = go_on(given.result, chain, device=device, reference=job.settings.reference)
    return dataclasses.replace(given, result=result)


@_part
def report(given: Part, job: Job) -> Part:
    """Report, pictures and measures."""
    files = {role: str(paths[0]) for role, paths in job.item.scan.files.items()}
    summary = summarise(given.result, job.label, given.regions, given.names, files=files)
    return dataclasses.replace(given, summary=summary)


@functools.partial(_part, writes=True)
def store(given: Part, job: Job) -> Outcome:
    """Maps, report and record into the derivatives, then the outcome, which says that they are whole."""
    record = {**given.result.record, STAMP: given.stamp}
    result = dataclasses.replace(given.result, record=record)
    write_derivatives(result, job.item.scan, job.out, given.summary.documents)
    outcome = Outcome(
        job.label,
        DONE,
        seconds=given.seconds,
        worker=given.worker,
        warnings=tuple(record["warnings"]),
        measures=given.summary.measures,
    )
    write_outcome(outcome, job.out)
    return outcome


def outcome_of(given: Outcome | Failure | Unchanged, job: Job) -> Outcome:
    """The row of the table; of a scan that is unchanged, the one that it has."""
    if isinstance(given, Failure):
        return Outcome(job.label, FAILED, given.reason, given.seconds, given.worker)
    if isinstance(given, Unchanged):
        return read_outcome(outcome_file(job.label, job.out)) or Outcome(job.label, DONE)
    return given

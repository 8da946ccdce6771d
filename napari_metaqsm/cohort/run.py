"""Every scan of a dataset through one chain, on Dask.

:func:`plan_cohort` tells what there is to do, :class:`Plan` does it; :func:`run_cohort` is both.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from dask.system import CPU_COUNT
from distributed import Future, KilledWorker, as_completed

from napari_metaqsm.cohort import work
from napari_metaqsm.cohort.cluster import COMPUTE, FILES, GPU, Cluster, existing_cluster, local_cluster
from napari_metaqsm.cohort.group import write_group
from napari_metaqsm.cohort.memory import GB, Share, fits, free_bytes, need_of, share_out, statement
from napari_metaqsm.cohort.outcomes import (
    FAILED,
    Outcome,
    forgotten,
    outcome_file,
    read_outcomes,
    write_outcome,
    write_table,
)
from napari_metaqsm.cohort.plan import Item, Settings, find_items, known_stamp, look_at, unchanged
from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.derivatives import write_dataset
from napari_metaqsm.io.nifti import check_writable
from napari_metaqsm.provenance import software_versions

# One scan that is computed, one that has been read, one that is being written; see ``Need.worker``.
IN_FLIGHT = 3
# After so many scans in a row that failed by no fault of theirs, the rest would fail likewise.
OUTSIDE_FAILURES = 3
_TABLE_SECONDS = 30.0
_POLL_SECONDS, _LOOK_SECONDS = 0.02, 5.0


class _NoWorker(Exception):
    """There is nobody to compute."""


@dataclass(frozen=True)
class Progress:
    """How far a cohort is.

    Parameters
    ----------
    done, failed, total : scans; those that were finished before are among ``done``
    seconds_left : None before the first has come
    latest : the outcome that has just come
    dashboard : Dask's, its address or how to get one; "" where it has none
    """

    done: int
    failed: int
    total: int
    seconds_left: float | None = None
    latest: Outcome | None = None
    dashboard: str = ""


@dataclass(frozen=True)
class CohortResult:
    """What came of a cohort.

    Parameters
    ----------
    outcomes : of every scan that was asked for and that came to an end
    earlier : labels of those that were finished already
    stopped : why the run ended before its end; "" where it did not
    pages : of the group
    """

    out: Path
    outcomes: tuple[Outcome, ...]
    earlier: frozenset[str] = frozenset()
    stopped: str = ""
    pages: tuple[Path, ...] = ()

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Those that failed, each with its reason."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == FAILED)

    @property
    def complete(self) -> bool:
        """Whether every scan is done."""
        return not self.failed and not self.stopped

    def __str__(self) -> str:
        new = len(self.outcomes) - len(self.failed) - len(self.earlier)
        text = f"{new} done, {len(self.earlier)} done before, {len(self.failed)} failed"
        return f"{text}; {self.stopped}" if self.stopped else text


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Parameters
    ----------
    finished : scans with nothing to be done
    jobs : those to be computed, or to be looked at more closely
    refused : those that cannot be, each with its reason
    forgotten : labels of which an outcome is kept, though neither dataset nor derivatives hold them now
    share : who gets how much of this machine; None where another scheduler is named
    gpus : cards of this machine that are used
    """

    dataset: Path
    out: Path
    settings: Settings
    finished: tuple[Item, ...]
    jobs: tuple[work.Job, ...]
    refused: tuple[Outcome, ...]
    forgotten: tuple[str, ...]
    share: Share | None
    gpus: int
    scheduler: str | None

    @property
    def total(self) -> int:
        """Scans in all."""
        return len(self.finished) + len(self.jobs) + len(self.refused)

    def __str__(self) -> str:
        where = statement(self.share, self.gpus) if self.share else f"the workers of {self.scheduler}"
        counts = f"{len(self.jobs)} to do, {len(self.finished)} done before, {len(self.refused)} unusable"
        return f"{self.total} scans: {counts}" + (f"; {where}" if self.jobs else "")

    def run(self, watch: Callable[[Progress], object] = lambda progress: None) -> CohortResult:
        """Do it; see :func:`run_cohort`."""
        write_dataset(self.out, self.dataset, software_versions())
        for label in self.forgotten:
            outcome_file(label, self.out).unlink(missing_ok=True)
        ledger = _Ledger(self, watch)
        for outcome in self.refused:
            ledger.enter(outcome)
        stopped = ""
        try:
            if self.jobs:
                with self._cluster() as cluster:
                    ledger.start(cluster.dashboard)
                    stopped = _compute(self.jobs, cluster, ledger)
        except _NoWorker as error:
            stopped = f"stopped, since {error}; run it again to do the rest"
        finally:
            ledger.write()
        pages = () if stopped else tuple(write_group(self.out))
        outcomes = tuple(ledger.outcomes[label] for label in sorted(ledger.outcomes))
        return CohortResult(self.out, outcomes, frozenset(ledger.earlier), stopped, pages)

    def _cluster(self) -> AbstractContextManager[Cluster]:
        return (
            existing_cluster(self.scheduler) if self.share is None else local_cluster(self.share, self.gpus)
        )


def plan_cohort(
    dataset: str | Path,
    out: str | Path,
    settings: Settings | None = None,
    *,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    scheduler: str | None = None,
    workers: int | None = None,
    cores: int | None = None,
    memory_gb: float | None = None,
) -> Plan:
    """What there is to do for a dataset, told from names, headers and earlier records; nothing is written.

    Parameters
    ----------
    dataset, out : a BIDS dataset, and the dataset of derivatives to be made of it
    participants, sessions : labels; none means all
    scheduler : address of a Dask scheduler, as in "tcp://host:8786"; None starts workers on this machine
    workers, cores, memory_gb : at most so much of this machine; None takes what is free

    Raises
    ------
    InputError
        When the dataset cannot be read, ``out`` cannot be written to, a participant is unknown, or there is
        not the memory for one worker.
    """
    settings = settings or Settings()
    dataset, out = Path(dataset).absolute(), Path(out).absolute()
    for name, value in (("workers", workers), ("cores", cores), ("memory_gb", memory_gb)):
        if value is not None and not value > 0:
            raise InputError(f"{name} is {value}; it must be greater than 0")
    items = find_items(dataset, settings, participants, sessions)
    check_writable(out)
    cores = cores or CPU_COUNT
    free = free_bytes() if memory_gb is None else memory_gb * GB
    gpus = torch.cuda.device_count() if settings.device.split(":")[0] in ("auto", "cuda") else 0
    finished, jobs, refused, needs = [], [], [], []
    for item in items:
        try:
            if item.trouble:
                raise InputError(item.trouble)
            if _is_finished(item, settings, out):
                finished.append(item)
                continue
            need = need_of(item, settings.chain)
            too_much = "" if scheduler else fits(need, free)
            if too_much:
                raise InputError(too_much)
            needs.append(need)
            jobs.append(work.Job(item, settings, out))
        except (InputError, OSError) as error:
            refused.append(Outcome(item.label, FAILED, work.in_words(error)))
    given = None if scheduler else share_out(needs, cores=cores, free=free, workers=workers, gpus=gpus)
    # Of a part of the dataset it cannot be told what the rest holds.
    gone = () if participants or sessions else forgotten([item.label for item in items], out)
    done = (tuple(finished), tuple(jobs), tuple(refused), gone)
    return Plan(dataset, out, settings, *done, given, gpus, scheduler)


def _is_finished(item: Item, settings: Settings, out: Path) -> bool:
    seen = look_at(item)
    stamp = known_stamp(item, settings, out, seen)
    return stamp is not None and unchanged(stamp, seen)


def run_cohort(
    dataset: str | Path,
    out: str | Path,
    *,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    scheduler: str | None = None,
    workers: int | None = None,
    cores: int | None = None,
    memory_gb: float | None = None,
    watch: Callable[[Progress], object] = lambda progress: None,
    **settings: Any,
) -> CohortResult:
    """Susceptibility maps of every scan of a BIDS dataset, with a report of each and a page of all.

    Scans that are finished (same files, same settings) are left; one that fails is a row with its reason.
    Workers are processes: call it below ``if __name__ == "__main__":``.

    Parameters
    ----------
    dataset, out, participants, sessions, scheduler, workers, cores, memory_gb : see :func:`plan_cohort`
    watch : called with a :class:`Progress` whenever a scan has come to its end
    settings : the chain, see :class:`~napari_metaqsm.cohort.plan.Settings`, as
        ``inversion=("tkd", "metaqsm")``

    Raises
    ------
    InputError
        Before anything is computed: as :func:`plan_cohort` does, or a setting is unusable.
    """
    plan = plan_cohort(
        dataset,
        out,
        Settings(**settings),
        participants=participants,
        sessions=sessions,
        scheduler=scheduler,
        workers=workers,
        cores=cores,
        memory_gb=memory_gb,
    )
    return plan.run(watch)


# ------------------------------------------------------------------------------------- the books
class _Ledger:
    """What has come so far: kept on disk, in a table now and then, and told to who watches."""

    def __init__(self, plan: Plan, watch: Callable[[Progress], object]) -> None:
        self.plan, self.watch = plan, watch
        self.earlier = {item.label for item in plan.finished}
        self.kept = {o.label: o for o in read_outcomes(plan.out)}
        self.outcomes = {label: self.kept[label] for label in self.earlier}
        self.dashboard = ""
        self.arrivals: deque[float] = deque(maxlen=100)
        self.written = time.monotonic()

    def start(self, dashboard: str) -> None:
        """From here on scans are computed."""
        self.dashboard = dashboard
        self.arrivals.append(time.monotonic())
        self.tell()

    def enter(self, outcome: Outcome, earlier: bool = False) -> None:
        """Take an outcome; ``earlier`` says that the scan proved to be finished before."""
        if earlier:
            self.earlier.add(outcome.label)
        elif outcome.status == FAILED:  # a worker has written those that are done
            with suppress(OSError, InputError):  # without a place to write, it is told in the end
                write_outcome(outcome, self.plan.out)
        self.outcomes[outcome.label] = outcome
        if self.arrivals:
            self.arrivals.append(time.monotonic())
        if time.monotonic() - self.written > _TABLE_SECONDS:
            self.write()
        self.tell(outcome)

    def tell(self, latest: Outcome | None = None) -> None:
        failed = sum(outcome.status == FAILED for outcome in self.outcomes.values())
        done, total = len(self.outcomes) - failed, self.plan.total
        left = None
        if len(self.arrivals) > 1:
            pace = (time.monotonic() - self.arrivals[0]) / (len(self.arrivals) - 1)
            left = pace * (total - len(self.outcomes))
        self.watch(Progress(done, failed, total, left, latest, self.dashboard))

    def write(self) -> None:
        """The table of all that is in the derivatives, other participants' scans among it."""
        self.written = time.monotonic()
        rows = {**self.kept, **self.outcomes}
        with suppress(OSError, InputError):
            write_table((rows[label] for label in sorted(rows)), self.plan.out)


# --------------------------------------------------------------------------------- the computing
def _compute(jobs: Iterable[work.Job], cluster: Cluster, ledger: _Ledger) -> str:
    """Every job to its end; why it was stopped before, in words."""
    in_a_row = 0
    for job, given in _ended(jobs, cluster):
        ledger.enter(work.outcome_of(given, job), isinstance(given, work.Unchanged))
        in_a_row = in_a_row + 1 if isinstance(given, work.Failure) and given.outside else 0
        if in_a_row == OUTSIDE_FAILURES:
            return (
                f"stopped, since {in_a_row} scans in a row failed for it: {given.reason}. "
                "All that is finished is kept; run it again when this is mended"
            )
    return ""


def _ended(jobs: Iterable[work.Job], cluster: Cluster) -> Iterator[tuple[work.Job, Any]]:
    """Each job with what came of it, as it comes; few at once, so that neither memory nor scheduler fills.

    A job whose worker died is tried again by Dask. Where it dies again, all scans that it held are
    suspected: each gets a turn alone at the end, which tells the one that kills from those beside it.
    """
    suspects: list[work.Job] = []
    for job, given in _in_turn(jobs, cluster, lambda: IN_FLIGHT * max(1, cluster.places)):
        if isinstance(given, KilledWorker):
            suspects.append(job)
        else:
            yield job, given
    for job, given in _in_turn(suspects, cluster, lambda: 1):
        if isinstance(given, KilledWorker):
            given = work.Failure(
                f"its worker was killed {2 * (given.allowed_failures + 1)} times, at last with no other scan "
                "beside it; perhaps it needs more memory than a worker has"
            )
        yield job, given


def _in_turn(
    jobs: Iterable[work.Job], cluster: Cluster, most: Callable[[], int]
) -> Iterator[tuple[work.Job, Any]]:
    """Each job with what came of it; ``most`` at once, which changes with the workers."""
    waiting, lost = deque(jobs), set()
    running: dict[Future, work.Job] = {}
    ended = as_completed(loop=cluster.client.loop)
    try:
        while True:
            cluster.look(_LOOK_SECONDS)
            if cluster.given_up:
                raise _NoWorker(cluster.given_up)
            while waiting and len(running) < most():
                job = waiting.popleft()
                future = _submit(job, cluster)
                running[future] = job
                ended.add(future)
            if not running:
                return
            if not _ready(ended):
                continue
            future = next(ended)
            job = running.pop(future)
            if future.status in ("finished", "error") or job.label in lost:
                given = _given(future)
                future.release()
                yield job, given
            else:  # with the scheduler, which may be back
                lost.add(job.label)
                waiting.append(job)
    finally:
        if cluster.client.status == "running":
            cluster.client.cancel(list(running))


def _ready(ended: as_completed) -> bool:
    """Whether a future has ended, at once or within the time after which workers are looked at again."""
    started = time.monotonic()
    while not ended.has_ready() and time.monotonic() - started < _LOOK_SECONDS:
        time.sleep(_POLL_SECONDS)
    return ended.has_ready()


def _given(future: Future) -> Any:
    """What the last part of the work gave; these raise nothing, so that an error is one of Dask's."""
    if future.status == "finished":
        return future.result()
    error = future.exception() if future.status == "error" else None
    if isinstance(error, KilledWorker):
        return error
    reason = "the scheduler lost it twice" if error is None else work.in_words(error)
    return work.Failure(reason, outside=True)


def _submit(job: work.Job, cluster: Cluster) -> Future:
    """The parts of the work, each waiting for the one before; only the last is kept hold of."""
    device = job.settings.device
    beside = "cpu" if GPU in cluster.resources else device
    run = uuid.uuid4().hex[:8]

    def part(function: Callable[..., Any], given: Any, *others: Any, on: tuple[str, ...]) -> Future:
        return cluster.client.submit(
            function,
            given,
            job,
            *others,
            key=(function.__name__, job.label, run),
            pure=False,
            resources=cluster.needs(*on),
        )

    given = part(work.read, None, on=(FILES,))
    given = part(work.prepare, given, beside, on=(COMPUTE,))
    given = part(work.infer, given, device, on=(GPU, COMPUTE))
    given = part(work.report, given, on=(COMPUTE,))
    return part(work.store, given, on=(FILES,))

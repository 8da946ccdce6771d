"""The Dask workers that compute a cohort: started on this machine, or those of a scheduler that is there.

Workers say by Dask's resources what they are for. Of those started here each has one place to compute
(``compute``) and one to read or write (``files``), so that both go on at once; a card's worker has the place
``GPU`` alone. Workers of another scheduler may name the same resources; where none does, a part of the work
may run on any of them, as many at once as they have threads.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster

from napari_metaqsm.cohort.memory import Share
from napari_metaqsm.errors import InputError
from napari_metaqsm.io.staging import scratch

# What every worker runs.
_NEEDED = "napari_metaqsm.cohort.work"
COMPUTE, FILES, GPU = "compute", "files", "GPU"
# So many times a task whose process died is tried again before Dask gives it up; see ``run``.
ALLOWED_DEATHS = 1
_SECONDS_TO_CONNECT = 30
_SECONDS_TO_FIRST_WORKER = 600
# On this machine a worker that died is back in seconds. Those of a queue may be hours away.
_PATIENCE_SECONDS = 180
# What Dask would log of a worker that dies becomes the row of a scan.
_QUIET = logging.CRITICAL
_CONFIGURATION = {
    "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
    # Scans are few and large: the scheduler need not look at them often, nor measure in milliseconds.
    "distributed.admin.tick.limit": "1h",
    # A worker that died loads its libraries anew; on a busy machine that takes longer than Dask would wait
    # before it gives up the place for good.
    "distributed.deploy.lost-worker-timeout": "1h",
    "distributed.worker.memory.target": 0.7,
    "distributed.worker.memory.spill": 0.8,
    "distributed.worker.memory.pause": 0.9,
    "distributed.worker.memory.terminate": 0.98,
}
# Ctrl-C in a terminal reaches every process; the workers are ended by this one, without tracebacks.
_DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
_NO_DASHBOARD = 'for a dashboard: pip install "napari-metaqsm[all]"'
# Each of these libraries counts the machine's cores by itself, once, where it is not told.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# So does Numba, which looks again whenever it compiles, and fails where another number stands there then.
_NUMBA_THREADS = "NUMBA_NUM_THREADS"
_HASHES = "PYTHONHASHSEED"  # which Dask makes the same in all workers


@dataclass
class Cluster:
    """Where to compute. Workers may join and leave: :meth:`look` tells of those that are there now.

    Parameters
    ----------
    dashboard : its address, or how to get one; "" where the scheduler has none
    first_s, again_s : for how long there may be no worker at all, at first and after there was one
    resources : those that at least one worker names
    places : scans that can be computed at once; 0 where there is no worker
    unfit : a worker that lacks this package, "" where none does
    """

    client: Client
    dashboard: str
    first_s: float
    again_s: float
    resources: frozenset[str] = frozenset()
    places: int = 0
    unfit: str = ""
    _known: set[str] = field(default_factory=set)
    _met: bool = False
    _alone_since: float | None = None
    _looked: float = -math.inf

    def look(self, older_than_s: float = 0.0) -> None:
        """See which workers there are, unless that was done less than so long ago."""
        now = time.monotonic()
        if now - self._looked < older_than_s:
            return
        self._looked = now
        workers: dict[str, Any] = {}
        if self.client.status == "running":
            with suppress(OSError):
                workers = self.client.scheduler_info(n_workers=-1)["workers"]
                self._meet(workers.keys() - self._known)
        self.places = sum(map(_places, workers.values()))
        if workers:
            self._met, self._alone_since = True, None
            # Where there is none, those that come next are taken to be like those that were.
            named = (name for worker in workers.values() for name in worker.get("resources", {}))
            self.resources = frozenset(named)
        elif self._alone_since is None:
            self._alone_since = now

    def _meet(self, workers: Collection[str]) -> None:
        """See whether these have this package: one without could not even say what it lacks."""
        if not workers:  # Dask would ask all
            return
        # Pickled by value, as no function with a name would be.
        found = self.client.run(
            lambda: find_spec(_NEEDED) is not None,
            workers=list(workers),
            on_error="return",
        )
        lacking = (w for w, there in found.items() if there is False or isinstance(there, ImportError))
        self.unfit = self.unfit or next(lacking, "")
        self._known.update(workers)

    @property
    def given_up(self) -> str:
        """In words why nothing more can be computed: no scheduler, or no worker for too long; else ""."""
        if self.unfit:
            return f"the worker {self.unfit} has no napari-metaqsm with cohorts"
        if self.client.status in ("closing", "closed"):  # what Dask makes of a scheduler that stays away
            return "the scheduler has gone"
        alone = 0.0 if self._alone_since is None else self._looked - self._alone_since
        if alone <= (self.again_s if self._met else self.first_s):
            return ""
        return f"there has been no worker for {round(alone)} s"

    def needs(self, *resources: str) -> dict[str, int] | None:
        """What a task asks for: the first of the resources that a worker has, if any."""
        return next(({name: 1} for name in resources if name in self.resources), None)


@contextmanager
def local_cluster(share: Share, gpus: int = 0) -> Iterator[Cluster]:
    """Workers on this machine, ended with all their processes when the block ends."""
    environment = dict(dask.config.get("distributed.nanny.pre-spawn-environ", {}))
    # Dask has every array's memory given back at once; a chain, which asks for it again, took half as long
    # again for that.
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)
    environment.update(dict.fromkeys(_THREADS, share.threads))
    settings = {**_CONFIGURATION, "distributed.nanny.pre-spawn-environ": environment}
    with ExitStack() as stack:
        stack.callback(_restore, {name: os.environ.get(name) for name in (*environment, _HASHES)})
        stack.enter_context(dask.config.set(settings))
        folder = stack.enter_context(scratch("metaqsm-workers-"))
        common = {
            "memory_limit": int(share.bytes),
            "local_directory": str(folder),
            "silence_logs": logging.CRITICAL,
            "preload": [_DEAF],
        }
        threads = {_NUMBA_THREADS: str(share.threads)}
        computing = {"nthreads": 2, "resources": {COMPUTE: 1, FILES: 1}, "env": {**threads, **_hidden(gpus)}}
        specification = {f"worker-{n}": {"cls": Nanny, "options": {**common, **computing}}
                         for n in range(share.workers)}  # fmt: skip
        for n in range(gpus):
            card = {"nthreads": 1, "resources": {GPU: 1}, "env": {**threads, "CUDA_VISIBLE_DEVICES": str(n)}}
            specification[f"gpu-{n}"] = {"cls": Nanny, "options": {**common, **card}}
        scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}}
        workers = stack.enter_context(
            SpecCluster(specification, scheduler, silence_logs=_QUIET, name="metaqsm")
        )
        client = stack.enter_context(Client(workers, set_as_default=False))
        client.wait_for_workers(len(specification), timeout=_SECONDS_TO_FIRST_WORKER)
        cluster = Cluster(client, _dashboard(client) or _NO_DASHBOARD, _PATIENCE_SECONDS, _PATIENCE_SECONDS)
        cluster.look()
        yield cluster


def _restore(environment: dict[str, str | None]) -> None:
    """Variables as they were: Dask sets what it starts a worker with in this very process, and leaves it."""
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _hidden(gpus: int) -> dict[str, str]:
    """Keep the workers beside a card off it: its memory is for the inversions."""
    return {"CUDA_VISIBLE_DEVICES": ""} if gpus else {}


@contextmanager
def existing_cluster(address: str) -> Iterator[Cluster]:
    """The workers of a scheduler that is there, which are left as they are.

    There need not be one yet: an adaptive cluster starts workers once there is work.

    Raises
    ------
    InputError
        When no scheduler answers.
    """
    try:
        client = Client(address, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"scheduler is {address!r}; none answers there ({error})") from error
    with client:
        cluster = Cluster(client, _dashboard(client), _SECONDS_TO_FIRST_WORKER, math.inf)
        cluster.look()
        yield cluster


def _dashboard(client: Client) -> str:
    """Its address; "" where the scheduler has none, for it serves other pages at that address even so."""
    # Pickled by value, as no function with a name would be: a scheduler need not have this package.
    there = client.run_on_scheduler(
        lambda dask_scheduler: bool(getattr(dask_scheduler.http_application, "applications", ()))
    )
    return client.dashboard_link if there else ""


def _places(worker: dict[str, Any]) -> int:
    """Scans that a worker computes at once: as its resources say, else one for each thread."""
    named = worker.get("resources", {})
    return int(named.get(COMPUTE, 0) + named.get(GPU, 0)) if named else worker["nthreads"]

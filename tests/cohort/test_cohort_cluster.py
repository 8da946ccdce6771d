"""Schedulers of others: workers that come and go while a cohort runs, none at all, no dashboard."""

import logging
import os
import threading

import made_bids
import pytest
from cheap import CHAIN
from distributed import LocalCluster

from napari_metaqsm.cohort import cluster as cluster_module
from napari_metaqsm.cohort.cluster import COMPUTE, GPU, existing_cluster, local_cluster
from napari_metaqsm.cohort.memory import GB, Share
from napari_metaqsm.cohort.outcomes import DONE
from napari_metaqsm.cohort.run import IN_FLIGHT, run_cohort


@pytest.fixture
def workers(monkeypatch):
    """A scheduler without workers, in this process, so that those that join cost nothing."""
    monkeypatch.setattr("napari_metaqsm.cohort.run._LOOK_SECONDS", 0.1)
    with LocalCluster(
        n_workers=0,
        threads_per_worker=1,
        processes=False,
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster


def in_flight(workers):
    return len({key[1] for key in list(workers.scheduler.tasks) if isinstance(key, tuple)})


def test_workers_that_join_later_are_filled_and_those_that_leave_are_not_waited_for(tmp_path, workers):
    root = made_bids.make_dataset(tmp_path / "data")
    for number in range(1, 15):
        made_bids.add_subject(root, f"{number:02d}", seed=1)
    most, told = {0: 0, 1: 0, 2: 0, 3: 0}, []

    def watch(progress):
        told.append(progress)
        ended = progress.done + progress.failed
        there = len(workers.scheduler.workers)
        if progress.latest is None:
            assert there == 0
            threading.Timer(0.5, workers.scale, [1]).start()
            return
        # What has been submitted when a scan ends, that scan not counted.
        most[there] = max(most[there], in_flight(workers))
        if ended == 4:
            workers.scale(3)
            wait_for(workers, 3)
        if ended == 10:
            workers.scale(1)
            wait_for(workers, 1)

    result = run_cohort(root, tmp_path / "out", scheduler=workers.scheduler_address, watch=watch, **CHAIN)
    assert {o.status for o in result.outcomes} == {DONE}, result.failed
    assert len(result.outcomes) == 14
    assert most[1] <= IN_FLIGHT * 3
    assert IN_FLIGHT < most[3] <= 3 * IN_FLIGHT
    assert {progress.dashboard for progress in told} == {""}


def wait_for(workers, count):
    waited = threading.Event()
    for _ in range(2000):
        if len(workers.scheduler.workers) == count:
            return
        waited.wait(0.05)
    raise AssertionError(f"there are {len(workers.scheduler.workers)} workers, not {count}")


def test_where_no_worker_comes_the_run_ends_in_words(tmp_path, workers, monkeypatch):
    monkeypatch.setattr(cluster_module, "_SECONDS_TO_FIRST_WORKER", 0.3)
    root = made_bids.make_dataset(tmp_path / "data")
    made_bids.add_subject(root, "01")
    result = run_cohort(root, tmp_path / "out", scheduler=workers.scheduler_address, **CHAIN)
    assert result.stopped.startswith("stopped, since there has been no worker for ")
    assert result.stopped.endswith("run it again to do the rest")
    assert not result.outcomes


def test_workers_have_threads_of_their_own_number_and_this_process_keeps_its_environment():
    before = environment()
    with local_cluster(Share(1, 1, GB)) as cluster:
        # Numba, which reads it whenever it compiles, fails in this process where it is another all at once.
        assert os.environ.get("NUMBA_NUM_THREADS") == before.get("NUMBA_NUM_THREADS")
        (threads,) = cluster.client.run(lambda: __import__("numba").config.NUMBA_NUM_THREADS).values()
        assert threads == 1
        (threads,) = cluster.client.run(lambda: __import__("torch").get_num_threads()).values()
        assert threads == 1
    assert environment() == before


def environment():
    """But for what Dask tells itself."""
    return {name: value for name, value in os.environ.items() if "DASK" not in name}


def test_places_are_those_of_the_workers_that_are_there(workers):
    with existing_cluster(workers.scheduler_address) as cluster:
        assert (cluster.places, cluster.dashboard, cluster.given_up) == (0, "", "")
        workers.scale(2)
        wait_for(workers, 2)
        cluster.look(older_than_s=1000)
        assert cluster.places == 0  # it was looked at a moment ago
        cluster.look()
        assert cluster.places == 2
        assert cluster.needs(GPU, COMPUTE) is None
        workers.scale(0)
        wait_for(workers, 0)
        cluster.look()
        assert (cluster.places, cluster.given_up) == (0, "")
        cluster.again_s = -1.0
        assert cluster.given_up == "there has been no worker for 0 s"


def test_a_scheduler_that_goes_ends_the_run_in_words_and_is_no_failure_of_the_scans_it_held(
    tmp_path, workers, monkeypatch
):
    root = made_bids.make_dataset(tmp_path / "data")
    for number in range(1, 9):
        made_bids.add_subject(root, f"{number:02d}", seed=1)
    workers.scale(1)
    wait_for(workers, 1)

    def close(progress):
        if progress.latest:
            workers.close()

    monkeypatch.setattr(cluster_module, "_SECONDS_TO_CONNECT", 5)  # for so long it might come back
    result = run_cohort(root, tmp_path / "out", scheduler=workers.scheduler_address, watch=close, **CHAIN)
    assert result.stopped == "stopped, since the scheduler has gone; run it again to do the rest"
    assert {o.status for o in result.outcomes} == {DONE}, result.failed
    assert 1 <= len(result.outcomes) < 8


def test_a_worker_without_this_package_ends_the_run_in_words(tmp_path, workers, monkeypatch):
    monkeypatch.setattr(cluster_module, "_NEEDED", "napari_metaqsm.no_cohort.work")
    root = made_bids.make_dataset(tmp_path / "data")
    made_bids.add_subject(root, "01")
    workers.scale(1)
    wait_for(workers, 1)
    result = run_cohort(root, tmp_path / "out", scheduler=workers.scheduler_address, **CHAIN)
    assert "has no napari-metaqsm with cohorts; run it again to do the rest" in result.stopped
    assert not result.outcomes

"""A cohort on real Dask workers: some scans bad, a worker killed, run again."""

import csv
import dataclasses
import os
import signal
import time

import made_bids
import nibabel as nib
import numpy as np
import pytest
from deadly import Deadly

import napari_metaqsm as mq
from napari_metaqsm.cohort.cluster import local_cluster
from napari_metaqsm.cohort.memory import GB, Share
from napari_metaqsm.cohort.outcomes import DONE, FAILED, read_outcomes
from napari_metaqsm.cohort.plan import Settings
from napari_metaqsm.cohort.run import STORAGE_FAILURES, plan_cohort, run_cohort
from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.dataset import find_scans, load_scan
from napari_metaqsm.io.bids.derivatives import record_of

CHEAP = {
    "field": "weighted_mean",
    "mask": "threshold",
    "inversion": ("tkd",),
    "parameters": {"resharp": {"radius_mm": 8.0}},
    "device": "cpu",
}
GOOD = ("sub-01", "sub-02", "sub-05", "sub-06", "sub-07")


@pytest.fixture(scope="module")
def scheduler():
    """Address of a scheduler with two workers, started once for all tests here."""
    with local_cluster(Share(2, 1, 2 * GB)) as cluster:
        yield cluster.client.scheduler.address


@pytest.fixture
def dataset(tmp_path):
    """Five good subjects, one with half a file, one without phase."""
    root = made_bids.make_dataset(tmp_path / "data")
    for number in range(1, 8):
        made_bids.add_subject(root, f"{number:02d}", seed=number)
    made_bids.cut_short(root / "sub-03/anat/sub-03_echo-2_part-phase_MEGRE.nii.gz")
    made_bids.take_away(root, "sub-04/anat/*part-phase*")
    return root


def made_at(out):
    """When the record of each scan was written."""
    return {file.name.split("_")[0]: file.stat().st_mtime_ns for file in out.rglob("*_record.json")}


def recomputed(out, before):
    return {label for label, when in made_at(out).items() if before.get(label) != when}


def leftovers(out):
    return sorted(out.rglob(".metaqsm-*"))


def test_a_worker_is_killed_and_two_subjects_are_bad_and_the_rest_is_done_once(dataset, tmp_path, scheduler):
    out, killed, seen = tmp_path / "out", [], []

    def watch(progress):
        seen.append(progress)
        if progress.latest and progress.latest.status == DONE and not killed:
            killed.append(int(progress.latest.worker.split(":")[1]))
            os.kill(killed[0], signal.SIGKILL)

    result = run_cohort(dataset, out, scheduler=scheduler, watch=watch, **CHEAP)
    assert killed
    assert [o.label for o in result.outcomes if o.status == DONE] == list(GOOD)
    reasons = {o.label: o.reason for o in result.failed}
    assert "sub-03_echo-2_part-phase_MEGRE.nii.gz" in reasons.pop("sub-03")
    assert reasons == {"sub-04": "there is magnitude, but no phase"}
    assert not result.complete
    assert str(result) == "5 done, 0 done before, 2 failed"
    assert [p.done + p.failed for p in seen][-1] == seen[-1].total == 7
    assert seen[-1].seconds_left == 0
    with (out / "logs/cohort.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    assert [row["scan"] for row in rows] == [f"sub-{n:02d}" for n in range(1, 8)]
    assert {row["scan"] for row in rows if row["status"] == DONE} == set(GOOD)
    for scan in find_scans(dataset):
        assert (record_of(scan, out) is not None) == (scan.label in GOOD)
    assert (out / "group.html").is_file()
    assert not leftovers(out)

    # Run again: only what failed is tried, and what was mended is done.
    before = made_at(out)
    made_bids.add_subject(dataset, "03", seed=3)
    again = run_cohort(dataset, out, scheduler=scheduler, **CHEAP)
    assert recomputed(out, before) == {"sub-03"}
    assert again.earlier == set(GOOD)
    assert [o.label for o in again.failed] == ["sub-04"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, scheduler):
    """Three subjects that are done."""
    folder = tmp_path_factory.mktemp("finished")
    root = made_bids.make_dataset(folder / "data")
    for number in range(1, 4):
        made_bids.add_subject(root, f"{number:02d}", seed=number)
    result = run_cohort(root, folder / "out", scheduler=scheduler, **CHEAP)
    assert result.complete
    return root, folder / "out"


def test_maps_and_record_are_those_of_one_chain_in_one_process(finished):
    dataset, out = finished
    scan = find_scans(dataset, ["02"])[0]
    with mq.running():
        alone = mq.reconstruct(load_scan(scan), Settings(**CHEAP).chain, device="cpu")
    written = nib.load(out / "sub-02/anat/sub-02_desc-tkd_Chimap.nii.gz").get_fdata(dtype=np.float32)
    np.testing.assert_allclose(written, alone.maps["susceptibility_tkd"], atol=1e-7)
    record = record_of(scan, out)
    assert record["inputs"] == alone.record["inputs"]
    assert [s["parameters"] for s in record["steps"]] == [s["parameters"] for s in alone.record["steps"]]
    assert record["reference"].keys() == alone.record["reference"].keys()


def test_nothing_is_done_twice_and_what_changed_is_done_anew(finished, scheduler):
    dataset, out = finished
    before = made_at(out)
    touched = dataset / "sub-01/anat/sub-01_echo-1_part-mag_MEGRE.nii.gz"
    os.utime(touched)
    plan = plan_cohort(dataset, out, Settings(**CHEAP), scheduler=scheduler)
    assert "sub-01" in [job.label for job in plan.jobs]  # its time does not tell; its content will
    result = plan.run()
    assert result.complete
    assert result.earlier == {"sub-01", "sub-02", "sub-03"}
    assert recomputed(out, before) == set()

    sidecar = dataset / "sub-03/anat/sub-03_echo-1_part-phase_MEGRE.json"
    sidecar.write_text(sidecar.read_text().replace('"FlipAngle": 15', '"FlipAngle": 16'))
    run_cohort(dataset, out, scheduler=scheduler, **CHEAP)
    assert recomputed(out, before) == {"sub-03"}

    before = made_at(out)
    others = {**CHEAP, "parameters": {"resharp": {"radius_mm": 8.0}, "tkd": {"threshold": 0.1}}}
    run_cohort(dataset, out, scheduler=scheduler, participants=["02"], **others)
    assert recomputed(out, before) == {"sub-02"}


def test_a_scan_is_the_same_in_any_company(finished, tmp_path, scheduler):
    dataset, out = finished
    run_cohort(dataset, tmp_path / "alone", scheduler=scheduler, participants=["01"], **CHEAP)
    name = "sub-01/anat/sub-01_desc-tkd_Chimap.nii.gz"
    maps = [nib.load(folder / name).get_fdata() for folder in (out, tmp_path / "alone")]
    np.testing.assert_array_equal(*maps)


def test_a_scan_that_kills_its_worker_is_one_row_and_the_others_are_done(finished, tmp_path, scheduler):
    dataset, _ = finished
    plan = plan_cohort(dataset, tmp_path / "out", Settings(**CHEAP), scheduler=scheduler)
    first, *others = plan.jobs
    deadly = dataclasses.replace(first, item=Deadly(first.item.scan))
    result = dataclasses.replace(plan, jobs=(deadly, *others)).run()
    assert {o.label: o.status for o in result.outcomes} == {
        "sub-01": FAILED,
        "sub-02": DONE,
        "sub-03": DONE,
    }
    assert "its worker was killed 4 times, at last with no other scan beside it" in result.failed[0].reason


def test_a_folder_that_is_lost_stops_the_run_in_words_and_keeps_what_is_done(finished, tmp_path, scheduler):
    dataset, _ = finished
    out, kept = tmp_path / "out", tmp_path / "elsewhere"
    plan = plan_cohort(dataset, out, Settings(**CHEAP), scheduler=scheduler)

    def lose(progress):
        if progress.latest and progress.latest.status == DONE and out.exists():
            out.rename(kept)

    copies = [dataclasses.replace(job) for job in plan.jobs * 3]
    result = dataclasses.replace(plan, jobs=tuple(copies)).run(lose)
    assert f"stopped, since {STORAGE_FAILURES} scans in a row failed for it" in result.stopped
    assert f"the folder of the derivatives has gone: {out}" in result.stopped
    assert not list(out.rglob("*.nii.gz"))
    assert [o.status for o in read_outcomes(kept)] == [DONE]


def test_where_no_scheduler_answers_it_is_said(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_metaqsm.cohort.cluster._SECONDS_TO_CONNECT", 0.5)
    dataset, _ = finished
    with pytest.raises(InputError, match=r"scheduler is 'tcp://127\.0\.0\.1:1'; none answers there"):
        run_cohort(dataset, tmp_path / "out", scheduler="tcp://127.0.0.1:1", **CHEAP)


def test_what_does_not_fit_in_memory_is_a_row_and_no_attempt(finished, tmp_path):
    dataset, _ = finished
    plan = plan_cohort(dataset, tmp_path / "out", Settings(**CHEAP), memory_gb=0.5)
    assert not plan.jobs
    assert all("GB of memory, and 0.5 GB are free" in o.reason for o in plan.refused)
    started = time.perf_counter()
    result = plan.run()
    assert len(result.failed) == 3
    assert time.perf_counter() - started < 10  # no worker was started

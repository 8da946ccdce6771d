"""A cohort on real Dask workers: scans that are bad, one that kills its worker, run again, a lost folder."""

import csv
import dataclasses
import os
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

import made_bids
import nibabel as nib
import numpy as np
import pytest
from cheap import CHAIN, TYPED
from deadly import Deadly

import napari_metaqsm as mq
from napari_metaqsm.cohort.outcomes import DONE, FAILED, Outcome, read_outcomes, write_outcome
from napari_metaqsm.cohort.plan import Settings
from napari_metaqsm.cohort.run import OUTSIDE_FAILURES, CohortResult, Progress, plan_cohort, run_cohort
from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.dataset import find_scans, load_scan
from napari_metaqsm.io.bids.derivatives import record_of

FULL = "No space left on device"
TROUBLE = {
    "sub-03": "sub-03_echo-2_part-phase_MEGRE.nii.gz",
    "sub-04": "there is magnitude, but no phase",
    "sub-06": "its worker was killed 2 times, at last with no other scan beside it",
}
GOOD = ("sub-01", "sub-02", "sub-05", "sub-07")


@dataclasses.dataclass
class Ran:
    dataset: Path
    out: Path
    result: CohortResult
    seen: list[Progress]


@pytest.fixture(scope="module")
def ran(tmp_path_factory, scheduler):
    """Four good subjects, one with half a file, one without phase, one that takes its worker with it."""
    folder = tmp_path_factory.mktemp("cohort")
    root, out, seen = made_bids.make_dataset(folder / "data"), folder / "out", []
    for number in range(1, 8):
        made_bids.add_subject(root, f"{number:02d}", seed=number)
    made_bids.cut_short(root / "sub-03/anat/sub-03_echo-2_part-phase_MEGRE.nii.gz")
    made_bids.take_away(root, "sub-04/anat/*part-phase*")
    plan = plan_cohort(root, out, Settings(**CHAIN), scheduler=scheduler)
    jobs = tuple(
        dataclasses.replace(job, item=Deadly(job.item.scan)) if job.label == "sub-06" else job
        for job in plan.jobs
    )
    return Ran(root, out, dataclasses.replace(plan, jobs=jobs).run(seen.append), seen)


def made_at(out):
    """When the record of each scan was written."""
    return {file.name.split("_")[0]: file.stat().st_mtime_ns for file in out.rglob("*_record.json")}


def recomputed(out, before):
    return {label for label, when in made_at(out).items() if before.get(label) != when}


def test_each_scan_that_cannot_be_done_is_a_row_with_its_reason_and_the_rest_is_done(ran):
    result, out = ran.result, ran.out
    assert [o.label for o in result.outcomes if o.status == DONE] == list(GOOD), result.failed
    reasons = {o.label: o.reason for o in result.failed}
    assert reasons.keys() == TROUBLE.keys()
    assert all(words in reasons[label] for label, words in TROUBLE.items()), reasons
    assert reasons["sub-04"] == TROUBLE["sub-04"]
    assert not result.complete
    assert str(result) == "4 done, 0 done before, 3 failed"
    with (out / "logs/cohort.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    assert [row["scan"] for row in rows] == [f"sub-{n:02d}" for n in range(1, 8)]
    assert {row["scan"] for row in rows if row["status"] == DONE} == set(GOOD)
    for scan in find_scans(ran.dataset):
        assert (record_of(scan, out) is not None) == (scan.label in GOOD)
    assert (out / "group.html").is_file()
    assert not list(out.rglob(".metaqsm-*"))


def test_who_watches_is_told_of_every_scan_and_of_a_dashboard_that_is_there(ran):
    told = [p.latest.label for p in ran.seen if p.latest]
    assert sorted(told) == [f"sub-{n:02d}" for n in range(1, 8)]
    last = ran.seen[-1]
    assert (last.done, last.failed, last.total, last.seconds_left) == (4, 3, 7, 0)
    assert last.dashboard.startswith("http://127.0.0.1:" if find_spec("bokeh") else "for a dashboard")


def test_maps_and_record_are_those_of_one_chain_in_one_process(ran):
    scan = find_scans(ran.dataset, ["02"])[0]
    with mq.running():
        alone = mq.reconstruct(load_scan(scan), Settings(**CHAIN).chain, device="cpu")
    written = nib.load(ran.out / "sub-02/anat/sub-02_desc-tkd_Chimap.nii.gz").get_fdata(dtype=np.float32)
    np.testing.assert_allclose(written, alone.maps["susceptibility_tkd"], atol=1e-7)
    record = record_of(scan, ran.out)
    assert record["inputs"] == alone.record["inputs"]
    assert [s["parameters"] for s in record["steps"]] == [s["parameters"] for s in alone.record["steps"]]
    assert record["reference"].keys() == alone.record["reference"].keys()


def test_a_scan_is_the_same_in_any_company(ran, tmp_path, scheduler):
    run_cohort(ran.dataset, tmp_path / "alone", scheduler=scheduler, participants=["01"], **CHAIN)
    name = "sub-01/anat/sub-01_desc-tkd_Chimap.nii.gz"
    maps = [nib.load(folder / name).get_fdata() for folder in (ran.out, tmp_path / "alone")]
    np.testing.assert_array_equal(*maps)


@pytest.fixture
def copy(ran, tmp_path):
    """Dataset and derivatives of the cohort, to be changed."""
    for name in ("data", "out"):
        shutil.copytree(ran.out.parent / name, tmp_path / name)
    return tmp_path / "data", tmp_path / "out"


def test_run_again_only_what_failed_or_changed_is_done(copy, scheduler):
    dataset, out = copy
    before = made_at(out)
    made_bids.add_subject(dataset, "03", seed=3)
    os.utime(dataset / "sub-01/anat/sub-01_echo-1_part-mag_MEGRE.nii.gz")
    sidecar = dataset / "sub-05/anat/sub-05_echo-1_part-phase_MEGRE.json"
    sidecar.write_text(sidecar.read_text().replace('"FlipAngle": 15', '"FlipAngle": 16'))
    write_outcome(Outcome("sub-99", FAILED, "it was there last year"), out)
    plan = plan_cohort(dataset, out, Settings(**CHAIN), scheduler=scheduler)
    # Its time does not tell whether sub-01 has changed; its content will.
    assert {"sub-01", "sub-03", "sub-05", "sub-06"} <= {job.label for job in plan.jobs}
    again = plan.run()
    assert recomputed(out, before) == {"sub-03", "sub-05", "sub-06"}
    assert again.earlier == {"sub-01", "sub-02", "sub-07"}
    assert [o.label for o in again.failed] == ["sub-04"]
    assert "sub-99" not in (out / "logs/cohort.tsv").read_text() + (out / "group.html").read_text()

    before = made_at(out)
    others = {**CHAIN, "parameters": {"resharp": {"radius_mm": 8.0}, "tkd": {"threshold": 0.1}}}
    run_cohort(dataset, out, scheduler=scheduler, participants=["02"], **others)
    assert recomputed(out, before) == {"sub-02"}


def test_what_another_run_does_meanwhile_is_not_done_again(ran, tmp_path, scheduler):
    asked = {"scheduler": scheduler, "participants": ["01"]}
    plan = plan_cohort(ran.dataset, tmp_path / "out", Settings(**CHAIN), **asked)

    def begin(progress):
        if progress.latest is None:
            run_cohort(ran.dataset, tmp_path / "out", **asked, **CHAIN)

    assert str(plan.run(begin)) == "0 done, 1 done before, 0 failed"


def test_a_folder_that_is_lost_stops_the_run_in_words_and_keeps_what_is_done(ran, tmp_path, scheduler):
    out, kept = tmp_path / "out", tmp_path / "elsewhere"
    plan = plan_cohort(ran.dataset, out, Settings(**CHAIN), scheduler=scheduler, participants=["01", "02"])

    def lose(progress):
        if progress.latest and progress.latest.status == DONE and not kept.exists():
            out.rename(kept)

    result = dataclasses.replace(plan, jobs=plan.jobs * 4).run(lose)
    assert f"stopped, since {OUTSIDE_FAILURES} scans in a row failed for it" in result.stopped
    assert "the folder of the derivatives has gone, or is not seen on " in result.stopped
    assert str(out) in result.stopped
    assert not list(out.rglob("*.nii.gz"))
    outcomes = read_outcomes(kept)
    assert outcomes
    assert {o.status for o in outcomes} == {DONE}


def test_a_disk_that_is_full_or_fills_up_is_told_in_words_and_what_is_done_is_kept(
    ran, small_disk, metaqsm, scheduler
):
    out, begun = small_disk / "out", os.statvfs(small_disk)
    typed = ["bids", ran.dataset, out, "participant", "--scheduler", scheduler, *TYPED]
    assert metaqsm(*typed, "--participant-label", "01")[0] == 0
    left = os.statvfs(small_disk)
    one, before = (begun.f_bfree - left.f_bfree) * left.f_frsize, made_at(out)

    filler = small_disk / "filler"
    filler.write_bytes(bytes(left.f_bavail * left.f_frsize))
    code, _, err = metaqsm(*typed)
    assert (code, len(err.splitlines())) == (1, 1), err
    assert err.startswith(f"metaqsm: failed: a file could not be read or written: {FULL}")

    filler.write_bytes(bytes(left.f_bavail * left.f_frsize - one // 2))
    code, _, err = metaqsm(*typed, "--participant-label", "02", "05", "06", "07")
    assert code == 1
    assert f"stopped, since {OUTSIDE_FAILURES} scans in a row failed for it: {FULL}" in err.splitlines()[-1]
    assert made_at(out) == before
    # What was being written when it stopped goes when its worker has come to the end of it.
    patience = time.monotonic() + 60
    while list(out.rglob(".metaqsm-*")) and time.monotonic() < patience:
        time.sleep(0.05)
    assert not list(out.rglob(".metaqsm-*"))


def test_where_no_scheduler_answers_it_is_said(ran, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_metaqsm.cohort.cluster._SECONDS_TO_CONNECT", 0.5)
    with pytest.raises(InputError, match=r"scheduler is 'tcp://127\.0\.0\.1:1'; none answers there"):
        run_cohort(ran.dataset, tmp_path / "out", scheduler="tcp://127.0.0.1:1", **CHAIN)


def test_what_does_not_fit_in_memory_is_a_row_and_no_attempt(ran, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_metaqsm.cohort.run.local_cluster", None)  # no worker is started
    plan = plan_cohort(ran.dataset, tmp_path / "out", Settings(**CHAIN), memory_gb=0.5, participants=["01"])
    assert not plan.jobs
    assert [o.reason for o in plan.run().failed] == [o.reason for o in plan.refused]
    assert "GB of memory, and 0.5 GB are free" in plan.refused[0].reason

"""The parts of the work on one scan, in one process."""

import dataclasses
import errno
import re
from collections import UserDict

import made_bids
import numpy as np
import pytest

import napari_metaqsm as mq
from napari_metaqsm.cohort.group import write_group
from napari_metaqsm.cohort.outcomes import (
    DONE,
    FAILED,
    Outcome,
    outcome_file,
    read_outcome,
    write_outcome,
    write_table,
)
from napari_metaqsm.cohort.plan import STAMP, Settings, find_items
from napari_metaqsm.cohort.work import (
    Failure,
    Job,
    Part,
    Unchanged,
    in_words,
    infer,
    outcome_of,
    prepare,
    read,
    report,
    store,
)
from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.dataset import load_scan
from napari_metaqsm.io.bids.derivatives import record_of, write_dataset
from napari_metaqsm.provenance import software_versions

CHEAP = Settings(
    field="weighted_mean",
    mask="threshold",
    inversion=("tkd", "l2"),
    parameters={"resharp": {"radius_mm": 8.0}},
)


@pytest.fixture
def job(tmp_path):
    root = made_bids.make_dataset(tmp_path / "data")
    made_bids.add_subject(root, "01")
    write_dataset(tmp_path / "out", root, software_versions())
    return Job(find_items(root, CHEAP)[0], CHEAP, tmp_path / "out")


def computed(job):
    return infer(prepare(read(None, job), job, "cpu"), job, "cpu")


def without_times(record):
    steps = [{k: v for k, v in step.items() if k != "seconds"} for step in record["steps"]]
    return {**record, "made_at": "", "steps": steps}


def test_the_parts_give_what_one_chain_gives(job):
    part = computed(job)
    with mq.running():
        whole = mq.reconstruct(load_scan(job.item.scan), CHEAP.chain, device="cpu")
    assert list(part.result.maps) == list(whole.maps)
    for name, values in whole.maps.items():
        np.testing.assert_array_equal(part.result.maps[name], values)
    assert without_times(part.result.record) == without_times(whole.record)


def test_a_finished_scan_has_its_record_its_outcome_and_the_hash_of_every_file(job):
    outcome = store(report(computed(job), job), job)
    assert outcome == read_outcome(outcome_file("sub-01", job.out))
    assert (outcome.status, outcome.label) == (DONE, "sub-01")
    assert outcome.seconds > 0
    stamp = record_of(job.item.scan, job.out)[STAMP]
    assert stamp["settings"] == CHEAP.fingerprint
    assert {len(about["sha256"]) for about in stamp["files"].values()} == {64}
    assert len(stamp["files"]) == 6
    assert isinstance(read(None, job), Unchanged)


def test_a_failure_is_handed_on_and_becomes_a_row(job):
    made_bids.cut_short(job.item.scan.files["phase"][1])
    given = read(None, job)
    assert isinstance(given, Failure)
    assert "truncated or damaged" in given.reason
    for part, others in ((prepare, ("cpu",)), (infer, ("cpu",)), (report, ()), (store, ())):
        assert part(given, job, *others) is given
    row = outcome_of(given, job)
    assert (row.status, row.reason) == (FAILED, given.reason)
    assert outcome_of(Unchanged(), job) == Outcome("sub-01", DONE)  # another run has it in hand just now
    write_outcome(row, job.out)
    assert outcome_of(Unchanged(), job) == row
    assert outcome_of(Outcome("x", DONE), job) == Outcome("x", DONE)


def test_a_folder_that_has_gone_and_a_worker_of_another_version_are_no_fault_of_the_scan(job):
    part = report(computed(job), job)
    assert isinstance(part, Part)
    (job.out / "dataset_description.json").unlink()
    given = store(part, job)
    assert given.outside
    assert "the folder of the derivatives has gone, or is not seen on " in given.reason
    assert not (job.out / "sub-01").exists()
    write_dataset(job.out, job.item.scan.dataset, software_versions())
    other = dataclasses.replace(job, version="0.0.1")
    assert re.search(r"the worker on .+ has napari-metaqsm .+; it must be 0\.0\.1", store(part, other).reason)
    for file in job.item.scan.files["phase"]:
        file.unlink()
    given = read(None, job)
    assert isinstance(given, Failure)
    assert not given.outside
    (job.item.scan.dataset / "dataset_description.json").unlink()
    given = read(None, job)
    assert given.outside
    assert "the dataset has gone, or is not seen on " in given.reason


def test_a_folder_that_goes_while_a_scan_is_written_is_told_as_one_that_has_gone(job, tmp_path):
    class Departing(UserDict):
        def keys(self):
            job.out.rename(tmp_path / "elsewhere")
            return super().keys()

    part = report(computed(job), job)
    result = dataclasses.replace(part.result, maps=Departing(part.result.maps))
    given = store(dataclasses.replace(part, result=result), job)
    assert (tmp_path / "elsewhere").is_dir()
    assert given.outside
    assert "the folder of the derivatives has gone, or is not seen on " in given.reason
    assert not job.out.exists()


def test_names_of_files_that_are_no_text_can_be_told(job):
    outcome = Outcome("sub-01", FAILED, "scan\udcff.nii.gz is truncated")
    assert read_outcome(write_outcome(outcome, job.out)) == outcome
    assert r"scan\udcff.nii.gz" in write_table([outcome], job.out).read_text(encoding="utf-8")
    assert ".nii.gz is truncated" in write_group(job.out)[0].read_text(encoding="utf-8")
    part = computed(job)
    named = dataclasses.replace(part.result, record={**part.result.record, "from": "scan\udcff.nii.gz"})
    assert isinstance(store(report(dataclasses.replace(part, result=named), job), job), Outcome)
    assert record_of(job.item.scan, job.out)["from"] == "scan\udcff.nii.gz"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InputError("the mask is empty"), "the mask is empty"),
        (MemoryError(), "it did not fit in the memory of its worker"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (FileNotFoundError(2, "No such file", "/a/b"), "No such file: /a/b"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_errors_become_one_sentence(error, words):
    assert in_words(error) == words

"""A cohort overnight: two real heads among made ones, two bad subjects, a worker killed, run again."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import made_bids
import pytest

from napari_metaqsm.cohort.outcomes import DONE
from napari_metaqsm.cohort.run import run_cohort
from napari_metaqsm.io.bids.dataset import find_scans
from napari_metaqsm.io.bids.derivatives import record_of
from napari_metaqsm.io.dicom.convert import convert

CHAIN = {"mask": "threshold", "inversion": ("tkd", "l2"), "parameters": {"resharp": {"radius_mm": 8.0}}}
MADE = ("01", "02", "03", "04")
TRUNCATED, RUBBISH = "sub-02", "sub-04"


def add_enhanced_siemens(root, source, scratch):
    """The field map of an enhanced series: a phase difference and two magnitudes."""
    run = convert([source], scratch)[0]
    folder = root / "sub-siemens" / "fmap"
    folder.mkdir(parents=True)
    names = {"phase_difference": ["phasediff"], "magnitude": ["magnitude1", "magnitude2"]}
    assert {role: len(files) for role, files in run.files.items()} == {"phase_difference": 1, "magnitude": 2}
    for role, suffixes in names.items():
        for suffix, file in zip(suffixes, run.files[role], strict=True):
            stem, _, extension = file.name.partition(".")
            shutil.copy(file, folder / f"sub-siemens_{suffix}.{extension}")
            shutil.copy(file.with_name(f"{stem}.json"), folder / f"sub-siemens_{suffix}.json")


@pytest.fixture
def dataset(tmp_path):
    """The bundled head, a head in enhanced DICOM where it is there, four made, two of them corrupt."""
    root = made_bids.make_dataset(tmp_path / "data")
    made_bids.add_real_subject(root, "philips")
    siemens = Path(__file__).resolve().parents[3] / "shared/data/scans/siemens_enhanced/In"
    if siemens.is_dir():
        add_enhanced_siemens(root, siemens, tmp_path / "converted")
    for number, label in enumerate(MADE):
        made_bids.add_subject(root, label, seed=number)
    made_bids.cut_short(root / "sub-02/anat/sub-02_echo-2_part-phase_MEGRE.nii.gz")
    made_bids.spoil_json(root / "sub-04/anat/sub-04_echo-1_part-mag_MEGRE.json")
    return root


def errors_of(folder):
    """What the BIDS validator calls errors; None where it is not installed."""
    validator = shutil.which("bids-validator-deno") or Path(sys.executable).with_name("bids-validator-deno")
    if not Path(validator).exists():
        return None
    told = subprocess.run([validator, str(folder), "--json"], capture_output=True, text=True).stdout
    issues = json.loads(told)["issues"]["issues"]
    return [(i["code"], i.get("location")) for i in issues if i["severity"] == "error"]


def made_at(out):
    return {file.name.split("_")[0]: file.stat().st_mtime_ns for file in out.rglob("*_record.json")}


def test_a_cohort_survives_its_night_and_is_completed_in_the_morning(dataset, tmp_path, scheduler):
    out, killed = tmp_path / "out", []

    def kill_one(progress):
        """The first worker that has done a scan; what it held is computed again."""
        if progress.latest and progress.latest.status == DONE and not killed:
            killed.append(progress.latest.worker)
            os.kill(int(killed[0].split(":")[1]), signal.SIGKILL)

    asked = {"scheduler": scheduler, "device": "cpu", **CHAIN}
    night = run_cohort(dataset, out, watch=kill_one, **asked)
    labels = {scan.label for scan in find_scans(dataset)}
    good = labels - {TRUNCATED, RUBBISH}
    assert len(labels) >= 5
    assert killed
    assert {o.label for o in night.outcomes if o.status == DONE} == good, night.failed
    reasons = {o.label: o.reason for o in night.failed}
    assert "truncated or damaged" in reasons[TRUNCATED]
    assert "no readable JSON file" in reasons[RUBBISH]
    assert {o.worker for o in night.outcomes if o.status == DONE} - set(killed)
    for scan in find_scans(dataset):
        assert (record_of(scan, out) is not None) == (scan.label in good)
    assert errors_of(out) in ([], None)
    assert all(label in (out / "group.html").read_text() for label in labels)

    before = made_at(out)
    for number, label in enumerate(MADE):
        if f"sub-{label}" in (TRUNCATED, RUBBISH):
            made_bids.add_subject(dataset, label, seed=number)
    morning = run_cohort(dataset, out, **asked)
    assert morning.complete, morning.failed
    assert morning.earlier == good
    after = made_at(out)
    assert {label for label in after if after[label] != before.get(label)} == {TRUNCATED, RUBBISH}
    assert after.keys() == labels
    assert errors_of(out) in ([], None)
    assert not list(out.rglob(".metaqsm-*"))
    if errors_of(out) is None:
        pytest.skip("all is well but what bids-validator-deno would say, which is not installed")

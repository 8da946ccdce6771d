"""``metaqsm convert`` and ``metaqsm run`` on DICOM, as a user types them."""

import json

import pytest

pytest.importorskip("dcm2niix")


@pytest.fixture
def scans(shared):
    return shared / "data" / "scans"


def test_convert_shows_what_was_found_and_decided_and_writes_it(metaqsm, scans, tmp_path):
    code, out, err = metaqsm("convert", scans / "siemens_enhanced/In", "--out", "nifti")
    assert (code, err) == (0, "")
    for words in (
        "acq-grefieldmapping_run-9\n",
        "  phase difference: series 9, DICOM enhanced, echo times (ms) 12.46, voxels 64×64×33\n",
        "  magnitude: series 8, DICOM enhanced, echo times (ms) 10, 12.46, voxels 64×64×33\n",
        "Siemens stores phase that grows with the field",
        "  the phase is the difference of two echoes (--no-phase-difference overrides)\n",
    ):
        assert words in out
    assert len(list((tmp_path / "nifti").iterdir())) == 6
    assert out.count("nifti/acq-grefieldmapping_run-9") == 3


def test_list_writes_nothing_and_tells_of_every_run(metaqsm, scans, tmp_path):
    (tmp_path / "broken.dcm").write_bytes(bytes(200))
    code, out, err = metaqsm("convert", scans, tmp_path / "broken.dcm", "--list")
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("acq-")] == [
        "acq-grefieldmagph_run-3",
        "acq-grefieldmapping_run-9",
        "acq-fcmrifieldmapping_run-2001",
    ]
    assert "\nseries 2001 is there as classic and as enhanced DICOM" in out
    # How the phase will be read is said before anything is converted.
    assert out.count("stores phase that grows with the field") == 3
    assert "its scale slope (2005,100E) makes radians of the stored values" in out
    assert f"not used: {tmp_path}/broken.dcm: it is no DICOM file" in err
    assert [p.name for p in tmp_path.iterdir()] == ["broken.dcm"]


def test_what_cannot_be_done_is_one_line(metaqsm, scans):
    code, out, err = metaqsm("convert", scans / "siemens_enhanced/In/8_gre_field_mapping")
    assert (code, out) == (2, "")
    assert err.startswith("metaqsm: there is nothing to make a field from; it needs phase")
    assert err.count("\n") == 1
    code, _, err = metaqsm("convert", scans / "siemens_enhanced/In", "--series", "8;9")
    assert (code, err) == (2, "metaqsm: --series is '8;9'; it must be whole numbers, as 8,9\n")


def test_run_goes_from_dicom_to_a_map_whose_record_names_the_series(metaqsm, scans, tmp_path):
    code, _, err = metaqsm(
        "run", scans, "--series", "8,9", "--mask", "threshold", "--invert", "tkd", "--out", "maps", "-q"
    )
    assert (code, err) == (0, "")
    record = json.loads((tmp_path / "maps" / "record.json").read_text())
    (phase,) = record["inputs"]["phase"]
    assert (phase["series"], phase["files"]) == (9, 1)
    assert any("Siemens stores phase that grows with the field" in note for note in record["decisions"])
    assert not any("Siemens" in text or "echoes" in text for text in record["warnings"])
    assert record["acquisition"]["phase_pi"] == 4096


def test_run_tells_how_the_data_were_read_and_what_to_note_apart(metaqsm, scans):
    run = ("run", scans / "siemens_enhanced/In", "--mask", "threshold", "--invert", "tkd", "--out", "maps")
    code, _, err = metaqsm(*run)
    assert code == 0
    assert "\nread: made by Siemens" in err or err.startswith("read: ")
    assert "read: the phase is the difference of two echoes (--no-phase-difference overrides)\n" in err
    assert "note: the phase" not in err
    assert "note: resharp" in err


def test_decisions_are_overridden_by_options(metaqsm, scans, tmp_path):
    folder = scans / "siemens_enhanced/In"
    code, out, _ = metaqsm("convert", folder, "--no-phase-difference", "--out", "nifti")
    assert code == 0
    assert "  the phase is taken for that of one echo, as was given" in out
    assert len(list((tmp_path / "nifti").glob("*part-phase*.nii"))) == 1
    code, _, err = metaqsm("convert", folder, "--alternating-slices", "--out", "other")
    assert (code, err.count("\n")) == (2, 1)
    assert "alternating_slices is given, but the phase comes from no real and imaginary parts" in err
    given = ("--phase-sign", "-1", "--phase-pi", "2000", "--b0", "2.9", "--b0-direction", "0,3,4")
    given = (
        *given,
        "--no-phase-difference",
        "--echo-times",
        "0.011",
        "--mask",
        "threshold",
        "--invert",
        "tkd",
    )
    code, _, err = metaqsm("run", folder, *given, "--out", "maps", "-q")
    assert (code, err) == (0, "")
    record = json.loads((tmp_path / "maps" / "record.json").read_text())
    wanted = {"echo_times_s": [0.011], "b0_tesla": 2.9, "phase_sign": -1, "phase_pi": 2000.0}
    assert record["acquisition"] == wanted
    assert record["geometry"]["b0_direction"] == pytest.approx([0, 0.6, 0.8])
    assert any("taken for that of one echo, as was given" in text for text in record["decisions"])
    code, _, err = metaqsm("run", folder, "--no-alternating-slices")
    assert (code, "alternating_slices is given" in err) == (2, True)


def test_a_report_takes_magnitude_and_phase_out_of_the_dicom_of_its_record(metaqsm, scans, tmp_path):
    own, other = scans / "siemens_enhanced/In", scans / "siemens_classic/In"
    metaqsm("run", own, "--mask", "threshold", "--invert", "tkd", "--out", "maps")
    code, _, err = metaqsm("report", "maps", "--inputs", own, "--html")
    assert (code, "left out" in err) == (0, False)
    assert "Magnitude" in (tmp_path / "maps/report.html").read_text(encoding="utf-8")
    code, _, err = metaqsm("report", "maps", "--html", "--out", "without")
    assert "the magnitude that the maps were made from is in DICOM (series 8), which was not among" in err
    code, _, err = metaqsm("report", "maps", "--inputs", other, "--html", "--out", "without")
    assert code == 2
    assert "series 8, 9 are not there" in err

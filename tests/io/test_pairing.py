"""Roles, echoes and runs, from names and sidecars."""

import json

import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.pairing import find_runs, guess


def files(folder, *names, sidecars=None):
    for name in names:
        (folder / name).write_bytes(b"")
    for name, content in (sidecars or {}).items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def found(folder):
    """{run: {role: [names]}} and the names left over."""
    runs, unknown = find_runs([folder])
    named = {
        r.name: {role: [p.name.split(".nii")[0] for p in ps] for role, ps in r.files.items()} for r in runs
    }
    return named, [p.name for p in unknown]


@pytest.mark.parametrize(
    ("name", "role", "echo", "run"),
    [
        ("sub-01_ses-2_echo-3_part-phase_MEGRE", "phase", 3, "sub-01_ses-2_MEGRE"),
        ("sub-01_acq-qsm_echo-10_part-mag_MEGRE", "magnitude", 10, "sub-01_acq-qsm_MEGRE"),
        ("sub-01_phasediff", "phase_difference", None, "sub-01"),
        ("sub-01_phase1", "phase", 1, "sub-01"),
        ("sub-01_magnitude2", "magnitude", 2, "sub-01"),
        ("sub-01_fieldmap", "total_field", None, "sub-01"),
        ("sub-01_desc-brain_mask", "mask", None, "sub-01_desc-brain"),
        ("2001_WIP_fcMRI_Field_Mapping_cl_e2_ph", "phase", 2, "2001_WIP_fcMRI_Field_Mapping_cl"),
        ("sub-01_echo-2_part-real_MEGRE", "real", 2, "sub-01_MEGRE"),
        ("sub-01_echo-2_part-imag_MEGRE", "imaginary", 2, "sub-01_MEGRE"),
        ("8_gre_qsm_e1_imaginary", "imaginary", 1, "8_gre_qsm"),
        ("8_gre_qsm_e2_real", "real", 2, "8_gre_qsm"),
        ("gre_real_ph", "phase", None, "gre_real"),
        ("unreal_realistic", None, None, "unreal_realistic"),
        ("Phase", "phase", None, ""),
        ("Mag", "magnitude", None, ""),
        ("GRE_mag", "magnitude", None, "GRE"),
        ("gre.phase.echo2", "phase", 2, "gre"),
        ("mag_mask", "mask", None, "mag"),
        ("phase_diff", "phase_difference", None, ""),
        ("brain_mask", "mask", None, ""),
        ("total_field", "total_field", None, ""),
        ("localfield_hz", "local_field", None, "hz"),
        ("phs_tissue", "local_field", None, ""),
        ("r2star", "r2star", None, ""),
        ("susceptibility_tkd", "susceptibility", None, ""),
        ("gre_field_mapping_e1", None, 1, "gre_field_mapping"),
        ("masked_graphic_image", None, None, "masked_graphic_image"),
    ],
)
def test_names_tell_role_echo_and_run(tmp_path, name, role, echo, run):
    g = guess(tmp_path / f"{name}.nii.gz")
    assert (g.role, g.echo, g.run) == (role, echo, run)


def test_a_sidecar_tells_what_the_name_does_not(tmp_path):
    difference = {"ImageType": ["P", "PHASE"], "EchoTime1": 0.005, "EchoTime2": 0.007, "EchoNumber": 2}
    files(tmp_path, sidecars={"a": difference, "b_ph": difference, "c": {"ImageType": ["M"]}})
    files(tmp_path, sidecars={"d_ph": {"EchoTime1": 0.005, "EchoTime2": 0.007}})
    assert guess(tmp_path / "a.nii").role == "phase_difference"
    assert guess(tmp_path / "a.nii").echo == 2
    assert guess(tmp_path / "b_ph.nii").role == "phase_difference"
    assert guess(tmp_path / "d_ph.nii").role == "phase_difference"
    assert guess(tmp_path / "c.nii").role == "magnitude"


def test_echoes_go_by_time_before_number(tmp_path):
    times = {"x_e1_ph": {"EchoTime": 0.012}, "x_e2_ph": {"EchoTime": 0.004}}
    files(tmp_path, "x_e1_ph.nii", "x_e2_ph.nii", sidecars=times)
    assert found(tmp_path)[0] == {"x": {"phase": ["x_e2_ph", "x_e1_ph"]}}


def test_ten_echoes_are_in_numerical_order(tmp_path):
    files(tmp_path, *(f"x_echo-{n}_part-phase.nii" for n in range(1, 11)))
    assert found(tmp_path)[0]["x"]["phase"] == [f"x_echo-{n}_part-phase" for n in range(1, 11)]


def test_the_file_without_a_role_is_the_magnitude_of_its_phase(tmp_path):
    files(tmp_path, "x_e1.nii", "x_e1_ph.nii", "y_e1.nii")
    named, unknown = found(tmp_path)
    assert named == {"x": {"phase": ["x_e1_ph"], "magnitude": ["x_e1"]}}
    assert unknown == ["y_e1.nii"]


def test_runs_stay_apart_and_series_numbers_join(tmp_path):
    files(
        tmp_path,
        "8_gre_mag.nii",
        "9_gre_ph.nii",
        "12_gre_mag.nii",
        "13_gre_ph.nii",
        "t1.nii",
        ".hidden_ph.nii",
    )
    named, unknown = found(tmp_path)
    assert named == {
        "9_gre": {"phase": ["9_gre_ph"], "magnitude": ["8_gre_mag"]},
        "13_gre": {"phase": ["13_gre_ph"], "magnitude": ["12_gre_mag"]},
    }
    assert unknown == ["t1.nii"]


def test_a_phase_series_joins_the_magnitude_series_just_before_it(tmp_path):
    files(tmp_path, "8_gre_mag.nii", "12_gre_mag.nii", "13_gre_ph.nii", "20_gre_mag.nii")
    assert found(tmp_path)[0]["13_gre"] == {"phase": ["13_gre_ph"], "magnitude": ["12_gre_mag"]}


def test_real_and_imaginary_parts_stand_for_a_scan_together(tmp_path):
    files(tmp_path, *(f"8_gre_e{n}{part}.nii" for n in (1, 2) for part in ("", "_real", "_imaginary")))
    files(tmp_path, "brain_mask.nii")
    parts = {
        "real": ["8_gre_e1_real", "8_gre_e2_real"],
        "imaginary": ["8_gre_e1_imaginary", "8_gre_e2_imaginary"],
        "magnitude": ["8_gre_e1", "8_gre_e2"],
        "mask": ["brain_mask"],
    }
    assert found(tmp_path) == ({"8_gre": parts}, [])
    (run,), _ = find_runs([tmp_path])
    assert run.measured
    (run,), _ = find_runs([tmp_path / "8_gre_e1_real.nii"])
    assert not run.measured


def test_real_and_imaginary_series_join_the_magnitude_before_them(tmp_path):
    files(tmp_path, "8_gre_mag.nii", "9_gre_real.nii", "10_gre_imaginary.nii")
    files(tmp_path, "12_gre_mag.nii", "13_gre_real.nii", "14_gre_imaginary.nii", "15_t1_imaginary.nii")
    named, _ = found(tmp_path)
    for number in (9, 13):
        assert named[f"{number}_gre"] == {
            "real": [f"{number}_gre_real"],
            "imaginary": [f"{number + 1}_gre_imaginary"],
            "magnitude": [f"{number - 1}_gre_mag"],
        }
    assert named["15_t1"] == {"imaginary": ["15_t1_imaginary"]}


def test_a_magnitude_that_philips_calls_real_is_none(tmp_path):
    sidecars = {
        "4_b0_e1_real": {"ImageType": ["ORIGINAL", "PRIMARY", "M", "FFE", "REAL"]},
        "4_b0_e1_real_ph": {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]},
    }
    files(tmp_path, "4_b0_e1_real.nii", "4_b0_e1_real_ph.nii", sidecars=sidecars)
    assert found(tmp_path) == (
        {"4_b0_real": {"phase": ["4_b0_e1_real_ph"], "magnitude": ["4_b0_e1_real"]}},
        [],
    )


def test_a_mask_of_any_name_goes_to_the_only_scan(tmp_path):
    files(tmp_path, "x_ph.nii", "x_mag.nii", "whole_head_mask.nii")
    named, unknown = found(tmp_path)
    assert named == {"x": {"phase": ["x_ph"], "magnitude": ["x_mag"], "mask": ["whole_head_mask"]}}
    assert unknown == []


def test_of_several_masks_the_plain_one_is_meant_and_else_none(tmp_path):
    files(tmp_path, "x_ph.nii", "csf_mask.nii", "grey_mask.nii")
    named, unknown = found(tmp_path)
    assert named == {"x": {"phase": ["x_ph"]}}
    assert unknown == ["csf_mask.nii", "grey_mask.nii"]
    files(tmp_path, "mask.nii")
    named, unknown = found(tmp_path)
    assert named == {"x": {"phase": ["x_ph"], "mask": ["mask"]}}
    assert unknown == ["csf_mask.nii", "grey_mask.nii"]


def test_two_files_for_one_echo_are_refused_by_name(tmp_path):
    files(tmp_path, "x_ph.nii", "x_phase.nii")
    with pytest.raises(InputError, match=r"several files could be the phase: x_ph\.nii, x_phase\.nii"):
        find_runs([tmp_path])


def test_a_folder_without_nifti_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds neither NIfTI files"):
        find_runs([tmp_path])
    with pytest.raises(InputError, match="does not exist"):
        find_runs([tmp_path / "x.nii"])


def test_the_real_scans(shared):
    scans = shared / "data" / "scans"
    named, unknown = found(scans / "philips_2echo" / "Ref")
    assert unknown == []
    assert len(named) == 2
    for run, roles in named.items():
        assert roles == {"phase": [f"{run}_e1_ph", f"{run}_e2_ph"], "magnitude": [f"{run}_e1", f"{run}_e2"]}
    for folder in ("siemens_enhanced", "siemens_classic"):
        (roles,) = found(scans / folder / "Ref")[0].values()
        assert {role: len(names) for role, names in roles.items()} == {"phase_difference": 1, "magnitude": 2}
    assert found(scans / "romeo_3echo")[0] == {
        "scan": {"phase": ["Phase"], "magnitude": ["Mag"]},
        "with_nan": {"phase": ["phase_with_nan"]},
    }

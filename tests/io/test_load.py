"""Files to scans and results to files, held to arrays written by nibabel itself."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field

import nibabel as nib
import numpy as np
import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.load import load, load_region, save
from napari_metaqsm.scan import Acquisition, Geometry, Scan

SHAPE = (4, 5, 6)
AFFINE = nib.affines.from_matvec(np.diag([-0.75, 0.75, 3.0]), (10.0, -20.0, 5.0))
NUMBERS = np.random.default_rng(1)


def volume(*lead, scale=1.0):
    return (scale * NUMBERS.normal(size=(*lead, *SHAPE))).astype(np.float32)


def put(path, array, affine=AFFINE, **sidecar):
    array = np.moveaxis(array, 0, 3) if array.ndim == 4 else array
    nib.save(nib.Nifti1Image(array, affine), path)
    if sidecar:
        path.with_name(path.name.split(".nii")[0] + ".json").write_text(json.dumps(sidecar))
    return path


@pytest.fixture
def echoes(tmp_path):
    """A two-echo run in a folder: the values of its phase and its magnitude."""
    phase, magnitude = volume(2), np.abs(volume(2))
    for n, time in enumerate((0.004, 0.011)):
        put(tmp_path / f"x_e{n + 1}_ph.nii.gz", phase[n], EchoTime=time, MagneticFieldStrength=3)
        put(tmp_path / f"x_e{n + 1}.nii.gz", magnitude[n], EchoTime=time, MagneticFieldStrength=3)
    return tmp_path, phase, magnitude


def test_a_folder_needs_no_further_word(echoes):
    folder, phase, magnitude = echoes
    scan = load(folder)
    np.testing.assert_array_equal(scan.phase, phase)
    np.testing.assert_array_equal(scan.magnitude, magnitude)
    assert scan.acquisition == Acquisition((0.004, 0.011), 3.0)
    assert scan.geometry == Geometry(SHAPE, (0.75, 0.75, 3.0), (0, 0, 1), "LAS")
    file = folder / "x_e2_ph.nii.gz"
    assert scan.sources["phase"][1] == {
        "file": "x_e2_ph.nii.gz",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "bytes": file.stat().st_size,
    }
    assert scan.notes == ()


def test_given_roles_and_values_go_before_what_was_found(echoes):
    folder, phase, _ = echoes
    other = put(folder / "other" / "any.nii", volume(2)) if (folder / "other").mkdir() is None else None
    scan = load(folder, magnitude=other, echo_times_s=(0.005, 0.01), b0_tesla=7, b0_direction=(0, 3, 4))
    np.testing.assert_array_equal(scan.magnitude, np.moveaxis(nib.load(other).get_fdata(), 3, 0))
    np.testing.assert_array_equal(scan.phase, phase)
    assert scan.acquisition == Acquisition((0.005, 0.01), 7)
    assert scan.geometry.b0_direction == (0, 0.6, 0.8)


def test_one_4d_file_for_all_echoes(tmp_path):
    values = volume(3)
    path = put(tmp_path / "gre.nii", values, EchoTime=[0.004, 0.008, 0.012], MagneticFieldStrength=3)
    scan = load(phase=path)
    np.testing.assert_array_equal(scan.phase, values)
    assert scan.acquisition.echo_times_s == (0.004, 0.008, 0.012)


def test_given_files_go_by_echo_time_and_else_as_given(tmp_path):
    values = volume(2)
    late = put(tmp_path / "a.nii", values[1], EchoTime=0.011, MagneticFieldStrength=3)
    early = put(tmp_path / "b.nii", values[0], EchoTime=0.004, MagneticFieldStrength=3)
    np.testing.assert_array_equal(load(phase=[late, early]).phase, values)
    bare = [put(tmp_path / f"{name}.nii", values[n]) for n, name in enumerate("zc")]
    np.testing.assert_array_equal(load(phase=bare, echo_times_s=(0.004, 0.011), b0_tesla=3).phase, values)


@pytest.mark.parametrize("how", ["sidecar", "magnitudes", "difference", "two times"])
def test_a_phase_difference_has_the_difference_of_the_echo_times(tmp_path, how):
    times = {"EchoTime1": 0.00519, "EchoTime2": 0.00765} if how == "sidecar" else {}
    put(tmp_path / "s_phasediff.nii", volume(), MagneticFieldStrength=3, **times)
    for n, time in enumerate((0.00519, 0.00765)):
        put(tmp_path / f"s_magnitude{n + 1}.nii", np.abs(volume()), EchoTime=time)
    given = {"difference": (0.00246,), "two times": (0.00519, 0.00765)}.get(how)
    scan = load(tmp_path, echo_times_s=given)
    assert scan.acquisition.echo_times_s == (0.00246,)
    assert (len(scan.phase), len(scan.magnitude)) == (1, 2)
    with pytest.raises(InputError, match=r"0\.00765, 0\.00519; they must ascend"):
        load(tmp_path, echo_times_s=(0.00765, 0.00519))


def test_ge_stores_phase_inverted(echoes):
    folder, phase, _ = echoes
    for n in (1, 2):
        sidecar = folder / f"x_e{n}_ph.json"
        sidecar.write_text(
            json.dumps({**json.loads(sidecar.read_text()), "Manufacturer": "GE MEDICAL SYSTEMS"})
        )
    scan = load(folder)
    assert scan.acquisition.phase_sign == -1
    np.testing.assert_array_equal(scan.phase, phase)
    assert "GE MEDICAL SYSTEMS, which stores it inverted" in scan.decisions[0]
    assert scan.notes == ()
    assert load(folder, phase_sign=1).acquisition.phase_sign == 1


def test_units_of_radians_say_what_pi_is(tmp_path):
    path = put(tmp_path / "ph.nii", volume(), Units="rad", EchoTime=0.02, MagneticFieldStrength=3)
    assert load(path).acquisition.phase_pi == pytest.approx(np.pi)


# ------------------------------------------------------------------------------ fields
@pytest.mark.parametrize(("unit", "per_ppm"), [("ppm", 1.0), ("Hz", 127.731), ("rad/s", 2 * np.pi * 127.731)])
@pytest.mark.parametrize("stated", [False, True])
def test_fields_become_ppm(tmp_path, unit, per_ppm, stated):
    ppm = volume(scale=0.05)
    sidecar = {"Units": unit} if stated else {}
    put(tmp_path / "local_field.nii", ppm * np.float32(per_ppm), MagneticFieldStrength=3, **sidecar)
    put(tmp_path / "noise.nii", np.abs(ppm) * np.float32(per_ppm))
    scan = load(tmp_path, unit=None if stated else unit)
    np.testing.assert_allclose(scan.local_field, ppm, rtol=1e-6)
    np.testing.assert_allclose(scan.noise, np.abs(ppm), rtol=1e-6)
    assert scan.notes == ()


def test_a_field_of_unstated_unit_is_ppm_only_where_it_can_be(tmp_path):
    path = put(tmp_path / "f.nii", volume(scale=0.05))
    assert load(local_field=path).notes == ("f.nii is taken to be in ppm; nothing states its unit",)
    put(tmp_path / "f.nii", volume(scale=20))
    with pytest.raises(InputError, match=r"f\.nii reaches .* no local field does in ppm.*--unit Hz"):
        load(local_field=path)
    with pytest.raises(InputError, match="field in Hz needs the field strength"):
        load(local_field=path, unit="Hz")
    with pytest.raises(InputError, match="unit is 'T'; it must be one of ppm, Hz, rad/s"):
        load(local_field=path, unit="T")
    put(tmp_path / "f.nii", volume(), Units="gauss")
    with pytest.raises(InputError, match=r"f\.nii: Units is 'gauss'"):
        load(local_field=path)


def test_a_mask_is_taken_as_it_is(tmp_path):
    field_file = put(tmp_path / "f.nii", volume(scale=0.05))
    values = NUMBERS.integers(0, 3, SHAPE).astype(np.uint8)
    scan = load(local_field=field_file, mask=put(tmp_path / "m.nii", values))
    np.testing.assert_array_equal(scan.mask, values > 0)
    broken = np.where(values > 0, np.nan, 0).astype(np.float32)
    with pytest.raises(InputError, match=r"m2\.nii has values that are not finite"):
        load(local_field=field_file, mask=put(tmp_path / "m2.nii", broken))


def test_a_direction_in_the_sidecar_goes_before_the_header(tmp_path):
    path = put(tmp_path / "local_field.nii", volume(scale=0.05), B0_dir=[0, 0.6, 0.8])
    assert load(path).geometry.b0_direction == pytest.approx((0, 0.6, 0.8))
    assert load(path, b0_direction=(1, 0, 0)).geometry.b0_direction == (1, 0, 0)


def test_a_mask_without_an_affine_lies_like_the_others(tmp_path):
    field_file = put(tmp_path / "f.nii", volume(scale=0.05))
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), None), tmp_path / "m.nii")
    scan = load(local_field=field_file, mask=tmp_path / "m.nii", unit="ppm")
    assert scan.notes == ("m.nii holds no affine; it is taken to lie like the others",)
    np.testing.assert_array_equal(scan.space.affine, AFFINE)


# ------------------------------------------------------------------------------ refusals
def test_files_in_different_places_are_refused_by_name(tmp_path):
    first = put(tmp_path / "f.nii", volume(scale=0.05))
    moved = AFFINE.copy()
    moved[0, 3] += 0.03
    load(local_field=first, mask=put(tmp_path / "m.nii", np.ones(SHAPE, np.uint8), moved))
    moved[0, 3] += 0.3
    with pytest.raises(InputError, match=r"f\.nii and m\.nii lie in different places \(up to 0\.33 mm"):
        load(local_field=first, mask=put(tmp_path / "m.nii", np.ones(SHAPE, np.uint8), moved))
    with pytest.raises(InputError, match=r"f\.nii is 4×5×6 voxels and m\.nii 4×5×5"):
        load(local_field=first, mask=put(tmp_path / "m.nii", np.ones((4, 5, 5), np.uint8)))


def test_what_a_phase_cannot_do_without_is_asked_for(tmp_path):
    path = put(tmp_path / "ph.nii", volume())
    with pytest.raises(
        InputError, match=r"echo times of ph\.nii are missing.*--echo-times.*EchoTime in ph\.json"
    ):
        load(path)
    with pytest.raises(
        InputError, match=r"field strength of ph\.nii is missing.*--b0.*MagneticFieldStrength"
    ):
        load(path, echo_times_s=(0.02,))
    with pytest.raises(InputError, match=r"milliseconds, give seconds: 0\.02"):
        load(path, echo_times_s=(20,), b0_tesla=3)
    with pytest.raises(InputError, match="2 echo times for 1 echoes"):
        load(path, echo_times_s=(0.01, 0.02), b0_tesla=3)
    with pytest.raises(InputError, match="b0_tesla is 0"):
        load(path, echo_times_s=(0.02,), b0_tesla=0)


def test_several_runs_are_listed(tmp_path):
    for run in "ab":
        put(tmp_path / f"{run}_ph.nii", volume())
    with pytest.raises(InputError, match=r"2 runs; give the files of one: a \(a_ph\.nii\); b \(b_ph\.nii\)"):
        load(tmp_path)


def test_what_a_file_is_must_show(tmp_path):
    path = put(tmp_path / "image.nii", volume())
    with pytest.raises(InputError, match=r"does not show: image\.nii"):
        load(path)
    with pytest.raises(InputError, match="nothing to read"):
        load()
    with pytest.raises(InputError, match="does not exist"):
        load(phase=tmp_path / "none.nii")


def test_a_field_of_several_volumes_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"f\.nii holds 2 volumes; a local field has one"):
        load(local_field=put(tmp_path / "f.nii", volume(2)), unit="ppm")


def test_a_region_must_lie_on_the_scan(tmp_path):
    scan = load(local_field=put(tmp_path / "f.nii", volume(scale=0.05)))
    values = NUMBERS.integers(0, 2, SHAPE).astype(np.uint8)
    np.testing.assert_array_equal(load_region(put(tmp_path / "r.nii", values), scan), values > 0)
    with pytest.raises(InputError, match=r"r\.nii is empty"):
        load_region(put(tmp_path / "r.nii", 0 * values), scan)
    with pytest.raises(InputError, match="different places"):
        load_region(put(tmp_path / "r.nii", values, np.diag([1.0, 1, 3, 1])), scan)


# ------------------------------------------------------------------------------ saving
@dataclass
class Made:
    """What ``save`` reads of a result."""

    scan: Scan
    maps: dict
    record: dict = field(default_factory=dict)


def test_a_result_is_written_where_the_input_lay(echoes):
    folder, phase, _ = echoes
    scan = load(folder)
    made = Made(scan, {"total_field": phase[0], "mask": phase[0] > 0}, {"steps": ["é"]})
    files = save(made, folder / "out")
    assert [f.name for f in files] == ["total_field.nii.gz", "mask.nii.gz", "record.json"]
    image = nib.load(files[0])
    np.testing.assert_array_equal(image.dataobj, phase[0])
    np.testing.assert_array_equal(image.affine, AFFINE)
    assert nib.load(files[1]).get_data_dtype() == np.uint8
    assert json.loads(files[2].read_text("utf-8")) == {"steps": ["é"]}


def test_a_result_from_arrays_is_written_with_its_voxels(tmp_path):
    geometry = Geometry(SHAPE, (1, 2, 3), (0.6, 0, 0.8))
    save(Made(Scan(geometry, mask=np.ones(SHAPE)), {"mask": np.ones(SHAPE, bool)}), tmp_path)
    back = load(mask=tmp_path / "mask.nii.gz").geometry
    np.testing.assert_allclose(back.voxel_size_mm, (1, 2, 3), rtol=1e-6)
    np.testing.assert_allclose(back.b0_direction, geometry.b0_direction, atol=1e-6)


def test_nothing_is_written_where_one_map_cannot_be(echoes):
    folder, phase, _ = echoes
    made = Made(load(folder), {"total_field": phase[0], "mask": np.ones((2, 2, 2))})
    with pytest.raises(InputError, match="they must match"):
        save(made, folder / "out")
    assert not (folder / "out").exists()
    with pytest.raises(TypeError):
        save(dataclasses.replace(made, maps={}, record={"x": object()}), folder / "out")
    assert not (folder / "out").exists()


# ------------------------------------------------------------------------------ real scans
def test_the_real_two_echo_head(shared):
    folder = shared / "data" / "scans" / "philips_2echo" / "Ref"
    files = sorted(folder.glob("*_cl_*.nii.gz"))
    scan = load(files)
    assert scan.acquisition == Acquisition((0.0023, 0.0046), 3.0)
    assert scan.phase.shape == scan.magnitude.shape == (2, 80, 80, 53)
    image = nib.load(files[3])
    np.testing.assert_allclose(scan.phase[1], image.get_fdata(), atol=1e-6)
    assert np.abs(scan.phase).max() <= np.float32(np.pi)
    directions = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    np.testing.assert_allclose(scan.geometry.b0_direction, directions.T @ [0, 0, 1], atol=1e-9)
    with pytest.raises(InputError, match="2 runs; give the files of one"):
        load(folder)


@pytest.mark.parametrize("scanner", ["siemens_enhanced", "siemens_classic"])
def test_the_real_phase_differences(shared, scanner):
    scan = load(shared / "data" / "scans" / scanner / "Ref")
    assert scan.acquisition == Acquisition((0.00246,), 3.0)
    assert (scan.phase.min(), scan.phase.max()) == (-4096, 4094)
    assert (len(scan.phase), len(scan.magnitude)) == (1, 2)


def test_the_real_local_field(shared):
    scan = load(shared / "data" / "qsm2016")
    assert sorted(scan.arrays()) == ["local_field", "magnitude", "mask"]
    assert scan.geometry.voxel_size_mm == pytest.approx((1.0625, 1.0625, 1.0714), abs=1e-4)
    assert scan.geometry.b0_direction == (0, 0, 1)
    assert "not used: " in scan.notes[0]


def test_whether_a_phase_is_a_difference_can_be_given(tmp_path):
    said = {"MagneticFieldStrength": 3}
    for n, time in enumerate((0.004, 0.009), 1):
        put(tmp_path / f"x_e{n}_mag.nii", volume(), EchoTime=time, **said)
    put(tmp_path / "x_e2_ph.nii", volume(), EchoTime=0.009, Units="rad", **said)
    files = {"phase": tmp_path / "x_e2_ph.nii", "magnitude": sorted(tmp_path.glob("*mag.nii"))}
    assert load(**files).acquisition.echo_times_s == (0.009,)
    scan = load(**files, phase_difference=True)
    assert scan.acquisition.echo_times_s == (0.005,)
    assert scan.decisions == (
        "the phase is taken for the difference of two echoes, as was given; no header says so",
    )
    put(tmp_path / "x_phasediff.nii", volume(), EchoTime1=0.004, EchoTime2=0.009, Units="rad", **said)
    difference = {"phase": tmp_path / "x_phasediff.nii"}
    assert load(**difference).acquisition.echo_times_s == (0.005,)
    assert any("--no-phase-difference overrides" in text for text in load(**difference).decisions)
    scan = load(**difference, phase_difference=False, echo_times_s=[0.009])
    assert scan.acquisition.echo_times_s == (0.009,)
    with pytest.raises(InputError, match="there are 2 files of phase; the difference of two echoes is one"):
        load(phase=[tmp_path / "x_e2_ph.nii", tmp_path / "x_phasediff.nii"], phase_difference=True)
    with pytest.raises(InputError, match="there is no phase among the files"):
        load(magnitude=files["magnitude"], phase_difference=True)


@pytest.mark.parametrize("name", ["bad.dcm", "notes.txt", "brain.mgz", "image.nii.bak"])
def test_what_is_neither_nifti_nor_dicom_is_refused_as_that(tmp_path, name):
    (tmp_path / name).write_bytes(b"rubbish" * 40)
    told = rf"{name} is neither NIfTI, whose names end in \.nii or \.nii\.gz, nor DICOM by its first bytes"
    for given in ({"paths": tmp_path / name}, {"phase": tmp_path / name}, {"mask": tmp_path / name}):
        with pytest.raises(InputError, match=told):
            load(**given)
    with pytest.raises(InputError, match="holds neither NIfTI files"):
        load(tmp_path)


def test_dicom_is_given_whole_and_in_no_role(tmp_path):
    (tmp_path / "IM_0001").write_bytes(bytes(128) + b"DICM" + bytes(400))
    for given in (tmp_path / "IM_0001", tmp_path):
        with pytest.raises(InputError, match=r"is DICOM, which is read whole: give the folder of its series"):
            load(phase=given)

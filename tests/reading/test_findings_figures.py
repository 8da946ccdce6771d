"""The figures of the checks against cases whose answer is known, and against real scans."""

import math
import warnings

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import napari_metaqsm as mq
from napari_metaqsm.io.resources import resource
from napari_metaqsm.reading.field_findings import steps_of
from napari_metaqsm.reading.finding import Evidence
from napari_metaqsm.reading.findings import Severity, find
from napari_metaqsm.scan import Acquisition, Geometry
from napari_metaqsm.units import hz_per_ppm, rad_per_ppm

CUBE = Geometry((32, 30, 28), (1.0, 1.0, 1.0))
TWO_ECHOES = Acquisition((0.010, 0.015), 3.0)
TURN_PPM = 1 / (hz_per_ppm(3.0) * 0.005)


def one(name, geometry, acquisition=None, **arrays):
    return next(f for f in find(geometry, acquisition, **arrays) if f.name == name)


def raised(found):
    return {f.name for f in found if f.severity in (Severity.WRONG, Severity.CARE)}


# ------------------------------------------------------------------------------ acquisition
@given(tesla=st.floats(0.5, 10), part=st.floats(0.05, 3))
@settings(max_examples=50, deadline=None)
def test_what_echo_time_is_too_short_goes_with_the_decay_at_that_field(tesla, part):
    best = 0.045 * 3 / tesla
    contrast = part * math.exp(-part) / math.exp(-1) if part < 1 else 1
    if part * best > 0.5 or min(abs(contrast - 2 / 3), abs(contrast - 1 / 4)) < 1e-3:
        return
    found = one("Last echo", CUBE, Acquisition((part * best,), tesla))
    wanted = Severity.IN_ORDER if contrast > 2 / 3 else Severity.CARE if contrast > 1 / 4 else Severity.WRONG
    assert found.severity is wanted


@given(st.floats(0, 90), st.floats(0, 360))
@settings(max_examples=50, deadline=None)
def test_obliquity_is_the_angle_to_the_nearest_axis(tilt, around):
    tilt, around = math.radians(tilt), math.radians(around)
    direction = (
        math.sin(tilt) * math.cos(around),
        math.sin(tilt) * math.sin(around),
        math.cos(tilt),
    )
    degrees = min(math.degrees(math.acos(min(1, abs(b)))) for b in direction)
    if abs(degrees - 20) < 0.1:
        return
    found = one("Obliquity", Geometry((8, 8, 8), (1, 1, 1), direction))
    assert found.severity is (Severity.CARE if degrees > 20 else Severity.IN_ORDER)
    assert f"{degrees:.0f}°" in found.figure


# ------------------------------------------------------------------------------------- field
def steps_in(field, mask=None):
    mask = np.ones(field.shape, bool) if mask is None else mask
    return steps_of(Evidence(CUBE, TWO_ECHOES, total_field=field.astype(np.float32), mask=mask))


def ramp(slope):
    i, j, k = np.indices(CUBE.shape)
    return slope * (i - 0.5 * j + 0.3 * k)


def test_a_box_one_turn_too_high_is_found_with_its_surface():
    field = ramp(0.05)
    field[8:18, 6:20, 5:15] += TURN_PPM
    found = steps_in(field)
    assert found.turn_ppm == pytest.approx(TURN_PPM)
    assert found.faces == found.area_mm2 == 2 * (10 * 14 + 10 * 10 + 14 * 10)
    assert found.edge_mm == 0


def test_a_cut_that_ends_in_the_middle_has_an_open_edge_as_long_as_its_line():
    i, j, _ = np.indices(CUBE.shape)
    angle = np.arctan2(i - 15.5, j - 14.5)
    found = steps_in(TURN_PPM * angle / (2 * np.pi))
    assert found.turn_ppm == pytest.approx(TURN_PPM)
    assert found.edge_mm == pytest.approx(CUBE.shape[2], abs=1)


@pytest.mark.parametrize("slope", [0.3, 0.6, 1.5])
def test_a_steep_field_is_no_wrap(slope):
    assert steps_in(ramp(slope)) is None


def test_noise_is_no_wrap():
    noise = np.random.default_rng(0).normal(0, 0.3 * TURN_PPM, CUBE.shape)
    assert steps_in(noise) is None


def test_steps_outside_the_mask_do_not_count():
    field = ramp(0.05)
    field[16:] += TURN_PPM
    mask = np.ones(CUBE.shape, bool)
    mask[16:] = False
    assert steps_in(field, mask) is None
    assert steps_in(field).faces == 30 * 28


def test_noise_is_told_from_the_magnitude_as_it_was_made():
    rng = np.random.default_rng(1)
    magnitude = 100 + rng.normal(0, 2, (2, *CUBE.shape))
    certainty = sum((100 / 2 * rad_per_ppm(3.0, t)) ** 2 for t in TWO_ECHOES.echo_times_s)
    mask = np.ones(CUBE.shape, bool)
    found = one("Noise of the field", CUBE, TWO_ECHOES, magnitude=magnitude, mask=mask)
    assert float(found.figure.split()[0]) == pytest.approx(1000 * certainty**-0.5, rel=0.05)


# --------------------------------------------------------------------------------------- phase
def test_stored_integers_are_read_as_the_field_step_reads_them():
    phase = np.random.default_rng(2).integers(-4096, 4096, (1, *CUBE.shape)).astype(np.int16)
    found = one("Phase scaling", CUBE, Acquisition((0.02,), 3.0), phase=phase)
    assert found.severity is Severity.IN_ORDER
    assert "Siemens" in found.what
    assert one("Phase scaling", CUBE, phase=0.7 * phase).severity is Severity.WRONG


def test_a_part_of_the_circle_is_not_called_rescaled_without_wraps():
    phase = np.broadcast_to(np.linspace(-1.4, 1.4, 32)[:, None, None], (1, *CUBE.shape))
    found = one("Phase scaling", CUBE, phase=np.ascontiguousarray(phase))
    assert found.severity is Severity.CARE
    assert "fills only" in found.what


def test_asking_warns_of_nothing():
    phase = np.random.default_rng(3).uniform(-0.5, 0.5, CUBE.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find(CUBE, TWO_ECHOES, phase=phase)


def test_NaN_is_named_with_its_array_and_place():
    field = np.zeros(CUBE.shape, np.float32)
    field[3, 4, 5] = np.nan
    mask = np.zeros(CUBE.shape, bool)
    outside = one("Values", CUBE, total_field=field, mask=mask)
    assert outside.severity is Severity.CARE
    mask[3, 4, 5] = True
    inside = one("Values", CUBE, total_field=field, mask=mask)
    assert (inside.severity, inside.place) == (Severity.WRONG, (3, 4, 5))
    assert "total field: 1 not finite, 1 in the mask" in inside.figure


def test_maps_with_different_references_are_raised():
    maps = {"a": np.ones(CUBE.shape), "b": np.ones(CUBE.shape)}
    records = {
        "a": {"reference": {"a": {"region": "whole brain"}}},
        "b": {"reference": {"b": {"region": "csf"}}},
    }
    assert one("Reference", CUBE, maps=maps, records=records).what == "Maps have different references"
    records["b"] = {"reference": {"susceptibility_tkd": {"region": "brain"}}}
    assert one("Reference", CUBE, maps=maps, records=records).severity is Severity.IN_ORDER


# ---------------------------------------------------------------------------------- real scans
def test_of_the_bundled_scan_its_echoes_and_voxels_are_raised_and_nothing_else():
    scan = mq.load(resource("samples/philips_2echo"))
    found = find(scan.geometry, scan.acquisition, phase=scan.phase, magnitude=scan.magnitude)
    assert raised(found) == {"Number of echoes", "Last echo", "Voxel size"}
    mirrored = scan.phase.copy()
    mirrored[..., ::2] *= -1
    found = find(scan.geometry, scan.acquisition, phase=mirrored, magnitude=scan.magnitude)
    assert "Phase from slice to slice" in raised(found)


def test_of_a_field_mapping_scan_the_short_difference_is_raised(shared):
    scan = mq.load(shared / "data/scans/siemens_enhanced/Ref")
    found = find(scan.geometry, scan.acquisition, phase=scan.phase, magnitude=scan.magnitude)
    assert raised(found) == {"Number of echoes", "Last echo", "Voxel size"}
    assert next(f for f in found if f.name == "Last echo").what == "Phase difference too short: 2.46 ms"
    # Mirrored slices leave no smooth phase: that is not to be taken for a filter.
    mirrored = scan.phase.astype(np.float32)
    mirrored[..., ::2] *= -1
    found = find(scan.geometry, scan.acquisition, phase=mirrored, magnitude=scan.magnitude)
    assert raised(found) == {"Number of echoes", "Last echo", "Voxel size", "Phase from slice to slice"}


def test_of_a_crop_only_the_crop_is_raised(shared):
    folder = shared / "data/scans/romeo_3echo"
    files = {"phase": folder / "Phase.nii", "magnitude": folder / "Mag.nii"}
    scan = mq.load(**files, echo_times_s=(0.004, 0.008, 0.012), b0_tesla=7, phase_pi=0.0036743775)
    found = find(scan.geometry, scan.acquisition, phase=scan.phase, magnitude=scan.magnitude)
    assert raised(found) == {"Coverage"}


@pytest.mark.parametrize("name", ["chi_cosmos", "chi_33"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_sign_of_a_measured_map_is_told(shared, name, sign):
    arrays = {}
    for role, file in (("magnitude", "magn"), ("mask", "msk"), ("map", name)):
        image = nib.load(shared / f"data/qsm2016/{file}.nii.gz")
        arrays[role] = np.asarray(image.dataobj, np.float32)[::2, ::2, ::2]
    geometry = Geometry(arrays["mask"].shape, (2.125, 2.125, 2.143))
    maps = {name: sign * arrays["map"]}
    found = one("Sign of the phase", geometry, magnitude=arrays["magnitude"], mask=arrays["mask"], maps=maps)
    assert found.severity is (Severity.IN_ORDER if sign > 0 else Severity.WRONG)

"""Stored phase to radians: each vendor's range, the real scans, and what must be refused."""

import math

import nibabel
import numpy as np
import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.field.scaling import phase_in_radians
from napari_metaqsm.method import running
from napari_metaqsm.scan import Acquisition

TURN = np.linspace(-1, 1, 2 * 5 * 7 * 6, dtype=np.float64).reshape(2, 5, 7, 6)  # of pi, both ends included


def _read(path):
    data = np.asarray(nibabel.load(path).dataobj)
    return np.moveaxis(data, 3, 0) if data.ndim == 4 else data[None]


@pytest.mark.parametrize(
    ("stored", "unit"),
    [
        (math.pi * TURN, math.pi),
        ((math.pi * TURN).astype(np.float32), math.pi),
        (np.rint(4096 * TURN).astype(np.int16), 4096),
        (2 * np.rint(2047.5 * TURN - 0.5).astype(np.int16), 4096),  # -4096 to 4094
        (np.rint(3142 * TURN).astype(np.int16), 1000 * math.pi),
    ],
)
def test_symmetric_ranges_become_radians(stored, unit):
    radians, scale = phase_in_radians(stored, Acquisition())
    assert radians.dtype == np.float32
    assert scale.stored_pi == unit
    expected = np.pi * stored.astype(np.float64) / unit
    np.testing.assert_allclose(np.exp(1j * radians), np.exp(1j * expected), rtol=0, atol=1e-6)
    assert np.abs(radians).max() <= np.float32(math.pi)


def test_zero_and_both_ends_of_pi_stay_as_they_were():
    stored = math.pi * TURN
    stored[0, 0, 0, 1] = 0
    radians, _ = phase_in_radians(stored, Acquisition())
    assert radians[0, 0, 0, 1] == 0
    assert radians.flat[0] == np.float32(-math.pi)
    assert radians.flat[-1] == np.float32(math.pi)


def test_unsigned_siemens_integers_have_their_zero_in_the_middle():
    stored = np.rint(2047.5 * (TURN + 1)).astype(np.uint16)
    radians, _ = phase_in_radians(stored, Acquisition())
    np.testing.assert_allclose(radians, np.pi * (stored.astype(float) - 2048) / 2048, rtol=0, atol=1e-6)


def test_zero_to_two_pi_keeps_its_zero():
    stored = math.pi * (TURN + 1)
    radians, scale = phase_in_radians(stored, Acquisition())
    np.testing.assert_allclose(np.exp(1j * radians), np.exp(1j * stored), rtol=0, atol=1e-6)
    assert scale.meaning == "radians, 0 to 2 pi"


def test_radians_that_do_not_fill_the_circle_are_taken_as_such_and_said():
    stored = 0.4 * TURN + 0.1
    with running() as run:
        radians, _ = phase_in_radians(stored, Acquisition())
    np.testing.assert_allclose(radians, stored, rtol=0, atol=1e-6)
    assert "spans only 0.8" in run.notices[0]


def test_the_sign_is_applied_and_kept_for_the_record():
    radians, scale = phase_in_radians(math.pi * TURN, Acquisition(phase_sign=-1))
    np.testing.assert_allclose(radians, -math.pi * TURN, rtol=0, atol=1e-6)
    assert scale.sign == -1


def test_a_given_pi_overrides_what_would_be_recognised():
    radians, scale = phase_in_radians(math.pi * TURN, Acquisition(phase_pi=4.0))
    np.testing.assert_allclose(radians, math.pi * TURN * math.pi / 4, rtol=0, atol=1e-6)
    assert scale.stored_pi == 4.0


@pytest.mark.parametrize(
    "stored",
    [
        TURN,
        (TURN + 1) / 2,
        0.003674 * TURN,
        32767 * TURN,
        20 * TURN,
        2048 * TURN,
        255 * (TURN + 1) / 2,
        1000 * TURN,
    ],
)
def test_other_ranges_are_refused_with_range_and_remedy(stored):
    with pytest.raises(InputError, match=rf"runs from {stored.min():g} to .*expected radians.*--phase-pi"):
        phase_in_radians(stored, Acquisition())


def test_a_given_pi_of_another_scale_is_refused():
    with pytest.raises(InputError, match=r"next to nothing of a circle with phase_pi 4096"):
        phase_in_radians(math.pi * TURN, Acquisition(phase_pi=4096))


def test_phase_unwrapped_already_is_said_and_wrapped():
    stored = 6 * math.pi * TURN
    with running() as run:
        radians, _ = phase_in_radians(stored, Acquisition(phase_pi=math.pi))
    np.testing.assert_allclose(np.exp(1j * radians), np.exp(1j * stored), rtol=0, atol=1e-5)
    assert "more than one turn" in run.notices[0]


@pytest.mark.parametrize("value", [0, 3])
def test_constant_phase_is_refused(value):
    with pytest.raises(InputError, match=f"the phase is {value} everywhere"):
        phase_in_radians(np.full((1, 4, 4, 4), value, np.int16), Acquisition())


def test_nan_is_refused_inside_the_mask_and_zeroed_outside():
    stored = math.pi * TURN
    stored[:, 2, 2, 2] = np.nan
    stored[0, 2, 2, 3] = np.inf
    mask = np.ones(stored.shape[1:], bool)
    with pytest.raises(InputError, match="3 values that are NaN or infinite"):
        phase_in_radians(stored, Acquisition())
    with pytest.raises(InputError, match="3 values inside the mask"):
        phase_in_radians(stored, Acquisition(), mask)
    mask[2, 2, 2:4] = False
    with running() as run:
        radians, _ = phase_in_radians(stored, Acquisition(), mask)
    assert "3 NaN or infinite values outside the mask" in run.notices[0]
    assert not radians[:, 2, 2, 2].any()
    assert np.isfinite(radians).all()


def test_the_input_is_not_written_to():
    stored = math.pi * TURN
    kept = stored.copy()
    phase_in_radians(stored, Acquisition(phase_sign=-1))
    np.testing.assert_array_equal(stored, kept)


@pytest.mark.parametrize(
    ("file", "meaning"),
    [
        ("philips_2echo/Ref/2001_WIP_fcMRI_Field_Mapping_cl_e1_ph.nii.gz", "radians, -pi to pi"),
        ("siemens_enhanced/Ref/9_gre_field_mapping_e2_ph.nii", "Siemens integers, -4096 to 4096"),
        ("siemens_classic/Ref/Si_3_gre_field_magph_e2_ph.nii", "Siemens integers, -4096 to 4096"),
    ],
)
def test_real_scans_are_recognised(shared, file, meaning):
    radians, scale = phase_in_radians(_read(shared / "data" / "scans" / file), Acquisition())
    assert scale.meaning == meaning
    assert 3.139 < np.abs(radians).max() <= np.float32(math.pi)


def test_a_real_scan_in_arbitrary_units_needs_its_pi(shared):
    stored = _read(shared / "data" / "scans" / "romeo_3echo" / "Phase.nii")
    with pytest.raises(InputError, match=r"runs from -0\.003674"):
        phase_in_radians(stored, Acquisition())
    radians, _ = phase_in_radians(stored, Acquisition(phase_pi=0.0036743775))
    assert 3.1415 < np.abs(radians).max() <= np.float32(math.pi)


def test_a_real_scan_with_nan_is_refused(shared):
    with pytest.raises(InputError, match="1280 values that are NaN or infinite"):
        phase_in_radians(
            _read(shared / "data" / "scans" / "romeo_3echo" / "phase_with_nan.nii"), Acquisition()
        )

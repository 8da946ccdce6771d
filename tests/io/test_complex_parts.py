"""Magnitude and phase from real and imaginary parts, with and without a sign that alternates by slice."""

import json
import tracemalloc

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.complex_parts import magnitude_and_phase
from napari_metaqsm.io.load import load


def head(shape=(24, 22, 14), step=0.3, axis=2, noise=0.02, seed=0):
    """Complex signal of a ball in noise; its phase grows by ``step`` from slice to slice, rad."""
    places = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    inside = sum((2.2 * x / n) ** 2 for x, n in zip(places, shape, strict=True)) < 1
    across = places[(axis + 1) % 3]
    signal = inside * (1 + 0.02 * across) * np.exp(1j * (step * places[axis] + 0.15 * across + 0.7))
    generator = np.random.default_rng(seed)
    return signal + noise * (generator.normal(size=shape) + 1j * generator.normal(size=shape)), inside


def alternated(signal, axis=2):
    return signal * np.where(np.arange(signal.shape[axis]) % 2, -1, 1).reshape(
        [-1 if a == axis else 1 for a in range(3)]
    )


def parts(signal, axis=2, alternating=None):
    return magnitude_and_phase(signal.real, signal.imag, axis, alternating)


def test_smooth_phase_is_left_as_it_is():
    signal, _ = head()
    magnitude, phase, negated, words, _ = parts(signal)
    np.testing.assert_allclose(magnitude, np.abs(signal), atol=1e-6)
    np.testing.assert_allclose(phase, np.angle(signal), atol=1e-5)
    assert (magnitude.dtype, phase.dtype, negated) == (np.float32, np.float32, False)
    assert "keep their sign from slice to slice" in words


@pytest.mark.parametrize("slices", [2, 3, 13, 20])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_alternating_sign_is_undone_along_any_axis(axis, slices):
    shape = [24, 22, 20]
    shape[axis] = slices
    signal, _ = head(shape, axis=axis)
    magnitude, phase, negated, words, _ = parts(alternated(signal, axis), axis)
    assert negated, words
    assert "change sign from slice to slice, undone" in words
    np.testing.assert_allclose(phase, np.angle(signal), atol=1e-5)
    np.testing.assert_allclose(magnitude, np.abs(signal), atol=1e-6)


@given(step=st.floats(-1.3, 1.3), alternating=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_fields_of_up_to_1_3_rad_per_slice_do_not_deceive_it(step, alternating, seed):
    signal, _ = head(step=step, noise=0.1, seed=seed)
    *_, negated, words, _ = parts(alternated(signal) if alternating else signal)
    assert negated == alternating, words


@pytest.mark.parametrize("step", [1.45, 1.5707, 1.7])
def test_a_field_of_a_quarter_turn_per_slice_is_left_alone_and_said(step):
    signal, _ = head(step=step)
    *_, negated, words, _ = parts(signal)
    assert not negated
    assert "does not show" in words
    assert "left as stored" in words


@pytest.mark.parametrize("echo", [1, 2])
def test_a_real_head_is_far_from_the_limit_along_every_axis(shared, echo):
    stem = f"2001_WIP_fcMRI_Field_Mapping_cl_e{echo}"
    folder = shared / "data" / "scans" / "philips_2echo" / "Ref"
    magnitude, phase = (nibabel.load(folder / f"{stem}{end}.nii.gz").get_fdata() for end in ("", "_ph"))
    signal = magnitude * np.exp(1j * phase)
    for axis in range(3):
        for stored, negative in ((signal, False), (alternated(signal, axis), True)):
            *_, negated, words, _ = parts(stored, axis)
            assert negated == negative
            assert abs(float(words.split()[-1].strip(")"))) > 0.9


def test_strong_local_gradients_do_not_deceive_it():
    """A third of the head has 2.5 rad from slice to slice, as over the nasal sinuses at a long echo."""
    signal, _ = head(step=0.1)
    signal[:, 14:] *= np.exp(1j * 2.5 * np.arange(14))
    assert not parts(signal)[2]
    assert parts(alternated(signal))[2]


def test_air_does_not_count_and_noise_alone_is_not_taken_for_a_sign():
    signal, inside = head((24, 22, 14), noise=0.3)
    assert inside.mean() < 0.5
    assert parts(alternated(signal))[2]
    assert not parts(signal)[2]
    generator = np.random.default_rng(1)
    noise = generator.normal(size=(24, 22, 14)) + 1j * generator.normal(size=(24, 22, 14))
    *_, negated, words, _ = parts(noise)
    assert not negated
    assert "does not show" in words


def test_a_sign_that_only_some_slices_change_is_none_that_alternates():
    """One slice stored negated, or a part of the slices alternating, is another fault than GE's."""
    signal, _ = head()
    one = signal.copy()
    one[..., 6] *= -1
    half = signal.copy()
    half[..., 7:] = alternated(signal)[..., 7:]
    most = np.exp(0.3j * np.arange(14)) * np.ones((24, 22, 1))
    most[..., 5:] = alternated(most)[..., 5:]  # 9 of 13 pairs: the mean cosine is -0.37
    for broken in (one, half, most):
        assert not parts(broken)[2]


def test_the_first_echo_decides_for_all():
    signal, _ = head(step=0.4)
    echoes = np.stack([alternated(signal), alternated(signal**8)])  # 3.2 rad per slice in the second
    _, phase, negated, *_ = parts(echoes)
    assert negated
    np.testing.assert_allclose(phase[1], np.angle(signal**8), atol=1e-4)


def test_what_is_given_is_done_and_said_where_the_data_disagree():
    signal, _ = head()
    for stored in (signal, alternated(signal)):
        _, phase, negated, words, _ = parts(stored, alternating=True)
        assert negated
        assert ("do not show" in words) == (stored is signal)
        np.testing.assert_allclose(phase, np.angle(alternated(stored)), atol=1e-5)
        _, phase, negated, words, _ = parts(stored, alternating=False)
        assert not negated
        assert ("the data show that their sign alternates" in words) == (stored is not signal)
        np.testing.assert_allclose(phase, np.angle(stored), atol=1e-5)


def test_stored_integers_and_broken_values_are_no_obstacle():
    signal, _ = head()
    stored = alternated(signal) * 30000 / np.abs(signal).max()
    real, imaginary = stored.real.astype(np.int16), stored.imag.astype(np.int16)
    _, phase, negated, *_ = magnitude_and_phase(real, imaginary, 2, None)
    assert negated
    strong = np.abs(signal) > 0.3
    assert np.abs(np.angle(np.exp(1j * (phase - np.angle(signal)))))[strong].max() < 2e-4
    signal[0, 0] = np.nan
    assert parts(alternated(signal))[2]
    *_, negated, words, _ = parts(np.zeros((4, 4, 4), complex))
    assert not negated
    assert "no signal" in words


def test_inputs_are_left_as_they_are_and_memory_stays_small():
    signal, _ = head((192, 64, 48))
    real, imaginary = (np.asfortranarray(p.astype(np.float32)) for p in (signal.real, signal.imag))
    before = real.copy()
    tracemalloc.start()
    magnitude_and_phase(real, imaginary, 2, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(real, before)
    assert peak < 3 * real.nbytes  # the two results, and a few slabs


def test_parts_that_do_not_fit_together_are_refused():
    real = np.zeros((4, 5, 6))
    with pytest.raises(InputError, match="real is 4×5×6 voxels and imaginary 4×5×5; they must match"):
        magnitude_and_phase(real, real[..., 1:], 2, None)
    with pytest.raises(InputError, match="real has 2 axes"):
        magnitude_and_phase(real[0], real[0], 2, None)
    with pytest.raises(InputError, match="slice_axis is 3; it must be 0, 1 or 2"):
        magnitude_and_phase(real, real, 3, None)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_where_the_slice_axis_is_not_known_it_is_found(axis):
    signal, _ = head((20, 20, 20), axis=axis)
    _, phase, negated, *_ = parts(alternated(signal, axis), None)
    assert negated
    np.testing.assert_allclose(phase, np.angle(signal), atol=1e-5)
    assert not parts(signal, None)[2]


def written(folder, signal, maker, roles=("real", "imaginary"), name="8_gre_e{echo}_{role}"):
    """NIfTI files and sidecars of each echo of a signal (echo, i, j, k)."""
    arrays = {"real": signal.real, "imaginary": signal.imag, "mag": np.abs(signal) * 7}
    arrays["ph"] = np.angle(signal)
    said = {"Manufacturer": maker, "MagneticFieldStrength": 3}
    for role in roles:
        for echo, array in enumerate(arrays[role], 1):
            stem = name.format(echo=echo, role=role)
            nibabel.save(nibabel.Nifti1Image(array.astype(np.float32), np.eye(4)), folder / f"{stem}.nii")
            (folder / f"{stem}.json").write_text(json.dumps({**said, "EchoTime": 0.005 * echo}))
    return folder


@pytest.mark.parametrize("name", ["8_gre_e{echo}_{role}", "sub-1_echo-{echo}_part-{role}_MEGRE"])
def test_a_folder_of_real_and_imaginary_files_is_a_scan(tmp_path, name):
    signal, _ = head()
    stored = np.stack([alternated(signal), alternated(signal**2)])
    scan = load(written(tmp_path, stored, "GE MEDICAL SYSTEMS", name=name))
    assert scan.acquisition.echo_times_s == (0.005, 0.01)
    assert (scan.acquisition.phase_sign, scan.acquisition.phase_pi) == (-1, np.pi)
    np.testing.assert_allclose(scan.phase[0], np.angle(signal), atol=1e-5)
    np.testing.assert_allclose(scan.magnitude[1], np.abs(signal**2), atol=1e-5)
    assert any("change sign from slice to slice, undone" in text for text in scan.decisions)
    assert {role: len(files) for role, files in scan.sources.items()} == {"real": 2, "imaginary": 2}


def test_a_stored_magnitude_goes_before_the_computed_one_and_phase_before_both_parts(tmp_path):
    signal = head()[0][None]
    scan = load(written(tmp_path, signal, "SIEMENS", ("real", "imaginary", "mag")))
    np.testing.assert_allclose(scan.magnitude, 7 * np.abs(signal), rtol=1e-5)
    np.testing.assert_allclose(scan.phase, np.angle(signal), atol=1e-5)
    scan = load(written(tmp_path, signal, "SIEMENS", ("ph",)))
    assert "phase" in scan.sources
    assert any("not used, for there is phase or field: 8_gre_e1_real.nii" in text for text in scan.decisions)


def test_one_part_alone_is_refused_with_what_is_missing(tmp_path):
    written(tmp_path, head()[0][None], "GE", ("real", "mag"))
    with pytest.raises(InputError, match=r"8_gre_e1_real\.nii is the real part of an image whose other"):
        load(tmp_path)


def test_the_sign_of_slices_can_be_given_for_files(tmp_path):
    signal, _ = head()
    stored = alternated(signal)[None]
    folder = written(tmp_path, stored, "GE MEDICAL SYSTEMS")
    scan = load(folder, alternating_slices=False)
    np.testing.assert_allclose(scan.phase, np.angle(stored), atol=1e-5)
    assert any("no slice was negated, although the data show" in note for note in scan.notes)
    written(tmp_path, stored, "SIEMENS")
    scan = load(folder, alternating_slices=True)
    np.testing.assert_allclose(scan.phase[0], np.angle(signal), atol=1e-5)
    assert any("every second slice was negated" in text for text in scan.decisions)
    with pytest.raises(InputError, match="alternating_slices is given, but the phase comes from no real"):
        load(written(tmp_path, stored, "SIEMENS", ("ph",)), alternating_slices=True)

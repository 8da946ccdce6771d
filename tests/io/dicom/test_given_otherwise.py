"""Decisions stand apart from warnings, and each of them gives way to what the user says."""

import numpy as np
import pytest
from made import OBLIQUE, classic
from test_troubled_folders import MAGNITUDE, NEAR, PHASE, TIMES, edit, make, off

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.convert import convert
from napari_metaqsm.io.load import load

pytest.importorskip("dcm2niix")
COMPLEX = ("magnitude", "real", "imaginary")


def said(texts, words):
    return any(words in text for text in texts)


def test_what_is_decided_is_no_note_and_what_is_assumed_is_one(tmp_path):
    make(tmp_path / "known")
    scan = load(tmp_path / "known")
    assert scan.notes == ()
    for words in ("phase: series 9", "made by SIEMENS", "3 T, B0 along", "Siemens stores phase that grows"):
        assert said(scan.decisions, words)
    make(tmp_path / "assumed", vendor="Canon")
    scan = load(tmp_path / "assumed")
    assert said(scan.notes, "Canon documents no sign of phase, so it is assumed")
    assert not said(scan.decisions, "assumed")


# ---------------------------------------------------------------------------- the sign of slices
def test_slices_are_negated_where_that_is_given_and_left_where_not(tmp_path):
    make(tmp_path, vendor="Siemens", parts=COMPLEX, alternating=True)
    assert off(load(tmp_path)) > 3  # no rule of Siemens' says so
    scan = load(tmp_path, alternating_slices=True)
    assert off(scan) < 2 * NEAR
    assert said(scan.decisions, "every second slice was negated")
    scan = load(tmp_path, alternating_slices=False)
    assert off(scan) > 3
    assert said(scan.notes, "no slice was negated, although the data show that their sign alternates")


def test_what_the_data_of_ge_show_gives_way_too(tmp_path):
    make(tmp_path / "in", vendor="GE", parts=COMPLEX, alternating=True)
    (as_shown,) = convert(tmp_path / "in", tmp_path / "a")
    (as_given,) = convert(tmp_path / "in", tmp_path / "b", alternating_slices=False)
    assert said(as_shown.decisions, "change sign from slice to slice, undone")
    assert said(as_given.notes, "no slice was negated, although")
    assert off(load(tmp_path / "a")) < 2 * NEAR
    assert off(load(tmp_path / "b")) > 3


def test_a_sign_of_slices_is_refused_where_there_are_no_parts(tmp_path):
    make(tmp_path)
    with pytest.raises(InputError, match="alternating_slices is given, but the phase comes from no real"):
        load(tmp_path, alternating_slices=True)


# ---------------------------------------------------------------------------- phase differences
@pytest.fixture
def two_magnitudes(tmp_path):
    """Magnitudes at 5 and 12 ms, and one phase, stated to be at 12 ms."""
    classic(tmp_path / "m", MAGNITUDE, PHASE, OBLIQUE, parts=("magnitude",), series=8)
    last = MAGNITUDE[1:], PHASE[1:], OBLIQUE
    files = classic(tmp_path / "p", *last, parts=("phase",), series=9, echo_times_s=TIMES[1:])
    return tmp_path, files.values()


def test_a_phase_is_a_difference_where_that_is_given(two_magnitudes):
    folder, _ = two_magnitudes
    scan = load(folder)
    assert scan.acquisition.echo_times_s == pytest.approx((0.012,))
    assert len(scan.magnitude) == 1
    scan = load(folder, phase_difference=True)
    assert scan.acquisition.echo_times_s == pytest.approx((0.007,))
    assert len(scan.magnitude) == 2
    assert off(scan, echoes=(1,)) < NEAR
    assert said(scan.decisions, "taken for the difference of two echoes, as was given")
    assert not said(scan.decisions, "--no-phase-difference overrides")


def test_a_difference_is_that_of_one_echo_where_that_is_given(two_magnitudes):
    folder, files = two_magnitudes
    for path in files:
        edit(path, SequenceName="*fm2d2r")
    scan = load(folder)
    assert scan.acquisition.echo_times_s == pytest.approx((0.007,))
    assert sum("difference of two echoes" in text for text in scan.decisions) == 1
    scan = load(folder, phase_difference=False)
    assert scan.acquisition.echo_times_s == pytest.approx((0.012,))
    assert len(scan.magnitude) == 1
    assert said(scan.decisions, "taken for that of one echo, as was given")


def test_several_echoes_are_no_difference(tmp_path):
    make(tmp_path)
    with pytest.raises(InputError, match="series 9 has 2 echoes, so that it is no difference of two"):
        load(tmp_path, phase_difference=True)


# ---------------------------------------------------------------------------- all the others
def test_every_number_that_a_header_gives_can_be_given_otherwise(tmp_path):
    make(tmp_path / "a")
    make(tmp_path / "b", series=20, clock="130000")
    given = {"phase_sign": -1, "phase_pi": 2000.0, "b0_tesla": 2.9, "echo_times_s": (0.004, 0.013)}
    scan = load(tmp_path, series=[20, 21], b0_direction=(0, 3, 4), **given)
    assert {name: getattr(scan.acquisition, name) for name in given} == given
    np.testing.assert_allclose(scan.geometry.b0_direction, (0, 0.6, 0.8))
    assert scan.sources["phase"][0]["series"] == 21
    assert "the phase sign was given as -1, in place of 1" in scan.decisions
    assert "the stored value of pi was given as 2000, in place of 4096" in scan.decisions
    assert said(scan.decisions, "field strength in tesla was given as 2.9, in place of")
    assert not said(load(tmp_path, series=[20, 21], phase_sign=1).decisions, "was given as")


@pytest.mark.parametrize("vendor", ["Siemens", "Philips", "GE"])
def test_echoes_without_times_are_told_apart_by_their_numbers(tmp_path, vendor):
    make(tmp_path, vendor=vendor, echo_times_s=None)
    with pytest.raises(InputError, match=r"the echo times of .* are missing; give them in seconds"):
        load(tmp_path)
    scan = load(tmp_path, echo_times_s=TIMES)
    assert len(scan.phase) == len(scan.magnitude) == 2
    assert off(scan) < NEAR
    assert scan.notes == ()


def test_a_slice_that_is_missing_is_told_with_the_number_of_its_echo(tmp_path):
    make(tmp_path, echo_times_s=None)["phase", 1, 3].unlink()
    scan = load(tmp_path, echo_times_s=TIMES[:1])
    assert "slice 4 is missing of the phase of echo 2 (series 9)" in scan.notes
    assert "used: the echo numbered 1" in scan.notes
    assert off(scan, echoes=(0,)) < NEAR

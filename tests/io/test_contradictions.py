"""Sidecars of one scan that contradict each other: mixed runs, and not a scan to compute on."""

import dataclasses
import re

import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.acquisition import acquisition_of
from napari_metaqsm.io.sidecar import Sidecar

TIMES_S = (0.005, 0.01)


def sidecars(**of_last_phase):
    """Of two echoes, phase and magnitude; the last phase says something else."""
    told = {
        role: [Sidecar(f"{role}_{n}.json", (time,), b0_tesla=3.0) for n, time in enumerate(TIMES_S)]
        for role in ("phase", "magnitude")
    }
    told["phase"][1] = dataclasses.replace(told["phase"][1], **of_last_phase)
    return told


@pytest.mark.parametrize(
    ("other", "given", "words"),
    [
        (
            {"echo_times_s": (0.0105,)},
            {"echo_times_s": TIMES_S},
            r"of the phase are 5, 10\.5 ms and of the magnitude 5, 10 ms; .*--echo-times",
        ),
        (
            {"b0_tesla": 1.5},
            {"b0_tesla": 3.0},
            r"is 3 T in phase_0\.json and 1\.5 T in phase_1\.json; .*--b0",
        ),
    ],
)
def test_they_are_refused_unless_it_is_given(other, given, words):
    with pytest.raises(InputError, match=words):
        acquisition_of(sidecars(**other))
    acquisition = acquisition_of(sidecars(**other), **given)
    assert (acquisition.echo_times_s, acquisition.b0_tesla) == (TIMES_S, 3.0)


@pytest.mark.parametrize("other", [{"b0_tesla": 2.89362}, {"b0_tesla": None}, {"echo_times_s": (0.01003,)}])
def test_rounding_and_silence_are_no_contradiction(other):
    assert acquisition_of(sidecars(**other)).b0_tesla == 3.0


def test_a_magnitude_of_fewer_echoes_is_not_compared():
    told = sidecars()
    told["magnitude"] = [Sidecar("mean.json", (0.0075,), b0_tesla=3.0)]
    assert acquisition_of(told).echo_times_s == TIMES_S


@pytest.mark.parametrize(
    ("frequency_mhz", "told"),
    [
        # 123.25 / 42.577 = 2.8948 T; a field of so many hertz is 3 / 2.8948 times as many ppm.
        (123.25, [r"is 3 T as the headers say; .* 2\.895 T, .* 3\.6% larger \(--b0 2\.895 overrides\)"]),
        (131.5, [r" 3\.089 T, .* 2\.9% smaller"]),
        (127.748512, []),
        (51.7, []),  # of another nucleus
        (None, []),
    ],
)
def test_a_nominal_field_strength_is_kept_and_told(frequency_mhz, told):
    decisions = []
    acquisition = acquisition_of(sidecars(imaging_frequency_mhz=frequency_mhz), decisions=decisions)
    assert acquisition.b0_tesla == 3.0
    assert len(decisions) == len(told)
    assert all(re.search(words, text) for words, text in zip(told, decisions, strict=True))


def test_a_field_strength_that_is_given_is_no_nominal_one():
    decisions = []
    acquisition_of(sidecars(imaging_frequency_mhz=123.25), b0_tesla=2.895, decisions=decisions)
    assert decisions == ["the field strength in tesla was given as 2.895, in place of 3"]


def test_what_the_user_did_not_write_is_not_to_be_corrected():
    with pytest.raises(InputError, match=r"is 3 T and 1\.5 T in the headers of one scan \(series 7 and the"):
        acquisition_of(sidecars(b0_tesla=1.5), converted="series 7")

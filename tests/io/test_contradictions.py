"""Sidecars of one scan that contradict each other: mixed runs, and not a scan to compute on."""

import dataclasses

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

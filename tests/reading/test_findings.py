"""A head in order raises nothing; broken in one way, it raises that and nothing else."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from napari_metaqsm.reading.findings import CHECKS, Severity, find, find_in
from napari_metaqsm.reading.study import Study
from napari_metaqsm.scan import Acquisition, Geometry, turn
from napari_metaqsm.simulation.head import synthetic_head
from napari_metaqsm.units import hz_per_ppm

TIMES_S = (0.005, 0.017, 0.029)
TURN_PPM = 1 / (hz_per_ppm(3.0) * 0.012)


@pytest.fixture(scope="module")
def head():
    """A scan of a head at 2.8 mm, with its true fields and susceptibility."""
    scan, truth = synthetic_head(voxel_size_mm=(2.8, 2.8, 2.8), echo_times_s=TIMES_S)
    return {
        "geometry": scan.geometry,
        "acquisition": scan.acquisition,
        "phase": scan.phase,
        "magnitude": scan.magnitude,
        "total_field": truth["total_field"],
        "local_field": truth["local_field"],
        "noise": np.full(scan.geometry.shape, 0.002, np.float32),
        "mask": truth["mask"],
        "maps": {"χ": truth["susceptibility"]},
        "records": {"χ": {"reference": {"χ": {"region": "brain"}}}},
    }


def looked(given):
    rest = {name: value for name, value in given.items() if name not in ("geometry", "acquisition")}
    return {f.name: f for f in find(given["geometry"], given["acquisition"], **rest)}


def raised(found):
    return {f.name for f in found.values() if f.severity in (Severity.WRONG, Severity.CARE)}


def filtered(head):
    """Phase after a homodyne filter, its low-pass a quarter of k-space in every slice, as for SWI."""
    signal = head["magnitude"] * np.exp(1j * head["phase"])
    windows = [np.abs(np.fft.fftfreq(n)) < 0.125 for n in signal.shape[1:3]]
    low = np.fft.fft2(signal, axes=(1, 2)) * windows[0][:, None, None] * windows[1][:, None]
    return np.angle(signal * np.fft.ifft2(low, axes=(1, 2)).conj()).astype(np.float32)


def bipolar(head):
    ramp = np.linspace(0.5, 2.5, head["phase"].shape[1])[:, None, None]
    phase = head["phase"].copy()
    phase[1::2] = np.angle(np.exp(1j * (phase[1::2] + ramp)))
    return phase


def every_other(head, change):
    phase = head["phase"].copy()
    phase[..., ::2] = change(phase[..., ::2])
    return phase


def from_middle(head, radius_mm):
    geometry = head["geometry"]
    places = np.indices(geometry.shape).reshape(3, -1).T * geometry.voxel_size_mm
    middle = np.argwhere(head["mask"]).mean(axis=0) * geometry.voxel_size_mm
    return (np.linalg.norm(places - middle, axis=1) < radius_mm).reshape(geometry.shape)


def around_a_line(head):
    """Angle around a line through the middle of the head, along the last axis."""
    middle = np.argwhere(head["mask"]).mean(axis=0) + 0.25
    i, j, _ = np.indices(head["geometry"].shape)
    return np.arctan2(i - middle[0], j - middle[1])


def inverted(head, *names):
    return {n: {"χ": -head["maps"]["χ"]} if n == "maps" else -head[n] for n in names}


def eroded(head, by_mm):
    return distance_transform_edt(head["mask"], head["geometry"].voxel_size_mm) > by_mm


def dented(head, value):
    values = head["total_field"].copy()
    values[tuple(np.argwhere(head["mask"])[1000])] = value
    return values


def acquired(head, **changes):
    return {"acquisition": dataclasses.replace(head["acquisition"], **changes)}


def placed(head, **changes):
    return {"geometry": dataclasses.replace(head["geometry"], **changes)}


TILT = (0.0, math.sin(math.radians(35)), math.cos(math.radians(35)))
SEVERE, CARE = Severity.WRONG, Severity.CARE
FAULTS = {
    "one echo": (
        "Number of echoes",
        CARE,
        lambda h: {
            "phase": h["phase"][-1:],
            "magnitude": h["magnitude"][-1:],
            **acquired(h, echo_times_s=(0.029,)),
        },
    ),
    "two echoes": (
        "Number of echoes",
        CARE,
        lambda h: {
            "phase": h["phase"][1:],
            "magnitude": h["magnitude"][1:],
            **acquired(h, echo_times_s=TIMES_S[1:]),
        },
    ),
    "short echoes": (
        "Last echo",
        CARE,
        lambda h: acquired(h, echo_times_s=tuple(0.2 * t for t in TIMES_S)),
    ),
    "oblique": ("Obliquity", CARE, lambda h: placed(h, b0_direction=TILT)),
    "NaN": ("Values", SEVERE, lambda h: {"total_field": dented(h, np.nan)}),
    "saturated": ("Saturated magnitude", CARE, lambda h: {"magnitude": np.minimum(h["magnitude"], 0.8)}),
    "rescaled": ("Phase scaling", SEVERE, lambda h: {"phase": 0.8 * h["phase"]}),
    "unknown unit": ("Phase scaling", SEVERE, lambda h: {"phase": 100 * h["phase"]}),
    "filtered": ("Background field in the phase", SEVERE, lambda h: {"phase": filtered(h)}),
    "half turns by slice": (
        "Phase from slice to slice",
        SEVERE,
        lambda h: {"phase": every_other(h, lambda p: p - np.pi * np.sign(p))},
    ),
    "signs by slice": (
        "Phase from slice to slice",
        SEVERE,
        lambda h: {"phase": every_other(h, np.negative)},
    ),
    "echoes swapped": ("Agreement of the echoes", SEVERE, lambda h: {"phase": h["phase"][[1, 0, 2]]}),
    "bipolar": ("Agreement of the echoes", SEVERE, lambda h: {"phase": bipolar(h)}),
    "wrap": (
        "Wraps left in the field",
        SEVERE,
        lambda h: {"total_field": h["total_field"] + np.float32(TURN_PPM) * from_middle(h, 10)},
    ),
    "open step": (
        "Open steps in the field",
        SEVERE,
        lambda h: {"total_field": h["total_field"] + TURN_PPM / (2 * np.pi) * around_a_line(h)},
    ),
    "noisy": (
        "Noise of the field",
        CARE,
        lambda h: {"noise": np.full(h["geometry"].shape, 0.02, np.float32)},
    ),
    "eroded mask": (
        "What the mask covers",
        SEVERE,
        lambda h: {"mask": eroded(h, 15), "maps": {"χ": h["maps"]["χ"] * eroded(h, 15)}},
    ),
    "mask into the air": (
        "Signal in the mask",
        CARE,
        lambda h: {"mask": distance_transform_edt(~h["mask"], (2.8,) * 3) < 8},
    ),
    "inverted": (
        "Sign of the phase",
        SEVERE,
        lambda h: inverted(h, "phase", "total_field", "local_field", "maps"),
    ),
    "inverted, no map yet": (
        "Sign of the phase",
        SEVERE,
        lambda h: {**inverted(h, "phase", "total_field"), "local_field": None, "maps": None},
    ),
    "map eroded": (
        "What the maps cover",
        CARE,
        lambda h: {"maps": {"χ": h["maps"]["χ"] * eroded(h, 12)}},
    ),
    "no reference": (
        "Reference",
        CARE,
        lambda h: {"records": {"χ": {"reference": {"χ": {"region": "none"}}}}},
    ),
}


def test_a_head_in_order_raises_nothing_and_every_check_is_made(head):
    found = looked(head)
    assert list(found) == [check.name for check in CHECKS]
    assert {f.severity for f in found.values()} == {Severity.IN_ORDER}
    assert all(f.figure and f.what for f in found.values())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_raises_itself_and_nothing_else(head, fault):
    name, severity, change = FAULTS[fault]
    found = looked({**head, **change(head)})
    assert raised(found) == {name}
    finding = found[name]
    assert finding.severity is severity
    assert finding.why_it_matters
    assert finding.what_to_do
    assert any(letter.isdigit() for letter in finding.figure) or name == "Reference"


def test_half_turns_and_signs_are_told_apart(head):
    for fault, words, advice in (
        ("half turns by slice", "turns by half a circle", "add π"),
        ("signs by slice", "changes its sign", "change the sign"),
    ):
        found = looked({**head, **FAULTS[fault][2](head)})["Phase from slice to slice"]
        assert words in found.what
        assert f"every other slice along axis 3 ({advice})" in found.what_to_do


def test_a_wrap_through_half_the_head_is_not_taken_for_the_sign(head):
    half = np.zeros(head["geometry"].shape, np.float32)
    half[:, :, half.shape[2] // 2 :] = TURN_PPM
    found = looked({**head, "total_field": head["total_field"] + half, "maps": None})
    assert raised(found) == {"Wraps left in the field"}


def test_thick_slices_are_raised(head):
    assert "Voxel size" in raised(looked({**head, **placed(head, voxel_size_mm=(1.0, 1.0, 4.0))}))


@pytest.mark.parametrize("orientation", ["IPL", "LSA"])
def test_axes_of_any_order_and_sense_change_nothing(head, orientation):
    order, flipped = turn("RAS", orientation)

    def turned(array):
        first = array.ndim - 3
        array = array.transpose(*range(first), *(first + axis for axis in order))
        return np.flip(array, [first + axis for axis in flipped])

    faulty = {**head, **FAULTS["wrap"][2](head), **FAULTS["signs by slice"][2](head)}
    there = {n: turned(a) if isinstance(a, np.ndarray) else a for n, a in faulty.items()}
    there["maps"] = {"χ": turned(head["maps"]["χ"])}
    there["geometry"] = dataclasses.replace(head["geometry"].permuted(order), orientation=orientation)
    before, after = looked(faulty), looked(there)
    assert {n: f.severity for n, f in before.items()} == {n: f.severity for n, f in after.items()}
    place = after["Wraps left in the field"].place
    jump = np.abs([np.diff(there["total_field"], axis=a)[place] for a in range(3)]).max()
    assert jump == pytest.approx(TURN_PPM, rel=0.25)


def test_before_anything_is_computed_the_rest_is_listed_as_not_checked(head):
    found = {
        f.name: f
        for f in find(head["geometry"], head["acquisition"], phase=head["phase"], magnitude=head["magnitude"])
    }
    assert not raised(found)
    unchecked = {n: f.what for n, f in found.items() if f.severity is Severity.NOT_CHECKED}
    assert unchecked == {
        "Wraps left in the field": "needs the total field",
        "Open steps in the field": "needs the total field",
        "What the mask covers": "needs a brain mask",
        "Signal in the mask": "needs a brain mask",
        "Sign of the phase": "needs a map or the total field of a whole head",
        "What the maps cover": "needs a susceptibility map, a brain mask",
        "Reference": "needs a susceptibility map",
    }


def test_a_geometry_alone_can_be_checked():
    found = find(Geometry((64, 64, 64), (1.0, 1.0, 4.0)))
    assert len(found) == len(CHECKS)
    assert {f.name for f in found if f.severity is not Severity.NOT_CHECKED} == {
        "Voxel size",
        "Obliquity",
        "Coverage",
    }


def test_a_study_is_read_as_its_arrays_are(head):
    study = Study(**{n: v for n, v in head.items()})
    assert find_in(study) == list(looked(head).values())


def test_echo_times_that_are_not_those_of_the_echoes_are_said(head):
    found = looked({**head, "acquisition": Acquisition((0.01, 0.02), 3.0)})
    assert found["Number of echoes"].severity is Severity.WRONG
    assert found["Agreement of the echoes"].severity is Severity.NOT_CHECKED


def test_what_is_given_is_left_as_it_was(head):
    before = {n: v.copy() for n, v in head.items() if isinstance(v, np.ndarray)}
    looked(head)
    assert all(np.array_equal(before[n], head[n]) for n in before)

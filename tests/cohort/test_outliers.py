"""Outliers: exact where median and distances are known, and blind to where a scan stands in the list."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_metaqsm.cohort.outliers import (
    Acquired,
    Quantity,
    acquired_alike,
    find_outliers,
    quantities_of,
    spread_of,
)

CAUDATE = Quantity("Caudate", "TKD")


def scans(values, quantity=CAUDATE):
    return {f"sub-{n:02d}": {quantity: value} for n, value in enumerate(values, 1)}


def test_the_score_is_the_distance_from_the_median_in_robust_sd():
    # Median 0.09; distances 0.02, 0.01, 0.01, 0, 0.01, 0.02, 0.12: their median 0.01, a robust SD 0.014826.
    values = [0.07, 0.08, 0.08, 0.09, 0.10, 0.11, 0.21]
    (found,) = find_outliers(scans(values))
    assert (found.label, found.value) == ("sub-07", 0.21)
    assert found.spread == pytest.approx(spread_of(CAUDATE, values))
    assert (found.spread.median, found.spread.sd) == pytest.approx((0.09, 0.014826))
    assert found.score == pytest.approx(0.12 / 0.014826)
    assert found.sentence == (
        "sub-07: Caudate 0.210 ppm by TKD, 8.1 robust SD above the cohort's median 0.090 (7 scans)"
    )


def test_the_limit_is_three_and_a_half():
    values = [0.07, 0.08, 0.08, 0.09, 0.10, 0.11]  # with one more above 0.09 the median and MAD are as above
    assert not find_outliers(scans([*values, 0.09 + 3.49 * 0.014826]))
    assert find_outliers(scans([*values, 0.09 + 3.51 * 0.014826]))


def test_low_values_count_unless_they_are_no_trouble():
    values = [10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 0.0]
    (found,) = find_outliers(scans(values, Quantity("Mask", unit="ml", digits=0)))
    assert found.score < -3.5
    assert "below the cohort's median 12" in found.sentence
    assert " by " not in found.sentence
    assert not find_outliers(scans(values, Quantity("Noise", unit="ppb", only_above=True)))


def test_five_scans_are_too_few():
    values = [0.08, 0.09, 0.09, 0.10, 9.0]
    assert not find_outliers(scans(values))
    assert find_outliers(scans([*values, 0.09]))


def test_a_scan_without_the_value_does_not_count():
    some = scans([0.08, 0.09, 0.09, 0.10, 9.0])
    some["sub-06"] = {Quantity("Thalamus", "TKD"): 0.0}
    assert not find_outliers(some)


def test_scans_that_agree_to_the_last_digit_have_no_outlier_by_rounding():
    assert not find_outliers(scans([1e-11, -2e-11, 3e-12, 5e-10, 0.0, 0.0, 1e-9]))
    (found,) = find_outliers(scans([0.05] * 6 + [0.06]))  # ten times what anybody acts on
    assert found.score == pytest.approx(10)
    nothing = Quantity("Mask", unit="ml", least=0.0, least_share=0.01)
    assert not find_outliers(scans([0.0] * 6 + [1.0], nothing))  # no spread, no scale


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=30), st.randoms())
def test_order_shift_and_sign_change_nothing(values, shuffle):
    quantity = Quantity("Caudate", "TKD", least=1e-3)
    found = {(o.label, round(abs(o.score), 6)) for o in find_outliers(scans(values, quantity))}
    rows = list(scans(values, quantity).items())
    shuffle.shuffle(rows)
    again = find_outliers(dict(rows))
    assert {(o.label, round(abs(o.score), 6)) for o in again} == found
    mirrored = find_outliers(scans([-value for value in values], quantity))
    assert {(o.label, round(abs(o.score), 6)) for o in mirrored} == found
    assert [abs(o.score) for o in again] == sorted((abs(o.score) for o in again), reverse=True)


def test_few_of_normal_values_stand_apart_and_all_that_were_moved_away():
    generator = random.Random(1)
    values = [generator.gauss(0.05, 0.01) for _ in range(400)]
    moved = [n for n in range(0, 400, 4)]  # a quarter: more than mean and SD would bear
    assert len(find_outliers(scans(values))) <= 2
    for n in moved:
        values[n] += 0.2
    assert {int(o.label[4:]) - 1 for o in find_outliers(scans(values))} == set(moved)


def test_scans_are_compared_within_their_acquisition():
    three = Acquired(3.0, (4.0, 8.0, 12.0), (1.0, 1.0, 2.0))
    rounded = Acquired(2.89, (4.01, 8.0, 12.04), (0.996, 1.0, 2.0))
    others = {
        "field": three._replace(b0_tesla=7.0),
        "times": three._replace(echo_times_ms=(4.0, 8.0, 13.0)),
        "echoes": three._replace(echo_times_ms=(4.0, 8.0)),
        "voxels": three._replace(voxel_size_mm=(1.0, 1.0, 2.2)),
        "unknown": Acquired(None, (), (1.0, 1.0, 2.0)),
    }
    groups = acquired_alike({"others": others["field"], "one": three, "two": rounded, **others})
    assert groups[:2] == [["others", "field"], ["one", "two"]]
    assert sorted(map(tuple, groups[2:])) == [("echoes",), ("times",), ("unknown",), ("voxels",)]
    assert three.words == "3 T, 3 echoes of 4 to 12 ms, 1 × 1 × 2 mm"
    assert others["unknown"].words == "1 × 1 × 2 mm"


def test_the_order_of_a_files_axes_is_no_other_acquisition():
    told = {"b0_tesla": 3.0, "echo_times_ms": None, "voxel_size_mm": [2.0, 1.0, 0.9]}
    assert Acquired.of({"acquisition": told}) == Acquired(3.0, (), (0.9, 1.0, 2.0))


def test_what_is_compared_is_every_measure_that_is_known():
    caudate = {"TKD": {"mean_ppm": 0.05}, "TV": {"mean_ppm": None}}
    measures = {
        "mask_ml": 1300.0, "field_noise_ppm": 0.004, "unreliable_percent": None,
        "maps": {"TKD": {"sd_ppm": 0.04, "volume_ml": 1200.0}},
        "regions": [{"name": "Caudate", "volume_mm3": 3500.0, "maps": caudate}],
    }  # fmt: skip
    told = {(q.name, q.map, q.unit): value for q, value in quantities_of(measures).items()}
    assert told == {
        ("Mask volume", "", "ml"): 1300.0,
        ("Noise of the field", "", "ppb"): 4.0,
        ("SD of the map", "TKD", "ppm"): 0.04,
        ("Volume of the map", "TKD", "ml"): 1200.0,
        ("Volume of Caudate", "", "ml"): 3.5,
        ("Caudate", "TKD", "ppm"): 0.05,
    }

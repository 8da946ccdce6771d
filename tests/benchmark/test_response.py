"""Linearity and regions: TKD scales by a known factor, and region means against sums done by hand."""

import numpy as np
import pytest

from napari_metaqsm.benchmark.contenders import parse_contenders
from napari_metaqsm.benchmark.parts import Outcome, run_part
from napari_metaqsm.benchmark.response import (
    REGIONS,
    contrasts,
    line_through,
    linearity_part,
    rotation_part,
    share_table,
    voxel_size_part,
)
from napari_metaqsm.errors import InputError
from napari_metaqsm.inversion.tkd import sphere_mean_of_psf


def all_outcomes(part):
    return [o for _, outcomes, _ in run_part(part, "cpu") for o in outcomes]


def test_tkd_finds_spheres_too_weak_by_the_mean_of_its_point_spread(heads):
    part = linearity_part(heads, parse_contenders("tkd"), (64, 64, 40), 0)
    outcomes = all_outcomes(part)
    assert [o.facts["true"] for o in outcomes] == sorted(o.facts["true"] for o in outcomes)
    assert outcomes[0].facts["true"] == pytest.approx(-1, abs=0.1)
    ((label, slope, _, r_squared, spheres, _),) = part.tables(outcomes)[0].rows
    assert (label, spheres) == ("TKD", 12)
    assert slope == pytest.approx(sphere_mean_of_psf(0.2), abs=0.03)
    assert r_squared > 0.999


def test_a_scan_too_small_for_the_sphere_is_refused(heads):
    with pytest.raises(InputError, match="must hold a ball of 10 mm radius"):
        linearity_part(heads, (), (16, 16, 16), 0).make(0)


def test_the_line_is_that_of_least_squares():
    true = np.array([-1.0, 0.0, 0.5, 1.5])
    assert line_through(list(zip(true, 0.9 * true + 0.02, strict=True))) == pytest.approx((0.9, 0.02, 1.0))
    found = true + np.array([0.1, -0.1, 0.1, -0.1])
    slope, _, r_squared = line_through(list(zip(true, found, strict=True)))
    assert slope == pytest.approx(np.cov(true, found)[0, 1] / np.var(true, ddof=1))
    assert r_squared == pytest.approx(np.corrcoef(true, found)[0, 1] ** 2)
    assert all(np.isnan(line_through([(0.0, 1.0), (1.0, 2.0)])))


@pytest.mark.parametrize("make", [rotation_part, voxel_size_part])
def test_regions_are_found_on_every_scan_and_the_truth_finds_all_of_them(heads, make):
    part = make(heads, (), (96, 112, 36), 0)
    volumes = [part.make(index) for index in range(part.count)]
    extent = [np.multiply(v.geometry.shape, v.geometry.voxel_size_mm) for v in volumes]
    np.testing.assert_allclose(extent, [extent[0]] * part.count, rtol=0.1)
    for volume in volumes:
        assert set(volume.score(volume.truth)) == set(REGIONS)
        assert volume.score(2 * volume.truth) == pytest.approx(dict.fromkeys(REGIONS, 2.0))
    # The head is the same: its contrasts change by partial volume alone.
    true = np.array([[v.facts[f"true {region}"] for region in ("putamen", "pallidum")] for v in volumes])
    np.testing.assert_allclose(true, true[:1].repeat(part.count, 0), rtol=0.15)


def test_contrasts_are_means_against_white_matter_within_the_mask():
    labels = np.array([2, 2, 41, 10, 49, 49, 12, 12, 0]).reshape(3, 3, 1)
    chi = np.array([-0.02, -0.04, 9.0, 0.05, 0.07, 9.0, 0.1, 0.2, 5.0]).reshape(3, 3, 1)
    found = contrasts(chi, chi < 1, labels)
    assert found == pytest.approx({"thalamus": 0.06 + 0.03, "putamen": 0.15 + 0.03})


def test_the_deviation_is_the_largest_from_the_mean_of_the_row():
    outcomes = [
        Outcome("p", scan, {"true putamen": 0.1, "true thalamus": 0.01}, "X", {"putamen": s, "thalamus": s},
                1.0, {"method": "x"}, "")
        for scan, s in (("a", 0.9), ("b", 1.0), ("c", 1.1), ("d", 1.2))
    ]  # fmt: skip
    (row,) = share_table("p", "title", outcomes).rows  # the thalamus hardly stands out
    assert row[:2] == ("X", "putamen")
    assert row[2:6] == (0.9, 1.0, 1.1, 1.2)
    assert row[6] == pytest.approx(100 * 0.15 / 1.05)

"""Reliability: each part by its formula, what is missing by name, and errors where it says so."""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter

import napari_metaqsm
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.reading.reliability import reliability
from napari_metaqsm.reading.study import Study
from napari_metaqsm.scan import Geometry

SHAPE, SIZE = (20, 22, 18), (1.0, 0.8, 1.5)
GEOMETRY = Geometry(SHAPE, SIZE)
INSIDE = np.zeros(SHAPE, bool)
INSIDE[5:15, 6:16, 4:14] = True
BRAIN = np.zeros(SHAPE, bool)
BRAIN[1:19, 1:21, 1:17] = True


def values(seed, scale=0.05):
    chi = np.random.default_rng(seed).normal(0, scale, SHAPE)
    return np.where(INSIDE, chi, 0).astype(np.float32)


def half(x):
    return 1 / (1 + x**2)


def test_each_part_is_its_formula_and_the_worst_counts():
    random = np.random.default_rng(1)
    maps = {"TKD": values(2), "TV": values(3) + np.float32(0.3) * INSIDE}
    noise, residual = random.uniform(0.001, 0.004, SHAPE), random.uniform(0.01, 0.2, SHAPE)
    found = reliability(Study(GEOMETRY, maps, noise=noise, residual=residual, mask=BRAIN))
    distance = distance_transform_edt(BRAIN, sampling=SIZE)
    one, two = (m[INSIDE] - m[INSIDE].mean(dtype=float) for m in maps.values())
    spread = np.abs(one - two) / 2**0.5  # of two values, the standard deviation
    x = [
        noise[INSIDE] / (1.5 * np.median(noise[INSIDE])),
        residual[INSIDE] / (3 * np.median(residual[INSIDE])),
        3 / distance[INSIDE],
        spread / (4 * np.median(spread)),
    ]
    np.testing.assert_allclose(found.score[INSIDE], half(np.max(x, axis=0)), rtol=1e-4)
    np.testing.assert_array_equal(found.worst[INSIDE], 1 + np.argmax(x, axis=0))
    np.testing.assert_array_equal(found.unreliable[INSIDE], np.max(x, axis=0) > 1)
    assert list(found.parts) == ["noise", "misfit", "edge", "agreement"]
    for part, ratio in zip(found.parts.values(), x, strict=True):
        assert part.share == pytest.approx((ratio > 1).mean())
    assert found.parts["noise"].threshold == pytest.approx(1.5 * np.median(noise[INSIDE]))
    assert found.share == pytest.approx((np.max(x, axis=0) > 1).mean())
    assert found.missing == ()
    for array in (found.score, found.unreliable, found.worst):
        assert not array[~INSIDE].any()


def test_what_is_missing_is_named_and_nothing_stands_in_for_it():
    found = reliability(Study(GEOMETRY, {"TKD": values(2)}))
    assert list(found.parts) == ["edge"]
    assert [words.partition(":")[0] for words in found.missing] == [
        "there is no noise map",
        "there is no residual of the field fit",
        "there is one map only",
    ]
    # Without the brain's mask the distance is that to the map's own edge, and it says so.
    distance = distance_transform_edt(INSIDE, sampling=SIZE)
    np.testing.assert_allclose(found.score[INSIDE], half(3 / distance[INSIDE]), rtol=1e-5)
    assert "the edge of the map" in found.parts["edge"].words
    empty = reliability(Study(GEOMETRY, {"TKD": values(2)}, noise=np.zeros(SHAPE)))
    assert "noise" not in empty.parts


def test_the_image_border_is_an_edge():
    chi = np.ones(SHAPE, np.float32)
    found = reliability(Study(GEOMETRY, {"TKD": chi}))
    assert found.unreliable[0, 11, 9]
    assert not found.unreliable[10, 11, 9]


def test_methods_that_differ_by_nothing_a_reader_sees_agree():
    chi = values(2)
    other = chi + np.where(INSIDE, np.random.default_rng(5).normal(0, 1e-4, SHAPE), 0).astype(np.float32)
    found = reliability(Study(GEOMETRY, {"TKD": chi, "TV": other}, mask=BRAIN))
    assert found.parts["agreement"].threshold == pytest.approx(0.01)
    assert found.parts["agreement"].share == 0


def test_another_reference_changes_nothing():
    maps = {"TKD": values(2), "TV": values(3)}
    moved = {"TKD": maps["TKD"], "TV": np.where(INSIDE, maps["TV"] - 0.07, 0).astype(np.float32)}
    first, second = (reliability(Study(GEOMETRY, m, mask=BRAIN)) for m in (maps, moved))
    np.testing.assert_allclose(first.score, second.score, atol=1e-4)


def test_maps_with_other_masks_count_where_they_are_known():
    smaller = values(3)
    smaller[:8] = 0
    found = reliability(Study(GEOMETRY, {"TKD": values(2), "TV": smaller}, mask=BRAIN))
    assert (found.worst > 0).sum() == INSIDE.sum()
    # Where one alone is known they cannot disagree.
    assert (found.worst[5:8, 6:16, 4:14] == 1).all()


def test_what_is_not_a_number_is_not_reliable():
    noise = np.full(SHAPE, 0.002)
    noise[10, 10, 10] = np.nan
    found = reliability(Study(GEOMETRY, {"TKD": values(2)}, noise=noise, mask=BRAIN))
    assert found.unreliable[10, 10, 10]
    assert found.score[10, 10, 10] == 0


def test_on_a_known_susceptibility_the_errors_are_where_it_says():
    """Tissue, bleeds and calcium in a ball; the field is as noisy as the signal of each is low."""
    geometry = Geometry((40, 40, 40), (1.5, 1.5, 1.5))
    random = np.random.default_rng(0)
    grid = np.indices(geometry.shape).astype(float)
    distance2 = sum((axis - 19.5) ** 2 for axis in grid)
    brain, mask = distance2 < 19**2, distance2 < 15**2
    true = 0.05 * np.sign(gaussian_filter(random.standard_normal(geometry.shape), 3))
    signal = np.ones(geometry.shape)
    for _ in range(8):
        middle, radius = random.uniform(11, 28, (3, 1, 1, 1)), random.uniform(1.0, 2.5)
        spot = ((grid - middle) ** 2).sum(0) < radius**2
        true[spot], signal[spot] = random.choice([0.8, -0.4]), 0.1
    true = np.where(brain, true, 0).astype(np.float32)
    noise = 0.002 / signal
    field = dipole_field(torch.from_numpy(true), geometry).numpy()
    field = np.where(mask, field + noise * random.standard_normal(mask.shape), 0).astype(np.float32)
    size = geometry.voxel_size_mm
    maps = {title: napari_metaqsm.invert(field, mask, size, title) for title in ("tkd", "tv")}
    errors = {t: np.abs(m - m[mask].mean() - true + true[mask].mean()) for t, m in maps.items()}
    parts = {"noise": {"noise": noise}, "agreement": {}, "both": {"noise": noise}}
    for name, known in parts.items():
        used = {"tkd": maps["tkd"]} if name == "noise" else maps
        found = reliability(Study(geometry, used, mask=brain, **known))
        assert 0.005 < found.share < 0.1
        for title in used:
            ratio = errors[title][found.unreliable].mean() / errors[title][mask & ~found.unreliable].mean()
            print(f"{name}, {title}: {ratio:.1f} times the error in {100 * found.share:.1f} % of the voxels")
            assert ratio > 1.5

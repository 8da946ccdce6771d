"""The smooth phase offset: constants, slopes and wraps kept, weights obeyed, noise averaged."""

import numpy as np

from napari_metaqsm.field.smoothing import smooth_phase
from napari_metaqsm.scan import Geometry

GEOMETRY = Geometry((61, 49, 23), voxel_size_mm=(1.0, 1.3, 3.5))
EVEN = np.ones(GEOMETRY.shape, np.float32)


def _distance(a, b):
    return np.abs(np.angle(np.exp(1j * (a - b))))


def test_a_constant_stays_even_at_pi():
    phase = np.full(GEOMETRY.shape, 3.1, np.float32)
    assert _distance(smooth_phase(phase, EVEN, GEOMETRY, 7.5), 3.1).max() < 1e-5


def test_a_slope_is_kept_up_to_the_edge_and_through_wraps():
    mm = [np.arange(n) * size for n, size in zip(GEOMETRY.shape, GEOMETRY.voxel_size_mm, strict=True)]
    slope = 0.03 * mm[0][:, None, None] + 0.02 * mm[1][:, None] - 0.04 * mm[2] + 2.9
    smooth = smooth_phase(slope.astype(np.float32), EVEN, GEOMETRY, 7.5)
    # Smoothed once, it would be 0.03 rad/mm * 0.8 * 7.5 mm = 0.18 rad off at an edge
    assert _distance(smooth, slope).max() < 0.08
    assert np.median(_distance(smooth, slope)) < 0.02


def test_what_has_no_weight_does_not_count_and_is_filled_from_beside():
    phase = np.full(GEOMETRY.shape, 0.7, np.float32)
    weight = EVEN.copy()
    phase[20:30], weight[20:30] = -2.0, 0
    assert _distance(smooth_phase(phase, weight, GEOMETRY, 7.5), 0.7).max() < 1e-5


def test_noise_is_averaged():
    noise = np.random.default_rng(0).normal(0, 0.5, GEOMETRY.shape).astype(np.float32)
    assert smooth_phase(noise, EVEN, GEOMETRY, 7.5).std() < 0.1 * 0.5


def test_without_any_weight_it_is_zero():
    assert not smooth_phase(EVEN, 0 * EVEN, GEOMETRY, 7.5).any()

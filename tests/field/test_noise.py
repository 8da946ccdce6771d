"""The noise of a magnitude image: found under a gradient, to a few percent."""

import numpy as np
import pytest

from napari_metaqsm.field.noise import magnitude_noise


def test_noise_is_found_under_a_gradient_and_outside_is_ignored():
    rng = np.random.default_rng(0)
    slope = 1 + 0.02 * np.arange(40)[:, None, None] + np.zeros((40, 30, 20))
    noisy = slope + rng.normal(0, 0.05, slope.shape)
    inside = np.zeros(slope.shape, bool)
    inside[5:-5, 5:-5, 5:-5] = True
    noisy[:3] += rng.normal(0, 10, (3, 30, 20))
    assert magnitude_noise(noisy, inside) == pytest.approx(0.05, rel=0.05)

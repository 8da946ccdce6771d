"""Unwrapping against known phases: exact without noise, joined across gaps, alike along any axis."""

import numpy as np
import pytest

from napari_metaqsm.errors import Cancelled
from napari_metaqsm.field.unwrap import UNWRAPPINGS, unwrap_volume
from napari_metaqsm.method import running

TURN = 2 * np.pi
SHAPE, SIZE = (25, 30, 17), (1.0, 0.8, 2.0)


def _grid(shape=SHAPE):
    return np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij")


def _wrapped(phase):
    return np.angle(np.exp(1j * phase)).astype(np.float32)


def _hill(height=28.0):
    x, y, z = _grid()
    return height * np.exp(-(x**2 + y**2 + (1.5 * z) ** 2) / 150)


def _wrong(unwrapped, truth, where=np.s_[:]):
    """Voxels that are off by another multiple of 2 pi than most are."""
    turns = np.rint((unwrapped - truth)[where] / TURN).astype(int)
    return turns.size - np.unique(turns, return_counts=True)[1].max()


@pytest.mark.parametrize(("kind", "height"), [("quality-guided", 40.0), ("scikit-image", 20.0)])
def test_a_steep_hill_is_recovered_exactly(kind, height):
    truth = _hill(height)
    # 4.1 rad a voxel at most for ours: along the longest axis, in passing
    assert np.abs(np.diff(truth, axis=2)).max() > 0.1 * height
    unwrapped, quality = unwrap_volume(_wrapped(truth), SIZE, kind=kind)
    assert unwrapped.dtype == quality.dtype == np.float32
    turns = np.rint(np.median(truth) / TURN)
    np.testing.assert_allclose(unwrapped, truth - TURN * turns, rtol=0, atol=1e-4)


def test_phase_that_turns_by_more_than_pi_a_voxel_is_followed_where_it_bends_gently():
    _, _, z = _grid((20, 20, 40))
    truth = 0.045 * (z + 20) ** 2  # steps from 0.1 to 3.5 rad
    assert np.diff(truth, axis=2).max() > np.pi
    unwrapped, _ = unwrap_volume(_wrapped(truth), SIZE)
    assert _wrong(unwrapped, truth) == 0


def test_laplacian_is_exact_for_small_steps_and_announced():
    truth = _hill(4.0)
    with running() as run:
        unwrapped, _ = unwrap_volume(_wrapped(truth), SIZE, kind="laplacian")
    # The differences that it inverts are sin(step), not the step: within 2 % here
    assert np.abs((unwrapped - unwrapped.mean()) - (truth - truth.mean())).max() < 0.05 * 4
    assert "not exact" in run.notices[0]


def test_noise_costs_few_voxels_and_magnitude_helps():
    rng = np.random.default_rng(0)
    truth = _hill()
    x, _, _ = _grid()
    magnitude = np.where(np.abs(x) < 4, 0.15, 1.0)
    noise = rng.standard_normal(SHAPE) + 1j * rng.standard_normal(SHAPE)
    signal = magnitude * np.exp(1j * truth) + 0.1 * noise
    wrapped, strength = np.angle(signal).astype(np.float32), np.abs(signal).astype(np.float32)
    strong = magnitude == 1
    unwrapped, quality = unwrap_volume(wrapped, SIZE, strength)
    assert _wrong(unwrapped, truth, strong) == 0
    assert quality[strong].mean() > 2 * quality[~strong].mean()
    assert quality.min() >= 0
    assert quality.max() <= 1


def test_a_part_that_stands_alone_joins_at_the_multiple_of_the_nearest():
    x, _, _ = _grid()
    truth = 0.9 * x  # over the gap of 5 voxels, 4.5 rad: less than a turn
    mask = np.ones(SHAPE, bool)
    mask[8:11] = False
    wrapped = np.where(mask, _wrapped(truth), 0).astype(np.float32)
    unwrapped, quality = unwrap_volume(wrapped, SIZE, mask=mask)
    assert np.abs(truth[7, 0, 0] - truth[11, 0, 0]) > np.pi
    # Values are carried over the gap; the far side takes the multiple nearest to them.
    step = unwrapped[11, 3, 3] - unwrapped[7, 3, 3]
    assert abs(step) <= np.pi
    for part in (np.s_[:8], np.s_[11:]):
        assert _wrong(unwrapped, truth, part) == 0
    assert not unwrapped[~mask].any()
    assert not quality[~mask].any()


def test_a_blanked_background_is_no_way_from_one_side_to_the_other():
    x, y, z = _grid()
    truth = _hill()
    head = x**2 + y**2 + (1.5 * z) ** 2 < 110
    wrapped = np.where(head, _wrapped(truth), 0).astype(np.float32)
    unwrapped, _ = unwrap_volume(wrapped, SIZE)
    assert _wrong(unwrapped, truth, head) == 0


def test_a_part_that_stands_alone_is_reached_over_the_shortest_way():
    x, y, _ = _grid()
    truth = 1.5 * y + 0.1 * x
    mask = (x < -4) | ((x > 0) & (y > 10))
    unwrapped, _ = unwrap_volume(np.where(mask, _wrapped(truth), 0).astype(np.float32), SIZE, mask=mask)
    assert _wrong(unwrapped, truth, mask) == 0


def test_a_noisy_bridge_is_taken_before_a_blanked_background():
    x, y, z = _grid()
    truth = 1.2 * x
    bridge = (np.abs(x) < 3) & (np.abs(y) < 4) & (np.abs(z) < 4)
    head = (np.abs(x) >= 3) & (np.abs(y) < 11) & (np.abs(z) < 6) | bridge
    noise = 0.5 * np.random.default_rng(0).standard_normal(SHAPE) * bridge
    unwrapped, _ = unwrap_volume(np.where(head, _wrapped(truth + noise), 0).astype(np.float32), SIZE)
    assert _wrong(unwrapped, truth, head & ~bridge) == 0


def test_steps_along_long_voxels_come_later():
    truth = _hill(55.0)
    assert _wrong(unwrap_volume(_wrapped(truth), SIZE)[0], truth) == 0
    assert _wrong(unwrap_volume(_wrapped(truth), (1.0, 1.0, 1.0))[0], truth) > 0


@pytest.mark.parametrize("kind", UNWRAPPINGS)
def test_zero_stays_zero(kind):
    with running():
        unwrapped, _ = unwrap_volume(np.zeros(SHAPE, np.float32), SIZE, kind=kind)
    assert not unwrapped.any()


def test_the_multiple_left_open_brings_the_strong_signal_nearest_zero():
    truth = _hill() + 4 * TURN
    strength = (truth > truth.max() - 15).astype(np.float32) + 0.01
    unwrapped, _ = unwrap_volume(_wrapped(truth), SIZE, strength)
    assert abs(np.median(unwrapped[strength > 1])) <= np.pi


@pytest.mark.parametrize("axes", [(1, 2, 0), (2, 1, 0)])
def test_permuted_axes_give_the_permuted_result(axes):
    rng = np.random.default_rng(1)
    wrapped = _wrapped(_hill() + 0.3 * rng.standard_normal(SHAPE))
    magnitude = rng.uniform(0.9, 1, SHAPE).astype(np.float32)
    mask = _hill() > 1
    unwrapped, quality = unwrap_volume(wrapped, SIZE, magnitude, mask)
    turned = [a.transpose(axes) for a in (wrapped, magnitude, mask)]
    again, quality_again = unwrap_volume(turned[0], [SIZE[a] for a in axes], *turned[1:])
    np.testing.assert_allclose(again, unwrapped.transpose(axes), rtol=0, atol=1e-5)
    np.testing.assert_allclose(quality_again, quality.transpose(axes), rtol=0, atol=1e-5)


def test_inputs_are_not_written_to():
    wrapped, magnitude, mask = _wrapped(_hill()), np.ones(SHAPE, np.float32), _hill() > 1
    kept = [a.copy() for a in (wrapped, magnitude, mask)]
    unwrap_volume(wrapped, SIZE, magnitude, mask)
    for array, copy in zip((wrapped, magnitude, mask), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_growing_reports_and_stops():
    seen = []
    with (
        pytest.raises(Cancelled),
        running(lambda fraction, label: seen.append((label, fraction)), lambda: len(seen) >= 1),
    ):
        unwrap_volume(_wrapped(_hill()), SIZE)
    assert [label for label, _ in seen] == ["Unwrapping"]


def test_phase_beyond_all_unwrapping_stays_bounded():
    unwrapped, _ = unwrap_volume(_wrapped(_hill(80.0)), SIZE)
    assert np.abs(unwrapped).max() < 2 * TURN * sum(SHAPE)

"""The figures of a map: the same on the mask's box as on the whole array, and whose mean does not count."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_metaqsm.evaluation import metrics
from napari_metaqsm.evaluation.scores import AGREEMENT, CHALLENGE, agreement, challenge

RNG = np.random.default_rng(3)
SHAPE = (26, 24, 19)
MASK = np.linalg.norm(np.indices(SHAPE) - np.array([9, 12, 9]).reshape(3, 1, 1, 1), axis=0) < 9.5
TRUTH = (0.1 * gaussian_filter(RNG.standard_normal(SHAPE), 1.0) * MASK).astype(np.float32)
RECON = ((TRUTH + 0.01 * RNG.standard_normal(SHAPE)) * MASK).astype(np.float32)


def test_agreement_on_the_masks_box_is_that_on_the_whole_array():
    assert MASK[0].any()  # the mask touches the array's edge at one side alone
    recon, truth = metrics.demeaned(RECON, MASK), metrics.demeaned(TRUTH, MASK)
    x, y = recon[MASK].astype(float), truth[MASK].astype(float)
    expected = {
        "rmse_ppm": np.sqrt(((x - y) ** 2).mean()),
        "rmse": 100 * np.linalg.norm(RECON - TRUTH) / np.linalg.norm(TRUTH),
        "nrmse": 100 * np.linalg.norm(x - y) / np.linalg.norm(y),
        "hfen": metrics.hfen(recon, truth, MASK, inside_only=True),
        "ssim": metrics.ssim(recon, truth, MASK),
        "xsim": metrics.xsim(recon, truth, MASK),
    }
    found = agreement(RECON, TRUTH, MASK)
    assert found == pytest.approx(expected, rel=1e-5)
    assert list(found) == list(AGREEMENT)


def test_only_rmse_in_percent_sees_the_reference_of_the_map():
    found, moved = agreement(RECON, TRUTH, MASK), agreement(RECON + 0.5 * MASK, TRUTH, MASK)
    assert moved.pop("rmse") > found.pop("rmse") + 100
    assert moved == pytest.approx(found, rel=1e-3)


def test_the_challenge_demeans_nothing_but_where_it_says_so():
    found, moved = challenge(RECON, TRUTH, MASK), challenge(RECON + 0.05 * MASK, TRUTH, MASK)
    assert list(found) == list(CHALLENGE)
    whole = 100 * np.linalg.norm((RECON - TRUTH).astype(float)) / np.linalg.norm(TRUTH.astype(float))
    assert found["rmse"] == pytest.approx(whole, rel=1e-5)
    assert found["hfen"] == metrics.hfen(RECON, TRUTH, MASK)
    assert found["ssim"] == metrics.ssim(RECON, TRUTH, MASK)
    for name in ("rmse", "hfen", "ssim"):
        assert moved[name] != pytest.approx(found[name], rel=1e-2)
    for name in ("nrmse", "xsim"):
        assert moved[name] == pytest.approx(found[name], rel=1e-3)

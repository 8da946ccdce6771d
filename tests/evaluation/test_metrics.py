"""The measures of agreement against independent formulas and published properties."""

import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter

from napari_metaqsm.evaluation.metrics import demeaned, hfen, nrmse, rmse, ssim, xsim

RNG = np.random.default_rng(0)
TRUTH = (0.1 * gaussian_filter(RNG.standard_normal((21, 18, 17)), 1.0)).astype(np.float32)
MASK = np.zeros(TRUTH.shape, np.uint8)
MASK[3:-3, 2:-4, 1:-2] = 1
RECON = (TRUTH + 0.01 * RNG.standard_normal(TRUTH.shape)).astype(np.float32)


def test_nrmse_is_the_error_of_demeaned_maps_and_does_not_see_the_reference():
    x, y = RECON[MASK > 0].astype(float), TRUTH[MASK > 0].astype(float)
    expected = 100 * np.sqrt(((x - y - (x - y).mean()) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    assert nrmse(RECON, TRUTH, MASK) == pytest.approx(expected, rel=1e-6)
    assert nrmse(RECON + 5, TRUTH - 2, MASK) == pytest.approx(expected, rel=1e-3)
    assert nrmse(TRUTH, TRUTH, MASK) == 0
    assert nrmse(np.zeros_like(TRUTH), TRUTH, MASK) == pytest.approx(100)


def test_rmse_counts_the_whole_array_and_the_reference():
    assert rmse(TRUTH * 1.3, TRUTH) == pytest.approx(30, rel=1e-5)
    expected = 100 * np.linalg.norm(RECON + 1 - TRUTH) / np.linalg.norm(TRUTH)
    assert rmse(RECON + 1, TRUTH) == pytest.approx(expected, rel=1e-5)


def challenge_filter(image):
    """Direct sum over the 15³ kernel, zeros outside."""
    x, y, z = np.meshgrid(*[np.arange(-7, 8)] * 3, indexing="ij")
    squared = x**2 + y**2 + z**2
    kernel = np.exp(-squared / (2 * 1.5**2))
    kernel /= kernel.sum()
    kernel *= squared / 1.5**4 - 3 / 1.5**2
    return convolve(image.astype(float), kernel - kernel.mean(), mode="constant")


def test_hfen_is_the_error_of_filtered_maps():
    # Offset from the truth: the filter has no mean, and sees the step at the mask's rim alone.
    recon = RECON + 0.2
    x, y = challenge_filter(recon * MASK), challenge_filter(TRUTH * MASK)
    assert hfen(recon, TRUTH, MASK) == pytest.approx(
        100 * np.linalg.norm(x - y) / np.linalg.norm(y), rel=1e-5
    )
    inside = MASK > 0
    assert hfen(recon, TRUTH, MASK, inside_only=True) == pytest.approx(
        100 * np.linalg.norm((x - y)[inside]) / np.linalg.norm(y[inside]), rel=1e-5
    )


def direct_similarity(x, y, window, c1, c2):
    """The index of Wang et al. by direct sums, with variances about the local mean."""

    def mean(a):
        return convolve(a, window, mode="constant")

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    index = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return index[MASK > 0].mean()


def test_xsim_is_the_index_in_ppm_with_a_flat_window():
    x, y = (a.astype(float) * MASK for a in (RECON, TRUTH))
    window = np.full((5, 5, 5), 1 / 125)
    assert xsim(RECON, TRUTH, MASK) == pytest.approx(direct_similarity(x, y, window, 1e-4, 1e-6), rel=1e-9)


def test_ssim_is_the_index_of_maps_scaled_together():
    x, y = (a.astype(float) * MASK for a in (RECON, TRUTH))
    low = min(x.min(), y.min())
    x[x != 0] -= low
    y[y != 0] -= low
    high = max(x.max(), y.max())
    line = np.exp(-(np.arange(-2, 3) ** 2) / 4.5)
    window = line[:, None, None] * line[:, None] * line
    expected = direct_similarity(
        255 * x / high, 255 * y / high, window / window.sum(), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    )
    assert ssim(RECON, TRUTH, MASK) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("measure", [ssim, xsim])
def test_a_map_is_like_itself_and_less_like_a_worse_one(measure):
    assert measure(TRUTH, TRUTH, MASK) == pytest.approx(1)
    assert measure(TRUTH + 3 * (RECON - TRUTH), TRUTH, MASK) < measure(RECON, TRUTH, MASK) < 1


@pytest.mark.parametrize("measure", [nrmse, hfen, ssim, xsim])
def test_what_lies_outside_the_mask_does_not_count_and_inputs_stay(measure):
    changed = np.where(MASK > 0, RECON, np.nan)
    before = changed.copy()
    assert measure(changed, TRUTH, MASK) == measure(RECON, TRUTH, MASK)
    np.testing.assert_array_equal(changed, before)


def test_demeaned_maps_have_no_mean_and_nothing_outside():
    values = demeaned(RECON + 3, MASK)
    assert values[MASK > 0].mean() == pytest.approx(0, abs=1e-6)
    assert not values[MASK == 0].any()


def test_figures_of_tkd_on_the_scan_of_2016(shared):
    nibabel = pytest.importorskip("nibabel")
    torch = pytest.importorskip("torch")
    from napari_metaqsm.inversion.tkd import TKDParameters, tkd
    from napari_metaqsm.scan import Geometry

    mask, field, truth = (
        np.asarray(nibabel.load(shared / f"data/qsm2016/{n}.nii.gz").dataobj, np.float32)
        for n in ("msk", "phs_tissue", "chi_33")
    )
    geometry = Geometry(mask.shape, (1.0625, 1.0625, 1.0714286))
    found = tkd(torch.from_numpy(field), torch.from_numpy(mask) > 0, geometry, TKDParameters()).numpy()
    assert rmse(found, truth * mask) == pytest.approx(108.0, abs=0.3)

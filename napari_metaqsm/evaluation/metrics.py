"""How far a map lies from the truth: the measures of the two reconstruction challenges, and XSIM.

All are in numpy, computed in double precision, and take maps (i, j, k) in ppm. HFEN, SSIM and XSIM look at
neighbouring voxels, whatever their size: do not compare them across voxel sizes. All but NRMSE depend on
the reference of the map; give them :func:`demeaned` maps where the references differ.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from scipy.ndimage import correlate1d

from napari_metaqsm.operators.fourier import fast_shape

LOG_WIDTH = 15
LOG_SIGMA = 1.5


def nrmse(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Root mean square error in the mask, both maps demeaned there; % of the truth's own norm.

    References
    ----------
    QSM challenge 2.0: QSM Challenge 2.0 Organization Committee 2021, doi:10.1002/mrm.28754
    """
    inside = np.asarray(mask) != 0
    recon, truth = (np.asarray(a)[inside].astype(np.float64) for a in (recon, truth))
    truth -= truth.mean()
    return _percent(recon - recon.mean() - truth, truth)


def demeaned(susceptibility: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The map with its mean in the mask taken off, zero outside: two maps then share a reference."""
    susceptibility, inside = np.asarray(susceptibility), np.asarray(mask) != 0
    return np.where(inside, susceptibility - susceptibility[inside].mean(), 0)


def rmse(recon: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square error over the whole array, nothing demeaned or masked; % of the truth's norm.

    References
    ----------
    QSM challenge of 2016: Langkammer et al. 2018, doi:10.1002/mrm.26830
    """
    truth = np.asarray(truth, np.float64)
    return _percent(np.asarray(recon, np.float64) - truth, truth)


def hfen(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray, *, inside_only: bool = False) -> float:
    """High-frequency error norm: :func:`rmse` after a Laplacian of Gaussian (15³ voxels, sigma 1.5).

    Parameters
    ----------
    inside_only : take the norms in the mask, not over the whole array as the challenge did, where the step
        at the mask's rim counts too

    References
    ----------
    QSM challenge of 2016: Langkammer et al. 2018, doi:10.1002/mrm.26830;
    Ravishankar & Bresler 2011, doi:10.1109/TMI.2010.2090538
    """
    recon, truth = _masked(recon, truth, mask)
    error, reference = _laplacian_of_gaussian(recon - truth), _laplacian_of_gaussian(truth)
    if inside_only:
        inside = np.asarray(mask) != 0
        error, reference = error[inside], reference[inside]
    return _percent(error, reference)


def ssim(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Structural similarity as the challenge of 2016 has it: both maps scaled to 0…255 together.

    It saturates near 1 where maps hold strong sources; :func:`xsim` tells methods apart.

    References
    ----------
    QSM challenge of 2016: Langkammer et al. 2018, doi:10.1002/mrm.26830;
    Wang et al. 2004, doi:10.1109/TIP.2003.819861
    """
    recon, truth = _masked(recon, truth, mask)
    lowest = min(recon.min(), truth.min())
    for image in (recon, truth):
        image[image != 0] -= lowest
    highest = max(recon.max(), truth.max())
    offsets = np.arange(-2, 3)
    gaussian = np.exp(-(offsets**2) / (2 * 1.5**2))
    return _similarity(
        recon * (255 / highest),
        truth * (255 / highest),
        mask,
        window=gaussian / gaussian.sum(),
        luminance=(0.01 * 255) ** 2,
        contrast=(0.03 * 255) ** 2,
    )


def xsim(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Structural similarity made for susceptibility: native ppm, uniform 5³ window, K = (0.01, 0.001).

    References
    ----------
    Milovic et al. 2025, doi:10.1002/mrm.30271
    """
    recon, truth = _masked(recon, truth, mask)
    return _similarity(recon, truth, mask, window=np.full(5, 1 / 5), luminance=0.01**2, contrast=0.001**2)


def _percent(error: np.ndarray, truth: np.ndarray) -> float:
    return float(100 * np.linalg.norm(error.ravel()) / np.linalg.norm(truth.ravel()))


def _masked(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inside = np.asarray(mask) != 0
    return tuple(np.where(inside, np.asarray(a), 0).astype(np.float64) for a in (recon, truth))


def _similarity(
    x: np.ndarray, y: np.ndarray, mask: np.ndarray, *, window: np.ndarray, luminance: float, contrast: float
) -> float:
    """Mean over the mask of the structural similarity index, zeros outside the array."""

    def local_mean(image: np.ndarray) -> np.ndarray:
        for axis in range(3):
            image = correlate1d(image, window, axis=axis, mode="constant")
        return image

    mean_x, mean_y = local_mean(x), local_mean(y)
    covariance = local_mean(x * y) - mean_x * mean_y
    variances = local_mean(x * x + y * y) - mean_x**2 - mean_y**2
    index = ((2 * mean_x * mean_y + luminance) * (2 * covariance + contrast)) / (
        (mean_x**2 + mean_y**2 + luminance) * (variances + contrast)
    )
    return float(index[np.asarray(mask) != 0].mean())


def _laplacian_of_gaussian(image: np.ndarray) -> np.ndarray:
    """``image`` filtered with H = g [|x|²/σ⁴ − 3/σ²] − mean, zeros outside the array."""
    half = LOG_WIDTH // 2
    offsets = np.arange(-half, half + 1) ** 2
    squared = offsets[:, None, None] + offsets[None, :, None] + offsets
    gaussian = np.exp(-squared / (2 * LOG_SIGMA**2))
    kernel = gaussian / gaussian.sum() * (squared / LOG_SIGMA**4 - 3 / LOG_SIGMA**2)
    kernel -= kernel.mean()
    # Zeros for half a kernel keep the circular convolution from wrapping round.
    grid = fast_shape([n + half for n in image.shape])
    padded = np.zeros(grid)
    padded[tuple(slice(LOG_WIDTH) for _ in grid)] = kernel
    padded = np.roll(padded, (-half,) * 3, axis=(0, 1, 2))
    spectrum = scipy.fft.rfftn(padded, workers=-1).real  # real: the kernel is even
    filtered = scipy.fft.irfftn(spectrum * scipy.fft.rfftn(image, grid, workers=-1), grid, workers=-1)
    return filtered[tuple(slice(n) for n in image.shape)]

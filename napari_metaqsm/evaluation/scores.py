"""The figures that a map is given: against a known truth, and by the rules of the challenge of 2016."""

from __future__ import annotations

import numpy as np
import torch

from napari_metaqsm.evaluation import metrics
from napari_metaqsm.evaluation.tables import Column
from napari_metaqsm.operators.pad import mask_box

AGREEMENT = {
    "rmse_ppm": Column("RMSE ppm", 4),
    "rmse": Column("RMSE %"),
    "nrmse": Column("NRMSE %"),
    "hfen": Column("HFEN %"),
    "ssim": Column("SSIM", 3),
    "xsim": Column("XSIM", 3),
}
AGREEMENT_NOTE = (
    "Both maps demeaned in the mask, and only voxels in it counted, but RMSE %, which is of the maps as they "
    "are. RMSE % and NRMSE % are relative to the norm of the truth."
)
CHALLENGE = {
    "rmse": Column("RMSE %"),
    "hfen": Column("HFEN %"),
    "ssim": Column("SSIM", 3),
    "nrmse": Column("NRMSE % demeaned"),
    "xsim": Column("XSIM demeaned", 3),
}
CHALLENGE_NOTE = (
    "RMSE, HFEN and SSIM by the challenge's own script: the whole array, nothing demeaned. Maps and "
    "references are zero outside the mask, so that RMSE % is also the NRMSE in it."
)


def agreement(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """The figures named in ``AGREEMENT`` of a map (i, j, k) in ppm against the truth, in the mask."""
    mask = np.asarray(mask) != 0
    # What lies outside the mask counts as zero, whether it is in the array or not.
    box = mask_box(torch.from_numpy(mask))
    recon, truth, mask = (np.asarray(each)[box] for each in (recon, truth, mask))
    whole = metrics.rmse(recon * mask, truth * mask)
    recon, truth = (metrics.demeaned(each, mask) for each in (recon, truth))
    error = (recon - truth)[mask].astype(np.float64)
    return {
        "rmse_ppm": float(np.sqrt(np.mean(error**2))),
        "rmse": whole,
        "nrmse": metrics.nrmse(recon, truth, mask),
        "hfen": metrics.hfen(recon, truth, mask, inside_only=True),
        "ssim": metrics.ssim(recon, truth, mask),
        "xsim": metrics.xsim(recon, truth, mask),
    }


def challenge(recon: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """The figures named in ``CHALLENGE`` of a map (i, j, k) in ppm; both are zero outside the mask."""
    level = [metrics.demeaned(each, mask) for each in (recon, truth)]
    return {
        "rmse": metrics.rmse(recon, truth),
        "hfen": metrics.hfen(recon, truth, mask),
        "ssim": metrics.ssim(recon, truth, mask),
        "nrmse": metrics.nrmse(recon, truth, mask),
        "xsim": metrics.xsim(*level, mask),
    }

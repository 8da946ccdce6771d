"""The closed-form inverse of the dipole convolution under a penalty on the gradient."""

from __future__ import annotations

from torch import Tensor

from napari_metaqsm.operators.dipole import dipole_kernel
from napari_metaqsm.operators.gradient import gradient_spectrum
from napari_metaqsm.scan import Geometry


def smooth_inverse(geometry: Geometry, like: Tensor, penalty_weight: float) -> Tensor:
    """Half spectrum of ``D / (D^2 + lambda sum_i |E_i|^2)``, zero at k = 0; lambda in mm²."""
    kernel = dipole_kernel(geometry, like)
    denominator = kernel.square().add_(gradient_spectrum(geometry, like), alpha=penalty_weight)
    denominator[0, 0, 0] = 1  # both terms vanish at k = 0, and so does the numerator
    return kernel / denominator

"""A method of one's own: a parameter class and one function; everything else reads the registry.

Kept as a file in ``napari_metaqsm/inversion/`` this would stand in the dock widget, on the command line
and in the benchmark. Here it is registered by running the script, and compared with TKD on a sphere.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

import napari_metaqsm as mq
from napari_metaqsm.method import check_parameters, method, parameter
from napari_metaqsm.operators.dipole import dipole_field, dipole_kernel
from napari_metaqsm.operators.fourier import multiply_spectrum
from napari_metaqsm.simulation.shapes import sphere


@dataclass(frozen=True)
class TikhonovParameters:
    """Parameters of ``tikhonov``."""

    penalty_weight: float = parameter(0.03, low=1e-6, high=1, help="Weight of the squared susceptibility")

    __post_init__ = check_parameters


@method("inversion", title="Tikhonov", reference="doi:10.1002/jmri.24365", kind="direct")
def tikhonov(local_field: Tensor, mask: Tensor, geometry, parameters: TikhonovParameters) -> Tensor:
    """Direct: penalises the susceptibility itself, chi = D f / (D^2 + lambda)."""
    kernel = dipole_kernel(geometry, like=local_field)
    filtered = kernel / (kernel.square() + parameters.penalty_weight)
    return multiply_spectrum(local_field * mask, filtered) * mask


geometry = mq.Geometry((64, 64, 32), voxel_size_mm=(1, 1, 2), b0_direction=(0.1, 0, 1))
truth = sphere(geometry, radius_mm=8)
field = dipole_field(truth, geometry).numpy()
mask = np.ones(geometry.shape, bool)

for name in ("tkd", "tikhonov"):
    chi = mq.invert(field, mask, geometry.voxel_size_mm, name, geometry.b0_direction)
    inside = truth.numpy() == 1
    outside = truth.numpy() == 0
    print(f"{name}: {chi[inside].mean() - chi[outside].mean():.2f} ppm in a sphere of 1 ppm")

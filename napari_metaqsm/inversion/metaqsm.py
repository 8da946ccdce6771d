"""Meta-QSM: one network for every voxel size and B0 direction, its weights predicted from the scan."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import method, notice, parameter
from napari_metaqsm.network.checkpoint import Weights, read_weights, shipped_weights
from napari_metaqsm.network.conditions import outside_trained_range
from napari_metaqsm.network.inference import NetworkParameters, reconstruct
from napari_metaqsm.scan import Geometry


@dataclass(frozen=True)
class _Calm:
    calm: float = parameter(
        0.0,
        low=-1,
        high=1,
        slider=("sharp", "calm"),
        help="From sharp (-1: trust the field entirely) to calm (1: not at all); 0 is the level found in it",
    )


@dataclass(frozen=True)
class MetaQSMParameters(NetworkParameters, _Calm):  # in this order the slider is listed first
    """Parameters of ``metaqsm``."""


def usable_weights(geometry: Geometry, parameters: MetaQSMParameters) -> Weights:
    """The weights that the parameters name.

    Raises
    ------
    InputError
        When they cannot be read or are of a fixed-resolution network.
    """
    paths = [parameters.weights] if parameters.weights else shipped_weights("metaqsm.safetensors")
    if not paths:
        raise InputError("this installation has no Meta-QSM weights; install it again or choose a file")
    weights = read_weights(paths[0])
    if not weights.network.architecture.conditions:
        raise InputError(
            f"the weights {paths[0]} are of a network for one voxel size; choose Mesa-QSM for them"
        )
    return weights


@method(
    "inversion",
    kind="learned",
    title="Meta-QSM",
    reference="doi:10.48550/arXiv.1908.00206",
    stand_ins={"magnitude": "none: the network was trained with and without"},
    check=usable_weights,
)
def metaqsm(
    local_field: Tensor,
    mask: Tensor,
    geometry: Geometry,
    parameters: MetaQSMParameters,
    magnitude: Tensor | None = None,
) -> Tensor:
    """Learned: one network for any voxel size; sharp, few streaks, seconds on a CPU.

    Parameters
    ----------
    local_field : (..., i, j, k) float, ppm
    mask : (i, j, k) bool
    magnitude : (echo, i, j, k) or (i, j, k)

    Returns
    -------
    (..., i, j, k) float, ppm; zero outside ``mask``, not referenced.

    Notes
    -----
    A U-Net whose kernels fully connected layers predict from the voxel size, the B0 direction, and how
    much of the field no susceptibility explains, which is measured in the scan. The map of a field twice
    as strong is twice as strong.

    References
    ----------
    Liu & Koch 2019, Meta-QSM: An Image-Resolution-Arbitrary Network for QSM Reconstruction, arXiv:1908.00206
    """
    weights = usable_weights(geometry, parameters)
    outside = outside_trained_range(geometry)
    if outside:
        notice(f"outside the range that Meta-QSM was trained for: {outside}")
    return reconstruct(local_field, mask, geometry, magnitude, weights, parameters, parameters.calm)

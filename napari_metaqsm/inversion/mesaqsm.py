"""Mesa-QSM: the network of Meta-QSM with plain convolutions, trained for one voxel size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import method, notice
from napari_metaqsm.network.checkpoint import Weights, read_weights, shipped_weights
from napari_metaqsm.network.conditions import turned
from napari_metaqsm.network.inference import NetworkParameters, reconstruct
from napari_metaqsm.scan import Geometry

# How far the scan may be from what weights were trained on.
SIZE_TOLERANCE = 0.05
TILT_TOLERANCE_DEGREES = 5.0


@dataclass(frozen=True)
class MesaQSMParameters(NetworkParameters):
    """Parameters of ``mesaqsm``."""


def usable_weights(geometry: Geometry, parameters: MesaQSMParameters) -> Weights:
    """The weights that the parameters name, or the shipped ones that fit the scan.

    Raises
    ------
    InputError
        When they cannot be read or are of a network for every voxel size, or none of those shipped fits.
    """
    if parameters.weights:
        weights = read_weights(parameters.weights)
        if weights.network.architecture.conditions or "voxel_size_mm" not in weights.provenance:
            raise InputError(
                f"the weights {parameters.weights} are not of a network for one voxel size; "
                "choose Meta-QSM for them"
            )
        return weights
    shipped = [read_weights(path) for path in shipped_weights("mesaqsm_*.safetensors")]
    for weights in shipped:
        if misfit(geometry, weights) is None:
            return weights
    known = ", ".join(map(_trained, shipped))
    raise InputError(
        f"no Mesa-QSM weights fit {_scanned(geometry)}; there are {known or 'none'}. "
        "Choose a file of weights, or Meta-QSM, which takes any voxel size"
    )


def misfit(geometry: Geometry, weights: Weights) -> str | None:
    """In words how the scan differs from what the weights were trained on; None where they fit."""
    _, after = turned(geometry)
    sizes = zip(after.voxel_size_mm, weights.provenance["voxel_size_mm"], strict=True)
    near = all(abs(size / trained - 1) <= SIZE_TOLERANCE for size, trained in sizes)
    tilt = _tilt_degrees(after)
    if near and tilt <= weights.provenance.get("tilt_degrees", 0.0) + TILT_TOLERANCE_DEGREES:
        return None
    return f"the weights are for {_trained(weights)}, the scan has {_scanned(geometry)}"


def _tilt_degrees(after: Geometry) -> float:
    return math.degrees(math.acos(min(after.b0_direction[2], 1.0)))


def _scanned(geometry: Geometry) -> str:
    _, after = turned(geometry)
    return f"{_by(after.voxel_size_mm)} mm with B0 {_tilt_degrees(after):.0f} degrees off the last axis"


def _trained(weights: Weights) -> str:
    tilt = weights.provenance.get("tilt_degrees", 0.0)
    return f"{_by(weights.provenance['voxel_size_mm'])} mm (B0 up to {tilt:.0f} degrees)"


def _by(sizes: tuple[float, ...]) -> str:
    return "×".join(f"{size:g}" for size in sizes)


@method(
    "inversion",
    kind="learned",
    title="Mesa-QSM",
    reference="doi:10.48550/arXiv.1908.00206",
    stand_ins={"magnitude": "none: the network was trained with and without"},
    check=usable_weights,
)
def mesaqsm(
    local_field: Tensor,
    mask: Tensor,
    geometry: Geometry,
    parameters: MesaQSMParameters,
    magnitude: Tensor | None = None,
) -> Tensor:
    """Learned: the network of Meta-QSM for one voxel size, where there are weights for the scan's.

    Parameters
    ----------
    local_field : (..., i, j, k) float, ppm
    mask : (i, j, k) bool
    magnitude : (echo, i, j, k) or (i, j, k)

    Returns
    -------
    (..., i, j, k) float, ppm; zero outside ``mask``, not referenced.

    References
    ----------
    Liu & Koch 2019, Meta-QSM: An Image-Resolution-Arbitrary Network for QSM Reconstruction, arXiv:1908.00206
    """
    weights = usable_weights(geometry, parameters)
    different = misfit(geometry, weights)
    if different:
        notice(f"outside what the network was trained for: {different}")
    return reconstruct(local_field, mask, geometry, magnitude, weights, parameters)

"""From a local field to susceptibility with the weights of a file: what Meta-QSM and Mesa-QSM share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from napari_metaqsm.method import announce, check_parameters, parameter, remark
from napari_metaqsm.network.checkpoint import Weights
from napari_metaqsm.network.conditions import encode, measure_level, turned
from napari_metaqsm.network.fused import FusedUNet
from napari_metaqsm.network.model import finish, prepare
from napari_metaqsm.network.tiles import compute_in_blocks
from napari_metaqsm.network.unet import Architecture
from napari_metaqsm.operators.dipole import dipole_field, dipole_kernel
from napari_metaqsm.operators.fourier import multiply_spectrum
from napari_metaqsm.operators.pad import Box, mask_box
from napari_metaqsm.scan import Geometry

# Zeros around the mask's box: the map that goes in is computed by transforms that wrap around.
MARGIN = 4
# No field is trusted further than one of this level.
LEAST_MISMATCH = 0.1
# What the network may take for one block: on the CPU, and of the free memory of a GPU.
CPU_BYTES = 4e9
GPU_SHARE = 0.5

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class NetworkParameters:
    """What can be chosen of any network."""

    use_magnitude: bool = parameter(True, help="Show the network the magnitude where there is one")
    data_weight: float = parameter(
        1.0,
        low=0,
        high=100,
        help="How strongly the map is made to explain the field, as far as its level allows; 0 not at all",
    )
    precision: str = parameter(
        "auto", choices=PRECISIONS, help="Numbers in the network; auto is bfloat16 on GPUs that have it"
    )
    weights: str = parameter("", file="*.safetensors", help="Weights of your own; empty for those shipped")

    __post_init__ = check_parameters


def reconstruct(
    local_field: Tensor,
    mask: Tensor,
    geometry: Geometry,
    magnitude: Tensor | None,
    weights: Weights,
    parameters: NetworkParameters,
    calm: float = 0.0,
) -> Tensor:
    """Susceptibility (..., i, j, k) in ppm of fields (..., i, j, k), zero outside the mask.

    Parameters
    ----------
    magnitude : (echo, i, j, k) or (i, j, k); None where there is none
    calm : see :meth:`~napari_metaqsm.network.conditions.Level.calmed`

    Notes
    -----
    The map is the one nearest to the network's that also explains the field: the minimum of
    ``w ||D chi - f||^2 + ||chi - chi_net||^2`` over chi, which is
    ``chi_net + w D / (1 + w D^2) (f - D chi_net)``, f - D chi_net taken in the mask alone. The weight w is
    the data weight over the square of the level's mismatch, so that a field is trusted as far as it can be
    explained. Of ten fields the best w lay between 1 and 8 at levels above 0.45, and at 8 or more below.
    """
    mask = mask.bool()
    magnitude = _one_magnitude(magnitude) if parameters.use_magnitude else None
    maps = [
        _reconstruct(field.float(), mask, geometry, magnitude, weights, parameters, calm)
        for field in local_field.reshape(-1, *geometry.shape)
    ]
    return torch.stack(maps).reshape(local_field.shape).to(local_field.dtype)


def _one_magnitude(magnitude: Tensor | None) -> Tensor | None:
    """Root mean square over the echoes, (i, j, k)."""
    if magnitude is None:
        return None
    echoes = magnitude.float().reshape(-1, *magnitude.shape[-3:])
    return echoes.square().mean(dim=0).sqrt_()


def _reconstruct(
    field: Tensor,
    mask: Tensor,
    geometry: Geometry,
    magnitude: Tensor | None,
    weights: Weights,
    parameters: NetworkParameters,
    calm: float,
) -> Tensor:
    architecture = weights.network.architecture
    device = field.device
    turn, after = turned(geometry)
    box = mask_box(turn.apply(mask))
    grid = after.with_shape(_grid_shape(box, architecture.stride))

    def put(x: Tensor) -> Tensor:
        """The box of ``x``, turned, in the middle of the grid."""
        return pad(turn.apply(x)[box], _ends(box, grid.shape))

    mask_there = put(mask)
    field_there = put(field) * mask_there
    magnitude_there = None if magnitude is None else put(magnitude)
    announce("Network's input")
    measured = measure_level(field_there, mask_there, grid)
    told = measured.calmed(calm)
    dtype = _precision(parameters.precision, device)
    network = FusedUNet(
        weights.network.specialise(encode(grid, told, architecture.conditions)), dtype, device
    )
    prepared = prepare(field_there, mask_there, grid, magnitude_there, told, architecture)
    most_voxels = _block_bytes(device) / _bytes_per_voxel(architecture, dtype)
    output, blocks = compute_in_blocks(network, prepared.channels, architecture, most_voxels)
    susceptibility = finish(output, prepared, mask_there)
    if parameters.data_weight:
        weight = parameters.data_weight / max(told.mismatch, LEAST_MISMATCH) ** 2
        susceptibility = consistent_with_field(susceptibility, field_there, mask_there, grid, weight)
    about = {
        "weights": weights.name,
        "sha256": weights.sha256,
        "steps": weights.provenance.get("steps"),
        "precision": str(dtype).removeprefix("torch."),
        "blocks": blocks,
        "level_measured": measured._asdict(),
        "level_used": told._asdict(),
    }
    remark("network", about)
    map_turned = turn.apply(torch.zeros_like(field))
    map_turned[box] = susceptibility[_inner(box, grid.shape)]
    return turn.undo(map_turned).contiguous()


def _grid_shape(box: Box, stride: int) -> tuple[int, ...]:
    return tuple(math.ceil((side.stop - side.start + 2 * MARGIN) / stride) * stride for side in box)


def _inner(box: Box, shape: tuple[int, ...]) -> Box:
    """Where the box lies in a grid of ``shape``: in the middle."""
    lengths = [side.stop - side.start for side in box]
    starts = [(n - length) // 2 for n, length in zip(shape, lengths, strict=True)]
    return tuple(slice(start, start + length) for start, length in zip(starts, lengths, strict=True))


def _ends(box: Box, shape: tuple[int, ...]) -> list[int]:
    """The zeros around the box, as torch's ``pad`` takes them: the last axis first."""
    inner = zip(_inner(box, shape), shape, strict=True)
    return [end for side, n in reversed(list(inner)) for end in (side.start, n - side.stop)]


def _precision(name: str, device: torch.device) -> torch.dtype:
    """The type to compute in.

    Notes
    -----
    On a CPU with bfloat16 instructions it takes 0.6 of the time and moves the map of a phantom by 0.06 %
    of its maximum, but that of random weights by 1.3 %; there it must be asked for.
    What a GPU makes of float32 is torch's setting (TF32).
    """
    if name != "auto":
        return getattr(torch, name)
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32


def _bytes_per_voxel(architecture: Architecture, dtype: torch.dtype) -> float:
    """What the network holds at its widest: skipped, upsampled and merged channels, and half a level more."""
    return dtype.itemsize * (len(architecture.inputs) + 3.5 * architecture.width)


def _block_bytes(device: torch.device) -> float:
    if device.type != "cuda":
        return CPU_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return GPU_SHARE * (free + unused)


def consistent_with_field(
    susceptibility: Tensor, field: Tensor, mask: Tensor, grid: Geometry, data_weight: float
) -> Tensor:
    """The map nearest to ``susceptibility`` that explains the field too, as far as its weight asks."""
    announce("Data consistency")
    unexplained = (field - dipole_field(susceptibility, grid)) * mask
    dipole = dipole_kernel(grid, like=field)
    filtered = data_weight * dipole / (1 + data_weight * dipole.square())
    return susceptibility + multiply_spectrum(unexplained, filtered) * mask

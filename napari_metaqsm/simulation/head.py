"""A whole synthetic scan: a head of known susceptibility, from the bundled label map."""

from __future__ import annotations

import math

import nibabel as nib
import numpy as np
import torch

from napari_metaqsm.io.resources import resource
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.scan import Acquisition, Geometry, Scan, Triple
from napari_metaqsm.simulation.acquisition import echo_signal, measured, shimmed
from napari_metaqsm.simulation.anatomy import anatomy, blockwise

LABELS = "samples/labels/head_labels.nii.gz"
# The label map ends at the chin. Air there would bend the field as no neck does; this much of the
# last slice is put below it while the field is computed.
NECK_MM = 80.0
# Longer sides are divided and averaged again, so that the signal within a voxel may dephase.
LONGEST_SIDE_MM = 1.5


def synthetic_head(
    seed: int = 0,
    voxel_size_mm: Triple = (0.75, 0.75, 3.0),
    echo_times_s: tuple[float, ...] = (0.004, 0.008, 0.012, 0.016, 0.020),
    b0_tesla: float = 3.0,
    b0_direction: Triple = (0.0, 0.0, 1.0),
    snr: float = 60.0,
) -> tuple[Scan, dict[str, np.ndarray]]:
    """A multi-echo scan of the bundled head, axes to the right, anterior, superior, and its truth.

    Parameters
    ----------
    seed : of texture, veins, lesions and noise
    snr : mean signal of the first echo over the standard deviation of the noise

    Returns
    -------
    scan, and ``susceptibility`` (ppm, zero outside the mask), ``mask``, ``local_field`` and
    ``total_field`` (ppm), each (i, j, k)

    Notes
    -----
    Field and signal are computed on voxels of at most 1.5 mm; the scan holds their complex mean, the
    truth the mean of its values. Voxels that hold veins or air are therefore not those of a linear
    model, as in a real scan.
    """
    generator = torch.Generator().manual_seed(seed)
    image = nib.load(resource(LABELS))
    labels = np.asarray(image.dataobj)
    label_size_mm = tuple(float(s) for s in image.header.get_zooms())
    extent = [n * size for n, size in zip(labels.shape, label_size_mm, strict=True)]
    shape = [math.ceil(length / size) for length, size in zip(extent, voxel_size_mm, strict=True)]
    geometry = Geometry(tuple(shape), voxel_size_mm, b0_direction)

    neck = math.ceil(NECK_MM / voxel_size_mm[2])
    slices = round((shape[2] + neck) * voxel_size_mm[2] / label_size_mm[2]) - labels.shape[2]
    labels = np.concatenate([np.repeat(labels[..., :1], slices, axis=2), labels], axis=2)
    parts = tuple(math.ceil(size / LONGEST_SIDE_MM) for size in voxel_size_mm)
    fine = Geometry(
        tuple(n * p for n, p in zip((shape[0], shape[1], shape[2] + neck), parts, strict=True)),
        tuple(size / p for size, p in zip(voxel_size_mm, parts, strict=True)),
        b0_direction,
    )
    head = anatomy(labels, label_size_mm, fine, parts, generator)
    above_neck = slice(neck * parts[2], None)
    local_field = dipole_field(head.susceptibility, fine)[..., above_neck]
    background = dipole_field(head.surroundings, fine)[..., above_neck]
    susceptibility, signal, r2star, mask = (
        values[..., above_neck] for values in (head.susceptibility, head.signal, head.r2star, head.mask)
    )
    total_field = local_field + shimmed(background, mask, fine.with_shape(mask.shape))

    acquisition = Acquisition(echo_times_s=echo_times_s, b0_tesla=b0_tesla)
    offset = torch.polar(torch.ones(()), _phase_offset(geometry))
    echoes = [
        blockwise(echo_signal(signal, r2star, total_field, b0_tesla, t), parts) * offset for t in echo_times_s
    ]
    coarse_mask = blockwise(mask.float(), parts) > 0.5
    scan = measured(echoes, coarse_mask, geometry, acquisition, snr, generator)
    truth = {
        "susceptibility": blockwise(susceptibility, parts),
        "mask": coarse_mask,
        "local_field": blockwise(local_field, parts),
        "total_field": blockwise(total_field, parts),
    }
    return scan, {name: values.numpy() for name, values in truth.items()}


def _phase_offset(geometry: Geometry) -> torch.Tensor:
    """Phase at echo time 0 (rad), smooth, as the receive coils leave it."""
    x, y, _ = (
        (torch.arange(n) - (n - 1) / 2) * size
        for n, size in zip(geometry.shape, geometry.voxel_size_mm, strict=True)
    )
    plane = 0.3 + 0.8 * torch.sin(x / 60)[:, None] + 0.5 * y / 90
    return plane[..., None].expand(geometry.shape)

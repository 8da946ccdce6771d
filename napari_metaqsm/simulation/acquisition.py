"""What the scanner makes of a head: the signal of each echo, averaged over voxels, with noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_metaqsm.scan import Acquisition, Geometry, Scan
from napari_metaqsm.units import rad_per_ppm


def shimmed(field: Tensor, mask: Tensor, geometry: Geometry) -> Tensor:
    """``field`` less the harmonic polynomial of second order that fits it in the mask, as a scanner shims."""
    x, y, z = torch.meshgrid(
        *(
            (torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * size / 100
            for n, size in zip(geometry.shape, geometry.voxel_size_mm, strict=True)
        ),
        indexing="ij",
    )
    harmonics = (torch.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 2 * z * z - x * x - y * y)
    inside = torch.stack([h[mask] for h in harmonics], dim=1)
    weights = torch.linalg.solve(inside.T @ inside, inside.T @ field[mask])
    fit = sum(w * h for w, h in zip(weights, harmonics, strict=True))
    return field - fit


def echo_signal(
    signal: Tensor, r2star: Tensor, total_field: Tensor, b0_tesla: float, echo_time_s: float
) -> Tensor:
    """Complex signal (i, j, k) of one echo: ``S exp(-TE R2*) exp(i 2 pi gamma B0 TE f)``."""
    decayed = signal * torch.exp(-echo_time_s * r2star)
    return torch.polar(decayed, rad_per_ppm(b0_tesla, echo_time_s) * total_field)


def measured(
    echoes: Sequence[Tensor],
    mask: Tensor,
    geometry: Geometry,
    acquisition: Acquisition,
    snr: float,
    generator: torch.Generator,
) -> Scan:
    """A scan of the complex ``echoes``: white noise added, then magnitude and phase, sign +1.

    Parameters
    ----------
    snr : mean signal of the first echo in the mask over the standard deviation of the noise in the real
        (or the imaginary) part
    """
    noise = echoes[0].abs()[mask].mean() / snr
    magnitude, phase = [], []
    for echo in echoes:
        noisy = torch.complex(
            *(part + noise * torch.randn(echo.shape, generator=generator) for part in (echo.real, echo.imag))
        )
        magnitude.append(noisy.abs())
        phase.append(noisy.angle())
    return Scan(
        geometry,
        acquisition,
        phase=torch.stack(phase).numpy(),
        magnitude=torch.stack(magnitude).numpy(),
    )

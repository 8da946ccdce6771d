"""What each method leaves of a background alone, at five voxel shapes: ``tests/benchmarks/harmonic.py``.

The field is that of dipoles 10 mm outside an ellipsoid, harmonic inside it, so that nothing should be left.
What is left is given in % of the field (root mean square in each method's own mask, the field's mean taken
off). RESHARP stands there twice: with the sphere that is used, whose harmonic means are right to fifth order,
and with a sphere of whole voxels, as most tools have it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch

from napari_metaqsm.background import resharp
from napari_metaqsm.method import methods, running
from napari_metaqsm.operators import sphere
from napari_metaqsm.pipeline import make_step, run_step
from napari_metaqsm.scan import Geometry, Triple

# Voxel size in mm and the direction of B0.
SHAPES: dict[str, tuple[Triple, Triple]] = {
    "1 iso": ((1.0, 1.0, 1.0), (0.0, 0.0, 1.0)),
    ".5×.5×2": ((0.5, 0.5, 2.0), (0.0, 0.0, 1.0)),
    ".7639×.7639×3": ((0.7639, 0.7639, 3.0), (0.0, 0.0, 1.0)),
    ".5×.5×4": ((0.5, 0.5, 4.0), (0.0, 0.0, 1.0)),
    "2×.8×1.2 oblique": ((2.0, 0.8, 1.2), (0.4, 0.2, 1.0)),
}
BINARY = "resharp, sphere of whole voxels"
DIPOLES = 40
OUTSIDE_MM = 10.0


def harmonic_field(name: str, semi_axis_mm: float) -> tuple[np.ndarray, np.ndarray, Geometry]:
    """Field (ppm) without sources in the mask, the mask, both (i, j, k), and their geometry.

    The mask is an ellipsoid of semi-axes 1, 1.2 and 0.9 times ``semi_axis_mm``.
    """
    voxel_size_mm, b0_direction = SHAPES[name]
    semi_axes = semi_axis_mm * np.array((1.0, 1.2, 0.9))
    shape = [int(np.ceil(2 * s / v)) + 2 for s, v in zip(semi_axes, voxel_size_mm, strict=True)]
    geometry = Geometry(tuple(shape), voxel_size_mm, b0_direction)
    axes = [(np.arange(n) - (n - 1) / 2) * v for n, v in zip(shape, voxel_size_mm, strict=True)]
    x = np.stack(np.meshgrid(*axes, indexing="ij"))
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((DIPOLES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    field = np.zeros(shape)
    for direction, moment in zip(directions, rng.standard_normal(DIPOLES), strict=True):
        place = direction / np.linalg.norm(direction / semi_axes) + OUTSIDE_MM * direction
        away = x - place[:, None, None, None]
        squared = (away**2).sum(0)
        along = np.tensordot(geometry.b0_direction, away, 1)
        field += moment * OUTSIDE_MM**3 * (3 * along**2 - squared) / squared**2.5
    mask = ((x / semi_axes[:, None, None, None]) ** 2).sum(0) < 1
    return (field * mask).astype(np.float32), mask, geometry


def left_percent(method: str, field: np.ndarray, mask: np.ndarray, geometry: Geometry, **parameters) -> float:
    """What a background method leaves of a harmonic field in its own mask, in % of it."""
    with running():  # what it has to say of so small a scan is of no interest
        outputs = run_step(
            make_step("background", method, **parameters), {"total_field": field, "mask": mask}, geometry
        ).outputs
    inside = outputs["eroded_mask"]
    return float(100 * np.sqrt(np.mean(outputs["local_field"][inside] ** 2)) / field[inside].std())


@contextmanager
def sphere_of_whole_voxels() -> Iterator[None]:
    """RESHARP inside computes with a sphere that holds a voxel or does not."""

    def weights(radius_mm: float, voxel_size_mm: Triple) -> np.ndarray:
        axes = [np.arange(-(n := int(radius_mm / v)), n + 1) * v for v in voxel_size_mm]
        x, y, z = np.meshgrid(*axes, indexing="ij")
        ball = x**2 + y**2 + z**2 <= radius_mm**2
        return ball / ball.sum()

    sphere._sphere_spectrum.cache_clear()
    with (
        mock.patch.object(sphere, "sphere_weights", weights),
        mock.patch.object(resharp, "sphere_weights", weights),
    ):
        yield
    sphere._sphere_spectrum.cache_clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--semi-axis", type=float, default=40.0, metavar="MM", help="size of the ellipsoid")
    options = parser.parse_args()
    torch.set_num_threads(2)
    names = [entry.name for entry in methods("background")]
    print(f"| % left | {' | '.join((*names, BINARY))} |")
    print(f"|---|{'---|' * (len(names) + 1)}")
    for shape in SHAPES:
        made = harmonic_field(shape, options.semi_axis)
        left = [left_percent(name, *made) for name in names]
        with sphere_of_whole_voxels():
            left.append(left_percent("resharp", *made))
        print(f"| {shape} | {' | '.join(f'{value:.2f}' for value in left)} |", flush=True)


if __name__ == "__main__":
    main()

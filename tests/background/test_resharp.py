"""RESHARP against dense linear algebra, on fields whose background is known, and its laws."""

import dataclasses

import numpy as np
import pytest
import torch

from napari_metaqsm.background.resharp import ResharpParameters, resharp
from napari_metaqsm.errors import Cancelled, InputError, MetaQSMWarning
from napari_metaqsm.method import running
from napari_metaqsm.operators.sphere import sphere_weights
from napari_metaqsm.scan import Geometry

GEOMETRY = Geometry((19, 16, 11), voxel_size_mm=(1.0, 1.25, 2.0), b0_direction=(0.2, 0.0, 1.0))
PARAMETERS = ResharpParameters(radius_mm=4.0)


def positions(geometry=GEOMETRY):
    axes = [
        (torch.arange(n) - (n - 1) / 2) * v
        for n, v in zip(geometry.shape, geometry.voxel_size_mm, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).double()


@pytest.fixture
def mask():
    """Nearly everything, up to the image border, with two voxels missing."""
    mask = torch.ones(GEOMETRY.shape, dtype=torch.bool)
    mask[:2, :3] = False
    mask[15, 12, 3] = mask[9, 1, 9] = False
    return mask


@pytest.fixture
def field():
    return torch.randn(GEOMETRY.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def dense_high_pass(mask, weights):
    """Rows of ``E (1 - S)``, one for each voxel whose sphere lies in the mask, by walking the image."""
    half = [n // 2 for n in weights.shape]
    rows, kept = [], np.zeros(mask.shape, dtype=bool)
    for centre in np.ndindex(mask.shape):
        window = tuple(slice(c - h, c + h + 1) for c, h in zip(centre, half, strict=True))
        if any(s.start < 0 or s.stop > n for s, n in zip(window, mask.shape, strict=True)):
            continue
        if mask[window][weights > 0].all():
            row = np.zeros(mask.shape)
            row[window] -= weights
            row[centre] += 1
            rows.append(row.ravel())
            kept[centre] = True
    return np.array(rows), kept


@pytest.mark.parametrize("penalty_weight", [1e-3, 1e-2])
def test_it_is_the_minimiser_that_dense_linear_algebra_finds(mask, field, penalty_weight):
    parameters = dataclasses.replace(PARAMETERS, penalty_weight=penalty_weight, tolerance=1e-8)
    h, kept = dense_high_pass(mask.numpy(), sphere_weights(4.0, GEOMETRY.voxel_size_mm))
    normal = h.T @ h
    x = np.linalg.solve(
        normal + penalty_weight * np.eye(len(normal)), normal @ (field * mask).numpy().ravel()
    )
    local_field, eroded_mask = resharp(field, mask, GEOMETRY, parameters)
    assert 100 < kept.sum() < 1000
    np.testing.assert_array_equal(eroded_mask.numpy(), kept)
    np.testing.assert_allclose(local_field.numpy(), x.reshape(kept.shape) * kept, atol=1e-6)


def test_a_harmonic_field_leaves_nothing(mask):
    x, y, z = positions()
    order_four = x**4 - 6 * x**2 * z**2 + z**4
    for harmonic in (x + 1, x * y - z, x**3 - 3 * x * y**2, order_four, y * order_four):
        background = harmonic / harmonic.abs().max()
        local_field, _ = resharp(background.float(), mask, GEOMETRY, PARAMETERS)
        assert local_field.abs().max() < 2e-5


def dipole(centre, radius, chi):
    """Field of a sphere of susceptibility ``chi`` (ppm) along the third axis, zero inside."""
    x, y, z = (p - c for p, c in zip(positions(GEOMETRY_1MM), centre, strict=True))
    r2 = x**2 + y**2 + z**2
    return torch.where(r2 > radius**2, chi / 3 * radius**3 * (3 * z**2 - r2) / r2.clamp(min=1e-3) ** 2.5, 0)


GEOMETRY_1MM = Geometry((48, 44, 40), voxel_size_mm=(1.0, 1.0, 1.0))


def test_the_field_of_a_source_inside_stays_and_that_of_one_outside_goes():
    mask = positions(GEOMETRY_1MM).square().sum(0) < 18**2
    inside, outside = dipole((1.3, -2.1, 0.6), 2.0, 0.1), dipole((0, 26.0, 12.0), 8.0, 9.0)
    found, eroded_mask = resharp((inside + outside).float(), mask, GEOMETRY_1MM, PARAMETERS)
    difference = (found - inside)[eroded_mask]
    difference -= difference.mean()
    assert outside[mask].abs().max() > 10 * inside.abs().max()
    assert difference.norm() < 0.08 * inside[eroded_mask].norm()


def test_laws(mask, field):
    before = field.clone(), mask.clone()
    local_field, eroded_mask = resharp(field, mask, GEOMETRY, PARAMETERS)
    assert torch.equal(field, before[0])
    assert torch.equal(mask, before[1])
    assert local_field.dtype == field.dtype
    assert not local_field[~eroded_mask].any()
    assert not eroded_mask[~mask].any()

    nothing, _ = resharp(torch.zeros_like(field), mask, GEOMETRY, PARAMETERS)
    assert not nothing.any()

    batch, _ = resharp(torch.stack([field, 3 * field.flip(0)]), mask, GEOMETRY, PARAMETERS)
    torch.testing.assert_close(batch[0], local_field, rtol=0, atol=1e-9)
    torch.testing.assert_close(
        batch[1], resharp(3 * field.flip(0), mask, GEOMETRY, PARAMETERS)[0], rtol=0, atol=1e-9
    )

    axes = (2, 0, 1)
    turned, _ = resharp(field.permute(axes), mask.permute(axes), GEOMETRY.permuted(axes), PARAMETERS)
    torch.testing.assert_close(turned, local_field.permute(axes), rtol=0, atol=1e-5)


def test_what_lies_outside_the_mask_does_not_matter(mask, field):
    local_field, _ = resharp(field, mask, GEOMETRY, PARAMETERS)
    field[~mask] = torch.nan
    torch.testing.assert_close(resharp(field, mask, GEOMETRY, PARAMETERS)[0], local_field, rtol=0, atol=0)


def test_it_stops_when_asked(mask, field):
    reports = []
    with pytest.raises(Cancelled), running(lambda *r: reports.append(r), lambda: len(reports) > 4):
        resharp(field, mask, GEOMETRY, PARAMETERS)
    assert reports[-1][1].startswith("CG")


def test_a_mask_or_radius_of_no_use_is_refused(mask, field):
    with pytest.raises(InputError, match="the mask is empty"):
        resharp(field, torch.zeros_like(mask), GEOMETRY, PARAMETERS)
    with pytest.raises(
        InputError, match=r"radius_mm is 12; no such sphere fits .* 19 × 20 × 22 mm: use a smaller"
    ):
        resharp(field, mask, GEOMETRY, ResharpParameters(radius_mm=12))
    with pytest.raises(InputError, match=r"radius_mm is 0\.9; it must be at least 2, the largest side"):
        resharp(field, mask, GEOMETRY, ResharpParameters(radius_mm=0.9))


def test_a_coarse_sphere_and_an_unfinished_solution_are_said(mask, field):
    with pytest.warns(MetaQSMWarning, match="the radius of 3 mm is under two voxels of 2 mm"):
        resharp(field, mask, GEOMETRY, ResharpParameters(radius_mm=3))
    with running() as run:
        resharp(field, mask, GEOMETRY, dataclasses.replace(PARAMETERS, iterations=3))
    assert run.notices[0].startswith("resharp: CG stopped after 3 iterations at a residual of ")
    with running() as run:
        resharp(field, mask, GEOMETRY, PARAMETERS)
    assert run.notices == []

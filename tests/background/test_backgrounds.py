"""What every background method does: it keeps local fields, in float32 too, and says what it eroded."""

import pytest
import torch

from napari_metaqsm.method import methods, running
from napari_metaqsm.pipeline import make_step, run_step
from napari_metaqsm.scan import Geometry

GEOMETRY = Geometry((34, 32, 30), voxel_size_mm=(1.0, 1.0, 1.0))
# Error of a small sphere's field below the fields of strong sources outside, of its norm in the method's own
# mask; and how much of the mask is kept. Measured were 0.04, 0.03, 0.27 and 0.11.
BOUNDS = {"resharp": (0.1, 0.15), "lbv": (0.1, 0.6), "pdf": (0.35, 1.0), "vsharp": (0.15, 0.97)}
EACH = pytest.mark.parametrize("entry", methods("background"), ids=lambda entry: entry.name)


def dipole(centre, radius, chi):
    """Field of a sphere of susceptibility ``chi`` (ppm) along the third axis, zero inside."""
    axes = [torch.arange(n).double() - (n - 1) / 2 for n in GEOMETRY.shape]
    x, y, z = (p - c for p, c in zip(torch.meshgrid(*axes, indexing="ij"), centre, strict=True))
    r2 = x**2 + y**2 + z**2
    return torch.where(r2 > radius**2, chi / 3 * radius**3 * (3 * z**2 - r2) / r2.clamp(min=1e-3) ** 2.5, 0)


def fields():
    """A local and a background field, and the mask: a ball of 14 mm."""
    mask = dipole((0, 0, 0), 14.0, 1.0) == 0
    return dipole((1.3, -2.1, 0.6), 2.0, 0.1), dipole((3.0, 20.0, 9.0), 6.0, 9.0), mask


def compute(entry, field, mask):
    data = {"total_field": field, "mask": mask}
    with running():
        return entry.function(**data, geometry=GEOMETRY, parameters=entry.make_parameters())


@EACH
def test_the_field_of_a_source_inside_stays_and_that_of_one_outside_goes(entry):
    local, background, mask = fields()
    found, eroded_mask = compute(entry, (local + background).float(), mask)
    difference = (found - local)[eroded_mask]
    error = float((difference - difference.mean()).norm() / local[eroded_mask].norm())
    most, least_kept = BOUNDS[entry.name]
    assert background[mask].abs().max() > 10 * local[mask].abs().max()
    assert error < most
    assert eroded_mask.sum() >= least_kept * mask.sum()


@EACH
def test_float32_is_as_good_as_float64(entry):
    local, background, mask = fields()
    noise = 0.01 * torch.randn(GEOMETRY.shape, generator=torch.Generator().manual_seed(0)).double()
    exact, _ = compute(entry, local + background + noise, mask)
    found, _ = compute(entry, (local + background + noise).float(), mask)
    assert found.dtype == torch.float32
    assert (found - exact).norm() < 1e-3 * exact.norm()


@EACH
def test_the_record_says_what_was_eroded(entry):
    local, background, mask = fields()
    data = {"total_field": (local + background).numpy(), "mask": mask.numpy()}
    outputs, record = run_step(make_step("background", entry.name), data, GEOMETRY)
    lost = 100 * (1 - outputs["eroded_mask"].sum() / data["mask"].sum())
    assert record["erosion"]["percent_of_mask"] == pytest.approx(lost, abs=0.01)
    assert 0 <= record["erosion"]["depth_mm"] <= record["erosion"]["largest_depth_mm"]
    if entry.name == "resharp":
        assert record["erosion"]["depth_mm"] == pytest.approx(6.0, abs=1.0)

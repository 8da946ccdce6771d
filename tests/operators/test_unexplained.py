"""What no susceptibility explains: none of a dipole field, all of white noise."""

import pytest
import torch

from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.operators.unexplained import ConeProbe
from napari_metaqsm.scan import Geometry
from napari_metaqsm.simulation.shapes import sphere

GEOMETRY = Geometry((64, 60, 41), (1.0, 1.0, 1.5), (0.2, 0.0, 1.0))


def test_white_noise_has_its_standard_deviation_in_the_cone_and_away_from_it():
    mask = sphere(GEOMETRY, 28.0) > 0.5
    noise = 0.003 * torch.randn(GEOMETRY.shape, generator=torch.Generator().manual_seed(0))
    assert ConeProbe(mask, GEOMETRY, noise).amplitudes(noise) == pytest.approx((0.003, 0.003), rel=0.05)


def test_the_field_of_a_source_is_found_away_from_the_cone():
    mask = sphere(GEOMETRY, 28.0) > 0.5
    field = dipole_field(sphere(GEOMETRY, 3.0, (4.0, -3.0, 2.0)), GEOMETRY)
    unexplained, explained = ConeProbe(mask, GEOMETRY, field).amplitudes(field)
    assert unexplained < 0.15 * explained


def test_a_mask_all_rim_holds_nothing():
    mask = torch.zeros(GEOMETRY.shape, dtype=torch.bool)
    mask[:, :, 20] = True
    field = torch.ones(GEOMETRY.shape)
    assert ConeProbe(mask, GEOMETRY, field).amplitudes(field) == (0.0, 0.0)

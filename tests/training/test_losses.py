"""Losses against formulas written out another way, and what they must not depend on."""

import itertools

import pytest
import torch

from napari_metaqsm.network.unet import Architecture, UNet
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.scan import Geometry
from napari_metaqsm.training.losses import absolute_error, gradient_error, model_error, weight_penalty

SHAPE = (5, 6, 7)
GEOMETRY = Geometry((12, 10, 8), (1.0, 1.2, 2.0), (0.1, 0.2, 1.0))


@pytest.fixture
def error():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mask():
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(2)) < 0.6


def test_absolute_error_is_the_mean_distance_from_the_mean_in_the_mask(error, mask):
    inside = [float(e) for e, m in zip(error.flatten(), mask.flatten(), strict=True) if m]
    mean = sum(inside) / len(inside)
    expected = sum(abs(e - mean) for e in inside) / len(inside)
    assert float(absolute_error(error, mask)) == pytest.approx(expected, rel=1e-5)


def test_gradient_error_looks_at_neighbours_that_are_both_inside(error, mask):
    differences = []
    for place in itertools.product(*map(range, SHAPE)):
        for axis in range(3):
            there = tuple(p + (a == axis) for a, p in enumerate(place))
            if there[axis] < SHAPE[axis] and mask[place] and mask[there]:
                differences.append(abs(float(error[there] - error[place])))
    assert float(gradient_error(error, mask)) == pytest.approx(sum(differences) / len(differences), rel=1e-5)


@pytest.mark.parametrize("loss", [absolute_error, gradient_error])
def test_an_offset_and_what_lies_outside_the_mask_change_nothing(loss, error, mask):
    changed = torch.where(mask, error + 3.0, 100.0)
    torch.testing.assert_close(loss(changed, mask), loss(error, mask), rtol=0, atol=1e-5)


def test_model_error_is_zero_for_the_true_map_and_the_misfit_for_another():
    chi = torch.randn(GEOMETRY.shape, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(GEOMETRY.shape, dtype=torch.bool)
    mask[2:-2, 1:-2, 2:-1] = True
    field = dipole_field(chi * mask, GEOMETRY)
    assert float(model_error(chi, field, mask, GEOMETRY)) < 1e-6
    # The field is linear: that of nothing is off by the field itself.
    expected = field[mask].abs().mean()
    torch.testing.assert_close(model_error(0 * chi, field, mask, GEOMETRY), expected)


def test_model_error_leads_back_to_the_map():
    chi = torch.zeros(GEOMETRY.shape, requires_grad=True)
    mask = torch.ones(GEOMETRY.shape, dtype=torch.bool)
    source = torch.zeros(GEOMETRY.shape)
    source[6, 5, 4] = 1.0
    model_error(chi, dipole_field(source, GEOMETRY), mask, GEOMETRY).backward()
    assert int(chi.grad.argmin()) == int(source.argmax())  # more there lowers the misfit the most


def test_weight_penalty_counts_the_fully_connected_weights_and_no_biases():
    network = UNet(Architecture(width=2, levels=2, kernels=3))
    expected = sum(
        float(values.detach().square().sum())
        for name, values in network.named_parameters()
        if name.endswith(("kernels", "offsets")) or (".mixing." in name and name.endswith("weight"))
    )
    assert float(weight_penalty(network).detach()) == pytest.approx(expected, rel=1e-5)
    assert not weight_penalty(UNet(Architecture(width=2, levels=2, conditions=())))

"""The fused passes of the L1 penalty against plain torch and against their own definitions."""

import pytest
import torch

from napari_metaqsm.operators import shrinkage
from napari_metaqsm.operators.gradient import gradient, gradient_adjoint
from napari_metaqsm.operators.shrinkage import (
    field_misfit,
    phase_misfit,
    reflect_field,
    reflected_divergence,
    relax_to_field,
    relax_to_gradient,
)

SHAPE, SIZE = (5, 4, 7), (1.0, 0.8, 2.0)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=["compiled", "torch"])
def engine(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(shrinkage, "_is_compiled", lambda x: False)


def shrunk(state, threshold, penalised):
    cut = state.sign() * (state.abs() - threshold).clamp(min=0)
    return torch.where(penalised, cut, state)


@pytest.mark.usefixtures("engine")
def test_both_passes_over_the_gradient_are_what_they_say():
    state, x, penalised = normal(3, *SHAPE), normal(*SHAPE, seed=1), normal(3, *SHAPE, seed=2) > 0
    z = shrunk(state, 0.4, penalised)
    found = reflected_divergence(state, 0.4, penalised, SIZE, out=torch.empty_like(x))
    torch.testing.assert_close(found, gradient_adjoint(2 * z - state, SIZE, periodic=True))
    differences = gradient(x, SIZE, periodic=True)
    moved = state.clone()
    norm = relax_to_gradient(moved, x, 0.4, penalised, SIZE, 1.5)
    torch.testing.assert_close(moved, state + 1.5 * (differences - z))
    assert norm == pytest.approx(float(differences[penalised].abs().sum()))


@pytest.mark.usefixtures("engine")
def test_the_split_field_lies_between_the_state_and_its_target():
    state, target, weights = normal(*SHAPE), normal(*SHAPE, seed=1), normal(*SHAPE, seed=2).clamp(min=0)
    reflected = reflect_field(state, target, weights, 0.1, out=torch.empty_like(state))
    z = (weights * target + 0.1 * state) / (weights + 0.1)
    torch.testing.assert_close(reflected, 2 * z - state)
    moved, image = state.clone(), normal(*SHAPE, seed=3)
    relax_to_field(moved, reflected, image, 1.6)
    torch.testing.assert_close(moved, state + 1.6 * (image - z))
    expected = float((weights * (image - target).square()).sum() / 2)
    assert field_misfit(image, target, weights) == pytest.approx(expected)


@pytest.mark.usefixtures("engine")
def test_the_target_makes_a_parabola_above_the_misfit_of_the_phase():
    image, field, weights = normal(*SHAPE), normal(*SHAPE, seed=1), normal(*SHAPE, seed=2).clamp(min=0)

    def misfit(z):
        return weights * (1 - torch.cos(3 * (z - field))) / 9

    target = torch.zeros_like(image)
    assert phase_misfit(image, field, weights, 3.0, target=target) == pytest.approx(
        float(misfit(image).sum())
    )
    for distance in (-2.0, -0.3, 1e-4, 0.7, 3.0):
        z = image + distance
        above = weights * ((z - target).square() - (image - target).square()) / 2
        assert (misfit(z) - misfit(image) <= above + 1e-12).all()

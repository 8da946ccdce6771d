"""The field pulled by a phase: its equation, and torch beside what is compiled."""

import pytest
import torch

from napari_metaqsm.operators import phase_pull
from napari_metaqsm.operators.phase_pull import reflect_unwrapped_field, relax_to_phase

RADIANS, PENALTY = 16.0, 0.07


def made(dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    state, field, weights = torch.rand(3, 6, 5, 7, generator=generator, dtype=dtype)
    field = state + (field - 0.5) * 2 / RADIANS  # within a radian
    weights[0] = 0
    return state, field, weights


def test_it_solves_its_equation():
    state, field, weights = made()
    z = (
        reflect_unwrapped_field(state, field, weights, PENALTY, RADIANS, torch.empty_like(state)) + state
    ) / 2
    force = weights * ((z - field) * RADIANS).sin() / RADIANS + PENALTY * (z - state)
    assert force.abs().max() < 1e-9
    assert torch.equal(z[0], state[0])  # where nothing is known the state stands


@pytest.mark.parametrize("turns", [1.2, 2.0])
def test_a_state_that_strayed_is_brought_back_to_the_field_not_to_the_next_turn(turns):
    field = torch.zeros(1, 1, 1, dtype=torch.float64)
    state = field + turns * torch.pi / RADIANS
    reflected = reflect_unwrapped_field(
        state, field, torch.ones_like(field), PENALTY, RADIANS, torch.empty_like(field)
    )
    z = (reflected + state) / 2
    assert 0 < float(z) * RADIANS < 0.5


def test_relaxing_moves_the_state_and_tells_the_misfit():
    state, field, weights = made()
    reflected, image = torch.rand(
        2, *state.shape, generator=torch.Generator().manual_seed(4), dtype=state.dtype
    )
    moved = state.clone()
    misfit = relax_to_phase(moved, reflected, image, field, weights, RADIANS, 1.8)
    torch.testing.assert_close(moved, state + 1.8 * (image - (reflected + state) / 2))
    phases = (torch.polar(weights.sqrt(), x * RADIANS) for x in (image, field))
    difference = next(phases) - next(phases)
    assert misfit == pytest.approx(float(difference.abs().square().sum()) / 2 / RADIANS**2)


def test_torch_gives_what_is_compiled(monkeypatch):
    state, field, weights = made(torch.float32)

    def both():
        moved, out = state.clone(), torch.empty_like(state)
        reflect_unwrapped_field(state, field, weights, PENALTY, RADIANS, out)
        return moved, out, relax_to_phase(moved, out, field + 0.01, field, weights, RADIANS, 1.8)

    compiled = both()
    monkeypatch.setattr(phase_pull, "_is_compiled", lambda x: False)
    torch.testing.assert_close(both(), compiled, rtol=1e-5, atol=1e-6)

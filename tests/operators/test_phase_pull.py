"""The field pulled by a phase: its equation, and torch beside what is compiled."""

import pytest
import torch

from napari_metaqsm.operators import phase_pull
from napari_metaqsm.operators.phase_pull import reflect_unwrapped_field

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


def test_torch_gives_what_is_compiled(monkeypatch):
    state, field, weights = made(torch.float32)
    args = (field, weights, PENALTY, RADIANS)
    compiled = reflect_unwrapped_field(state, *args, torch.empty_like(state))
    monkeypatch.setattr(phase_pull, "_is_compiled", lambda x: False)
    torch.testing.assert_close(
        reflect_unwrapped_field(state, *args, torch.empty_like(state)), compiled, rtol=0, atol=1e-6
    )

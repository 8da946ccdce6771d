"""R2* of echoes that decay as they should."""

import torch

from napari_metaqsm.operators.decay import r2star

TIMES = (0.004, 0.009, 0.013, 0.021)


def test_an_exponential_decay_is_found_exactly_and_nothing_is_not_a_number():
    expected = torch.linspace(2.0, 60.0, 24, dtype=torch.float64).reshape(2, 3, 4)
    signal = torch.linspace(0.5, 80.0, 24, dtype=torch.float64).reshape(2, 3, 4)
    echoes = torch.stack([signal * torch.exp(-t * expected) for t in TIMES])
    torch.testing.assert_close(r2star(echoes, TIMES), expected, rtol=1e-10, atol=0)
    echoes[:, 0, 0, 0] = 0
    assert r2star(echoes, TIMES)[0, 0, 0].isnan()


def test_late_echoes_lost_in_noise_matter_little():
    echoes = torch.stack([torch.full((2, 2, 2), 100.0) * torch.exp(torch.tensor(-t * 200)) for t in TIMES])
    echoes[-1] += 2.0
    # 50 off with equal weights
    assert (r2star(echoes, TIMES) - 200).abs().max() < 15

"""Predicted weights against their formula, and a specialised network against the one it comes from."""

import numpy as np
import pytest
import torch
from torch.nn.functional import conv3d

from napari_metaqsm.network.predicted_convolution import Convolution, PredictedConvolution
from napari_metaqsm.network.unet import Architecture, UNet

CODE = torch.linspace(-1, 1, 16)


def random_unet(**architecture) -> UNet:
    """A network whose biases, too, are not zero, and whose output is not small."""
    generator = torch.Generator().manual_seed(3)
    network = UNet(Architecture(**{"width": 4, "levels": 3, "kernels": 3, **architecture}))
    with torch.no_grad():
        for name, values in network.named_parameters():
            spread = 0.1 if values.ndim < 5 else (2 / values[0].numel()) ** 0.5
            values.copy_(spread * torch.randn(values.shape, generator=generator))
            if "kernels" in name:
                values.mul_(0.3)
    return network


def test_weights_are_the_base_and_a_mixture_of_kernels():
    layer = PredictedConvolution(2, 3, len(CODE), kernels=4)
    with torch.no_grad():
        layer.bias.normal_()
        layer.offsets.normal_()
    values = {name: v.detach().double().numpy() for name, v in layer.named_parameters()}
    hidden = values["mixing.0.weight"] @ CODE.double().numpy() + values["mixing.0.bias"]
    hidden = hidden / (1 + np.exp(-hidden))
    alpha = values["mixing.2.weight"] @ hidden + values["mixing.2.bias"]
    weight, bias = values["weight"].copy(), values["bias"].copy()
    for a, kernel, offset in zip(alpha, values["kernels"], values["offsets"], strict=True):
        weight += a * kernel
        bias += a * offset
    assert len(alpha) == 4
    assert np.abs(alpha).min() > 1e-4
    found = layer.specialise(CODE)
    np.testing.assert_allclose(found.weight.detach(), weight, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.bias.detach(), bias, rtol=0, atol=1e-6)
    x = torch.randn(1, 2, 5, 4, 3)
    expected = conv3d(x.double(), torch.from_numpy(weight), torch.from_numpy(bias), padding=1)
    torch.testing.assert_close(layer(x, CODE).double(), expected, rtol=0, atol=1e-5)


def test_other_codes_give_other_weights():
    layer = PredictedConvolution(2, 3, len(CODE), kernels=4)
    assert float((layer.predict(CODE)[0] - layer.predict(-CODE)[0]).detach().abs().max()) > 1e-3


@pytest.mark.parametrize("levels", [1, 3])
def test_a_specialised_network_is_the_conditioned_one_with_plain_convolutions(levels):
    network = random_unet(levels=levels)
    x = torch.randn(1, 4, 8, 16, 12)
    plain = network.specialise(CODE)
    assert plain.architecture.conditions == ()
    assert not any(isinstance(m, PredictedConvolution) for m in plain.modules())
    assert sum(isinstance(m, Convolution) for m in plain.modules()) == 2 * (2 * levels - 1) + 1
    with torch.no_grad():
        assert torch.equal(plain(x), network(x, CODE))


def test_specialising_draws_no_random_numbers():
    network = random_unet()
    state = torch.random.get_rng_state()
    network.specialise(CODE)
    assert torch.equal(torch.random.get_rng_state(), state)

"""The network made ready for use, and the one that is trained, against a U-Net written as in the books."""

import copy
import itertools

import pytest
import torch
from torch.nn.functional import avg_pool3d, conv3d, interpolate, leaky_relu

from napari_metaqsm.errors import Cancelled
from napari_metaqsm.method import running
from napari_metaqsm.network.fused import FusedUNet
from napari_metaqsm.network.unet import Architecture, UNet

CPU = torch.device("cpu")


def make(levels: int = 3, inputs: tuple[str, ...] = ("field", "mask"), width: int = 4) -> UNet:
    torch.manual_seed(2)
    network = UNet(Architecture(inputs=inputs, conditions=(), width=width, levels=levels))
    with torch.no_grad():
        for name, values in network.named_parameters():
            if name.endswith("bias"):
                values.normal_(std=0.1)
    return network


def as_in_the_books(network: UNet, x: torch.Tensor) -> torch.Tensor:
    """Mean pooling, nearest neighbours, concatenation, two plain convolutions a level."""

    def through(pair, x):
        for layer in pair:
            x = leaky_relu(conv3d(x, layer.weight, layer.bias, padding=1), 0.1)
        return x

    skips = []
    for level, pair in enumerate(network.encoder):
        if level:
            skips.append(x)
            x = avg_pool3d(x, 2)
        x = through(pair, x)
    for pair in network.decoder:
        x = through(pair, torch.cat([interpolate(x, scale_factor=2, mode="nearest"), skips.pop()], dim=1))
    return conv3d(x, network.head.weight, network.head.bias, padding=1)


@pytest.mark.parametrize("levels", [1, 2, 4])
@pytest.mark.parametrize("inputs", [("field",), ("field", "mask", "l2", "magnitude")])
def test_it_gives_the_same_map(levels, inputs):
    network = make(levels, inputs)
    x = torch.randn(1, len(inputs), 16, 24, 8)
    expected = as_in_the_books(network, x)
    atol = 3e-6 * float(expected.detach().abs().max())
    torch.testing.assert_close(network(x), expected, rtol=0, atol=atol)
    found = FusedUNet(network, torch.float32, CPU)(x)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=atol)


def test_bfloat16_is_near_and_leaves_network_and_input_alone():
    network = make()
    before = copy.deepcopy(network.state_dict())
    x = torch.randn(1, 2, 16, 24, 8)
    kept = x.clone()
    exact = FusedUNet(network, torch.float32, CPU)(x)
    found = FusedUNet(network, torch.bfloat16, CPU)(x)
    assert found.dtype == torch.bfloat16
    assert float((found.float() - exact).abs().max()) < 0.03 * float(exact.abs().max())
    assert torch.equal(x, kept)
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())


def test_it_reports_and_stops_at_every_convolution():
    fused = FusedUNet(make(), torch.float32, CPU)
    x = torch.randn(1, 2, 8, 8, 8)
    heard = []
    with running(report=lambda fraction, label: heard.append(fraction)):
        fused(x)
    assert heard == [n / 11 for n in range(11)]
    for asked in range(11):
        count = itertools.count()
        with running(stopped=lambda c=count, a=asked: next(c) >= a), pytest.raises(Cancelled):
            fused(x)

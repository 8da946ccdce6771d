"""Signals of known phase and decay, the shim, and noise of the asked strength."""

import math

import numpy as np
import pytest
import torch

from napari_metaqsm.scan import Acquisition, Geometry
from napari_metaqsm.simulation.acquisition import echo_signal, measured, shimmed

GRID = Geometry((12, 14, 10), (1.0, 0.8, 2.0))


def test_phase_grows_with_a_paramagnetic_field_and_the_signal_decays():
    echo = echo_signal(torch.tensor([2.0]), torch.tensor([25.0]), torch.tensor([0.1]), 3.0, 0.02)
    assert float(echo.abs()) == pytest.approx(2 * math.exp(-0.5))
    assert float(echo.angle()) == pytest.approx(2 * math.pi * 127.731 * 0.02 * 0.1)


def test_the_shim_takes_out_harmonics_of_second_order_and_nothing_else():
    x, y, z = torch.meshgrid(
        *((torch.arange(n) - 3.0) * v for n, v in zip(GRID.shape, GRID.voxel_size_mm, strict=True)),
        indexing="ij",
    )
    mask = torch.rand(GRID.shape, generator=torch.Generator().manual_seed(0)) > 0.3
    harmonic = 1 + 0.2 * x - 0.1 * z + 0.05 * x * y + 0.02 * (2 * z * z - x * x - y * y)
    assert float(shimmed(harmonic, mask, GRID).abs().max()) < 1e-3
    cubic = x**3 - 3 * x * y * y
    left = shimmed(cubic, mask, GRID)
    assert float(left[mask].norm() / cubic[mask].norm()) > 0.1
    torch.testing.assert_close(shimmed(left, mask, GRID), left, rtol=0, atol=1e-2)


def test_a_scan_has_the_asked_noise_and_sign():
    acquisition = Acquisition((0.004, 0.01), 3.0)
    mask = torch.ones(GRID.shape, dtype=torch.bool)
    clean = [torch.polar(torch.full(GRID.shape, a), torch.full(GRID.shape, 0.5)) for a in (2.0, 1.0)]
    scan = measured(clean, mask, GRID, acquisition, 50.0, torch.Generator().manual_seed(1))
    assert scan.phase.shape == scan.magnitude.shape == (2, *GRID.shape)
    assert scan.acquisition.phase_sign == 1
    # The noise of both echoes is that of the first: 2 / 50. The phase sees it over the echo's own signal.
    assert scan.magnitude.std(axis=(1, 2, 3)) == pytest.approx([0.04, 0.04], rel=0.1)
    assert scan.phase.std(axis=(1, 2, 3)) == pytest.approx([0.02, 0.04], rel=0.1)
    assert scan.phase.mean(axis=(1, 2, 3)) == pytest.approx([0.5, 0.5], abs=0.01)
    again = measured(clean, mask, GRID, acquisition, 50.0, torch.Generator().manual_seed(1))
    np.testing.assert_array_equal(again.phase, scan.phase)

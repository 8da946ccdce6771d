"""The nu-method against the filter that it is known to be, eigenvalue by eigenvalue."""

import pytest
import scipy.special
import torch

from napari_metaqsm.errors import Cancelled
from napari_metaqsm.method import running
from napari_metaqsm.solvers.nu_method import nu_method

SHAPE = (4, 3, 5)
EIGENVALUES = torch.logspace(-7, 0, 60, dtype=torch.float64).reshape(SHAPE)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("count", [1, 2, 17])
@pytest.mark.parametrize("largest", [1.0, 1.7])
def test_each_component_is_filtered_by_the_gegenbauer_polynomial(count, largest):
    b = draw(*SHAPE)
    x, _ = nu_method(
        lambda x: EIGENVALUES * x, EIGENVALUES * b, largest=largest, iterations=count, tolerance=0
    )
    root = (1 - EIGENVALUES / largest).sqrt().numpy()
    left = scipy.special.eval_gegenbauer(2 * count, 2, root) / scipy.special.eval_gegenbauer(2 * count, 2, 1)
    torch.testing.assert_close(x, b * (1 - torch.from_numpy(left)), rtol=1e-7, atol=1e-12)


def test_it_stops_at_the_tolerance_each_of_a_batch_on_its_own():
    operator = 0.2 + 0.8 * EIGENVALUES
    b = draw(3, *SHAPE)
    b[1] = 0
    b[2, :, :, :4] = 0
    with running() as run:
        together, residual = nu_method(
            lambda x: operator * x, operator * b, largest=1, iterations=500, tolerance=1e-3
        )
    assert (residual <= 1e-3).all()
    assert residual[1] == 0
    assert run.curves["relative residual"][-1] <= 1e-3 < run.curves["relative residual"][-2]
    for each, expected in zip(b, together, strict=True):
        alone, _ = nu_method(
            lambda x: operator * x, operator * each, largest=1, iterations=500, tolerance=1e-3
        )
        torch.testing.assert_close(alone, expected, rtol=0, atol=1e-12)


def test_it_stops_when_asked():
    with pytest.raises(Cancelled), running(stopped=lambda: True):
        nu_method(lambda x: x.clone(), draw(*SHAPE), largest=1, iterations=5, tolerance=0)

"""LSMR against dense least squares and SciPy's iterates."""

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

from napari_metaqsm.errors import Cancelled
from napari_metaqsm.method import running
from napari_metaqsm.solvers.lsmr import lsmr

# x of three axes, and b of two.
SHAPE, SHAPE_B = (3, 4, 5), (8, 10)


def random(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


MATRIX = random(80, 60, seed=1)


def solve(b, matrix=MATRIX, **options):
    options = {"iterations": 200, "tolerance": 1e-12, **options}
    return lsmr(
        lambda x: (x.flatten(-3) @ matrix.T).unflatten(-1, SHAPE_B),
        lambda u: (u.flatten(-2) @ matrix).unflatten(-1, SHAPE),
        b.clone(),
        axes=(2, 3),
        **options,
    )


def test_finds_the_dense_solution():
    b = random(*SHAPE_B, seed=2)
    x, stationarity = solve(b)
    expected = np.linalg.lstsq(MATRIX.numpy(), b.numpy().ravel(), rcond=None)[0]
    np.testing.assert_allclose(x.numpy().ravel(), expected, rtol=0, atol=1e-10)
    assert stationarity < 1e-12


def test_of_a_matrix_without_full_rank_it_finds_the_solution_of_least_norm():
    matrix = MATRIX.clone()
    matrix[:, 30:] = matrix[:, :30]
    b = random(*SHAPE_B, seed=2)
    expected = np.linalg.lstsq(matrix.numpy(), b.numpy().ravel(), rcond=None)[0]
    np.testing.assert_allclose(solve(b, matrix)[0].numpy().ravel(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("iterations", [1, 2, 5, 12])
def test_its_iterates_and_what_it_stops_by_are_those_of_scipy(iterations):
    b = random(*SHAPE_B, seed=2)
    x, stationarity = solve(b, iterations=iterations, tolerance=0.0)
    peer, _, _, normr, normar, norma, *_ = scipy.sparse.linalg.lsmr(
        MATRIX.numpy(), b.numpy().ravel(), atol=0, btol=0, conlim=0, maxiter=iterations
    )
    np.testing.assert_allclose(x.numpy().ravel(), peer, rtol=0, atol=1e-13)
    assert float(stationarity) == pytest.approx(normar / (norma * normr), rel=1e-9)
    residual = b.numpy().ravel() - MATRIX.numpy() @ peer
    assert np.linalg.norm(MATRIX.numpy().T @ residual) == pytest.approx(normar, rel=1e-9)


def test_a_right_side_that_can_be_met_is_met_to_the_tolerance():
    exact = random(*SHAPE, seed=3)
    b = (exact.flatten() @ MATRIX.T).unflatten(-1, SHAPE_B)
    with running() as run:
        x, _ = solve(b, tolerance=1e-6)
    left = (x.flatten() @ MATRIX.T).unflatten(-1, SHAPE_B) - b
    assert left.norm() <= 1e-6 * b.norm()
    assert len(run.curves["relative gradient"]) < 60


def test_a_batch_equals_the_loop_though_its_members_converge_apart():
    b = random(2, 2, *SHAPE_B, seed=4)
    left, _, right = torch.linalg.svd(MATRIX, full_matrices=False)
    b[0, 0] = left[:, 0].unflatten(0, SHAPE_B)  # one step, exactly
    b[1, 0] = 0
    b[0, 1] = (right[3] @ MATRIX.T).unflatten(0, SHAPE_B)
    x, stationarity = solve(b, iterations=25, tolerance=1e-7)
    assert x.isfinite().all()
    for i in range(2):
        for j in range(2):
            alone, its_own = solve(b[i, j], iterations=25, tolerance=1e-7)
            torch.testing.assert_close(x[i, j], alone, rtol=0, atol=1e-8)
            assert float(stationarity[i, j]) == pytest.approx(float(its_own), rel=1e-3, abs=1e-9)
    assert not x[1, 0].any()
    assert stationarity[1, 0] == 0


def test_what_is_enough_is_asked_after_each_step():
    b = random(2, *SHAPE_B, seed=5)
    seen = []

    def enough(x):
        seen.append(x.clone())
        return torch.tensor([len(seen) == 2, False])

    x, _ = solve(b, iterations=4, tolerance=0.0, enough=enough)
    assert torch.equal(x[0], seen[1][0])
    assert torch.equal(x[1], seen[3][1])
    assert not torch.equal(x[1], seen[1][1])


def test_it_leaves_the_right_side_alone_and_stops_when_asked():
    b = random(*SHAPE_B, seed=2)
    before = b.clone()
    with running() as run:
        solve(b, iterations=5)
    assert torch.equal(b, before)
    assert len(run.curves["relative gradient"]) == 5
    reports = []
    with pytest.raises(Cancelled), running(lambda *r: reports.append(r), lambda: len(reports) == 3):
        solve(b, iterations=50, label="fit")
    assert [done for done, _ in reports] == [0.0, 0.02, 0.04]
    assert all(label.startswith("fit") for _, label in reports)


def test_float32_is_enough():
    b = random(*SHAPE_B, seed=2)
    exact, _ = solve(b, iterations=15, tolerance=0.0)
    found, _ = solve(b.float(), MATRIX.float(), iterations=15, tolerance=0.0)
    assert found.dtype == torch.float32
    assert (found - exact).norm() < 1e-4 * exact.norm()

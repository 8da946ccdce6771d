"""Conjugate gradients against a dense solve."""

import pytest
import torch

from napari_metaqsm.errors import Cancelled
from napari_metaqsm.method import running
from napari_metaqsm.solvers.conjugate_gradient import conjugate_gradient

SHAPE = (3, 4, 5)


@pytest.fixture
def matrix():
    half = torch.randn(60, 60, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return half @ half.T + 5 * torch.eye(60, dtype=torch.float64)


def applied(matrix):
    return lambda x: (x.flatten(-3) @ matrix).reshape(x.shape)


def right_sides(*leading):
    return torch.randn(*leading, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_solves_to_the_dense_solution(matrix):
    b = right_sides()
    x, residual = conjugate_gradient(applied(matrix), b, iterations=200, tolerance=1e-12)
    expected = torch.linalg.solve(matrix, b.flatten()).reshape(SHAPE)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-10)
    assert residual <= 1e-12


def test_an_exact_preconditioner_needs_one_step(matrix):
    b = right_sides()
    inverse = torch.linalg.inv(matrix)
    x, _ = conjugate_gradient(
        applied(matrix), b, iterations=1, tolerance=0.0, precondition=applied((inverse + inverse.T) / 2)
    )
    torch.testing.assert_close(applied(matrix)(x), b, rtol=0, atol=1e-9)


def test_the_residual_is_that_of_the_solution_returned(matrix):
    b = right_sides()
    x, residual = conjugate_gradient(applied(matrix), b, iterations=7, tolerance=0.0)
    assert float(residual) == pytest.approx(float((b - applied(matrix)(x)).norm() / b.norm()), rel=1e-8)


def test_a_batch_equals_the_loop_though_its_members_converge_apart(matrix):
    b = right_sides(2, 2)
    b[0, 0] = torch.linalg.eigh(matrix).eigenvectors[:, -1].reshape(SHAPE)  # one step
    b[1, 0] = 0
    x, residual = conjugate_gradient(applied(matrix), b, iterations=25, tolerance=1e-9)
    for i in range(2):
        for j in range(2):
            alone, its_residual = conjugate_gradient(applied(matrix), b[i, j], iterations=25, tolerance=1e-9)
            torch.testing.assert_close(x[i, j], alone, rtol=0, atol=1e-9)
            assert float(residual[i, j]) == pytest.approx(float(its_residual), rel=1e-3, abs=1e-14)
    assert not x[1, 0].any()
    assert residual[1, 0] == 0


def test_it_leaves_the_right_side_alone_and_stops_when_asked(matrix):
    b = right_sides()
    before = b.clone()
    conjugate_gradient(applied(matrix), b, iterations=5, tolerance=1e-9)
    assert torch.equal(b, before)
    reports = []
    with pytest.raises(Cancelled), running(lambda *r: reports.append(r), lambda: len(reports) == 3):
        conjugate_gradient(applied(matrix), b, iterations=50, tolerance=0.0)
    assert [done for done, _ in reports] == [0.0, 0.02, 0.04]
    assert reports[0][1] == "CG"
    assert all(label.startswith("CG, relative residual ") for _, label in reports[1:])


def test_it_goes_on_from_where_it_is_told_to(matrix):
    b = right_sides(2)
    exact = torch.linalg.solve(matrix, b.flatten(1).T).T.reshape(b.shape)
    x, residual = conjugate_gradient(applied(matrix), b, iterations=0, tolerance=0.0, start=exact[0])
    assert torch.equal(x[0], exact[0])
    assert residual[0] < 1e-10
    assert residual[1] > 0.1
    x, _ = conjugate_gradient(applied(matrix), b, iterations=200, tolerance=1e-12, start=exact[0])
    torch.testing.assert_close(x, exact, rtol=0, atol=1e-10)


def test_its_residuals_are_a_curve_that_ends_at_the_one_returned(matrix):
    with running() as run:
        _, residual = conjugate_gradient(applied(matrix), right_sides(), iterations=9, tolerance=0.0)
        conjugate_gradient(applied(matrix), right_sides(), iterations=9, tolerance=0.0, curve="")
    (curve,) = run.curves.values()
    assert len(curve) == 9
    assert curve[-1] == pytest.approx(float(residual), rel=1e-2)

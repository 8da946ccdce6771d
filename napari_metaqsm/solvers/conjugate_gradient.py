"""Conjugate gradients for symmetric positive definite systems, given as plain callables."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_metaqsm.method import point, steps

Operator = Callable[[Tensor], Tensor]


def conjugate_gradient(
    operator: Operator,
    right_side: Tensor,
    *,
    iterations: int,
    tolerance: float,
    precondition: Operator | None = None,
    start: Tensor | None = None,
    curve: str = "relative residual",
) -> tuple[Tensor, Tensor]:
    """Solve ``A x = b``, each leading index on its own.

    Parameters
    ----------
    operator : A, symmetric positive definite over the last three axes
    right_side : (..., i, j, k), b
    iterations : most steps taken
    tolerance : stop where ``||b - A x|| <= tolerance * ||b||``
    precondition : an approximate inverse of A, symmetric positive definite
    start : (..., i, j, k), where to begin; else at zero, which saves one use of A
    curve : name of the curve of convergence that each residual becomes a point of; none where empty

    Returns
    -------
    solution : (..., i, j, k)
    residual : (...), the last ``||b - A x|| / ||b||``, as the recurrence has it; 0 where b is 0

    References
    ----------
    Hestenes & Stiefel 1952, doi:10.6028/jres.049.044
    """
    precondition = precondition or torch.clone
    solution = torch.zeros_like(right_side) if start is None else start.expand_as(right_side).clone()
    remainder = right_side.clone() if start is None else right_side - operator(solution)
    direction = precondition(remainder)
    product = _inner(remainder, direction)
    length = _inner(right_side, right_side).sqrt()
    residual = torch.where(length > 0, _inner(remainder, remainder).sqrt() / length, 0)
    for _ in steps(iterations, "CG"):
        active = residual > tolerance
        if not active.any():
            break
        image = operator(direction)
        # alpha = <r, z> / <p, A p>; what has converged stands still, so a batch equals a loop.
        alpha = torch.where(active, product / _inner(direction, image), 0)
        solution.addcmul_(_spread(alpha), direction)
        remainder.addcmul_(_spread(alpha), image, value=-1)
        del image  # here and below: the next use of A needs the memory
        residual = torch.where(active, _inner(remainder, remainder).sqrt() / length, residual)
        if curve:
            point(curve, float(residual.max()))
        conditioned = precondition(remainder)
        previous, product = product, _inner(remainder, conditioned)
        direction.mul_(_spread(torch.where(active, product / previous, 0))).add_(conditioned)
        del conditioned
    return solution, residual


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vecdot(a.flatten(-3), b.flatten(-3))


def _spread(values: Tensor) -> Tensor:
    return values[..., None, None, None]

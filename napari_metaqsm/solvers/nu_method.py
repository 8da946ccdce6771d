"""The nu-method for ill-posed least squares: stopped early, it is a linear filter fixed beforehand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_metaqsm.method import point, steps

NU = 1.0


def nu_method(
    operator: Callable[[Tensor], Tensor],
    right_side: Tensor,
    *,
    largest: float,
    iterations: int,
    tolerance: float,
    curve: str = "relative residual",
) -> tuple[Tensor, Tensor]:
    """Solve ``A'A x = A'b`` as far as A tells x, each leading index on its own.

    Parameters
    ----------
    operator : ``A'A`` over the last three axes; what it returns is written to
    right_side : (..., i, j, k), ``A'b``
    largest : a bound of the eigenvalues of ``A'A``; above one it is slower, below one it diverges
    iterations : most steps taken
    tolerance : stop where ``||A'(b - A x)|| <= tolerance ||A'b||``
    curve : name of the curve of convergence that each residual becomes a point of

    Returns
    -------
    solution : (..., i, j, k)
    residual : (...), the last ``||A'(b - A x)|| / ||A'b||``; 0 where ``A'b`` is 0

    Notes
    -----
    After n steps each component of b - A x is multiplied by ``C_2n(sqrt(1 - s)) / C_2n(1)``, C the
    Gegenbauer polynomial of index 2 nu and s the eigenvalue over ``largest``: what is under about 1/n² stays.
    Conjugate gradients need a third fewer steps on such problems, but theirs depend on the data, and on
    rounding: where hundreds of eigenvalues lie close to zero, float32 and float64, or one order of the axes
    and another, came out a few per cent apart. These steps agree to 1e-5.

    References
    ----------
    Brakhage 1987, doi:10.1016/B978-0-12-239040-1.50014-4; Hanke 1991, doi:10.1007/BF01385798
    """
    solution, step = torch.zeros_like(right_side), torch.zeros_like(right_side)
    length = torch.linalg.vector_norm(right_side, dim=(-3, -2, -1))
    residual = torch.where(length > 0, torch.ones_like(length), 0)
    for index in steps(iterations, "steps"):
        active = residual > tolerance
        if not active.any():
            break
        momentum, size = _coefficients(index + 1)
        remainder = right_side if index == 0 else operator(solution).neg_().add_(right_side)
        # What has converged stands still, so a batch equals a loop.
        step.mul_(momentum).add_(remainder, alpha=size / largest)
        solution.addcmul_(step, active[..., None, None, None].to(step))
        if index:
            norm = torch.linalg.vector_norm(remainder, dim=(-3, -2, -1))
            residual = torch.where(active, norm / length, residual)
            point(curve, float(residual.max()))
    return solution, residual


def _coefficients(k: int) -> tuple[float, float]:
    """Of the step before and of the gradient, in step k from 1."""
    if k == 1:
        return 0.0, (4 * NU + 2) / (4 * NU + 1)
    below = (k + 2 * NU - 1) * (2 * k + 4 * NU - 1)
    momentum = (k - 1) * (2 * k - 3) * (2 * k + 2 * NU - 1) / (below * (2 * k + 2 * NU - 3))
    return momentum, 4 * (2 * k + 2 * NU - 1) * (k + NU - 1) / below

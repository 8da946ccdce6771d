"""LSMR: least squares with an operator and its adjoint, given as plain callables."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_metaqsm.method import point, steps

Operator = Callable[[Tensor], Tensor]


def lsmr(
    operator: Operator,
    adjoint: Operator,
    right_side: Tensor,
    *,
    iterations: int,
    tolerance: float,
    axes: tuple[int, int] = (3, 3),
    label: str = "LSMR",
    curve: str = "relative gradient",
    enough: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Minimise ``||A x - b||``, each leading index on its own.

    Parameters
    ----------
    operator, adjoint : A and its adjoint; what they return is not written to and may be used again
    right_side : b, with any leading axes; it is written over, for it may be the largest array there is
    iterations : most steps taken, each one use of A and one of its adjoint
    tolerance : stop where ``||A'r|| <= tolerance ||A|| ||r||``, r = b - A x, or ``||r|| <= tolerance ||b||``
    axes : how many of the last axes of b and of x are summed over in inner products
    label : of the loop, for who watches
    curve : name of the curve of convergence that ``||A'r|| / (||A|| ||r||)`` is drawn as
    enough : told x after each step, returns (...) bool: whether to stop there all the same

    Returns
    -------
    solution : x, with the leading axes of b; of least norm where several minimise
    stationarity : (...), the last ``||A'r|| / (||A|| ||r||)`` as the recurrence has it; 0 where b is met

    Notes
    -----
    Golub and Kahan's bidiagonalisation; the iterates are those of MINRES on ``A'A x = A'b``, so that
    ``||A'r||`` falls at every step. ``||A||`` is estimated as the Frobenius norm of the bidiagonal matrix
    so far. Recurrences of scalars are in float64.

    References
    ----------
    Fong & Saunders 2011, doi:10.1137/10079687X
    """
    of_b, of_x = axes
    u, beta = _normalised(right_side, of_b)
    v, alpha = _normalised(adjoint(u).clone(), of_x)
    h, h_bar, solution = v.clone(), torch.zeros_like(v), torch.zeros_like(v)
    length, size = beta, alpha.square()
    alpha_bar, zeta_bar = alpha, alpha * beta
    one, zero = torch.ones_like(beta), torch.zeros_like(beta)
    rho, rho_bar, c_bar, s_bar, zeta = one, one, one, zero, zero
    residual = _Residual(beta)
    # Nothing is left to do where the gradient A'b is zero.
    stationarity = torch.where(zeta_bar > 0, one, zero)
    active = zeta_bar > 0
    for _ in steps(iterations, label):
        if not active.any():
            break
        torch.addcmul(operator(v), _spread(-alpha, u, of_b), u, out=u)
        u, beta = _normalised(u, of_b)
        torch.addcmul(adjoint(u), _spread(-beta, v, of_x), v, out=v)
        size = size + beta.square()
        v, alpha = _normalised(v, of_x)

        # Rotations: of the bidiagonal matrix to R, and of R' to the R-bar that x is found from.
        rho_before, rho_bar_before, zeta_before = rho, rho_bar, zeta
        c, s, rho = _rotation(alpha_bar, beta)
        theta, alpha_bar = s * alpha, c * alpha
        theta_bar = s_bar * rho
        c_bar, s_bar, rho_bar = _rotation(c_bar * rho, theta)
        zeta, zeta_bar = c_bar * zeta_bar, -s_bar * zeta_bar

        # What has converged stands still, so a batch equals a loop.
        back = _where(active, -theta_bar * rho / (rho_before * rho_bar_before))
        torch.addcmul(h, _spread(back, v, of_x), h_bar, out=h_bar)
        solution.addcmul_(_spread(_where(active, zeta / (rho * rho_bar)), v, of_x), h_bar)
        torch.addcmul(v, _spread(_where(active, -theta / rho), v, of_x), h, out=h)

        r = residual.after(c, s, theta_bar, rho_bar, zeta, zeta_before)
        gradient = torch.where(r > tolerance * length, zeta_bar.abs() / (size.sqrt() * r), 0)
        stationarity = torch.where(active, gradient, stationarity)
        size = size + alpha.square()
        active = active & (gradient > tolerance)
        if enough is not None:
            active = active & ~enough(solution).cpu()
        point(curve, float(stationarity.max()))
    return solution, stationarity


class _Residual:
    """Norm of r = b - A x from the scalars of each step (section 5 of the paper)."""

    def __init__(self, beta: Tensor) -> None:
        one, zero = torch.ones_like(beta), torch.zeros_like(beta)
        self.beta_dd, self.beta_d, self.rho_d = beta, zero, one
        self.theta_tilde, self.tau_tilde = zero, zero

    def after(
        self, c: Tensor, s: Tensor, theta_bar: Tensor, rho_bar: Tensor, zeta: Tensor, zeta_before: Tensor
    ) -> Tensor:
        beta_hat, self.beta_dd = c * self.beta_dd, -s * self.beta_dd
        c_tilde, s_tilde, rho_tilde = _rotation(self.rho_d, theta_bar)
        self.tau_tilde = (zeta_before - self.theta_tilde * self.tau_tilde) / rho_tilde
        self.theta_tilde, self.rho_d = s_tilde * rho_bar, c_tilde * rho_bar
        self.beta_d = c_tilde * beta_hat - s_tilde * self.beta_d
        tau_d = (zeta - self.theta_tilde * self.tau_tilde) / self.rho_d
        return torch.hypot(self.beta_d - tau_d, self.beta_dd)


def _normalised(x: Tensor, axes: int) -> tuple[Tensor, Tensor]:
    """``x`` over its norm, in place, and the norm in float64 (...); what is zero stays zero."""
    norm = torch.linalg.vector_norm(x.flatten(-axes), dim=-1).cpu().double()
    return x.mul_(_spread(_where(norm > 0, 1 / norm), x, axes)), norm


def _rotation(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r = torch.hypot(a, b)
    return _where(r > 0, a / r), _where(r > 0, b / r), r


def _where(condition: Tensor, values: Tensor) -> Tensor:
    return torch.where(condition, values, 0)


def _spread(values: Tensor, like: Tensor, axes: int) -> Tensor:
    return values.to(like.device, like.dtype)[(..., *(None,) * axes)]

"""ADMM for a sum of penalties on linear images of one unknown, given as plain callables."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from napari_metaqsm.method import point, steps

# A step counts as one to stop after only when this many before it were as small: relaxed steps pulsate.
CALM_STEPS = 3


def admm(
    solve: Callable[[], Tensor],
    relax: Callable[[Tensor], float],
    *,
    iterations: int,
    tolerance: float,
    label: str,
    curve: str = "objective",
) -> tuple[Tensor, float]:
    """Minimise ``sum_i g_i(K_i x)`` by splitting ``z_i = K_i x``.

    Parameters
    ----------
    solve : the x whose images ``K_i x`` lie nearest to the reflected states ``2 z_i - t_i``, where
        ``z_i`` minimises ``g_i(z) + mu_i ||z - t_i||^2 / 2``
    relax : given x, moves each state on, ``t_i += rho (K_i x - z_i)``, and tells the objective at x
    iterations : most steps taken
    tolerance : stop where x changes by less, relative to its norm, in three steps one after the other

    Returns
    -------
    the last x, and its relative change in the last step

    Notes
    -----
    With the states ``t_i = z_i + u_i``, u_i the scaled multipliers, this is ADMM with over-relaxation rho
    in (0, 2), as Douglas-Rachford splitting has it: nothing but the states is kept from step to step.

    References
    ----------
    Boyd et al. 2011, doi:10.1561/2200000016; Eckstein & Bertsekas 1992, doi:10.1007/BF01581204
    """
    change, calm, previous = float("inf"), 0, None
    for _ in steps(iterations, label):
        x = solve()
        point(curve, relax(x))
        if previous is not None:
            length = float(torch.linalg.vector_norm(x))
            change = float(torch.linalg.vector_norm(previous.sub_(x))) / length if length else 0.0
            calm = calm + 1 if change <= tolerance else 0
            if calm == CALM_STEPS:
                break
        previous = x
    return x, change

"""A field pulled towards the measured one as a phase pulls: not like a spring, but like a sine.

A splitting method keeps one array for the field, ``state``, and meets the misfit of phases in two passes over
memory a step. On the CPU they are compiled, on all threads; elsewhere they are torch's own.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from napari_metaqsm.operators.compiled import compiled

# After four the error is below float32's rounding, but where the pull is near its strongest.
NEWTON_STEPS = 4


def reflect_unwrapped_field(
    state: Tensor, field: Tensor, weights: Tensor, penalty: float, radians: float, out: Tensor
) -> Tensor:
    """``2 z - state``, written to ``out``: z fits the phase of ``field`` and lies near ``state``.

    Parameters
    ----------
    state, field, weights, out : (i, j, k); where the weight is 0, z is the state
    penalty : of the distance to ``state``, positive
    radians : phase that one unit of the field is

    Notes
    -----
    z is a stationary point of ``w (1 - cos(s (z - f))) / s^2 + p (z - t)^2 / 2``: with ``r = s (t - f)``,
    ``z = f + u / s`` where u solves ``w sin u + p (u - r) = 0``. Of its roots the one is taken that is
    reached from ``r = 0`` without a jump, as long as there is one: a field that has been unwrapped is known
    better than its phase, and states that stray over pi on their way would else be caught by another turn,
    far from the minimum. For r > 0 the left side is concave in u below pi, so that Newton's
    steps from ``u = p r / (w + p)`` approach the root from below.
    """
    if _is_compiled(state):
        scalars = (state.numpy().dtype.type(value) for value in (penalty, radians))
        _reflect(state.numpy(), field.numpy(), weights.numpy(), *scalars, out.numpy())
        return out
    residual = (state - field).mul_(radians)
    angle = residual * (penalty / (weights + penalty))
    for _ in range(NEWTON_STEPS):
        excess = weights * angle.sin() + penalty * (angle - residual)
        angle -= excess / (weights * angle.cos().clamp_(min=0) + penalty)
    return torch.add(state, angle.sub_(residual), alpha=2 / radians, out=out)


def relax_to_phase(
    state: Tensor,
    reflected: Tensor,
    image: Tensor,
    field: Tensor,
    weights: Tensor,
    radians: float,
    relaxation: float,
) -> float:
    """``state += relaxation * (image - z)``, in place, with ``z = (reflected + state) / 2``.

    Returns
    -------
    ``sum w (1 - cos(s (image - field))) / s^2`` over (i, j, k)
    """
    if _is_compiled(state):
        arrays = (each.numpy() for each in (state, reflected, image, field, weights))
        scalars = (state.numpy().dtype.type(value) for value in (radians, relaxation))
        return float(_relax(*arrays, *scalars))
    state.mul_(1 - relaxation / 2).add_(reflected, alpha=-relaxation / 2).add_(image, alpha=relaxation)
    half = (image - field).mul_(radians / 2).sin_()  # 1 - cos x = 2 sin^2(x / 2)
    widest = torch.float32 if state.device.type == "mps" else torch.float64
    return 2 / radians**2 * float((weights * half.square_()).sum(dtype=widest))


def _is_compiled(x: Tensor) -> bool:
    return x.device.type == "cpu"


@compiled(parallel=True)
def _reflect(t, field, weights, penalty, radians, out):
    none = t.dtype.type(0)
    close = t.dtype.type(1e-4)
    for i in numba.prange(t.shape[0]):
        for j in range(t.shape[1]):
            for k in range(t.shape[2]):
                here, weight = t[i, j, k], weights[i, j, k]
                if weight == 0:
                    out[i, j, k] = here
                    continue
                residual = (here - field[i, j, k]) * radians
                angle = residual * penalty / (weight + penalty)
                for _ in range(NEWTON_STEPS):
                    excess = weight * np.sin(angle) + penalty * (angle - residual)
                    step = excess / (weight * max(np.cos(angle), none) + penalty)
                    angle -= step
                    if abs(step) < close * abs(angle):
                        break  # the next step would be of the square of this one
                out[i, j, k] = here + 2 * (angle - residual) / radians


@compiled(parallel=True)
def _relax(t, reflected, image, field, weights, radians, relaxation):
    half = relaxation / 2
    misfits = np.zeros(t.shape[0])
    for i in numba.prange(t.shape[0]):
        for j in range(t.shape[1]):
            row = t.dtype.type(0)
            for k in range(t.shape[2]):
                there = image[i, j, k]
                t[i, j, k] = (1 - half) * t[i, j, k] - half * reflected[i, j, k] + relaxation * there
                if weights[i, j, k] != 0:
                    lag = np.sin((there - field[i, j, k]) * (radians / 2))
                    row += weights[i, j, k] * lag * lag
            misfits[i] += row
    return 2 / (radians * radians) * misfits.sum()

"""The passes over memory that a penalty on the L1 norm of the gradient needs in each step, fused.

A splitting method keeps one array for each difference, ``state`` (3, i, j, k), and meets the penalty only
through ``shrink(v) = sign(v) max(|v| - threshold, 0)``, which is the identity where a difference is free of
penalty. Differences are periodic forward ones per mm, as in :mod:`~napari_metaqsm.operators.gradient`. On
the CPU each function is compiled, one pass over memory on all threads; elsewhere it is torch's own.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from napari_metaqsm.operators.gradient import gradient, gradient_adjoint
from napari_metaqsm.scan import Triple


def reflected_divergence(
    state: Tensor, threshold: float, free: Tensor, voxel_size_mm: Triple, out: Tensor
) -> Tensor:
    """``gradient_adjoint(2 shrink(state) - state)`` (i, j, k), written to ``out``.

    Parameters
    ----------
    state : (3, i, j, k), per mm
    threshold : per mm
    free : (3, i, j, k) bool, the differences without penalty
    """
    if _is_compiled(state):
        _reflected_divergence(
            state.numpy(), _scalar(state, threshold), free.numpy(), _scales(state, voxel_size_mm), out.numpy()
        )
        return out
    reflected = state - 2 * _cut(state, threshold, free)
    return out.copy_(gradient_adjoint(reflected, voxel_size_mm, periodic=True))


def relax_to_gradient(
    state: Tensor, x: Tensor, threshold: float, free: Tensor, voxel_size_mm: Triple, relaxation: float
) -> float:
    """``state += relaxation * (gradient(x) - shrink(state))``, in place.

    Returns
    -------
    the L1 norm of those differences of ``x`` (i, j, k) that are not free, per mm
    """
    if _is_compiled(state):
        scales = _scales(state, voxel_size_mm)
        return float(
            _relax_to_gradient(
                state.numpy(),
                x.numpy(),
                _scalar(state, threshold),
                free.numpy(),
                scales,
                _scalar(state, relaxation),
            )
        )
    differences = gradient(x, voxel_size_mm, periodic=True)
    norm = differences.abs().masked_fill_(free, 0).sum(dtype=_widest(x))
    shrunk = state - _cut(state, threshold, free)
    state.add_(differences.sub_(shrunk), alpha=relaxation)
    return float(norm)


def reflect_field(
    state: Tensor, field: Tensor, weights: Tensor, penalty: float, radians: float | None, out: Tensor
) -> Tensor:
    """``2 z - state``, written to ``out``: z fits ``field`` and lies near ``state``.

    Parameters
    ----------
    state, field, weights, out : (i, j, k); where the weight is 0, z is the state
    penalty : of the distance to ``state``, positive
    radians : phase that one unit of the field is; None for the linear misfit

    Notes
    -----
    z minimises ``w (z - f)^2 / 2 + p (z - t)^2 / 2``; with a phase, ``w (1 - cos(s (z - f))) / s^2`` is in
    place of the first term. With r the phase ``s (t - f)`` wrapped to (-pi, pi], z is then
    ``t + (u - r) / s``, where u, between 0 and r, solves ``w sin u + p (u - r) = 0``. For r > 0 the left
    side is concave in u, so that Newton's steps from the linear solution ``u = p r / (w + p)`` approach
    the root from below and cannot pass it.
    """
    if _is_compiled(state):
        arrays = (each.numpy() for each in (state, field, weights))
        _reflect_field(*arrays, _scalar(state, penalty), _scalar(state, radians or 0.0), out.numpy())
        return out
    residual = state - field
    if radians is None:
        return torch.addcmul(state, weights / (weights + penalty), residual, value=-2, out=out)
    residual = _wrapped(residual.mul_(radians))
    angle = residual * (penalty / (weights + penalty))
    for _ in range(NEWTON_STEPS):
        excess = weights * angle.sin() + penalty * (angle - residual)
        angle -= excess / (weights * angle.cos() + penalty).clamp_(min=LEAST_SLOPE * penalty)
    return torch.add(state, angle.sub_(residual), alpha=2 / radians, out=out)


def relax_to_field(
    state: Tensor,
    reflected: Tensor,
    image: Tensor,
    field: Tensor,
    weights: Tensor,
    radians: float | None,
    relaxation: float,
) -> float:
    """``state += relaxation * (image - z)``, in place, with ``z = (reflected + state) / 2``.

    Returns
    -------
    the misfit of ``image`` (i, j, k): the first term that :func:`reflect_field` has of z
    """
    if _is_compiled(state):
        arrays = (each.numpy() for each in (state, reflected, image, field, weights))
        return float(_relax_to_field(*arrays, _scalar(state, radians or 0.0), _scalar(state, relaxation)))
    state.mul_(1 - relaxation / 2).add_(reflected, alpha=-relaxation / 2).add_(image, alpha=relaxation)
    residual = image - field
    if radians is None:
        return float((weights * residual.square_()).sum(dtype=_widest(state))) / 2
    lag = residual.mul_(radians / 2).sin_().square_()  # 1 - cos x = 2 sin^2(x / 2)
    return float((weights * lag).sum(dtype=_widest(state))) * 2 / radians**2


# Newton's steps for a phase: after four the error is below float32's rounding, but for phases within a few
# degrees of pi.
NEWTON_STEPS = 4
# Of the penalty: keeps a slope that vanishes beside pi from sending a step away.
LEAST_SLOPE = 1e-2


def _wrapped(phase: Tensor) -> Tensor:
    """To (-pi, pi], in place."""
    return phase.sub_((phase / (2 * torch.pi)).round_(), alpha=2 * torch.pi)


def _cut(state: Tensor, threshold: float, free: Tensor) -> Tensor:
    """What shrinking takes away."""
    return state.clamp(-threshold, threshold).masked_fill_(free, 0)


def _is_compiled(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _widest(x: Tensor) -> torch.dtype:
    return torch.float32 if x.device.type == "mps" else torch.float64


def _scalar(like: Tensor, value: float):
    return like.numpy().dtype.type(value)


def _scales(like: Tensor, voxel_size_mm: Triple) -> np.ndarray:
    return (1 / np.array(voxel_size_mm)).astype(like.numpy().dtype)


# -------------------------------------------------------------------------------------- compiled
@numba.njit(nogil=True, cache=True, inline="always")
def _reflected(v, threshold, is_free):
    """``2 shrink(v) - v``."""
    return v if is_free else v - 2 * max(-threshold, min(threshold, v))


@numba.njit(nogil=True, cache=True, inline="always")
def _step(v, difference, threshold, is_free, relaxation):
    shrunk = v if is_free else v - max(-threshold, min(threshold, v))
    return v + relaxation * (difference - shrunk)


@numba.njit(nogil=True, cache=True, parallel=True)
def _reflected_divergence(t, threshold, free, scale, out):
    ni, nj, nk = out.shape
    for plane in numba.prange(ni):
        i = np.intp(plane)  # unsigned as it comes, and less one it would turn into a float
        before_i = i - 1 if i > 0 else ni - 1
        for j in range(nj):
            before_j = j - 1 if j > 0 else nj - 1
            for k in range(nk):
                before_k = k - 1 if k > 0 else nk - 1
                out[i, j, k] = (
                    scale[0]
                    * (
                        _reflected(t[0, before_i, j, k], threshold, free[0, before_i, j, k])
                        - _reflected(t[0, i, j, k], threshold, free[0, i, j, k])
                    )
                    + scale[1]
                    * (
                        _reflected(t[1, i, before_j, k], threshold, free[1, i, before_j, k])
                        - _reflected(t[1, i, j, k], threshold, free[1, i, j, k])
                    )
                    + scale[2]
                    * (
                        _reflected(t[2, i, j, before_k], threshold, free[2, i, j, before_k])
                        - _reflected(t[2, i, j, k], threshold, free[2, i, j, k])
                    )
                )


@numba.njit(nogil=True, cache=True, parallel=True)
def _relax_to_gradient(t, x, threshold, free, scale, relaxation):
    ni, nj, nk = x.shape
    norms = np.zeros(ni)
    for plane in numba.prange(ni):
        i = np.intp(plane)
        after_i = i + 1 if i + 1 < ni else 0
        for j in range(nj):
            after_j = j + 1 if j + 1 < nj else 0
            row = x.dtype.type(0)
            for k in range(nk):
                after_k = k + 1 if k + 1 < nk else 0
                here = x[i, j, k]
                di = scale[0] * (x[after_i, j, k] - here)
                dj = scale[1] * (x[i, after_j, k] - here)
                dk = scale[2] * (x[i, j, after_k] - here)
                fi, fj, fk = free[0, i, j, k], free[1, i, j, k], free[2, i, j, k]
                row += abs(di) * (not fi) + abs(dj) * (not fj) + abs(dk) * (not fk)
                t[0, i, j, k] = _step(t[0, i, j, k], di, threshold, fi, relaxation)
                t[1, i, j, k] = _step(t[1, i, j, k], dj, threshold, fj, relaxation)
                t[2, i, j, k] = _step(t[2, i, j, k], dk, threshold, fk, relaxation)
            norms[i] += row
    return norms.sum()


@numba.njit(nogil=True, cache=True, parallel=True)
def _reflect_field(t, field, weights, penalty, radians, out):
    turn = t.dtype.type(2 * np.pi)
    least = t.dtype.type(LEAST_SLOPE) * penalty
    for i in numba.prange(t.shape[0]):
        for j in range(t.shape[1]):
            for k in range(t.shape[2]):
                here, weight = t[i, j, k], weights[i, j, k]
                residual = here - field[i, j, k]
                if weight == 0:
                    out[i, j, k] = here
                elif radians == 0:
                    out[i, j, k] = here - 2 * weight / (weight + penalty) * residual
                else:
                    residual *= radians
                    residual -= turn * np.rint(residual / turn)
                    angle = residual * penalty / (weight + penalty)
                    for _ in range(NEWTON_STEPS):
                        excess = weight * np.sin(angle) + penalty * (angle - residual)
                        angle -= excess / max(weight * np.cos(angle) + penalty, least)
                    out[i, j, k] = here + 2 * (angle - residual) / radians


@numba.njit(nogil=True, cache=True, parallel=True)
def _relax_to_field(t, reflected, image, field, weights, radians, relaxation):
    half = relaxation / 2
    misfits = np.zeros(t.shape[0])
    for i in numba.prange(t.shape[0]):
        for j in range(t.shape[1]):
            row = t.dtype.type(0)
            for k in range(t.shape[2]):
                there = image[i, j, k]
                t[i, j, k] = (1 - half) * t[i, j, k] - half * reflected[i, j, k] + relaxation * there
                residual = there - field[i, j, k]
                if weights[i, j, k] == 0:
                    continue
                if radians != 0:
                    residual = 2 * np.sin(residual * radians / 2) / radians
                row += weights[i, j, k] * residual * residual
            misfits[i] += row
    return misfits.sum() / 2

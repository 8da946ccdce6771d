"""The passes over memory that a penalty on the L1 norm of the gradient needs in each step, fused.

A splitting method keeps one array for each difference, ``state`` (3, i, j, k), and meets the penalty only
through ``shrink(v) = sign(v) max(|v| - threshold, 0)``, which is the identity where a difference is not
penalised. Differences are periodic forward ones per mm, as in :mod:`~napari_metaqsm.operators.gradient`. On
the CPU each function is compiled, one pass over memory on all threads; elsewhere it is torch's own.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from napari_metaqsm.operators.compiled import compiled
from napari_metaqsm.operators.gradient import gradient, gradient_adjoint
from napari_metaqsm.scan import Triple


def reflected_divergence(
    state: Tensor, threshold: float, penalised: Tensor, voxel_size_mm: Triple, out: Tensor
) -> Tensor:
    """``gradient_adjoint(2 shrink(state) - state)`` (i, j, k), written to ``out``.

    Parameters
    ----------
    state : (3, i, j, k), per mm
    threshold : per mm
    penalised : (3, i, j, k) bool; the other differences are free
    """
    if _is_compiled(state):
        _reflected_divergence(
            state.numpy(),
            _scalar(state, threshold),
            penalised.view(torch.uint8).numpy(),
            _scales(state, voxel_size_mm),
            out.numpy(),
        )
        return out
    reflected = state - 2 * _cut(state, threshold, penalised)
    return out.copy_(gradient_adjoint(reflected, voxel_size_mm, periodic=True))


def relax_to_gradient(
    state: Tensor, x: Tensor, threshold: float, penalised: Tensor, voxel_size_mm: Triple, relaxation: float
) -> float:
    """``state += relaxation * (gradient(x) - shrink(state))``, in place.

    Returns
    -------
    the L1 norm of those differences of ``x`` (i, j, k) that are penalised, per mm
    """
    if _is_compiled(state):
        scales = _scales(state, voxel_size_mm)
        return float(
            _relax_to_gradient(
                state.numpy(),
                x.numpy(),
                _scalar(state, threshold),
                penalised.view(torch.uint8).numpy(),
                scales,
                _scalar(state, relaxation),
            )
        )
    differences = gradient(x, voxel_size_mm, periodic=True)
    norm = differences.abs().mul_(penalised).sum(dtype=_widest(x))
    shrunk = state - _cut(state, threshold, penalised)
    state.add_(differences.sub_(shrunk), alpha=relaxation)
    return float(norm)


def reflect_field(state: Tensor, target: Tensor, weights: Tensor, penalty: float, out: Tensor) -> Tensor:
    """``2 z - state``, written to ``out``; z minimises ``w (z - target)^2 / 2 + p (z - state)^2 / 2``.

    Parameters
    ----------
    state, target, weights, out : (i, j, k); where the weight w is 0, z is the state
    penalty : p, positive
    """
    if _is_compiled(state):
        arrays = (each.numpy() for each in (state, target, weights))
        _reflect_field(*arrays, _scalar(state, penalty), out.numpy())
        return out
    return torch.addcmul(state, weights / (weights + penalty), state - target, value=-2, out=out)


def relax_to_field(state: Tensor, reflected: Tensor, image: Tensor, relaxation: float) -> None:
    """``state += relaxation * (image - z)``, in place, with ``z = (reflected + state) / 2``."""
    if _is_compiled(state):
        arrays = (each.numpy() for each in (state, reflected, image))
        _relax_to_field(*arrays, _scalar(state, relaxation))
        return
    state.mul_(1 - relaxation / 2).add_(reflected, alpha=-relaxation / 2).add_(image, alpha=relaxation)


def field_misfit(image: Tensor, field: Tensor, weights: Tensor) -> float:
    """``sum w (image - field)^2 / 2`` over (i, j, k)."""
    if _is_compiled(image):
        return float(_field_misfit(image.numpy(), field.numpy(), weights.numpy()))
    return float((weights * (image - field).square_()).sum(dtype=_widest(image))) / 2


def phase_misfit(image: Tensor, field: Tensor, weights: Tensor, radians: float, target: Tensor) -> float:
    """``sum w (1 - cos(s (image - field))) / s^2``, s the ``radians`` that one unit of the field is.

    ``target`` (i, j, k) becomes ``image + sin(s (field - image)) / s``: since the second derivative of the
    misfit nowhere exceeds w, ``w (z - target)^2 / 2`` plus a constant lies above it for every z, and touches
    it at ``image``.
    """
    if _is_compiled(image):
        arrays = (each.numpy() for each in (image, field, weights))
        return float(_phase_misfit(*arrays, _scalar(image, radians), target.numpy()))
    half = (field - image).mul_(radians / 2)
    torch.add(image, (2 * half).sin_(), alpha=1 / radians, out=target)
    return float((weights * half.sin_().square_()).sum(dtype=_widest(image))) * 2 / radians**2


def _cut(state: Tensor, threshold: float, penalised: Tensor) -> Tensor:
    """What shrinking takes away."""
    return state.clamp(-threshold, threshold).mul_(penalised)


def _is_compiled(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _widest(x: Tensor) -> torch.dtype:
    return torch.float32 if x.device.type == "mps" else torch.float64


def _scalar(like: Tensor, value: float):
    return like.numpy().dtype.type(value)


def _scales(like: Tensor, voxel_size_mm: Triple) -> np.ndarray:
    return (1 / np.array(voxel_size_mm)).astype(like.numpy().dtype)


# -------------------------------------------------------------------------------------- compiled
# Sums in any order, so that several voxels are added at once; not a number stays not a number.
FASTER = {"reassoc", "nsz", "contract"}


@compiled(inline="always", fastmath=FASTER)
def _cut_one(v, threshold):
    return max(-threshold, min(threshold, v))


@compiled(parallel=True, fastmath=FASTER)
def _reflected_divergence(t, threshold, penalised, scale, out):
    ni, nj, nk = out.shape
    number = t.dtype.type
    for plane in numba.prange(ni):
        i = np.intp(plane)  # unsigned as it comes, and less one it would turn into a float
        before_i = i - 1 if i > 0 else ni - 1
        for j in range(nj):
            before_j = j - 1 if j > 0 else nj - 1
            for k in range(nk):
                before_k = k - 1 if k > 0 else nk - 1
                total = number(0)
                for axis, ib, jb, kb in (
                    (0, before_i, j, k),
                    (1, i, before_j, k),
                    (2, i, j, before_k),
                ):
                    v, h = t[axis, ib, jb, kb], threshold * number(penalised[axis, ib, jb, kb])
                    here, h_here = t[axis, i, j, k], threshold * number(penalised[axis, i, j, k])
                    # 2 shrink(v) - v = v - 2 cut(v)
                    total += scale[axis] * (v - 2 * _cut_one(v, h) - here + 2 * _cut_one(here, h_here))
                out[i, j, k] = total


@compiled(parallel=True, fastmath=FASTER)
def _relax_to_gradient(t, x, threshold, penalised, scale, relaxation):
    ni, nj, nk = x.shape
    number = t.dtype.type
    norms = np.zeros((ni, nk), t.dtype)  # one sum for each k, so that several k are computed at once
    for plane in numba.prange(ni):
        i = np.intp(plane)
        after_i = i + 1 if i + 1 < ni else 0
        for j in range(nj):
            after_j = j + 1 if j + 1 < nj else 0
            for k in range(nk):
                after_k = k + 1 if k + 1 < nk else 0
                here, norm = x[i, j, k], number(0)
                for axis, there in (
                    (0, x[after_i, j, k]),
                    (1, x[i, after_j, k]),
                    (2, x[i, j, after_k]),
                ):
                    difference = scale[axis] * (there - here)
                    counts = number(penalised[axis, i, j, k])
                    norm += counts * abs(difference)
                    v = t[axis, i, j, k]
                    shrunk = v - _cut_one(v, threshold * counts)
                    t[axis, i, j, k] = v + relaxation * (difference - shrunk)
                norms[i, k] += norm
    return norms.astype(np.float64).sum()


@compiled(parallel=True, fastmath=FASTER)
def _reflect_field(t, target, weights, penalty, out):
    for i in numba.prange(t.shape[0]):
        for j in range(t.shape[1]):
            for k in range(t.shape[2]):
                here, weight = t[i, j, k], weights[i, j, k]
                out[i, j, k] = here - 2 * weight / (weight + penalty) * (here - target[i, j, k])


@compiled(parallel=True, fastmath=FASTER)
def _relax_to_field(t, reflected, image, relaxation):
    half = relaxation / 2
    for i in numba.prange(t.shape[0]):
        for j in range(t.shape[1]):
            for k in range(t.shape[2]):
                t[i, j, k] = (1 - half) * t[i, j, k] - half * reflected[i, j, k] + relaxation * image[i, j, k]


@compiled(parallel=True, fastmath=FASTER)
def _field_misfit(image, field, weights):
    misfits = np.zeros(image.shape[0])
    for i in numba.prange(image.shape[0]):
        plane = 0.0
        for j in range(image.shape[1]):
            row = image.dtype.type(0)
            for k in range(image.shape[2]):
                row += weights[i, j, k] * (image[i, j, k] - field[i, j, k]) ** 2
            plane += row
        misfits[i] = plane
    return misfits.sum() / 2


@compiled(parallel=True, fastmath=FASTER)
def _phase_misfit(image, field, weights, radians, target):
    misfits = np.zeros(image.shape[0])
    for i in numba.prange(image.shape[0]):
        plane = 0.0
        for j in range(image.shape[1]):
            row = image.dtype.type(0)
            for k in range(image.shape[2]):
                if weights[i, j, k] == 0:
                    continue  # most voxels lie outside the mask, and sines are slow
                half = (field[i, j, k] - image[i, j, k]) * radians / 2
                sine = np.sin(half)
                target[i, j, k] = image[i, j, k] + 2 * sine * np.cos(half) / radians
                row += weights[i, j, k] * sine * sine
            plane += row
        misfits[i] = plane
    return misfits.sum() * 2 / radians**2

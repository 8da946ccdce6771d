"""Region growing over the best steps left, with a queue of buckets; compiled, on the CPU.

A step leads from a voxel to its next neighbour along one axis. Its quality is the product over terms
``0.1 + 0.9 q`` of phase coherence, agreement with another echo, linearity and magnitude, kept as one
byte a step, an array (3, i, j, k).

References
----------
Dymerska et al. 2021, doi:10.1002/mrm.28563
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from napari_metaqsm.method import announce
from napari_metaqsm.operators.compiled import compiled

_TURN = 2 * math.pi
_LEVELS = 256  # level 0 is for steps that lead through or out of the mask
_STRAIGHT_ON = 8.0  # weight of a vote by extrapolation
_STEEPEST = _TURN  # step in rad beyond which it does not vote, for errors would add up without end
_STEPS_PER_CALL = 2_000_000  # between two looks at the cancel button


def edge_levels(
    phase: np.ndarray,
    magnitude: np.ndarray | None,
    mask: np.ndarray | None,
    companion: np.ndarray | None = None,
    ratio: float = 1.0,
) -> np.ndarray:
    """Quality of the step from each voxel to the next along each axis, (3, i, j, k) uint8.

    Parameters
    ----------
    phase : (i, j, k) float32, rad
    magnitude : (i, j, k) or None, for the term of equal magnitudes
    mask : (i, j, k) bool or None; steps with an end outside it are at level 0
    companion : (i, j, k) phase of another echo or None, whose steps should be ``ratio`` times those of
        ``phase``
    """
    levels = np.zeros((3, *phase.shape), np.uint8)
    nothing = np.zeros((0, 0, 0), np.float32)
    _fill_levels(
        phase,
        nothing if magnitude is None else np.ascontiguousarray(magnitude, np.float32),
        nothing.astype(bool) if mask is None else np.ascontiguousarray(mask),
        nothing if companion is None else np.ascontiguousarray(companion, np.float32),
        np.float32(ratio),
        levels,
    )
    return levels


@compiled(inline="always")
def _wrap(x):
    return x - np.float32(_TURN) * np.floor(x * np.float32(1 / _TURN) + np.float32(0.5))


@compiled()
def _fill_levels(phase, magnitude, mask, companion, ratio, levels):
    ni, nj, nk = phase.shape
    low, high = np.float32(0.1), np.float32(0.9)
    one, half = np.float32(1), np.float32(0.5)
    for axis in range(3):
        di, dj, dk = int(axis == 0), int(axis == 1), int(axis == 2)
        for i in range(ni - di):
            for j in range(nj - dj):
                for k in range(nk - dk):
                    ii, jj, kk = i + di, j + dj, k + dk
                    if mask.size and not (mask[i, j, k] and mask[ii, jj, kk]):
                        continue
                    a, b = phase[i, j, k], phase[ii, jj, kk]
                    step = _wrap(b - a)
                    # 1 - |wrap(b - a)| / pi
                    quality = low + high * (one - abs(step) * np.float32(1 / math.pi))
                    # max(0, 1 - |wrap(a - 2 b + c) / 2|), on either side of the step
                    if i >= di and j >= dj and k >= dk:
                        bend = _wrap(step - _wrap(a - phase[i - di, j - dj, k - dk]))
                        quality *= low + high * max(np.float32(0), one - half * abs(bend))
                    if ii + di < ni and jj + dj < nj and kk + dk < nk:
                        bend = _wrap(_wrap(phase[ii + di, jj + dj, kk + dk] - b) - step)
                        quality *= low + high * max(np.float32(0), one - half * abs(bend))
                    if companion.size:
                        other = companion[ii, jj, kk] - companion[i, j, k] - ratio * step
                        quality *= low + high * max(np.float32(0), one - abs(_wrap(other)))
                    if magnitude.size:
                        m, n = magnitude[i, j, k], magnitude[ii, jj, kk]
                        smaller, larger = min(m, n), max(m, n)
                        share = smaller / larger if larger > 0 else np.float32(0)
                        quality *= low + high * share * share
                        blank = smaller == 0
                    else:
                        # Nothing else tells a blanked background; a phase of 0 in signal just comes late.
                        blank = a == 0 or b == 0
                    if blank:
                        quality = np.float32(0)
                    levels[axis, i, j, k] = 1 + int(quality * np.float32(_LEVELS - 2))


def voxel_quality(levels: np.ndarray) -> np.ndarray:
    """Mean quality of a voxel's steps to its neighbours, (i, j, k) float32 in [0, 1]."""
    total = np.zeros(levels.shape[1:], np.float32)
    for axis, level in enumerate(levels):
        forward, back = [slice(None)] * 3, [slice(None)] * 3
        forward[axis], back[axis] = slice(None, -1), slice(1, None)
        total += level
        total[tuple(back)] += level[tuple(forward)]
    neighbours = np.zeros((1, 1, 1), np.float32)
    for axis, n in enumerate(total.shape):
        along = [1, 1, 1]
        along[axis] = n
        count = np.full(n, 2, np.float32)
        count[0] -= 1
        count[-1] -= 1
        neighbours = neighbours + count.reshape(along)
    total /= neighbours * (_LEVELS - 1)
    return total


def grow(
    phase: np.ndarray,
    levels: np.ndarray,
    quality: np.ndarray,
    mask: np.ndarray | None,
    voxel_size_mm: Sequence[float],
) -> np.ndarray:
    """Unwrap from the best voxel on, each voxel by the multiple of 2 pi that fits its neighbours best.

    A step along a long voxel is taken later, its level lowered as the voxel is longer than the shortest,
    for the phase turns further in it. A voxel's neighbours vote for its multiple, each by the level of
    the step between them: with their own value, and, ``_STRAIGHT_ON`` times as strongly, with the one
    straight on from the neighbour behind them, which holds where the phase turns by more than pi.

    Outside the mask the region grows last, nearest first, and carries the value at which it left: a
    part of the mask that stands alone joins at the multiple that fits the nearest part.

    Returns
    -------
    (i, j, k) float32, rad; outside ``mask`` unspecified. ``levels`` are overwritten.
    """
    for level, size in zip(levels, voxel_size_mm, strict=True):
        lowered = np.arange(_LEVELS) * (min(voxel_size_mm) / size)
        level[...] = np.where(np.arange(_LEVELS) > 0, np.maximum(lowered, 1), 0).astype(np.uint8)[level]
    shape = phase.shape
    inside = np.ones(shape, bool) if mask is None else np.ascontiguousarray(mask)
    unwrapped = np.zeros(shape, np.float32)
    wanted = int(np.count_nonzero(inside))
    if wanted == 0:
        return unwrapped
    # plane by plane, for bincount makes 8 bytes of each level
    ends = np.cumsum(sum(np.bincount(p.reshape(-1), minlength=_LEVELS) for level in levels for p in level))
    first = np.concatenate([[0], ends[:-1]])  # of each level's part of the pool
    last = first.copy()
    pool = np.empty(levels.size, np.int32 if levels.size < 2**31 else np.int64)
    visited = np.zeros(phase.size, np.uint8)
    state = (phase.reshape(-1), levels.reshape(-1), inside.reshape(-1), shape)
    state += (unwrapped.reshape(-1), visited, pool, first, last)
    seed = int(np.argmax(np.where(inside, quality, -1)))
    _visit(seed, phase.flat[seed], *state)
    done = 1
    while done < wanted:
        announce("Unwrapping", done / wanted)
        done += _take_steps(*state, wanted - done, _STEPS_PER_CALL)
    return unwrapped


@compiled()
def _visit(voxel, value, phase, levels, inside, shape, unwrapped, visited, pool, first, last):
    """Give a voxel its value and put its steps to new neighbours into the pool; their best level."""
    unwrapped[voxel] = value
    visited[voxel] = 1
    best = 0
    line = voxel // shape[2]
    place = (line // shape[1], line % shape[1], voxel - line * shape[2])
    strides = (shape[1] * shape[2], shape[2], 1)
    for axis in range(3):
        for side in range(2):
            if (place[axis] == 0) if side == 0 else (place[axis] == shape[axis] - 1):
                continue
            lower = voxel - strides[axis] if side == 0 else voxel
            if visited[lower if side == 0 else voxel + strides[axis]]:
                continue
            edge = axis * phase.size + lower
            level = levels[edge]
            pool[last[level]] = edge
            last[level] += 1
            best = max(best, level)
    return best


@compiled()
def _take_steps(phase, levels, inside, shape, unwrapped, visited, pool, first, last, wanted, limit):
    """Take up to ``limit`` steps from the pool, best first; the number of voxels of the mask reached."""
    strides = (shape[1] * shape[2], shape[2], 1)
    votes = np.empty((2, 12))
    reached = 0
    level = _LEVELS - 1
    for _ in range(limit):
        while level > 0 and last[level] == first[level]:
            level -= 1
        if level > 0:
            last[level] -= 1
            edge = pool[last[level]]
        else:
            edge = pool[first[0]]  # first in, first out: nearest first
            first[0] += 1
        axis = edge // phase.size
        old = edge - axis * phase.size
        new = old + strides[axis]
        if visited[new]:
            old, new = new, old
        if visited[new]:
            continue
        value = unwrapped[old]
        if inside[new]:
            turns = math.floor((value - phase[new]) / _TURN + 0.5)
            if inside[old]:
                turns = _elected(new, turns, phase, levels, inside, shape, unwrapped, visited, votes)
            value = phase[new] + _TURN * turns
            reached += 1
        better = _visit(new, value, phase, levels, inside, shape, unwrapped, visited, pool, first, last)
        level = max(level, better)
        if reached == wanted:
            break
    return reached


@compiled()
def _elected(voxel, turns, phase, levels, inside, shape, unwrapped, visited, votes):
    """The turns to add to a voxel's phase that get most votes; ``turns`` where there are none."""
    line = voxel // shape[2]
    place = (line // shape[1], line % shape[1], voxel - line * shape[2])
    strides = (shape[1] * shape[2], shape[2], 1)
    count = 0
    for axis in range(3):
        for side in range(2):
            room = place[axis] if side == 0 else shape[axis] - 1 - place[axis]
            stride = -strides[axis] if side == 0 else strides[axis]
            near, far = voxel + stride, voxel + 2 * stride
            if room < 1 or not visited[near] or not inside[near]:
                continue
            strength = float(levels[axis * phase.size + min(voxel, near)])
            votes[0, count] = math.floor((unwrapped[near] - phase[voxel]) / _TURN + 0.5)
            votes[1, count] = strength
            count += 1
            if room < 2 or not visited[far] or not inside[far]:
                continue
            if abs(unwrapped[near] - unwrapped[far]) > _STEEPEST:
                continue
            straight_on = 2 * unwrapped[near] - unwrapped[far]
            votes[0, count] = math.floor((straight_on - phase[voxel]) / _TURN + 0.5)
            votes[1, count] = _STRAIGHT_ON * min(strength, float(levels[axis * phase.size + min(near, far)]))
            count += 1
    most = 0.0
    for a in range(count):
        total = 0.0
        for b in range(count):
            if votes[0, a] == votes[0, b]:
                total += votes[1, b]
        if total > most:
            most = total
            turns = votes[0, a]
    return turns

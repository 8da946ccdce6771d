"""Checks of the total field: steps of whole turns, closed and open, and noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_dilation, find_objects, label

from napari_metaqsm.field.noise import magnitude_noise
from napari_metaqsm.reading.finding import (
    SAMPLED,
    Check,
    Evidence,
    Finding,
    NotChecked,
    Severity,
    Voxel,
    thinned,
)
from napari_metaqsm.scan import Triple
from napari_metaqsm.units import hz_per_ppm, rad_per_ppm

# A step counts as a wrap where it is a whole turn to within this part of one, and the field to either side
# runs on evenly to within this part.
NEAR, EVEN = 0.25, 0.25
# Steep fields near air have steps of all sizes. Wraps are of one: so many times as many are a whole turn as
# are half to three quarters of one.
STANDS_OUT = 2.0
FEWEST_FACES, FEWEST_PART = 30, 5e-5
OPEN_EDGE_MM = 30.0
NOISY_PPM = 0.01
# Voxels that the noise is told from.
_FOR_NOISE = 2_000_000


class Steps(NamedTuple):
    """Steps of a whole turn in a field; ``edge_mm`` is the length of the lines where their surfaces end."""

    turn_ppm: float
    faces: int
    area_mm2: float
    edge_mm: float
    place: Voxel


def wraps(seen: Evidence) -> Finding:
    """Whether the field jumps by whole turns between neighbours."""
    name, found = "Wraps left in the field", steps_of(seen)
    if found is None or found.edge_mm > OPEN_EDGE_MM:
        figure = f"no surface of {FEWEST_FACES} or more steps of a whole turn"
        if found is not None:
            figure = "the steps found are open; see the next line"
        return Finding(name, Severity.IN_ORDER, "No wraps left", figure=figure)
    return Finding(
        name,
        Severity.WRONG,
        f"Wraps left: the field jumps by {found.turn_ppm:.2g} ppm",
        "A region lies a whole turn of phase too high or too low. Background removal and inversion turn the "
        "jump at its border into streaks and false sources that are larger than any tissue's.",
        "Look at the place, and run the field step with another unwrapping, or with a mask that leaves out "
        "where the phase is bad.",
        _figure(found),
        found.place,
    )


def open_steps(seen: Evidence) -> Finding:
    """Whether surfaces of whole turns end within the mask."""
    name, found = "Open steps in the field", steps_of(seen)
    if found is None or found.edge_mm <= OPEN_EDGE_MM:
        edge = 0.0 if found is None else found.edge_mm
        figure = f"{edge:.0f} mm of edges of open steps; up to {OPEN_EDGE_MM:g} mm wanted"
        return Finding(name, Severity.IN_ORDER, "No open steps", figure=figure)
    return Finding(
        name,
        Severity.WRONG,
        f"An open step of {found.turn_ppm:.2g} ppm",
        "A jump of a whole turn begins and ends in the middle of tissue: the phase turns around a line "
        "there. It comes from combining coils wrongly, or from phase that is lost near air or a large bleed, "
        "and no unwrapping can close it.",
        "Look at the place. If it lies in air or at the edge, leave it out of the mask; else have the coils "
        "combined anew, and do not read the map around it.",
        _figure(found),
        found.place,
    )


def noise(seen: Evidence) -> Finding:
    """How large the noise of the field is, as a map of it says, or else as the magnitude tells."""
    name = "Noise of the field"
    if seen.noise is not None and seen.mask is not None:
        values = thinned(seen.noise, SAMPLED)[thinned(seen.mask, SAMPLED)]
        values = values[np.isfinite(values) & (values > 0)]
        if not values.size:
            raise NotChecked("the noise map is empty in the mask")
        typical, source = float(np.median(values)), "the noise map"
    else:
        typical, source = _from_magnitude(seen), "the magnitude, whose anatomy counts as noise too"
    figure = f"{1000 * typical:.2g} ppb, told from {source}; up to {1000 * NOISY_PPM:g} ppb wanted"
    if typical <= NOISY_PPM:
        return Finding(name, Severity.IN_ORDER, f"Noise {1000 * typical:.2g} ppb", figure=figure)
    return Finding(
        name,
        Severity.CARE,
        f"Much noise: {1000 * typical:.2g} ppb in the field",
        "Gray and white matter make fields of some ten ppb. Noise that comes near hides them, and the "
        "inversion makes streaks of it.",
        "Trust only strong and large structures, prefer methods that weight by the noise, and smooth regions "
        "rather than single voxels. Next time acquire later echoes, larger voxels or longer.",
        figure,
    )


def _figure(found: Steps) -> str:
    return (
        f"{found.faces} neighbours differ by a whole turn, {found.turn_ppm:.2g} ppm "
        f"({FEWEST_FACES} allowed); {found.area_mm2:.0f} mm² of surface, {found.edge_mm:.0f} mm of open edge "
        f"(up to {OPEN_EDGE_MM:g} mm counts as closed)"
    )


def _from_magnitude(seen: Evidence) -> float:
    """Standard deviation of the field in ppm that the magnitudes of the echoes allow."""
    times, tesla = seen.acquisition.echo_times_s, seen.acquisition.b0_tesla
    if seen.magnitude is None or times is None or tesla is None:
        raise NotChecked("needs a noise map with a mask, or the magnitude, echo times and field strength")
    if len(seen.magnitude) != len(times):
        raise NotChecked("there is not one magnitude for each echo time")
    part = _middle(seen.geometry.shape)
    inside = seen.inside[part]
    if not inside.any():
        raise NotChecked("the mask is empty in the middle of the volume")
    certainty = 0.0
    for magnitude, time in zip(seen.magnitude, times, strict=True):
        here = np.nan_to_num(magnitude[part].astype(np.float32), posinf=0, neginf=0)
        deviation = magnitude_noise(here, inside)
        if deviation == 0:
            raise NotChecked("the magnitude has no noise")
        certainty += (float(np.median(here[inside])) / deviation * rad_per_ppm(tesla, time)) ** 2
    return certainty**-0.5 if certainty else float("inf")


def _middle(shape: tuple[int, ...]) -> tuple[slice, ...]:
    share = min(1.0, (_FOR_NOISE / np.prod(shape)) ** (1 / 3))
    counts = [max(3, round(n * share)) for n in shape]
    return tuple(slice((n - c) // 2, (n - c) // 2 + c) for n, c in zip(shape, counts, strict=True))


def steps_of(seen: Evidence) -> Steps | None:
    """The steps in the total field of the turn that has most of them; None where no turn stands out."""
    return seen.once("steps", lambda: _find_steps(seen))


def _find_steps(seen: Evidence) -> Steps | None:
    turns = _turns_ppm(seen)
    inside = seen.inside
    box = (find_objects(inside.astype(np.uint8)) or [None])[0]
    if box is None:
        raise NotChecked("the mask is empty")
    inside = inside[box]
    field = np.nan_to_num(seen.total_field[box].astype(np.float32), posinf=0, neginf=0)
    jumps = [_jumps(field, inside, axis, 0.4 * min(turns)) for axis in range(3)]
    sizes = np.abs(np.concatenate([step for _, step, _ in jumps]))
    even = np.concatenate([bend for _, _, bend in jumps])
    best = None
    for turn in turns:
        whole = (np.abs(sizes - turn) < NEAR * turn) & (even < EVEN * turn)
        half = (sizes > 0.5 * turn) & (sizes < 0.75 * turn) & (even < EVEN * turn)
        count = int(whole.sum())
        if count < max(FEWEST_FACES, FEWEST_PART * inside.sum()) or count < STANDS_OUT * int(half.sum()):
            continue
        if best is None or count > best[1]:
            best = (turn, count)
    return None if best is None else _surface(seen, field, inside, box, jumps, *best)


def _turns_ppm(seen: Evidence) -> list[float]:
    """What the field changes by where an echo, or the difference of two, is a whole turn off."""
    times = np.asarray(seen.acquisition.echo_times_s)
    spans = {round(float(t), 6) for t in (*times, *np.diff(times))}
    return sorted({1 / (hz_per_ppm(seen.acquisition.b0_tesla) * span) for span in spans})


def _jumps(
    field: np.ndarray, inside: np.ndarray, axis: int, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps between neighbours of at least ``least``, less the slope to either side of them.

    Returns
    -------
    indices (count, 3) of the first of the two, the step (count,), and the larger slope beside it (count,)
    """
    values, known = np.moveaxis(field, axis, 0), np.moveaxis(inside, axis, 0)
    steps = np.diff(values, axis=0)
    both = known[:-1] & known[1:]
    found = np.argwhere((np.abs(steps[1:-1]) > least) & both[:-2] & both[2:])
    if not len(found):
        return np.zeros((0, 3), int), np.zeros(0, np.float32), np.zeros(0, np.float32)
    i, j, k = found.T
    before, step, after = steps[i, j, k], steps[i + 1, j, k], steps[i + 2, j, k]
    where = np.stack([i + 1, j, k], axis=1)
    where = np.insert(where[:, 1:], axis, where[:, 0], axis=1)
    return where, step - (before + after) / 2, np.maximum(np.abs(before), np.abs(after))


def _surface(
    seen: Evidence,
    field: np.ndarray,
    inside: np.ndarray,
    box: tuple[slice, ...],
    jumps: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    turn: float,
    count: int,
) -> Steps:
    size = seen.geometry.voxel_size_mm
    on_surface = np.zeros(field.shape, bool)
    faces = 0.0
    for axis, (where, step, bend) in enumerate(jumps):
        here = where[(np.abs(np.abs(step) - turn) < NEAR * turn) & (bend < EVEN * turn)]
        on_surface[tuple(here.T)] = True
        faces += len(here) * np.prod(size) / size[axis]
    parts, _ = label(on_surface, np.ones((3, 3, 3)))
    largest = np.argwhere(parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:])))
    centre = largest[np.argmin(np.sum((largest - largest.mean(axis=0)) ** 2, axis=1))]
    place = tuple(int(c) + s.start for c, s in zip(centre, box, strict=True))
    return Steps(turn, count, float(faces), _open_edge_mm(field, inside, on_surface, turn, size), place)


def _open_edge_mm(
    field: np.ndarray, inside: np.ndarray, on_surface: np.ndarray, turn: float, size: Triple
) -> float:
    """Length of the lines, along the surface, around which the steps of whole turns do not add up to none."""
    near = binary_dilation(on_surface, np.ones((3, 3, 3)))
    wraps = [np.rint(np.diff(field, axis=axis) / np.float32(turn)).astype(np.int16) for axis in range(3)]
    length = 0.0
    for across in range(3):
        a, b = (axis for axis in range(3) if axis != across)
        along_a, along_b = wraps[a], wraps[b]
        around = (
            _cut(along_a, b, 0, -1)
            + _cut(along_b, a, 1, None)
            - _cut(along_a, b, 1, None)
            - _cut(along_b, a, 0, -1)
        )
        counts = near & inside
        corners = _cut(_cut(counts, a, 0, -1), b, 0, -1) & _cut(_cut(counts, a, 1, None), b, 1, None)
        corners &= _cut(_cut(counts, a, 0, -1), b, 1, None) & _cut(_cut(counts, a, 1, None), b, 0, -1)
        length += np.count_nonzero(around[corners]) * size[across]
    return length


def _cut(array: np.ndarray, axis: int, start: int, stop: int | None) -> np.ndarray:
    return array[tuple(slice(start, stop) if a == axis else slice(None) for a in range(3))]


CHECKS = (
    Check("Wraps left in the field", ("total_field", "echo_times_s", "b0_tesla"), wraps),
    Check("Open steps in the field", ("total_field", "echo_times_s", "b0_tesla"), open_steps),
    Check("Noise of the field", (), noise),
)

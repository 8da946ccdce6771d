"""How well a set of B0 directions tells every spatial frequency: fewer than three leave some unknown."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_metaqsm.errors import InputError
from napari_metaqsm.scan import Triple

# The zero cones of two dipoles always meet; those of three need not.
FEWEST_DIRECTIONS = 3
# Closer directions tell nearly the same: of three 5 degrees apart in one plane the map has three times the
# noise that it has of three 60 degrees apart.
SMALLEST_ANGLE_DEGREES = 5.0
# From which on the user is told that noise in the fields is amplified.
POOR_CONDITION = 50.0
# Fibonacci's lattice on half a sphere, a degree apart.
_SAMPLES = 20_000


@dataclass(frozen=True)
class Conditioning:
    """What a set of directions does to noise.

    Parameters
    ----------
    condition : largest over smallest length of (D_1(k), D_2(k), …) over all directions of k
    noise_gain : standard deviation of the map over that of one field, white noise
    smallest_angle_degrees : between any two of the directions
    """

    condition: float
    noise_gain: float
    smallest_angle_degrees: float

    @property
    def warning(self) -> str:
        """What to tell the user of a poor set; else empty."""
        if self.condition <= POOR_CONDITION:
            return ""
        return (
            f"the B0 directions are poorly conditioned ({self.condition:.0f}): some spatial frequencies are "
            "hardly seen by any field; turn the head further, or about another axis"
        )


def conditioning(directions: Sequence[Triple], threshold: float = 0.0) -> Conditioning:
    """Of the closed form with these B0 directions (of any length and sense).

    Parameters
    ----------
    threshold : the root mean square of D below which the closed form does not divide by it

    Raises
    ------
    InputError
        When there are fewer than three directions that differ.
    """
    check_directions(directions)
    units = _units(directions)
    squared = (1 / 3 - (units @ _half_sphere()) ** 2).square().sum(0)
    floored = squared.clamp(min=max(len(units) * threshold**2, 1e-12))
    return Conditioning(
        condition=float((squared.max() / squared.min().clamp(min=1e-12)).sqrt()),
        noise_gain=float((squared / floored**2).mean().sqrt()),
        smallest_angle_degrees=min(_angles(units).values()),
    )


def check_directions(directions: Sequence[Triple]) -> None:
    """Whether at least three of the directions differ; B0 has no sense that matters.

    Raises
    ------
    InputError
        When they do not; the message says which are alike.
    """
    if len(directions) < FEWEST_DIRECTIONS:
        raise InputError(
            f"there are {len(directions)} fields; COSMOS needs {FEWEST_DIRECTIONS} or more, each with the "
            "head turned otherwise"
        )
    if any(not math.hypot(*d) > 0 for d in directions):
        raise InputError("a B0 direction is (0, 0, 0); it must point along B0")
    angles = _angles(_units(directions))
    distinct: list[int] = []
    for n in range(len(directions)):
        if all(angles[m, n] >= SMALLEST_ANGLE_DEGREES for m in distinct):
            distinct.append(n)
    if len(distinct) < FEWEST_DIRECTIONS:
        (first, second), angle = min(angles.items(), key=lambda item: item[1])
        raise InputError(
            f"the B0 directions are too alike: those of fields {first + 1} and {second + 1} are {angle:.1f} "
            f"degrees apart; give three or more fields whose directions differ by {SMALLEST_ANGLE_DEGREES:g} "
            "degrees, along the axes that the fields share"
        )


def _units(directions: Sequence[Triple]) -> Tensor:
    rows = torch.tensor(directions, dtype=torch.float64)
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)


def _angles(units: Tensor) -> dict[tuple[int, int], float]:
    """Degrees between each two lines."""
    pairs = itertools.combinations(range(len(units)), 2)
    return {
        (m, n): math.degrees(
            math.atan2(
                float(torch.linalg.vector_norm(torch.linalg.cross(units[m], units[n]))),
                abs(float(units[m] @ units[n])),
            )
        )
        for m, n in pairs
    }


def _half_sphere() -> Tensor:
    """Directions of k (3, samples), evenly spread; D is the same for k and -k."""
    index = torch.arange(_SAMPLES, dtype=torch.float64) + 0.5
    height = index / _SAMPLES
    radius, turn = (1 - height**2).sqrt(), math.pi * (1 + 5**0.5) * index
    return torch.stack([radius * turn.cos(), radius * turn.sin(), height])

"""What is known of a scan: its geometry, how it was acquired, and its arrays.

Spatial axes are the last three, in the array's own order; voxel size and B0 direction are given
along those same axes. Nothing here knows which of them is called z.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_metaqsm.errors import InputError

Triple = tuple[float, float, float]

# Outside these an echo time is in another unit than seconds rather than unusual.
SHORTEST_ECHO_TIME_S = 5e-5
LONGEST_ECHO_TIME_S = 0.5
# From earth's field to the strongest magnets for small animals.
STRONGEST_B0_TESLA = 25.0


@dataclass(frozen=True)
class Geometry:
    """Matrix size, voxel size and B0 direction, all along the array's three spatial axes.

    Parameters
    ----------
    shape : three ints
    voxel_size_mm : three floats
    b0_direction : any vector along B0, of either sense; it is kept as a unit vector
    orientation : where each axis points in the patient, as in "RAS" (first axis to the right, second
        to anterior, third to superior). Only brain extraction asks for it.

    Raises
    ------
    InputError
        When the shape is not three axes of two or more voxels, a voxel size is not positive, or the
        direction is zero.
    """

    shape: tuple[int, int, int]
    voxel_size_mm: Triple
    b0_direction: Triple = (0.0, 0.0, 1.0)
    orientation: str = "RAS"

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3:
            raise InputError(f"the image has {len(shape)} axes; susceptibility mapping needs a 3-D volume")
        if min(shape) < 2:
            raise InputError(
                f"the image is {_by(shape)} voxels; a single slice has no 3-D field, give the whole volume"
            )
        object.__setattr__(self, "shape", shape)
        size = _three("voxel_size_mm", self.voxel_size_mm)
        if min(size) <= 0:
            raise InputError(f"voxel_size_mm is {size}; each must be greater than 0")
        object.__setattr__(self, "voxel_size_mm", size)
        direction = _three("b0_direction", self.b0_direction)
        length = math.hypot(*direction)
        if length == 0:
            raise InputError("b0_direction is (0, 0, 0); it must point along B0")
        object.__setattr__(self, "b0_direction", tuple(b / length for b in direction))
        codes = str(self.orientation).upper()
        if len(codes) != 3 or any(len(set(pair) & set(codes)) != 1 for pair in ("RL", "AP", "SI")):
            raise InputError(
                f"orientation is {self.orientation!r}; it must be three letters such as RAS or LPI"
            )
        object.__setattr__(self, "orientation", codes)

    def with_shape(self, shape: Sequence[int]) -> Geometry:
        """The same voxels and direction on a grid of another matrix size."""
        return dataclasses.replace(self, shape=tuple(shape))

    def permuted(self, axes: Sequence[int]) -> Geometry:
        """The geometry of ``array.transpose(axes)``."""
        return Geometry(
            *(
                tuple(values[a] for a in axes)
                for values in (self.shape, self.voxel_size_mm, self.b0_direction)
            ),
            orientation="".join(self.orientation[a] for a in axes),
        )

    def turned(self, to: str) -> Geometry:
        """The geometry of :func:`turned` arrays."""
        order, flipped = turn(self.orientation, to)
        permuted = self.permuted(order)
        direction = tuple(-b if axis in flipped else b for axis, b in enumerate(permuted.b0_direction))
        return dataclasses.replace(permuted, b0_direction=direction, orientation=to)


def turn(orientation: str, to: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How to turn an array from one orientation to another, as in "RAS" to "IPL".

    Returns
    -------
    the order to transpose its spatial axes into, and which of the new axes to flip then
    """
    pairs = {letter: pair for pair in ("RL", "AP", "SI") for letter in pair}
    order = tuple(next(a for a, code in enumerate(orientation) if code in pairs[letter]) for letter in to)
    return order, tuple(new for new, old in enumerate(order) if orientation[old] != to[new])


def turned(array: np.ndarray, orientation: str, to: str) -> np.ndarray:
    """An array (..., i, j, k) of one orientation in another; a view."""
    order, flipped = turn(orientation, to)
    first = array.ndim - 3
    array = array.transpose(*range(first), *(first + axis for axis in order))
    return np.flip(array, [first + axis for axis in flipped])


def _three(name: str, values: Sequence[float]) -> Triple:
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} is {values!r}; it must be three numbers") from None
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise InputError(f"{name} is {numbers}; it must be three finite numbers")
    return numbers


def _by(shape: Sequence[int]) -> str:
    return "×".join(str(n) for n in shape)


@dataclass(frozen=True)
class Acquisition:
    """How the phase was acquired; what is unknown is None.

    Parameters
    ----------
    echo_times_s : one per echo, ascending; for a phase *difference*, the difference of its two echo
        times alone
    b0_tesla : field strength
    phase_sign : +1 where phase grows with a paramagnetic field (phase = +2 pi gamma B TE), -1 where
        the scanner inverts it
    phase_pi : the stored value that means pi radians; None recognises radians and the integer
        ranges of the vendors, and refuses the rest

    Raises
    ------
    InputError
        When a value cannot be meant, with the unit it was probably given in.
    """

    echo_times_s: tuple[float, ...] | None = None
    b0_tesla: float | None = None
    phase_sign: int = 1
    phase_pi: float | None = None

    def __post_init__(self) -> None:
        if self.echo_times_s is not None:
            try:
                times = tuple(float(t) for t in np.atleast_1d(self.echo_times_s))
            except (TypeError, ValueError, OverflowError):
                raise InputError(
                    f"echo_times_s is {self.echo_times_s!r}; it must be numbers of seconds, one per echo"
                ) from None
            object.__setattr__(self, "echo_times_s", times)
            _check_echo_times(times)
        try:
            object.__setattr__(self, "b0_tesla", None if self.b0_tesla is None else float(self.b0_tesla))
        except (TypeError, ValueError, OverflowError):
            raise InputError(
                f"b0_tesla is {self.b0_tesla!r}; it must be the field strength in tesla"
            ) from None
        if self.b0_tesla is not None and not 0 < self.b0_tesla <= STRONGEST_B0_TESLA:
            raise InputError(
                f"b0_tesla is {self.b0_tesla:g}; the field strength must lie in (0, {STRONGEST_B0_TESLA:g}] T"
            )
        if self.phase_sign not in (1, -1):
            raise InputError(f"phase_sign is {self.phase_sign!r}; it must be 1 or -1")
        if self.phase_pi is not None and not (math.isfinite(self.phase_pi) and self.phase_pi > 0):
            raise InputError(f"phase_pi is {self.phase_pi!r}; it must be the stored value that means pi")


def _check_echo_times(times: tuple[float, ...]) -> None:
    text = ", ".join(f"{t:g}" for t in times)
    if not times:
        raise InputError("there are no echo times; give one per echo, in seconds")
    if not all(map(math.isfinite, times)) or min(times) <= 0:
        raise InputError(f"echo_times_s is {text}; each must be greater than 0")
    if max(times) > LONGEST_ECHO_TIME_S:
        raise InputError(
            f"echo_times_s is {text}; that looks like milliseconds, give seconds: "
            + ", ".join(f"{t / 1000:g}" for t in times)
        )
    if min(times) < SHORTEST_ECHO_TIME_S:
        raise InputError(
            f"echo_times_s is {text}; no echo is that short, check the unit (seconds given where "
            "milliseconds were expected?)"
        )
    if any(late <= early for early, late in itertools.pairwise(times)):
        raise InputError(f"echo_times_s is {text}; they must ascend, in the order of the echoes")


@dataclass(frozen=True)
class Scan:
    """The arrays of one scan, from wherever in the chain the data start.

    Parameters
    ----------
    geometry, acquisition : see there
    phase : (echo, i, j, k) or (i, j, k), as stored; ``acquisition`` says how to read it
    magnitude : (echo, i, j, k) or (i, j, k), any unit
    total_field, local_field, noise : (i, j, k), ppm
    mask : (i, j, k), zero outside
    space : what the reader needs to write results where the input lay (see ``io.nifti``)
    sources : file of each array, for the record
    decisions : how the reader took the data, and from which evidence, in words; nothing to worry about
    notes : what was assumed, is missing or has to be read with care, in words

    Raises
    ------
    InputError
        When an array does not have the scan's shape or holds nothing usable.
    """

    geometry: Geometry
    acquisition: Acquisition = field(default_factory=Acquisition)
    phase: np.ndarray | None = None
    magnitude: np.ndarray | None = None
    total_field: np.ndarray | None = None
    local_field: np.ndarray | None = None
    noise: np.ndarray | None = None
    mask: np.ndarray | None = None
    space: Any = None
    sources: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("phase", "magnitude"):
            array = getattr(self, name)
            if array is not None and np.ndim(array) == 3:
                object.__setattr__(self, name, np.asarray(array)[None])
        for name, array in self.arrays().items():
            if np.iscomplexobj(array):
                raise InputError(f"the {name.replace('_', ' ')} is complex; give magnitude and phase apart")
            if array.shape[-3:] != self.geometry.shape or array.ndim != (
                4 if name in ("phase", "magnitude") else 3
            ):
                raise InputError(
                    f"the {name.replace('_', ' ')} is {_by(array.shape)} voxels, but the scan is "
                    f"{_by(self.geometry.shape)}; they must match"
                )
        self._check_echoes()

    def with_mask(self, mask: np.ndarray | None) -> Scan:
        """The same scan with another mask, or with none."""
        sources = {name: source for name, source in self.sources.items() if name != "mask"}
        return dataclasses.replace(self, mask=mask, sources=sources)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that are there, by name."""
        names = ("phase", "magnitude", "total_field", "local_field", "noise", "mask")
        return {n: np.asarray(getattr(self, n)) for n in names if getattr(self, n) is not None}

    def _check_echoes(self) -> None:
        if self.phase is None or self.acquisition.echo_times_s is None:
            return
        echoes, times = len(self.phase), len(self.acquisition.echo_times_s)
        if echoes != times:
            raise InputError(f"there are {times} echo times for {echoes} echoes of phase; give one for each")

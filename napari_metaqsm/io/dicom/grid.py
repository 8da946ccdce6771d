"""Where parallel images lie in DICOM, and how an array in a NIfTI file's axes becomes such images."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.nifti import Space

# NIfTI counts millimetres to the right, anterior, superior; DICOM to the left, posterior, superior.
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0])
# Two places count as one where they are closer than either: headers are rounded.
_TOLERANCE_MM, _TOLERANCE_VOXEL = 0.1, 0.05


@dataclass(frozen=True, eq=False)
class Grid:
    """Pixels of parallel images in the patient's millimetres (left, posterior, superior).

    Parameters
    ----------
    orientation : (2, 3), unit; from one column to the next, and from one row to the next
    spacing_mm : between rows, between columns: DICOM's order
    shape : rows, columns
    positions : (slice, 3), centre of the first pixel of each image, in ascending order along ``normal``
    slice_spacing_mm : between neighbours
    """

    orientation: np.ndarray
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    positions: np.ndarray
    slice_spacing_mm: float

    @property
    def normal(self) -> np.ndarray:
        return np.cross(*self.orientation)

    @property
    def steps_mm(self) -> np.ndarray:
        """(3, 3), in columns: one slice, one row, one column further."""
        along_row, along_column = self.orientation
        between_rows, between_columns = self.spacing_mm
        return np.stack(
            [
                self.normal * self.slice_spacing_mm,
                along_column * between_rows,
                along_row * between_columns,
            ],
            axis=1,
        )

    @property
    def size(self) -> tuple[int, int, int]:
        return len(self.positions), *self.shape

    @property
    def tolerance_mm(self) -> float:
        return max(_TOLERANCE_MM, _TOLERANCE_VOXEL * float(np.linalg.norm(self.steps_mm, axis=0).min()))


@dataclass(frozen=True, eq=False)
class Layout:
    """How an array is laid out as images.

    The grid is that of the array's own affine; :func:`settle` gives it its place among the source's images.

    Parameters
    ----------
    axes : of the array, that become slice, row and column
    flipped : those of the three that run backwards
    """

    grid: Grid
    axes: tuple[int, int, int]
    flipped: tuple[int, ...]

    def images(self, array: np.ndarray) -> np.ndarray:
        """(slice, row, column), a view of the array (i, j, k)."""
        return np.flip(np.transpose(array, self.axes), self.flipped)


def lay_out(space: Space, like: Grid) -> Layout:
    """The images that hold an array of ``space``, in the orientation that is next to that of ``like``.

    Axes are exchanged and turned round, never resampled: each voxel becomes one pixel at its own place.

    Raises
    ------
    InputError
        When the affine is sheared beyond rounding.
    """
    steps = LPS_FROM_RAS @ space.affine[:3, :3]
    lengths = np.linalg.norm(steps, axis=0)
    cosines = (like.steps_mm / np.linalg.norm(like.steps_mm, axis=0)).T @ (steps / lengths)
    axes = max(
        itertools.permutations(range(3)),
        key=lambda order: sum(abs(cosines[n, axis]) for n, axis in enumerate(order)),
    )
    flipped = tuple(n for n, axis in enumerate(axes) if cosines[n, axis] < 0)
    signs = np.array([-1 if n in flipped else 1 for n in range(3)])
    counts = np.array(space.shape)[list(axes)]
    steps = steps[:, axes] * signs
    # The first pixel of the first image is the last voxel along each axis that is turned round.
    corner = np.zeros(3)
    corner[[axes[n] for n in flipped]] = counts[list(flipped)] - 1
    origin = LPS_FROM_RAS @ (space.affine[:3, :3] @ corner + space.affine[:3, 3])
    rigid = _rigid(steps)
    middle = (counts - 1) / 2
    origin = origin + (steps - rigid) @ middle
    grid = Grid(
        np.stack([rigid[:, 2], rigid[:, 1]]) / np.linalg.norm(rigid, axis=0)[[2, 1], None],
        tuple(float(s) for s in np.linalg.norm(rigid, axis=0)[1:]),
        tuple(int(n) for n in counts[1:]),
        origin + np.arange(counts[0])[:, None] * rigid[:, 0],
        float(np.linalg.norm(rigid[:, 0])),
    )
    if np.abs((steps - rigid) @ np.diag(middle)).sum() > grid.tolerance_mm:
        raise InputError("the affine of the map is sheared; resample the map to a rectangular grid")
    return Layout(grid, axes, flipped)


def _rigid(steps: np.ndarray) -> np.ndarray:
    """The nearest steps at right angles (orthogonal Procrustes), of the same lengths."""
    lengths = np.linalg.norm(steps, axis=0)
    left, _, right = np.linalg.svd(steps / lengths)
    return left @ right * lengths


def nearest_slices(grid: Grid, within: Grid) -> np.ndarray:
    """For each image of ``grid``, the index of the image of ``within`` that is nearest to its middle."""
    middles = grid.positions + grid.steps_mm[:, 1:] @ ((np.array(grid.shape) - 1) / 2)
    across = (middles[:, None] - within.positions[None]) @ within.normal
    return np.abs(across).argmin(axis=1)


def settle(grid: Grid, source: Grid) -> Grid:
    """``grid`` where it lies among the images of ``source``.

    A map on the lattice of its source, or on a part of it, must meet its slices and pixels to 0.1 mm or
    5 % of a voxel; it gets the source's own numbers, which the affine of a file has only rounded. A map on
    another lattice was resampled, and stays as it is; it must lie inside its source.

    Raises
    ------
    InputError
        When the map cannot have been made from the source.
    """
    tolerance = source.tolerance_mm
    outside = _outside_mm(grid, source)
    if outside > tolerance:
        raise InputError(f"the map reaches {outside:.3g} mm out of the images of the DICOM series")
    extent = np.array(grid.size) - 1
    drift = np.linalg.norm((grid.steps_mm - source.steps_mm) * extent, axis=0).max()
    if drift > tolerance:
        return grid  # turned, or of another voxel size
    nearest = nearest_slices(grid, source)
    offset = np.linalg.solve(source.steps_mm, (grid.positions - source.positions[nearest]).mean(axis=0))
    whole = np.round(offset[1:])
    positions = source.positions[nearest] + source.steps_mm[:, 1:] @ whole
    apart = float(np.linalg.norm(grid.positions - positions, axis=1).max())
    if apart > tolerance:
        raise InputError(f"the voxels of the map lie {apart:.3g} mm beside those of the DICOM series")
    return replace(source, shape=grid.shape, positions=positions)


def _outside_mm(grid: Grid, source: Grid) -> float:
    """How far the centres of the outermost pixels lie outside the source's outermost faces."""
    ends = np.array(list(itertools.product(*((0, n - 1) for n in grid.size))))
    corners = grid.positions[ends[:, 0]] + ends[:, 1:] @ grid.steps_mm[:, 1:].T
    directions = source.steps_mm / np.linalg.norm(source.steps_mm, axis=0)
    sizes = np.linalg.norm(source.steps_mm, axis=0)
    along = (corners - source.positions[0]) @ directions
    last = np.array(
        [
            (source.positions[-1] - source.positions[0]) @ source.normal,
            (source.shape[0] - 1) * sizes[1],
            (source.shape[1] - 1) * sizes[2],
        ]
    )
    return float(np.maximum(-sizes / 2 - along, along - last - sizes / 2).max())

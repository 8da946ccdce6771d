"""Arrays in a NIfTI file's axes as DICOM images: each voxel at its own place, whatever the affine."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import AXIAL, OBLIQUE, SAGITTAL

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.grid import Grid, lay_out, nearest_slices, settle
from napari_metaqsm.io.nifti import Space

SHAPE = (5, 4, 3)
SOURCE = Grid(
    np.array([[1.0, 0, 0], [0, 1.0, 0]]),
    (0.8, 0.9),
    (4, 5),
    np.array([[-2.0, 3.0, z] for z in (0.0, 2.0, 4.0)]),
    2.0,
)


def space(affine, shape=SHAPE):
    return Space(shape, np.array(affine, float), nib.Nifti1Header())


def grid_of(affine, shape=SHAPE):
    """Images with rows along j, columns along i, slices along k, as a scanner would have stored them."""
    steps = np.diag([-1.0, -1, 1]) @ affine[:3, :3]
    size = np.linalg.norm(steps, axis=0)
    orientation = np.stack([steps[:, 0] / size[0], steps[:, 1] / size[1]])
    normal = np.cross(*orientation)
    positions = np.array([np.diag([-1.0, -1, 1]) @ (affine @ [0, 0, k, 1])[:3] for k in range(shape[2])])
    order = np.argsort(positions @ normal)
    return Grid(orientation, (size[1], size[0]), (shape[1], shape[0]), positions[order], size[2])


def check_every_voxel(affine, layout, tolerance_mm, shape=SHAPE):
    """Places by DICOM's equation (PS3.3 C.7.6.2.1.1) against those by the affine."""
    images = layout.images(np.arange(np.prod(shape)).reshape(shape))
    grid = layout.grid
    assert images.shape == grid.size
    n, row, column = np.indices(images.shape)
    along_row, along_column = grid.orientation
    between_rows, between_columns = grid.spacing_mm
    lps = grid.positions[n]
    lps = (
        lps
        + (column * between_columns)[..., None] * along_row
        + (row * between_rows)[..., None] * along_column
    )
    voxels = np.stack(np.unravel_index(images, shape), axis=-1)
    ras = voxels @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(lps * [-1, -1, 1], ras, atol=tolerance_mm)


@pytest.mark.parametrize("base", [AXIAL, OBLIQUE, SAGITTAL], ids=["axial", "oblique", "sagittal"])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_every_voxel_keeps_its_place_for_any_order_and_sense_of_axes(base, order, signs):
    affine = base.copy()
    affine[:3, :3] = base[:3, :3][:, order] * signs
    layout = lay_out(space(affine), grid_of(base))
    check_every_voxel(affine, layout, 1e-5)
    np.testing.assert_allclose(layout.grid.orientation, grid_of(base).orientation, atol=1e-6)
    assert (np.diff(layout.grid.positions @ layout.grid.normal) > 0).all()


def rotation(angles):
    a, b, c = angles
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return x @ y @ z


@given(
    st.tuples(*[st.floats(-3.2, 3.2)] * 3),
    st.tuples(*[st.floats(0.3, 4.0)] * 3),
    st.tuples(*[st.floats(-100, 100)] * 3),
    st.booleans(),
)
def test_every_voxel_keeps_its_place_for_any_affine(angles, size, origin, mirrored):
    affine = np.eye(4)
    affine[:3, :3] = rotation(angles) @ np.diag(size) @ np.diag([-1 if mirrored else 1, 1, 1])
    affine[:3, 3] = origin
    layout = lay_out(space(affine), SOURCE)
    check_every_voxel(affine, layout, 1e-9)
    cosines = np.einsum("ij,ij->i", layout.grid.orientation, layout.grid.orientation[::-1])
    np.testing.assert_allclose(cosines, 0, atol=1e-12)


def test_a_sheared_affine_is_refused_and_one_of_rounding_straightened():
    sheared = np.diag([1.0, 1, 1, 1])
    sheared[0, 1] = 0.2
    with pytest.raises(InputError, match="sheared"):
        lay_out(space(sheared, (64, 64, 30)), SOURCE)
    sheared[0, 1] = 1e-3
    layout = lay_out(space(sheared, (65, 65, 31)), SOURCE)
    # The middle of the volume stays: both axes turn by half the shear, over half the volume (32 mm).
    check_every_voxel(sheared, layout, 0.017, (65, 65, 31))
    assert abs(layout.grid.orientation[0] @ layout.grid.orientation[1]) < 1e-12


# ----------------------------------------------------------------------------- where it may lie
def on(source, **changes):
    """The source's grid, some slices and pixels of it, moved."""
    slices, rows, columns = changes.get("part", (slice(None),) * 3)
    first = (rows.start or 0, columns.start or 0)
    positions = source.positions[slices] + source.steps_mm[:, 1:] @ first + changes.get("moved", 0)
    shape = len(range(source.shape[0])[rows]), len(range(source.shape[1])[columns])
    return Grid(source.orientation, source.spacing_mm, shape, positions, source.slice_spacing_mm)


def test_a_map_of_the_source_and_a_part_of_it_get_the_sources_own_numbers():
    whole = settle(on(SOURCE, moved=1e-4), SOURCE)
    np.testing.assert_array_equal(whole.positions, SOURCE.positions)
    part = on(SOURCE, part=(slice(1, 3), slice(1, 3), slice(2, 5)), moved=1e-4)
    settled = settle(part, SOURCE)
    assert settled.size == (2, 2, 3)
    np.testing.assert_allclose(settled.positions, part.positions - 1e-4, atol=1e-12)
    np.testing.assert_array_equal(nearest_slices(settled, SOURCE), [1, 2])


@pytest.mark.parametrize("moved", [(0.3, 0, 0), (0, 0.3, 0), (0, 0, 0.5)])
def test_a_map_of_the_same_voxels_beside_those_of_the_source_is_refused(moved):
    part = (slice(0, 2), slice(1, 3), slice(1, 4))
    assert settle(on(SOURCE, part=part), SOURCE).size == (2, 2, 3)
    with pytest.raises(InputError, match=r"lie 0\.[35] mm beside"):
        settle(on(SOURCE, part=part, moved=np.array(moved)), SOURCE)


@pytest.mark.parametrize("moved", [(50.0, 0, 0), (0, -8.0, 0), (0, 0, 6.0)])
def test_a_map_outside_the_source_is_refused(moved):
    with pytest.raises(InputError, match="out of the images"):
        settle(on(SOURCE, moved=np.array(moved)), SOURCE)


def test_a_resampled_map_stays_as_it_is_but_inside_its_source():
    finer = Grid(SOURCE.orientation, (0.5, 0.5), (5, 6), np.array([[-1.9, 3.1, z] for z in (0.3, 1.3)]), 1.0)
    assert settle(finer, SOURCE) is finer
    np.testing.assert_array_equal(nearest_slices(finer, SOURCE), [0, 1])
    with pytest.raises(InputError, match="out of the images"):
        settle(Grid(finer.orientation, (0.5, 0.5), (5, 12), finer.positions, 1.0), SOURCE)

"""NIfTI in and out, held to nibabel's own reading and to headers broken on purpose."""

import gzip
import itertools
import math
import os

import nibabel as nib
import numpy as np
import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.nifti import check_writable, read, space_from, staged, write
from napari_metaqsm.scan import Geometry

ALL_CODES = [
    "".join(codes)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*order)
]
TILT = 0.2  # rad about x and then y, small enough that the axis codes stay
SHAPE, SIZE = (3, 4, 5), (0.75, 1.5, 3.0)
NUMBERS = np.random.default_rng(0)


def rotation(tilt):
    c, s = math.cos(tilt), math.sin(tilt)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def affine_of(codes, tilt=0.0):
    """Axes to ``codes``, tilted in the scanner, with ``SIZE`` and an off-centre origin."""
    axes = np.zeros((3, 3))
    for axis, code in enumerate(codes):
        row = next(i for i, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        axes[row, axis] = 1 if code in "RAS" else -1
    affine = np.eye(4)
    affine[:3, :3] = rotation(tilt) @ axes @ np.diag(SIZE)
    affine[:3, 3] = (-11.0, 7.0, 3.5)
    return affine


def make(path, array=None, affine=None, sform=1, qform=1, **header):
    """A file with the forms asked for; a code of 0 leaves a form out."""
    array = NUMBERS.normal(size=SHAPE).astype(np.float32) if array is None else array
    image = nib.Nifti1Image(array, None)
    affine = affine_of("RAS") if affine is None else affine
    image.header.set_zooms((*SIZE, *(1,) * (array.ndim - 3))[: array.ndim])
    if qform:
        image.header.set_qform(affine, code=qform)
    if sform:
        image.header.set_sform(affine, code=sform)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


@pytest.mark.parametrize("tilt", [0.0, TILT])
@pytest.mark.parametrize("codes", ALL_CODES)
def test_a_file_comes_back_exactly(tmp_path, codes, tilt):
    for volumes, forms in [((), (1, 1)), ((2,), (2, 0)), ((), (0, 1)), ((2,), (4, 1))]:
        values = NUMBERS.normal(size=(*SHAPE, *volumes)).astype(np.float32)
        source = make(tmp_path / "in.nii.gz", values, affine_of(codes, tilt), *forms)
        array, space = read(source)
        before = nib.load(source)
        after = nib.load(write(tmp_path / "out.nii.gz", array, space))
        np.testing.assert_array_equal(after.dataobj, values)
        for name in ("sform_code", "qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x"):
            assert after.header[name] == before.header[name], name
        for name in ("srow_x", "srow_y", "srow_z"):
            np.testing.assert_array_equal(after.header[name], before.header[name])
        np.testing.assert_array_equal(after.header["pixdim"][:4], before.header["pixdim"][:4])
        assert after.get_data_dtype() == np.float32
    stored = gzip.decompress((tmp_path / "out.nii.gz").read_bytes())[112:120]
    assert np.frombuffer(stored, "<f4").tolist() == [1, 0]  # slope and intercept, which nibabel hides


@pytest.mark.parametrize("tilt", [0.0, TILT])
@pytest.mark.parametrize("codes", ALL_CODES)
def test_geometry_lies_along_the_files_axes(tmp_path, codes, tilt):
    """B0 by its meaning: a step of one mm along it, in array axes, moves one mm along scanner z."""
    geometry = read(make(tmp_path / "x.nii", affine=affine_of(codes, tilt)))[1].geometry()
    assert geometry.orientation == codes
    np.testing.assert_allclose(geometry.voxel_size_mm, SIZE, rtol=1e-6)
    step = affine_of(codes, tilt)[:3, :3] @ (np.array(geometry.b0_direction) / SIZE)
    np.testing.assert_allclose(step, [0, 0, 1], atol=1e-6)


def test_echoes_come_first_and_the_slope_is_applied(tmp_path):
    stored = NUMBERS.integers(0, 4095, (*SHAPE, 2)).astype(np.int16)
    image = nib.Nifti1Image(stored, affine_of("LPS"))
    image.header.set_slope_inter(2, -4096)
    path = tmp_path / "x.nii"
    # nibabel would choose its own slope for scaled data; the header says what was stored.
    image.to_filename(path)
    with path.open("r+b") as file:
        file.seek(112)
        file.write(np.array([2, -4096], "<f4").tobytes())
        file.seek(352)
        file.write(stored.tobytes(order="F"))
    array, _ = read(path)
    assert array.shape == (2, *SHAPE)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.moveaxis(stored, 3, 0) * 2.0 - 4096)


def test_masks_are_bytes_and_labels_keep_their_numbers(tmp_path):
    _, space = read(make(tmp_path / "x.nii"))
    for values, kind in [(np.ones(SHAPE, bool), np.uint8), (np.full(SHAPE, 2035), np.int16)]:
        image = nib.load(write(tmp_path / "y.nii.gz", values, space))
        assert image.get_data_dtype() == kind
        np.testing.assert_array_equal(image.dataobj, values)


def test_a_big_endian_nifti_2_file_is_read_and_written(tmp_path):
    values = NUMBERS.normal(size=SHAPE).astype(">f4")
    image = nib.Nifti2Image(values, affine_of("LAS", TILT), nib.Nifti2Header(endianness=">"))
    nib.save(image, tmp_path / "x.nii")
    array, space = read(tmp_path / "x.nii")
    again, same = read(write(tmp_path / "y.nii", array, space))
    np.testing.assert_array_equal(again, values)
    np.testing.assert_array_equal(same.affine, image.affine)


def test_without_an_affine_the_voxel_sizes_do_and_it_is_said(tmp_path):
    _, space = read(make(tmp_path / "x.nii", sform=0, qform=0))
    assert space.geometry().voxel_size_mm == SIZE
    assert not space.known
    assert "x.nii holds no affine" in space.note


def test_b0_is_the_scanners_where_the_sform_is_a_templates(tmp_path):
    path = make(tmp_path / "x.nii", affine=affine_of("RAS", TILT))
    image = nib.load(path)
    image.header.set_sform(affine_of("RAS"), code=4)
    nib.save(nib.Nifti1Image(image.dataobj, None, image.header), tmp_path / "y.nii")
    expected = read(path)[1].geometry().b0_direction
    np.testing.assert_allclose(read(tmp_path / "y.nii")[1].geometry().b0_direction, expected, atol=1e-6)


def two_transforms(path, codes, qform):
    """A file whose sform is that of a straight scan, and whose qform is another."""
    image = nib.load(make(path, affine=affine_of("RAS")))
    image.header.set_sform(affine_of("RAS"), code=codes[0])
    image.header.set_qform(qform, code=codes[1])
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), path)
    return read(path)[1]


def test_it_is_said_where_the_two_transforms_of_a_header_differ(tmp_path):
    larger = affine_of("RAS") @ np.diag([2, 1, 1, 1])
    space = two_transforms(tmp_path / "x.nii", (1, 1), larger)
    assert space.geometry().voxel_size_mm == pytest.approx(SIZE)
    assert "sform and qform of x.nii give voxels of" in space.note
    assert "those of the sform are taken" in space.note
    space = two_transforms(tmp_path / "x.nii", (2, 1), larger)
    assert space.geometry().voxel_size_mm == pytest.approx((2 * SIZE[0], *SIZE[1:]))
    assert "those of the qform are taken" in space.note
    space = two_transforms(tmp_path / "x.nii", (1, 1), affine_of("RAS", TILT))
    apart = np.degrees(np.arccos(np.cos(TILT) ** 2))  # it is turned about two axes
    assert f"put B0 {apart:.1f} degrees apart" in space.note
    assert space.geometry().b0_direction == pytest.approx((0, 0, 1))
    # Aligned with another scan, or in a template's space, they are meant to differ.
    assert not two_transforms(tmp_path / "x.nii", (2, 1), affine_of("RAS", TILT)).note
    assert not two_transforms(tmp_path / "x.nii", (4, 1), larger).note
    assert not two_transforms(tmp_path / "x.nii", (1, 1), affine_of("RAS", np.radians(0.5))).note


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3)])
def test_other_units_become_millimetres(tmp_path, unit, factor):
    affine = affine_of("RAS")
    affine[:3] *= factor
    image = nib.Nifti1Image(np.ones(SHAPE, np.float32), affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "x.nii")
    np.testing.assert_allclose(read(tmp_path / "x.nii")[1].geometry().voxel_size_mm, SIZE, rtol=1e-5)


# ------------------------------------------------------------------------------ bad files
def refused(path, message):
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 5), "2 axes"),
        ((4, 5, 1), "single slice"),
        ((4, 5, 1, 3), "single slice"),
        ((3, 4, 5, 2, 2), "5 axes"),
    ],
)
def test_what_is_no_volume_is_refused(tmp_path, shape, message):
    nib.save(nib.Nifti1Image(np.ones(shape, np.float32), affine_of("RAS")), tmp_path / "x.nii")
    refused(tmp_path / "x.nii", message)


def test_an_axis_of_one_behind_the_echoes_is_no_axis(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((*SHAPE, 2, 1), np.float32), affine_of("RAS")), tmp_path / "x.nii")
    assert read(tmp_path / "x.nii")[0].shape == (2, *SHAPE)


def test_complex_and_coloured_files_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.complex64), affine_of("RAS")), tmp_path / "c.nii")
    refused(tmp_path / "c.nii", "complex; give magnitude and phase")
    colours = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nib.save(nib.Nifti1Image(colours, affine_of("RAS")), tmp_path / "rgb.nii")
    refused(tmp_path / "rgb.nii", "colours")


def test_what_is_missing_or_no_nifti_is_refused(tmp_path):
    refused(tmp_path / "none.nii", "does not exist")
    (tmp_path / "text.nii").write_text("not an image" * 100)
    refused(tmp_path / "text.nii", "no readable NIfTI")
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    refused(tmp_path / "empty.nii.gz", "no readable NIfTI")
    (tmp_path / "x.dcm").write_bytes(b"DICM")
    refused(tmp_path / "x.dcm", "must end in .nii")
    (tmp_path / "folder.nii").mkdir()
    refused(tmp_path / "folder.nii", "is a folder")


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_truncated_files_are_refused(tmp_path, name, kept):
    path = make(tmp_path / name, NUMBERS.normal(size=(20, 20, 20)).astype(np.float32))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    refused(path, "truncated|no readable")


def test_a_damaged_gzip_stream_is_refused(tmp_path):
    path = make(tmp_path / "x.nii.gz", NUMBERS.normal(size=(20, 20, 20)).astype(np.float32))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(content)
    refused(path, "truncated or damaged")


def patched(path, offset, values):
    """The file with header bytes overwritten: what no library would write."""
    content = bytearray(path.read_bytes())
    content[offset : offset + values.nbytes] = values.tobytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ((32767, 32767, 32767), "promises"),
        ((-3, 4, 5), "voxels|readable"),
        ((0, 4, 5), "one or more"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_nonsense_dimensions_are_refused_without_asking_for_memory(tmp_path, dims, message, zipped):
    path = patched(make(tmp_path / "x.nii"), 42, np.array(dims, "<i2"))
    if zipped:
        (tmp_path / "x.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "x.nii.gz"
    refused(path, message)


@pytest.mark.parametrize(
    ("offset", "values", "forms", "message"),
    [
        (280, [math.nan] * 4, {}, "singular or not finite"),
        (280, [0.0] * 12, {}, "singular or not finite|voxels are"),
        (280, [1e30, 0, 0, 0], {}, "voxels are|singular"),
        (80, [0.0, 1, 1], {"sform": 0}, "voxel sizes 0, 1, 1"),
        (80, [0.0, 1, 1], {"sform": 0, "qform": 0}, "voxel sizes 0, 1, 1"),
        (80, [-1.0, 1, 1], {"sform": 0, "qform": 0}, "voxel sizes -1"),
        (80, [math.nan, 1, 1], {"sform": 0}, "voxel sizes nan"),
        (256, [3.0, 3, 3], {"sform": 0}, "no readable NIfTI file|unusable"),
        (280, [1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0], {}, "sheared"),
    ],
)
def test_nonsense_affines_are_refused(tmp_path, offset, values, forms, message):
    refused(patched(make(tmp_path / "x.nii", **forms), offset, np.array(values, "<f4")), message)


# ------------------------------------------------------------------------------ writing
def test_voxels_that_would_begin_in_the_header_are_refused(tmp_path):
    """nibabel takes a 0 there, and the header's own bytes for the first voxels."""
    refused(patched(make(tmp_path / "x.nii"), 108, np.array(0, "<f4")), "would begin at byte 0")


def test_values_times_infinity_are_refused_and_no_slope_is_none(tmp_path):
    refused(patched(make(tmp_path / "x.nii"), 112, np.array(np.inf, "<f4")), "multiplied by infinity")
    values = NUMBERS.normal(size=SHAPE).astype(np.float32)
    for slope in (np.nan, 0):
        path = patched(make(tmp_path / "x.nii", values), 112, np.array(slope, "<f4"))
        np.testing.assert_array_equal(read(path)[0], values)


def test_nothing_is_left_when_writing_fails(tmp_path):
    _, space = read(make(tmp_path / "x.nii"))
    with pytest.raises(InputError, match="they must match"), staged(tmp_path / "new") as folder:
        write(folder / "y.nii.gz", np.ones((2, 2, 2)), space)
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii"]

    def write_half():
        with staged(tmp_path / "out") as folder:
            (folder / "half.nii").write_bytes(b"half")
            (folder / "none").read_bytes()

    with pytest.raises(FileNotFoundError):
        write_half()
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii"]


def test_files_appear_at_the_end_and_the_record_last(tmp_path, monkeypatch):
    moved = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (moved.append(b.name), replace(a, b)))
    with staged(tmp_path / "out") as folder:
        (folder / "a.json").write_text("{}")
        (folder / "z.nii").write_bytes(b"")
        assert not (tmp_path / "out" / "z.nii").exists()
    assert moved == ["z.nii", "a.json"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.json", "z.nii"]


def test_an_unwritable_folder_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file cannot be written to"):
        check_writable(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written to"):
        check_writable(tmp_path / "file" / "inside")
    check_writable(tmp_path / "new" / "deep")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# ------------------------------------------------------------------------------ arrays of no file
@pytest.mark.parametrize("direction", [(0, 0, 1), (0, 0, -1), (0.2, -0.1, 0.9), (1, 0, 0), (0.6, 0, -0.8)])
@pytest.mark.parametrize("orientation", ["RAS", "IPL", "PSR"])
def test_a_space_made_from_a_geometry_gives_it_back(direction, orientation):
    geometry = Geometry(SHAPE, SIZE, direction, orientation)
    back = space_from(geometry).geometry()
    np.testing.assert_allclose(back.voxel_size_mm, SIZE, rtol=1e-5)
    assert abs(np.dot(back.b0_direction, geometry.b0_direction)) == pytest.approx(1, abs=1e-6)
    if direction == (0, 0, 1) and orientation == "RAS":
        np.testing.assert_allclose(space_from(geometry).affine[:3, :3], np.diag(SIZE), atol=1e-6)


def test_the_real_files_come_back(shared, tmp_path):
    scans = shared / "data" / "scans"
    files = sorted([*scans.glob("*/Ref/*.nii*"), *scans.glob("romeo_3echo/*.nii")])
    assert len(files) == 17
    for source in files:
        array, space = read(source)
        before, after = nib.load(source), nib.load(write(tmp_path / "out.nii", array, space))
        np.testing.assert_allclose(after.get_fdata(), before.get_fdata(), rtol=1e-6, atol=1e-6)
        for form in ("get_sform", "get_qform"):
            np.testing.assert_array_equal(getattr(after, form)(), getattr(before, form)())
        for code in ("sform_code", "qform_code", "xyzt_units"):
            assert after.header[code] == before.header[code]

"""What is read of DICOM headers, and what of files that are none or broken."""

import gzip
import os
import warnings

import made
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import OBLIQUE, classic, phantom
from made_enhanced import enhanced

from napari_metaqsm.errors import Cancelled, InputError
from napari_metaqsm.io.dicom.files import is_plain, open_unpacked
from napari_metaqsm.io.dicom.headers import is_dicom, read_headers
from napari_metaqsm.method import running

MAGNITUDE, PHASE = phantom((8, 7, 5))
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def edit(path, **values):
    image = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(image, keyword, value)
    image.save_as(path)


def one(path):
    """The image of a file that must have one."""
    headers = read_headers([path])
    assert headers.refused == ()
    (image,) = headers.images
    return image


def why(path):
    """Why a file is refused that must be."""
    headers = read_headers([path])
    assert headers.images == ()
    ((refused, reason),) = headers.refused
    assert refused == path
    return reason


@pytest.fixture
def file(tmp_path):
    return classic(tmp_path, MAGNITUDE, PHASE, OBLIQUE)["phase", 1, 2]


def test_a_classic_image_is_what_was_written(file):
    image = one(file)
    affine = RAS_TO_LPS @ OBLIQUE
    assert (image.part, image.echo_time_s, image.shape, image.measured) == ("phase", 0.012, (7, 8), True)
    np.testing.assert_allclose(image.position, (affine @ [0, 0, 2, 1])[:3], atol=1e-4)
    np.testing.assert_allclose(image.orientation[:3], affine[:3, 0] / 0.8, atol=1e-4)
    np.testing.assert_allclose(image.spacing_mm, np.linalg.norm(affine[:3, [1, 0]], axis=0), atol=1e-4)
    header = image.header
    assert (header.series_number, header.b0_tesla, header.enhanced, header.packed) == (9, 3.0, False, False)
    assert header.manufacturer.upper().startswith("SIEMENS")
    assert image.rescale == (2.0, -4096.0)


def test_each_frame_of_an_enhanced_file_is_an_image(tmp_path):
    enhanced(tmp_path, MAGNITUDE, PHASE, OBLIQUE, vendor="Philips")
    images = read_headers([tmp_path]).images
    assert sorted({i.part for i in images}) == ["magnitude", "phase"]
    assert {i.echo_time_s for i in images} == {0.005, 0.012}
    assert len(images) == 2 * 2 * 5
    assert len({(i.header.path, i.frame) for i in images}) == len(images)
    classic(tmp_path / "classic", MAGNITUDE, PHASE, OBLIQUE, vendor="Philips")
    apart = read_headers([tmp_path / "classic"]).images

    def places(images):
        return sorted((i.part, i.echo_time_s, tuple(np.round(i.position, 3))) for i in images)

    assert places(images) == places(apart)


@pytest.mark.parametrize("vendor", sorted(made.VENDORS))
@pytest.mark.parametrize("kind", [classic, enhanced])
def test_parts_of_every_vendor_are_told(tmp_path, vendor, kind):
    kind(tmp_path, MAGNITUDE, PHASE, OBLIQUE, vendor=vendor, parts=made.PARTS)
    counted = [i.part for i in read_headers([tmp_path]).images]
    assert {part: counted.count(part) for part in counted} == dict.fromkeys(made.PARTS, 10)


@pytest.mark.parametrize(
    ("types", "part", "measured"),
    [
        (["ORIGINAL", "PRIMARY", "P", "ND"], "phase", True),
        (["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"], "phase", True),
        (["DERIVED", "PRIMARY", "M", "SWI"], "magnitude", False),
        (["DERIVED", "SECONDARY", "MPR", "M"], "magnitude", False),
        (["ORIGINAL", "PRIMARY", "B0 MAP", "B0"], "other", False),
        (["ORIGINAL", "PRIMARY", "OTHER"], "other", False),
        (["P", "PHASE"], "other", False),
        (None, "other", False),
    ],
)
def test_the_image_type_tells_the_part_and_whether_it_was_measured(file, types, part, measured):
    edit(file, ImageType=types)
    image = one(file)
    assert (image.part, image.measured) == (part, measured)


@pytest.mark.parametrize(
    ("stated", "frequency", "tesla"),
    [(1.5, 120, 1.5), (30000, None, 3.0), (None, 127.731, 3.0), (0, 63.8655, 1.5), (None, None, None)],
)
def test_the_field_strength_is_in_tesla_or_told_by_the_frequency(file, stated, frequency, tesla):
    edit(file, MagneticFieldStrength=stated, ImagingFrequency=frequency)
    assert one(file).header.b0_tesla == tesla


def test_words_of_the_patient_are_taken_out_of_the_description(file):
    edit(file, PatientName="Doe^Jane", PatientID="12345", SeriesDescription="gre JANE doe_12345 3D")
    assert one(file).header.description == "gre _ 3D"


# ---------------------------------------------------------------------------------- files
def test_packed_files_and_files_without_suffix_are_read(file, tmp_path):
    packed, bare = tmp_path / "a.dcm.gz", tmp_path / "b" / "IM_0001"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    bare.parent.mkdir()
    bare.write_bytes(file.read_bytes())
    assert [one(path).position for path in (packed, bare)] == [one(file).position] * 2
    assert one(packed).header.packed
    assert is_dicom(packed)
    assert is_dicom(bare.parent)


def test_a_folder_is_looked_into_so_deep_only(file, tmp_path):
    folder = tmp_path / "deep"
    shallow, deep = folder / "1/2/3/4/x", folder / "1/2/3/4/5/6/x"
    deep.parent.mkdir(parents=True)
    deep.write_bytes(file.read_bytes())
    assert not is_dicom(folder)
    assert len(read_headers([folder]).images) == 1
    shallow.write_bytes(file.read_bytes())
    assert is_dicom(folder)
    assert not is_dicom(tmp_path / "nowhere")


def test_what_is_no_dicom_is_passed_over_unless_its_name_says_so(file, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "readme.txt").write_text("x" * 500)
    (folder / ".hidden").write_bytes(file.read_bytes())
    (folder / "DICOMDIR").write_bytes(b"")
    (folder / "b.dcm").write_text("text")
    headers = read_headers([folder])
    assert (headers.images, headers.others) == ((), 0)
    assert headers.refused == ((folder / "b.dcm", "it is no DICOM file"),)
    with pytest.raises(InputError, match="nowhere does not exist"):
        read_headers([tmp_path / "nowhere"])


def test_objects_that_are_no_mr_image_are_counted(file):
    edit(file, SOPClassUID="1.2.840.10008.5.1.4.1.1.66")
    headers = read_headers([file])
    assert (headers.images, headers.refused, headers.others) == ((), (), 1)


# ---------------------------------------------------------------------------------- broken files
def test_pixels_that_end_too_early_are_told_in_bytes(file):
    file.write_bytes(file.read_bytes()[:-10])
    assert why(file) == "it is truncated: 102 of 112 bytes of pixels are there"


def test_a_damaged_gzip_is_told(file, tmp_path):
    packed = tmp_path / "a.dcm.gz"
    packed.write_bytes(gzip.compress(file.read_bytes())[:-30])
    assert why(packed) == "it is truncated or damaged (gzip)"


def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(file, tmp_path, monkeypatch):
    from napari_metaqsm.io.dicom import files

    monkeypatch.setattr(files, "_LARGEST_UNPACKED", 2**20)
    packed = tmp_path / "a.dcm.gz"
    packed.write_bytes(gzip.compress(file.read_bytes() + bytes(2**22)))
    assert "unpacks to more than" in why(packed)


def test_compressed_pixels_that_end_too_early_are_told(file):
    image = pydicom.dcmread(file)
    image.compress(pydicom.uid.RLELossless)
    image.save_as(file)
    assert one(file).header.transfer_syntax == "1.2.840.10008.1.2.5"
    file.write_bytes(file.read_bytes()[:-40])
    assert why(file) == "its compressed pixels end too early; the file is truncated"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"ImagePositionPatient": None}, "its header gives no position of the image"),
        ({"ImageOrientationPatient": [0] * 6}, "the orientation in its header is none"),
        ({"PixelSpacing": [0, 0.8]}, "its header gives no size of the pixels"),
        ({"Rows": 0}, "its header gives no size of the image"),
    ],
)
def test_a_header_without_geometry_is_refused(file, values, reason):
    edit(file, **values)
    assert why(file) == reason


def test_an_enhanced_file_with_fewer_frames_than_it_promises_is_refused(tmp_path):
    path = enhanced(tmp_path, MAGNITUDE, PHASE, OBLIQUE, vendor="Philips")[0]
    image = pydicom.dcmread(path)
    image.PerFrameFunctionalGroupsSequence.pop()
    image.save_as(path)
    assert why(path) == "it is truncated or damaged: 19 of 20 frames are described"


@given(
    edits=st.lists(
        st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=8)), min_size=1, max_size=12
    ),
    length=st.one_of(st.none(), st.integers(0, 10**6)),
    which=st.integers(0, 1),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_ends_the_reading_or_warns(tmp_path_factory, edits, length, which):
    """Overwritten anywhere and cut anywhere: an image, a reason, or another kind of object."""
    folder = tmp_path_factory.getbasetemp() / "damaged"
    if not folder.exists():
        classic(folder / "0", MAGNITUDE[:1], PHASE[:1], OBLIQUE, echo_times_s=(0.005,))
        enhanced(folder / "1", MAGNITUDE[:1, ..., :4], PHASE[:1, ..., :4], OBLIQUE, echo_times_s=(0.005,))
    original = sorted((folder / str(which)).iterdir())[0].read_bytes()
    content = bytearray(original)
    for at, bytes_ in edits:
        at %= len(content)
        content[at : at + len(bytes_)] = bytes_
    file = folder / "broken.dcm"
    file.write_bytes(content[: None if length is None else length % len(content)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        headers = read_headers([file])
    assert len(headers.refused) + headers.others + bool(headers.images) == 1


def test_reading_stops_where_the_user_asks_for_it(tmp_path):
    classic(tmp_path, MAGNITUDE, PHASE, OBLIQUE)
    told = []
    with (
        running(lambda done, label: told.append((done, label)), lambda: len(told) > 4),
        pytest.raises(Cancelled),
    ):
        read_headers([tmp_path])
    assert told[:2] == [(0.0, "Reading 20 headers"), (0.05, "Reading 20 headers")]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read everything")
def test_a_file_that_may_not_be_read_is_told(file):
    file.chmod(0)
    assert why(file) == "it may not be read"


# ------------------------------------------------------------------------------------- old files
@pytest.mark.parametrize("implicit", [True, False])
def test_a_file_without_preamble_is_read_as_one_with_it(file, tmp_path, implicit):
    new = one(file)
    assert is_plain(file)
    made.without_preamble(file, implicit)
    old = one(file)
    assert is_dicom(tmp_path)
    for name in ("part", "echo_time_s", "position", "orientation", "rescale", "shape"):
        assert getattr(old, name) == getattr(new, name)
    with open_unpacked(file) as whole:  # as other programs want it
        assert pydicom.dcmread(whole).pixel_array.shape == new.shape
    assert not is_plain(file)
    packed = tmp_path / "IM0001.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert one(packed).position == new.position


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\x08\x00", b"\x08\x00\x05\x00", b"\x08\x00\x08\x00CS"])
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_other_bytes_are_no_file_without_preamble(tmp_path, content, start):
    path = tmp_path / "data"
    path.write_bytes(start + content)
    headers = read_headers([path])
    assert headers.images == ()


@pytest.mark.parametrize(
    "start",
    [
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100\x08\x00\x04\x00",  # elements out of order
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100\x10\x00\x10\x00",  # another group
        b"\x08\x00\x05\x00CS\x09\x00ISO_IR 10\x08\x00\x08\x00",  # an odd length
        b"\x08\x00\x06\x00CS\x0a\x00ISO_IR 100\x08\x00\x08\x00",  # no element that they begin with
        b"\x08\x00\x05\x00\xfe\xff\xff\x7fISO_IR 100",  # a length beyond all
    ],
)
def test_bytes_that_are_nearly_those_of_an_old_file_are_passed_over(tmp_path, start):
    path = tmp_path / "data"
    path.write_bytes(start.ljust(400, b"\0"))
    assert not is_dicom(path)
    good = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100\x08\x00\x08\x00"
    path.write_bytes(good.ljust(400, b"\0"))
    assert is_dicom(path)


def test_of_a_packed_file_that_is_no_dicom_the_first_bytes_alone_are_unpacked(tmp_path):
    packed = tmp_path / "a.dcm.gz"
    # Unpacked to its end, it would be told for damaged.
    packed.write_bytes(gzip.compress(os.urandom(2**20))[:-30])
    assert why(packed) == "it is no DICOM file"

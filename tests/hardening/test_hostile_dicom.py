"""DICOM headers as no scanner writes them: read, or told of in words; never an exception, never a wait."""

import struct
import sys
import tracemalloc

import numpy as np
import pytest
from hostile import FUZZ, REPOSITORY, one_sentence
from hypothesis import given
from hypothesis import strategies as st

from napari_metaqsm.io.dicom.files import is_dicom
from napari_metaqsm.io.dicom.headers import read_headers

MOST_MEMORY = 16 * 2**20
VRS = [b"UI", b"DS", b"IS", b"SQ", b"OB", b"OW", b"UN", b"LO", b"CS", b"FD", b"US", b"AT", b"ZZ", b"\0\0"]
GROUPS = [struct.pack("<H", n) for n in (0x0008, 0x0018, 0x0020, 0x0028, 0x5200, 0xFFFE)]
LENGTHS = [struct.pack("<I", n) for n in (0, 1, 7, 2**16, 2**31 - 1, 2**32 - 2, 2**32 - 1)]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """A classic and an enhanced file, of a few kilobytes."""
    sys.path.insert(0, str(REPOSITORY / "tests/io/dicom"))
    try:
        from made import AXIAL, classic
        from made_enhanced import enhanced
    finally:
        sys.path.pop(0)
    folder = tmp_path_factory.mktemp("dicom")
    values = np.random.default_rng(0).uniform(0, 1, (1, 4, 5, 3))
    for name, make in (("classic", classic), ("enhanced", enhanced)):
        make(folder / name, values, values, AXIAL, vendor="Siemens")
    files = [sorted(f for f in (folder / n).rglob("*") if f.is_file())[0] for n in ("classic", "enhanced")]
    found = read_headers(files)
    assert found.images
    assert not found.refused
    return [f.read_bytes() for f in files]


def check(path):
    tracemalloc.start()
    found = read_headers([path])
    is_dicom(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_MEMORY
    for _, words in found.refused:
        assert one_sentence(words), words
    for image in found.images:
        assert image.header.b0_tesla is None or 0 < image.header.b0_tesla < 100
        assert np.isfinite([*image.position, *image.orientation, *image.spacing_mm]).all()
        assert image.header.description.isprintable()
    return found


@FUZZ
@given(st.data())
def test_any_bytes_in_a_header_are_read_or_told_of(tmp_path, seeds, data):
    content = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(128, len(content) - 1))
        kind = data.draw(st.sampled_from(["flip", "bytes", "vr", "length", "cut", "insert"]))
        if kind == "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "bytes":
            new = data.draw(st.binary(min_size=1, max_size=12))
            content[place : place + len(new)] = new
        elif kind in ("vr", "length"):
            # At an element: after its tag stands its value representation, and then its length.
            tag = data.draw(
                st.sampled_from([b"\x08\0", b"\x18\0", b"\x20\0", b"\x28\0", b"\0\x52", b"\xfe\xff"])
            )
            found = content.find(tag, place)
            if found >= 0:
                new = data.draw(st.sampled_from(VRS if kind == "vr" else LENGTHS))
                content[found + 4 : found + 4 + len(new)] = new
        elif kind == "cut" and place > 140:
            content = content[:place]
        elif kind == "insert":
            content[place:place] = data.draw(st.binary(max_size=20))
        if len(content) < 200:
            break
    (tmp_path / "x.dcm").write_bytes(content)
    check(tmp_path / "x.dcm")


def element(group, number, vr, value):
    if vr in (b"SQ", b"OB", b"UN", b"OW"):
        return struct.pack("<HH2sHI", group, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def test_sequences_in_sequences_without_end_are_told_of(tmp_path, seeds):
    opening = struct.pack("<HH2sHI", 0x5200, 0x9229, b"SQ", 0, 2**32 - 1)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 2**32 - 1)
    place = seeds[1].find(b"\x00\x52\x29\x92")
    assert place > 0
    (tmp_path / "deep.dcm").write_bytes(seeds[1][:place] + (opening + item) * 20_000)
    assert check(tmp_path / "deep.dcm").refused


@pytest.mark.parametrize("frames", [b"0 ", b"-5", b"99999999", b"1e300 ", b"nan "])
def test_numbers_of_frames_that_cannot_be_are_told_of(tmp_path, seeds, frames):
    place = seeds[1].find(b"\x28\0\x08\0IS")
    length = struct.unpack("<H", seeds[1][place + 6 : place + 8])[0]
    new = element(0x28, 0x08, b"IS", frames)
    (tmp_path / "x.dcm").write_bytes(seeds[1][:place] + new + seeds[1][place + 8 + length :])
    found = check(tmp_path / "x.dcm")
    assert found.refused or found.images

"""NIfTI files as nobody should write them: an array that is what the header says, or one sentence."""

import gzip
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from hostile import FUZZ, child, one_sentence, outcome
from hypothesis import example, given
from hypothesis import strategies as st

from napari_metaqsm.io import nifti
from napari_metaqsm.io.load import load
from napari_metaqsm.io.nifti import read

SHAPE = (4, 5, 6)
KINDS = (nib.Nifti1Image, nib.Nifti2Image)
DTYPES = ("f4", "i2", "u1", "f8", "i4")
# Beside what numpy and nibabel keep for themselves; the files here have a few kilobytes.
MOST_MEMORY = 4 * 2**20
EXTREMES = {
    "f": (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-45, -1e38, 3e38, 1e9, 352.5),
    "i": (0, -1, 1, 2, 7, 8, 127, -128, 32767, -32768, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)),
    "u": (0, 1, 7, 64, 127, 128, 255),
}


def stored(kind, endian, dtype, volumes) -> bytes:
    """A file that can be read, to be changed."""
    array = np.arange(np.prod(SHAPE + volumes), dtype=dtype).reshape(SHAPE + volumes)
    header = kind.header_class(endianness=endian)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(endian))
    image = kind(array, np.diag([1.0, 0.8, 2.0, 1.0]), header)
    image.header.set_qform(image.affine, 1)
    return image.to_bytes()


@st.composite
def changed_fields(draw, kind, endian):
    """Some fields of the header with bytes that stand for their worst values, or for anything."""
    dtype = kind.header_class.template_dtype.newbyteorder(endian)
    changes = {}
    for name in draw(st.lists(st.sampled_from(dtype.names), min_size=1, max_size=4, unique=True)):
        field, offset = dtype.fields[name][:2]
        base = field.base
        if base.kind in EXTREMES and draw(st.booleans()):
            values = draw(
                st.lists(
                    st.sampled_from(EXTREMES[base.kind]),
                    min_size=field.itemsize // base.itemsize, max_size=field.itemsize // base.itemsize,
                )
            )  # fmt: skip
            with np.errstate(all="ignore"):
                changes[offset] = np.array(values, dtype=object).astype("f8" if base.kind == "f" else "O")
            if base.kind == "f":
                with np.errstate(all="ignore"):
                    changes[offset] = changes[offset].astype(base).tobytes()
            else:
                info = np.iinfo(base)
                bounded = [min(max(int(v), info.min), info.max) for v in values]
                changes[offset] = np.array(bounded, base).tobytes()
        else:
            changes[offset] = draw(st.binary(min_size=field.itemsize, max_size=field.itemsize))
    return changes


@st.composite
def hostile_files(draw):
    """Name and content of a file: one that can be read, with some of it changed, cut or added."""
    kind, endian = draw(st.sampled_from(KINDS)), draw(st.sampled_from("<>"))
    content = bytearray(
        stored(kind, endian, draw(st.sampled_from(DTYPES)), draw(st.sampled_from([(), (2,)])))
    )
    for offset, data in draw(changed_fields(kind, endian)).items():
        content[offset : offset + len(data)] = data
    content = bytes(content)
    ending = draw(st.sampled_from(["", "", "", "cut", "rubbish", "extension"]))
    if ending == "cut":
        content = content[: draw(st.integers(0, len(content)))]
    elif ending == "rubbish":
        content += draw(st.binary(max_size=200))
    elif ending == "extension":
        end = kind.header_class.sizeof_hdr
        size = draw(st.sampled_from([0, 8, 15, 2**31 - 1, -16, 2**20])).to_bytes(4, "little", signed=True)
        code = draw(st.sampled_from([0, 2, 4, 6, 32, 99])).to_bytes(4, "little")
        content = content[:end] + b"\1\0\0\0" + size + code + draw(st.binary(max_size=64)) + content[end:]
    if draw(st.booleans()):
        return "x.nii", content
    zipped = gzip.compress(content, 1, mtime=0)
    ending = draw(st.sampled_from(["", "", "member", "rubbish", "cut", "flipped"]))
    if ending == "member":
        zipped += gzip.compress(draw(st.binary(max_size=50)), mtime=0)
    elif ending == "rubbish":
        zipped += draw(st.binary(min_size=1, max_size=50))
    elif ending == "cut":
        zipped = zipped[: draw(st.integers(0, len(zipped)))]
    elif ending == "flipped":
        place = draw(st.integers(0, len(zipped) - 1))
        zipped = zipped[:place] + bytes([zipped[place] ^ 1 << draw(st.integers(0, 7))]) + zipped[place + 1 :]
    return "x.nii.gz", zipped


def with_bytes(offset, data, kind=nib.Nifti1Image, endian="<", sform_code=None):
    content = bytearray(stored(kind, endian, "f4", ()))
    content[offset : offset + len(data)] = data
    if sform_code is not None:
        content[254] = sform_code
    return "x.nii", bytes(content)


@FUZZ
@given(hostile_files())
@example(with_bytes(123, b"\x40"))  # a unit of time that nibabel has no name for
@example(with_bytes(123, b"\x07"))  # … and one of space
@example(with_bytes(40, b"\x00\x08", endian=">"))  # eight axes, of which there are seven
@example(with_bytes(280, np.full(12, 1e38, "<f4").tobytes()))  # an affine whose squares overflow
@example(with_bytes(292, np.array(np.nan, "<f4").tobytes(), sform_code=1))  # … or that leads nowhere
@example(with_bytes(42, np.array(-4, "<i2").tobytes()))  # an axis of less than nothing
@example(with_bytes(108, np.array(np.nan, "<f4").tobytes()))  # voxels that begin nowhere
@example(with_bytes(108, np.array(1e38, "<f4").tobytes()))  # … or beyond all that is
def test_any_header_gives_an_array_or_one_sentence(tmp_path, file):
    name, content = file
    (tmp_path / name).write_bytes(content)
    tracemalloc.start()
    found = outcome(read, tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_MEMORY
    if isinstance(found, str):
        assert name in found
        assert outcome(load, local_field=tmp_path / name) == found
        return
    array, space = found
    assert array.dtype == np.float32
    assert array.shape[-3:] == space.shape
    assert array.flags.c_contiguous
    assert np.isfinite(space.affine).all()
    assert min(space.geometry().voxel_size_mm) > 0
    outcome(load, local_field=tmp_path / name)


# ------------------------------------------------------------------------------------------- bombs
MEMBER = gzip.compress(bytes(2**26), 9, mtime=0)  # 64 MiB of zeros in 64 kB
IMAGE = stored(nib.Nifti1Image, "<", "u1", ())


def promising(shape, offset=352.0):
    """A header of bytes with that many voxels, which begin at ``offset``."""
    header = bytearray(IMAGE[:352])
    header[40:56] = np.array([3, *shape, 1, 1, 1, 1], "<i2").tobytes()
    header[108:112] = np.array(offset, "<f4").tobytes()
    return gzip.compress(bytes(header), mtime=0)


BOMBS = {
    "13 GB behind the voxels": (gzip.compress(IMAGE, mtime=0) + 200 * MEMBER, "goes on for more than 64 MiB"),
    "13 GB before the voxels": (promising(SHAPE, 1.2e10) + 200 * MEMBER, "would begin at byte"),
    "2500³ voxels that are there": (promising((2500,) * 3) + 240 * MEMBER, "does not fit in memory"),
    "32767³ voxels that are not": (promising((32767,) * 3) + MEMBER, "is truncated"),
    "2000³ voxels that are not": (promising((2000,) * 3) + MEMBER * 118, "truncated|fit in memory"),
}
READ = """
from napari_metaqsm.errors import InputError
from napari_metaqsm.io.nifti import read
try:
    read(sys.argv[1])
except InputError as error:
    print(json.dumps(str(error)))
"""


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_file_that_inflates_without_end_is_refused_at_once(tmp_path, bomb):
    content, words = BOMBS[bomb]
    (tmp_path / "bomb.nii.gz").write_bytes(content)
    ended = child(READ, tmp_path / "bomb.nii.gz", memory=3 * 2**30)
    assert ended.code == 0, ended.err
    assert one_sentence(ended.value)
    assert any(word in ended.value for word in words.split("|")), ended.value
    assert ended.peak < 400 * 2**20
    assert ended.seconds < 10


def test_what_this_machine_cannot_hold_is_not_even_asked_for(tmp_path, monkeypatch):
    """Where asking for too much is answered by killing the process: the stored bytes, and four for each."""
    (tmp_path / "x.nii").write_bytes(IMAGE)
    needed = 5 * int(np.prod(SHAPE))
    monkeypatch.setattr(nifti, "_memory", lambda: needed - 1)
    assert "and this machine has" in outcome(read, tmp_path / "x.nii")
    monkeypatch.setattr(nifti, "_memory", lambda: needed)
    assert read(tmp_path / "x.nii")[0].shape == SHAPE


def test_what_memory_cannot_hold_is_refused_where_the_system_says_so(tmp_path):
    """A file without holes of 8 GB would do; a sparse one promises as much and holds it, as zeros."""
    with (tmp_path / "sparse.nii").open("wb") as file:
        file.write(gzip.decompress(promising((2000, 2000, 500))))
        file.truncate(352 + 2000 * 2000 * 500)
    ended = child(READ, tmp_path / "sparse.nii", memory=3 * 2**30)
    assert "does not fit in memory" in ended.value, ended
    assert ended.peak < 2**30


def test_reading_takes_no_more_than_the_values_and_the_array(tmp_path):
    """Per voxel: what the file stores, and twice four bytes for the array and the order of its axes."""
    array = np.random.default_rng(0).integers(-99, 99, (128, 128, 100)).astype(np.int16)
    for name in ("x.nii", "x.nii.gz"):
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / name)
        tracemalloc.start()
        read(tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < array.size * (2 + 4 + 4) + 2**20, name

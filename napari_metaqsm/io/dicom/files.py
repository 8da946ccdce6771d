"""Which files are DICOM, and their bytes."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from napari_metaqsm.errors import InputError

_MAGIC_AT, _MAGIC = 128, b"DICM"
_START = _MAGIC_AT + len(_MAGIC)
# What old files without these begin with, the elements of group 8 with their representations; and which of
# the two syntaxes it is that such a file can be in.
_FIRST = {
    0x00: b"UL",
    0x01: b"UL",
    0x05: b"CS",
    0x08: b"CS",
    0x12: b"DA",
    0x13: b"TM",
    0x16: b"UI",
    0x18: b"UI",
}
_IMPLICIT, _EXPLICIT = b"1.2.840.10008.1.2\0", b"1.2.840.10008.1.2.1\0"
# A folder is looked into so deep to find out whether it holds DICOM, and so deep to read it.
_LOOKED_INTO, _DEEPEST = 5, 16
_INDEX = "DICOMDIR"
# A compressed file unpacks to no more than this: the largest enhanced series are a few hundred megabytes.
_LARGEST_UNPACKED = 2**30


def is_dicom(path: str | os.PathLike, most: int | None = None) -> bool:
    """Whether a file is DICOM by its first bytes, or a folder holds such a file (five folders deep).

    Parameters
    ----------
    most : files of a folder to look at; None for all
    """
    path = Path(path)
    if os.path.isdir(path):
        return any(map(_has_magic, itertools.islice(files_below(path, _LOOKED_INTO), most)))
    return os.path.isfile(path) and _has_magic(path)


def _has_magic(path: Path) -> bool:
    try:
        with gzip.open(path) if is_packed(path) else path.open("rb") as file:
            return starts_as_dicom(file)
    except (OSError, EOFError, zlib.error):
        return False


def starts_as_dicom(file: BinaryIO) -> bool:
    """Whether the next bytes are those that DICOM files begin with, old ones without preamble too."""
    start = file.read(_START)
    return start[_MAGIC_AT:] == _MAGIC or bool(_preamble_for(start))


def _preamble_for(start: bytes) -> bytes:
    """What a file without preamble lacks before its first byte; empty where it is no such file.

    Its first two elements have to be of group 8, in order, the first with the representation that it has.
    """
    if len(start) < _START or start[_MAGIC_AT:] == _MAGIC:
        return b""
    group, element = struct.unpack_from("<HH", start)
    if group != 8 or element not in _FIRST:
        return b""
    explicit = start[4:6] == _FIRST[element]
    (length,) = struct.unpack_from("<H", start, 6) if explicit else struct.unpack_from("<I", start, 4)
    if length % 2 or length > _START - 12:
        return b""
    next_group, next_element = struct.unpack_from("<HH", start, 8 + length)
    if next_group != 8 or next_element <= element:
        return b""
    syntax = _EXPLICIT if explicit else _IMPLICIT
    meta = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    return bytes(_MAGIC_AT) + _MAGIC + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta


def is_plain(path: Path) -> bool:
    """Whether a DICOM file is one as it lies: not compressed as a whole, and with its preamble."""
    if is_packed(path):
        return False
    with path.open("rb") as file:
        return not _preamble_for(file.read(_START))


def is_packed(path: Path) -> bool:
    """Whether a file is compressed as a whole, by its name."""
    return path.name.lower().endswith(".gz")


def is_named_dicom(path: Path) -> bool:
    """Whether the name is that of a DICOM file."""
    return path.name.lower().endswith((".dcm", ".ima", ".dcm.gz", ".ima.gz"))


def files_below(folder: Path, depth: int) -> Iterator[Path]:
    """Files in a folder and those below it, by name; links are followed, but into no folder twice."""
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        inside = Path(root).relative_to(folder)
        if real in seen or len(inside.parts) >= depth:
            folders.clear()
        if real in seen:
            continue
        seen.add(real)
        folders.sort()
        paths = (Path(root, name) for name in sorted(files) if not name.startswith("."))
        yield from (path for path in paths if os.path.isfile(path))  # a pipe would be waited for


def files_among(paths: Iterable[Path]) -> list[Path]:
    """The files among paths and in the folders among them; `InputError` where one does not exist.

    The index of a disc, DICOMDIR, stands for the folder that it lies in.
    """
    files: list[Path] = []
    for path in paths:
        if not os.path.isfile(path) and not os.path.isdir(path):
            what = "is no file" if os.path.exists(path) else "does not exist"
            raise InputError(f"{path} {what}; give a DICOM file or a folder of them")
        whole = path.parent if path.name.upper() == _INDEX and path.is_file() else path
        files += files_below(whole, _DEEPEST) if whole.is_dir() else [path]
    return list(dict.fromkeys(files))


def open_unpacked(path: Path) -> BinaryIO:
    """A file as its bytes; a compressed one unpacked, and one without preamble given it, both in memory.

    Raises
    ------
    InputError
        When a compressed file is damaged, unpacks to more than a gigabyte, or is not DICOM by its first
        bytes, which alone are unpacked then.
    """
    if not is_packed(path):
        file = _Bounded(io.FileIO(path))
        preamble = _preamble_for(file.read(_START))
        file.seek(0)
        if not preamble:
            return file
        with file:
            return io.BytesIO(preamble + _all_of(file))
    try:
        with gzip.open(path) as file:
            start = file.read(_START)
            preamble = _preamble_for(start)
            if not (preamble or start[_MAGIC_AT:] == _MAGIC):
                raise InputError("it is no DICOM file")
            file.seek(0)
            return io.BytesIO(preamble + _all_of(file))
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, PermissionError):
            raise
        raise InputError("it is truncated or damaged (gzip)") from error


def _all_of(file: BinaryIO) -> bytes:
    content = file.read(_LARGEST_UNPACKED + 1)
    if len(content) > _LARGEST_UNPACKED:
        raise InputError("it unpacks to more than a gigabyte; unpack it yourself")
    return content


class _Bounded(io.BufferedReader):
    """Asks for no more memory than there are bytes left, whatever length a damaged header declares."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            size = min(size, max(os.fstat(self.fileno()).st_size - self.tell(), 0))
        return super().read(size)

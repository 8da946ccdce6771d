"""Which files are DICOM, and their bytes."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from napari_metaqsm.errors import InputError

_MAGIC_AT, _MAGIC = 128, b"DICM"
# A folder is looked into so deep to find out whether it holds DICOM, and so deep to read it.
_LOOKED_INTO, _DEEPEST = 5, 16
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
    """Whether the next bytes are those that DICOM files begin with."""
    return file.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC


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
    """The files among paths and in the folders among them; `InputError` where one does not exist."""
    files: list[Path] = []
    for path in paths:
        if not os.path.isfile(path) and not os.path.isdir(path):
            what = "is no file" if os.path.exists(path) else "does not exist"
            raise InputError(f"{path} {what}; give a DICOM file or a folder of them")
        files += files_below(path, _DEEPEST) if path.is_dir() else [path]
    return list(dict.fromkeys(files))


def open_unpacked(path: Path) -> BinaryIO:
    """A file as its bytes, those of a compressed one unpacked in memory.

    Raises
    ------
    InputError
        When the compressed file is damaged or unpacks to more than a gigabyte.
    """
    if not is_packed(path):
        return _Bounded(io.FileIO(path))
    try:
        with gzip.open(path) as file:
            content = file.read(_LARGEST_UNPACKED + 1)
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, PermissionError):
            raise
        raise InputError("it is truncated or damaged (gzip)") from error
    if len(content) > _LARGEST_UNPACKED:
        raise InputError("it unpacks to more than a gigabyte; unpack it yourself")
    return io.BytesIO(content)


class _Bounded(io.BufferedReader):
    """Asks for no more memory than there are bytes left, whatever length a damaged header declares."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            size = min(size, max(os.fstat(self.fileno()).st_size - self.tell(), 0))
        return super().read(size)

"""How files are written: whole or not at all, whatever ends the program meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_metaqsm.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_PREFIX = ".metaqsm-"
# Where the system cannot tell whether the owner of a temporary folder lives: no save lasts as long.
_ABANDONED_S = 24 * 3600.0
# Longer than any name that is written into a folder.
_LONGEST_NAME = 80
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def check_writable(folder: str | Path) -> None:
    """See that files can be written to ``folder``; nothing is left there.

    Raises
    ------
    InputError
        When they cannot.
    OSError
        When the disk is full.
    """
    folder = Path(folder).absolute()
    try:
        # A symbolic link to nothing is there, and in the way.
        there = next(f for f in (folder, *folder.parents) if os.path.lexists(f))
        names = folder.relative_to(there).parts
        for path in (*(there / name for name in names), folder / ("x" * _LONGEST_NAME)):
            with contextlib.suppress(FileNotFoundError):
                os.lstat(path)  # raises where a name, or all of it, is longer than the system takes
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise OSError(error.errno, error.strerror, str(folder)) from error
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{folder} cannot be written to ({reason}); choose another folder") from error


def make_parents(file: Path, base: Path) -> Path:
    """Make the folders of ``file`` below ``base``, and return it.

    Raises
    ------
    FileNotFoundError
        When ``base`` is not there (any more): where a network folder was, nothing may grow on the local disk.
    """
    for part in reversed(file.parent.relative_to(base).parents[:-1]):
        (base / part).mkdir(exist_ok=True)
    if file.parent != base:
        file.parent.mkdir(exist_ok=True)
    return file


@contextmanager
def staged(folder: str | Path) -> Iterator[Path]:
    """A temporary folder inside ``folder``; its files move there when the block ends well.

    JSON files move last, and those that they replace go first, so that a record stands only for files
    that are all there. Files are on disk before they move, and their names when the block has ended, so
    that a power cut does not change the order. When the block fails, ``folder`` is as it was. What
    processes that were killed have left of theirs is removed.
    """
    folder = Path(folder)
    check_writable(folder)
    made = [f for f in (folder.absolute(), *folder.absolute().parents) if not f.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    done = False
    try:
        _sweep(folder)
        with _temporary(folder) as temporary:
            yield temporary
            _move(temporary, folder)
        done = True
    finally:
        for empty in made if not done else ():
            if empty.is_dir() and not any(empty.iterdir()):
                empty.rmdir()


def _move(temporary: Path, folder: Path) -> None:
    """Every file of one folder into the other, in the place of those of the same name; all or none."""
    files = [f.relative_to(temporary) for f in temporary.rglob("*") if f.is_file()]
    files.sort(key=lambda f: (f.suffix == ".json", f))
    for file in files:
        if (folder / file).is_dir():
            raise InputError(f"{folder / file} is a folder; remove it, or choose another folder")
    for file in files:
        _to_disk(temporary / file)
    before = temporary / secrets.token_hex(4)
    before.mkdir()
    kept: dict[Path, Path] = {}
    moved: list[Path] = []
    try:
        for number, file in enumerate(files):
            if file.suffix == ".json" and os.path.lexists(folder / file):
                os.replace(folder / file, kept.setdefault(file, before / str(number)))
        for number, file in enumerate(files):
            if file not in kept and os.path.lexists(folder / file):
                _keep(folder / file, kept.setdefault(file, before / str(number)))
            make_parents(folder / file, folder)
            os.replace(temporary / file, folder / file)
            moved.append(file)
        for place in sorted({(folder / file).parent for file in files}):
            _to_disk(place)
    except BaseException:
        for file in moved:
            (folder / file).unlink(missing_ok=True)
        for file, place in kept.items():
            with contextlib.suppress(FileNotFoundError):
                os.replace(place, folder / file)
        raise


def _to_disk(path: Path) -> None:
    """Wait until what was written is on disk; a folder stands for the names in it."""
    # Windows opens no folders, and some network's file systems do not wait for theirs.
    with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _keep(file: Path, place: Path) -> None:
    """Let ``place`` be the file too; where there are no links, instead."""
    try:
        os.link(file, place, follow_symlinks=False)
    except (OSError, NotImplementedError):
        os.replace(file, place)


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A folder of this process alone among the system's temporary ones, gone when the block ends.

    Those of the same prefix that processes which were killed have left are removed.
    """
    folder = Path(tempfile.gettempdir())
    _sweep(folder, prefix)
    with _temporary(folder, prefix, 0o700) as temporary:
        yield temporary


@contextmanager
def _temporary(folder: Path, prefix: str = _PREFIX, mode: int = 0o777) -> Iterator[Path]:
    """A new folder in ``folder``, which no other process sweeps away while this one lives."""
    temporary, lock = None, None
    while temporary is None or not temporary.exists():  # it was swept before it was locked
        temporary = folder / f"{prefix}{secrets.token_hex(4)}"
        temporary.mkdir(mode)
        try:
            lock = _lock(temporary)
        except (BlockingIOError, FileNotFoundError):
            temporary = None
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """A lock on a folder, which falls when the process ends, however it ends; None where there are none.

    Raises
    ------
    BlockingIOError
        When another has it.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:  # a network's file system may have no locks
        os.close(descriptor)
        return None
    return descriptor


def _sweep(folder: Path, prefix: str = _PREFIX) -> None:
    """Remove the temporary folders of processes that ended before they could."""
    for left in folder.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            lock = _lock(left)
            try:
                if lock is not None or time.time() - left.stat().st_mtime > _ABANDONED_S:
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                if lock is not None:
                    os.close(lock)

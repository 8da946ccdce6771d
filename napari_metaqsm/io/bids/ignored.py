"""``.bidsignore``: what a dataset asks every reader to pass by, in the patterns of ``.gitignore``."""

from __future__ import annotations

import re
from pathlib import Path

from napari_metaqsm.errors import InputError


class Ignored:
    """The patterns of a dataset's ``.bidsignore``; without one nothing is ignored."""

    def __init__(self, dataset: Path) -> None:
        file = dataset / ".bidsignore"
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines() if file.is_file() else []
        except (OSError, ValueError) as error:
            raise InputError(f"{file} cannot be read ({error}); repair or remove it") from error
        lines = [line.rstrip() for line in lines if line.strip() and not line.startswith("#")]
        self._patterns = [(not line.startswith("!"), _regex(line.removeprefix("!"))) for line in lines]

    def __call__(self, path: str) -> bool:
        """Whether a file is ignored; ``path`` is relative to the dataset, with slashes."""
        ignored = False
        for ignores, pattern in self._patterns:
            if ignored is not ignores and pattern.fullmatch(path):
                ignored = ignores
        return ignored


def _regex(pattern: str) -> re.Pattern:
    """One pattern as a regular expression of whole paths; what it names as a folder takes all within."""
    anywhere = "/" not in pattern.rstrip("/")
    only_folders = pattern.endswith("/")
    text, rest = "" if anywhere is False else "(?:.*/)?", pattern.strip("/")
    while rest:
        if rest.startswith("**/"):
            text, rest = text + "(?:.*/)?", rest[3:]
        elif rest.startswith("**"):
            text, rest = text + ".*", rest[2:]
        elif rest[0] == "*":
            text, rest = text + "[^/]*", rest[1:]
        elif rest[0] == "?":
            text, rest = text + "[^/]", rest[1:]
        elif found := re.match(r"\[(!?)([^]\[]+)\]", rest):
            characters = found[2].replace("\\", "\\\\").replace("^", r"\^")
            text, rest = text + f"[{'^' if found[1] else ''}{characters}]", rest[found.end() :]
        else:
            text, rest = text + re.escape(rest[0]), rest[1:]
    try:
        return re.compile(text + ("/.*" if only_folders else "(?:/.*)?"))
    except re.error as error:
        raise InputError(f".bidsignore has {pattern!r}; that is no pattern ({error})") from error

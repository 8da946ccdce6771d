"""Which DICOM series something was made from, so that it can be told again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from napari_metaqsm.io.dicom.files import open_unpacked
from napari_metaqsm.io.dicom.stacks import Stack


def series_of(stacks: Iterable[Stack]) -> list[dict[str, Any]]:
    """The series of stacks, by number: description, count of files, their bytes, and one hash of all.

    The hash (SHA-256) is of the files as they are unpacked, in the order of their own numbers (SOP
    instance UID): a copy under other names, or compressed by gzip, gives the same.
    """
    series: dict[int, tuple[str, dict[Path, str]]] = {}
    for one in stacks:
        _, files = series.setdefault(one.series_number, (one.header.description, {}))
        files.update({image.header.path: image.header.sop_uid for image in one.images})
    described = []
    for number, (description, files) in sorted(series.items()):
        digest, size = hashlib.sha256(), 0
        for path in sorted(files, key=lambda path: (files[path], path.name)):
            with open_unpacked(path) as file:
                while block := file.read(2**20):
                    digest.update(block)
                    size += len(block)
        described.append({
            "series": number,
            "description": description,
            "files": len(files),
            "sha256": digest.hexdigest(),
            "bytes": size,
        })  # fmt: skip
    return described

"""Whether all pixels that the header of a DICOM file announces are there."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

import pydicom
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.elements import integer_of


def check_pixels(file: BinaryIO, dataset: FileDataset, syntax: str, frames: int) -> None:
    """Raise `InputError` where the file ends before its pixels do."""
    if syntax == DeflatedExplicitVRLittleEndian:
        return  # all of it is compressed, so that its length tells nothing
    start = file.tell()
    size = file.seek(0, os.SEEK_END)
    if size <= start:
        raise InputError("it holds no pixels; the file is truncated")
    file.seek(start)
    if pydicom.uid.UID(syntax).is_valid and _is_encapsulated(syntax):
        if not _ends_well(file, size):
            raise InputError("its compressed pixels end too early; the file is truncated")
        return
    wanted = (
        integer_of(dataset.get("Rows")) * integer_of(dataset.get("Columns")) * frames
        * max(1, integer_of(dataset.get("SamplesPerPixel"))) * integer_of(dataset.get("BitsAllocated")) // 8
    )  # fmt: skip
    there = size - start - (8 if dataset.is_implicit_VR else 12)
    if wanted == 0:
        raise InputError("its header gives no size of the image")
    if there < wanted:
        raise InputError(f"it is truncated: {max(there, 0)} of {wanted} bytes of pixels are there")


def _is_encapsulated(syntax: str) -> bool:
    uid = pydicom.uid.UID(syntax)
    return not uid.is_transfer_syntax or uid.is_encapsulated


def _ends_well(file: BinaryIO, size: int) -> bool:
    """Whether the fragments of encapsulated pixels lead to their delimiter, or to the file's end."""
    file.seek(12, os.SEEK_CUR)
    while len(head := file.read(8)) == 8:
        group, element, length = struct.unpack("<HHI", head)
        if (group, element) == (0xFFFE, 0xE0DD):
            return True
        if (group, element) != (0xFFFE, 0xE000):
            return True  # of no kind we know; what converts it will say
        if file.tell() + length > size:
            return False
        file.seek(length, os.SEEK_CUR)
    return False

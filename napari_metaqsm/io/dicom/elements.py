"""Values of DICOM elements as numbers and text, whatever is written there."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from napari_metaqsm.errors import InputError


def integer_of(value: Any) -> int:
    """The first number of an element as a whole one, 0 where there is none."""
    return int(number_of(value) or 0)


def number_of(value: Any) -> float | None:
    """The first number of an element, None where there is none that is finite."""
    if isinstance(value, (list, tuple, pydicom.multival.MultiValue)):
        value = value[0] if len(value) else None
    if isinstance(value, bytes):
        value = int.from_bytes(value, "little", signed=True) if len(value) in (2, 4) else None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def numbers_of(value: Any, count: int, what: str) -> tuple[float, ...]:
    """So many finite numbers; `InputError`, which calls them ``what``, where they are not that."""
    try:
        numbers = tuple(float(v) for v in value)
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise InputError(f"its header gives no {what}")
    return numbers


def text_of(value: Any) -> str:
    """All values of an element in one line of at most 200 characters that can be printed."""
    parts = value if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]
    text = " ".join(str(part) for part in parts if part is not None)
    return re.sub(r"\s+", " ", "".join(c for c in text if c.isprintable())).strip()[:200]


def words_of(value: Any) -> tuple[str, ...]:
    """Each value of an element, upper case."""
    parts = value if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]
    return tuple(str(part).strip().upper() for part in parts if part is not None)


def seconds_of(text: str) -> float | None:
    """Seconds since a fixed day, of a DICOM date and time in one, "20210902133733.16"."""
    digits = re.match(r"(\d{14})(\.\d{1,6})?", text)
    if not digits:
        return None
    try:
        moment = datetime.strptime(digits[1], "%Y%m%d%H%M%S")
    except ValueError:
        return None
    return (moment - datetime(2000, 1, 1)).total_seconds() + float(digits[2] or 0)


def pair_of(dataset: Dataset, slope: str, intercept: str) -> tuple[float, float] | None:
    """Two elements as numbers, None where one of them is none."""
    numbers = number_of(dataset.get(slope)), number_of(dataset.get(intercept))
    return None if None in numbers else numbers


def first_of(dataset: Dataset | None, name: str) -> Dataset:
    """The first item of a sequence, empty where there is none."""
    items = None if dataset is None else dataset.get(name)
    return items[0] if items else Dataset()

"""The JSON file beside a NIfTI file: echo time, field strength, vendor, units.

Inside a BIDS dataset the JSON files of the folders above count as well (its inheritance principle): one
applies to every image that has its suffix and all of its entities; the nearer file wins, key by key.
"""

from __future__ import annotations

import functools
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.names import BidsName, parse_name
from napari_metaqsm.scan import LONGEST_ECHO_TIME_S, STRONGEST_B0_TESLA, Triple

# A sidecar is a few kilobytes; whatever is much larger is something else.
_LARGEST_BYTES = 16 * 2**20
_MOST_ECHOES = 1000
# Stored phase is at most what 32 bits hold.
_LARGEST_PHASE = 2.0**32
DATASET = "dataset_description.json"
# From sub-*/ses-*/anat/ to the dataset's root there are three folders; what lies far above is another thing.
_MOST_FOLDERS = 6
# A folder changed so shortly ago may change again without its time being another.
_SETTLED_S = 2.0
# Of a sidecar's keys, the one that holds what BIDS has no words for.
OWN = "MetaQSM"


@dataclass(frozen=True)
class Sidecar:
    """What the JSON file says; what it does not say is None or empty.

    Parameters
    ----------
    file : its name, or those of all that apply
    echo_times_s : of the file, more than one for a 4-D file
    difference_s : echo time difference of a phase difference (EchoTime2 - EchoTime1)
    b0_tesla, imaging_frequency_mhz, manufacturer, echo_number, units : as the file gives them
    b0_direction : along the array's axes
    image_type : upper case
    phase_sign, phase_pi : of our own converter (``MetaQSM``): how the stored phase is to be read, see
        :class:`~napari_metaqsm.scan.Acquisition`
    """

    file: str = ""
    echo_times_s: tuple[float, ...] = ()
    difference_s: float | None = None
    b0_tesla: float | None = None
    imaging_frequency_mhz: float | None = None
    manufacturer: str = ""
    b0_direction: Triple | None = None
    image_type: tuple[str, ...] = ()
    echo_number: int | None = None
    units: str = ""
    phase_sign: int | None = None
    phase_pi: float | None = None

    @property
    def role(self) -> str | None:
        """ "phase", "phase_difference" or "magnitude", where the image type tells."""
        if {"P", "PHASE", "PHASE MAP"} & set(self.image_type):
            return "phase" if self.difference_s is None else "phase_difference"
        return "magnitude" if {"M", "MAGNITUDE", "M_FFE"} & set(self.image_type) else None


def sidecar_path(path: str | Path) -> Path:
    """The JSON file that belongs to a NIfTI file."""
    path = Path(path)
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return path.with_name(name[: -len(".nii")] + ".json")


def read_sidecar(path: str | Path) -> Sidecar:
    """What is said of the NIfTI file ``path``; an empty `Sidecar` where no JSON file applies to it.

    Raises
    ------
    InputError
        When a file is no JSON object or a value in it cannot be meant.
    """
    files = sidecar_files(path)
    if not files:
        return Sidecar()
    content = _merged(files)
    names = ", ".join(file.name for file in reversed(files))
    try:
        return Sidecar(
            file=names,
            echo_times_s=_echo_times(content),
            difference_s=_difference(content),
            b0_tesla=_number(content, "MagneticFieldStrength", 0, STRONGEST_B0_TESLA, "tesla"),
            imaging_frequency_mhz=_frequency(content),
            manufacturer=_text(content, "Manufacturer"),
            b0_direction=_direction(content),
            image_type=_image_type(content),
            echo_number=_echo_number(content),
            units=_text(content, "Units"),
            phase_sign=_phase_sign(_own(content)),
            phase_pi=_number(_own(content), "phase_pi", 0, _LARGEST_PHASE, "stored values"),
        )
    except InputError as error:
        raise InputError(f"{names}: {error}") from error


def all_content(path: str | Path) -> dict[str, Any]:
    """Every key that applies to the NIfTI file ``path``; raises `InputError` where a file is unreadable."""
    return _merged(sidecar_files(path))


def _merged(files: tuple[Path, ...]) -> dict[str, Any]:
    return {key: value for file in files for key, value in sidecar_content(file).items()}


def sidecar_files(path: str | Path) -> tuple[Path, ...]:
    """The JSON files that apply to a NIfTI file, the nearest last.

    Outside of a BIDS dataset, or for a file without a BIDS name, that is the one beside it alone.
    """
    path = Path(path)
    own = sidecar_path(path)
    beside = (own,) if os.path.isfile(own) else ()
    name, folders = parse_name(path.name), _within_dataset(path)
    if name is None or not folders:
        return beside
    above = [file for folder in folders[:-1] for file in _applying(folder, name)]
    # Where the file has one of its own, no other of the same folder is meant.
    return (*above, *(beside or _applying(folders[-1], name)))


def _within_dataset(path: Path) -> list[Path]:
    """The folders from the dataset's root to that of the file; empty where it lies in no dataset."""
    folders = list(path.absolute().parents)[:_MOST_FOLDERS]
    root = next((n for n, folder in enumerate(folders) if os.path.isfile(folder / DATASET)), None)
    return [] if root is None else folders[root::-1]


def _applying(folder: Path, name: BidsName) -> list[Path]:
    """The JSON files of one folder that apply to ``name``, those that say more of the name last."""
    fit = [
        (len(other.entities), file)
        for file, other in _json_names(folder)
        if other.suffix == name.suffix and other.entities.items() <= name.entities.items()
    ]
    return [folder / file for _, file in sorted(fit)]


def _json_names(folder: Path) -> list[tuple[str, BidsName]]:
    try:
        changed = folder.stat().st_mtime_ns
        if time.time_ns() - changed < _SETTLED_S * 1e9:
            return _list_json(folder)
        return _listed_before(folder, changed)
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}); allow it, or copy the scan") from error


# The root of a dataset lists a thousand subjects, and is asked for each of their files.
@functools.lru_cache(maxsize=64)
def _listed_before(folder: Path, changed: int) -> list[tuple[str, BidsName]]:
    return _list_json(folder)


def _list_json(folder: Path) -> list[tuple[str, BidsName]]:
    names = ((entry.name, parse_name(entry.name)) for entry in os.scandir(folder))
    return [(file, name) for file, name in names if name is not None and name.extension == ".json"]


def sidecar_content(file: Path) -> dict[str, Any]:
    """All of a sidecar; raises `InputError` where it is no readable JSON object."""
    try:
        if not file.is_file() and file.exists():  # a pipe would be waited for without end
            raise InputError(f"{file.name} is no file; remove it")
        if file.stat().st_size > _LARGEST_BYTES:
            raise InputError(f"{file.name} has {file.stat().st_size} bytes; that is no sidecar")
        content = json.loads(file.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file.name} is no readable JSON file ({error}); repair or remove it") from error
    if not isinstance(content, dict):
        raise InputError(f"{file.name} must hold a JSON object; repair or remove it")
    return content


def _checked(name: str, value: Any, low: float, high: float, unit: str) -> float:
    """``value`` as a number above ``low`` and not above ``high``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{name} is {value!r}; it must be a number in {unit}")
    try:
        value = float(value)
    except OverflowError:
        raise InputError(f"{name} has hundreds of digits; it must be a number in {unit}") from None
    if not (math.isfinite(value) and low < value <= high):
        hint = f"; that looks like milliseconds ({value / 1000:g} s)" if _is_milliseconds(value, unit) else ""
        raise InputError(f"{name} is {value:g}; it must lie in ({low:g}, {high:g}] {unit}{hint}")
    return value


def _is_milliseconds(value: float, unit: str) -> bool:
    return unit == "seconds" and LONGEST_ECHO_TIME_S < value <= 1000 * LONGEST_ECHO_TIME_S


def _number(content: dict[str, Any], name: str, low: float, high: float, unit: str) -> float | None:
    value = content.get(name)
    return None if value is None else _checked(name, value, low, high, unit)


def _frequency(content: dict[str, Any]) -> float | None:
    """It is told beside the field strength, and decides nothing: what is no number is passed over."""
    value = content.get("ImagingFrequency")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    usable = number and math.isfinite(value) and value > 0
    return float(value) if usable else None


def _echo_times(content: dict[str, Any]) -> tuple[float, ...]:
    times = content.get("EchoTime")
    if times is None:
        return ()
    times = times if isinstance(times, list) else [times]
    if len(times) > _MOST_ECHOES:
        raise InputError(f"EchoTime holds {len(times)} values; there must be one per echo")
    return tuple(_checked("EchoTime", t, 0, LONGEST_ECHO_TIME_S, "seconds") for t in times)


def _difference(content: dict[str, Any]) -> float | None:
    first, second = (_number(content, f"EchoTime{n}", 0, LONGEST_ECHO_TIME_S, "seconds") for n in (1, 2))
    if first is None or second is None:
        return None
    if second <= first:
        raise InputError(f"EchoTime2 is {second:g}; it must be longer than EchoTime1, {first:g} seconds")
    return round(second - first, 9)


def _direction(content: dict[str, Any]) -> Triple | None:
    value = content.get("B0_dir")
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 3:
        raise InputError(f"B0_dir is {str(value)[:60]}; it must be three numbers along the array's axes")
    numbers = tuple(_checked("B0_dir", v, -math.inf, 1e6, "array axes") for v in value)
    if not any(numbers):
        raise InputError("B0_dir is 0, 0, 0; it must point along B0")
    return numbers


def _image_type(content: dict[str, Any]) -> tuple[str, ...]:
    value = content.get("ImageType")
    return tuple(v.upper() for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def _echo_number(content: dict[str, Any]) -> int | None:
    value = content.get("EchoNumber")
    good = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST_ECHOES
    return value if good else None


def _own(content: dict[str, Any]) -> dict[str, Any]:
    value = content.get(OWN, {})
    if not isinstance(value, dict):
        raise InputError(f"{OWN} is {str(value)[:60]}; it must be a JSON object")
    return value


def _phase_sign(own: dict[str, Any]) -> int | None:
    value = own.get("phase_sign")
    if value is not None and (isinstance(value, bool) or value not in (1, -1)):
        raise InputError(f"phase_sign is {str(value)[:60]}; it must be 1 or -1")
    return None if value is None else int(value)


def _text(content: dict[str, Any], name: str) -> str:
    value = content.get(name)
    return value.strip()[:200] if isinstance(value, str) else ""

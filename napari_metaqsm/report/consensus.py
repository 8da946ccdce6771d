"""What the field's consensus asks a report to say of how a scan was acquired; what is not known is named.

The items and which of them are essential follow the consensus on QSM of the brain: QSM Consensus Organization
Committee 2024, doi:10.1002/mrm.30006 (its tables of acquisition hardware, sequence and reconstruction).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.sidecar import all_content
from napari_metaqsm.reading.study import Study
from napari_metaqsm.scan import Acquisition, Geometry, turn

DOI = "10.1002/mrm.30006"
NOT_KNOWN = "not known"
# All that is read of a sidecar: nothing that could tell who was scanned, where or when.
_KEYS = (
    "Manufacturer", "ManufacturersModelName", "SoftwareVersions", "MagneticFieldStrength", "ImagingFrequency",
    "ReceiveCoilName", "MRAcquisitionType", "ScanningSequence", "PulseSequenceType", "RepetitionTime",
    "FlipAngle", "PixelBandwidth", "ParallelAcquisitionTechnique", "ParallelReductionFactorInPlane",
    "ParallelReductionFactorOutOfPlane", "PartialFourier", "AcquisitionDuration", "FlowCompensation",
    "BipolarReadout",
)  # fmt: skip
_LONGEST_TEXT = 60
_SEQUENCES = {"GR": "gradient echo", "SE": "spin echo", "EP": "echo planar", "RM": "research mode"}
_AXES = ("right–left", "anterior–posterior", "superior–inferior")
# An axis nearer to B0 than this is along it, as a report says it.
_STRAIGHT_DEG = 0.5


@dataclass(frozen=True)
class Fact:
    """One item: its name, its value in words, and whether the consensus holds it essential."""

    name: str
    value: str = NOT_KNOWN
    essential: bool = False

    @property
    def missing(self) -> bool:
        """Whether nothing tells it."""
        return self.value == NOT_KNOWN


def read_scanner(files: Mapping[str, str]) -> dict[str, Any]:
    """What the sidecars beside phase and magnitude say of scanner and sequence; empty where none does.

    Parameters
    ----------
    files : where arrays were read from, by their name, as in ``Study.files``
    """
    for name in ("phase", "magnitude"):
        path = Path(files.get(name) or "")
        if not path.name:
            continue
        try:
            known = all_content(path)
        except InputError:  # a report does without it
            continue
        known = {key: known[key] for key in _KEYS if known.get(key) not in (None, "", [])}
        if known:
            return known
    return {}


def acquisition_facts(study: Study, scanner: Mapping[str, Any] | None = None) -> list[Fact]:
    """Every item on hardware and sequence, in the order of the consensus's tables.

    Parameters
    ----------
    scanner : from :func:`read_scanner`; None reads it from the study's files
    """
    known = read_scanner(study.files) if scanner is None else scanner
    b0 = study.acquisition.b0_tesla
    return [
        Fact("Field strength", _or_unknown(b0, "{:g} T"), True),
        Fact("Vendor", _text(known, "Manufacturer"), True),
        Fact("Scanner model", _text(known, "ManufacturersModelName")),
        Fact("Scanner software", _text(known, "SoftwareVersions")),
        Fact("Receive coil", _text(known, "ReceiveCoilName")),
        Fact("Centre frequency", _number(known, "ImagingFrequency", "{:.3f} MHz")),
        Fact("Sequence type", _sequence(known), True),
        Fact("Echoes, TE1 : ΔTE : TEmax", echo_text(study.acquisition), True),
        Fact("Echo polarity", _polarity(known)),
        Fact("Repetition time", _milliseconds(known, "RepetitionTime"), True),
        Fact("Flip angle", _number(known, "FlipAngle", "{:g}°")),
        Fact("Pixel bandwidth", _number(known, "PixelBandwidth", "{:g} Hz")),
        Fact("Voxel size", voxel_text(study.geometry), True),
        Fact("Coverage and matrix", _coverage(study.geometry), True),
        Fact("Orientation", _orientation(study.geometry)),
        Fact("Acceleration", _acceleration(known), True),
        Fact("Partial Fourier", _number(known, "PartialFourier", "{:g}"), True),
        Fact("Flow compensation", _text(known, "FlowCompensation")),
        Fact("Acquisition time", _number(known, "AcquisitionDuration", "{:.0f} s")),
    ]


def echo_text(acquisition: Acquisition) -> str:
    """Number and times of the echoes, as the consensus writes them: "5, 4 : 5 : 24 ms"."""
    times = acquisition.echo_times_s
    if times is None:
        return NOT_KNOWN
    ms = [1000 * t for t in times]
    if len(ms) == 1:
        return f"1, {ms[0]:.4g} ms"
    gaps = [b - a for a, b in itertools.pairwise(ms)]
    if max(gaps) - min(gaps) < 0.02 * max(gaps):
        return f"{len(ms)}, {ms[0]:.4g} : {sum(gaps) / len(gaps):.4g} : {ms[-1]:.4g} ms"
    return f"{len(ms)}, at {', '.join(f'{t:.4g}' for t in ms)} ms"


def voxel_text(geometry: Geometry) -> str:
    """Voxel size from right to left, front to back and foot to head, whatever the order of the axes."""
    return f"{_by(_in_patient_axes(geometry, geometry.voxel_size_mm))} mm"


def _coverage(geometry: Geometry) -> str:
    shape = _in_patient_axes(geometry, geometry.shape)
    size = _in_patient_axes(geometry, geometry.voxel_size_mm)
    field = [n * s for n, s in zip(shape, size, strict=True)]
    return f"{_by(field, '.4g')} mm, {_by(shape)} as reconstructed"


def _orientation(geometry: Geometry) -> str:
    direction = _in_patient_axes(geometry, geometry.b0_direction)
    axis = max(range(3), key=lambda n: abs(direction[n]))
    angle = math.degrees(math.acos(min(abs(direction[axis]), 1.0)))
    where = f"the {_AXES[axis]} axis of the volume"
    return f"B0 along {where}" if angle < _STRAIGHT_DEG else f"B0 {angle:.1f}° from {where}"


def _in_patient_axes(geometry: Geometry, values: Sequence[Any]) -> list[Any]:
    order, _ = turn(geometry.orientation, "RAS")
    return [values[axis] for axis in order]


def _by(values: Sequence[float], form: str = ".3g") -> str:
    return " × ".join(str(v) if isinstance(v, int) else format(v, form) for v in values)


# -------------------------------------------------------------------------------------- sidecar
def _or_unknown(value: Any, form: str) -> str:
    return NOT_KNOWN if value is None else form.format(value)


def _text(known: Mapping[str, Any], key: str) -> str:
    value = known.get(key)
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = " ".join(str(value).split()) if isinstance(value, (str, int, float)) else ""
    return text[:_LONGEST_TEXT] or NOT_KNOWN


def _number(known: Mapping[str, Any], key: str, form: str) -> str:
    value = known.get(key)
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return form.format(value) if good else NOT_KNOWN


def _milliseconds(known: Mapping[str, Any], key: str) -> str:
    value = known.get(key)
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return f"{1000 * value:.4g} ms" if good else NOT_KNOWN


def _sequence(known: Mapping[str, Any]) -> str:
    kinds = known.get("ScanningSequence")
    kinds = kinds.replace("\\", "_").split("_") if isinstance(kinds, str) else kinds
    spoken = [_SEQUENCES.get(k, str(k)) for k in kinds] if isinstance(kinds, (list, tuple)) else []
    stated = _text(known, "PulseSequenceType")
    words = [_text(known, "MRAcquisitionType"), *(spoken or [stated])]
    return " ".join(word for word in words if word != NOT_KNOWN) or NOT_KNOWN


def _polarity(known: Mapping[str, Any]) -> str:
    value = known.get("BipolarReadout")
    return ("bipolar" if value else "monopolar") if isinstance(value, bool) else NOT_KNOWN


def _acceleration(known: Mapping[str, Any]) -> str:
    def told() -> Iterator[str]:
        for key, words in (
            ("ParallelAcquisitionTechnique", "{}"),
            ("ParallelReductionFactorInPlane", "{} in plane"),
            ("ParallelReductionFactorOutOfPlane", "{} through plane"),
        ):
            if _text(known, key) != NOT_KNOWN:
                yield words.format(_text(known, key))

    return ", ".join(told()) or NOT_KNOWN

"""What the headers of DICOM files say, classic and enhanced: one `Image` a slice, no pixels."""

from __future__ import annotations

import math
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.elements import (
    first_of,
    integer_of,
    number_of,
    numbers_of,
    pair_of,
    seconds_of,
    text_of,
    words_of,
)
from napari_metaqsm.io.dicom.facts import MADE_HERE, Facts
from napari_metaqsm.io.dicom.files import (
    files_among,
    is_dicom,
    is_named_dicom,
    is_packed,
    open_unpacked,
    starts_as_dicom,
)
from napari_metaqsm.io.dicom.pixels import check_pixels
from napari_metaqsm.method import steps
from napari_metaqsm.scan import STRONGEST_B0_TESLA, Triple
from napari_metaqsm.units import GYROMAGNETIC_RATIO_MHZ_PER_T

__all__ = ["Facts", "Header", "Headers", "Image", "is_dicom", "open_unpacked", "part_of", "read_headers"]

_HEADER_ENDS = "its header ends too early; the file is truncated"
_CLASSIC, _ENHANCED, _LEGACY_ENHANCED = (f"1.2.840.10008.5.1.4.1.1.4{end}" for end in ("", ".1", ".4"))
_MR_IMAGES = (_CLASSIC, _ENHANCED, _LEGACY_ENHANCED)
# What pydicom raises on bytes that are not what the file says they are.
_UNREADABLE = (
    InvalidDicomError, BytesLengthException, OSError, EOFError, ValueError, LookupError, TypeError,
    AttributeError, NotImplementedError, ArithmeticError, RecursionError, MemoryError, struct.error,
    zlib.error,
)  # fmt: skip
# GE's part (0 to 3) and Philips' scale slope.
_PRIVATE = {"0043,102f": Tag(0x0043, 0x102F), "2005,100e": Tag(0x2005, 0x100E)}
_TAGS = [
    *(Tag(name) for name in (
        "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID",
        "StudyInstanceUID", "FrameOfReferenceUID", "SeriesNumber", "SeriesDescription", "PatientName",
        "PatientID", "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "MagneticFieldStrength",
        "ImagingFrequency", "SequenceName", "PulseSequenceName", "ComplexImageComponent", "EchoTime",
        "EchoNumbers", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
        "RescaleSlope", "RescaleIntercept", "RealWorldValueMappingSequence", "AcquisitionDate",
        "AcquisitionTime", "AcquisitionDateTime", "AcquisitionNumber", "InstanceNumber",
        "TemporalPositionIdentifier", "BitsAllocated", "SamplesPerPixel", "NumberOfFrames",
        "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    )),
    *_PRIVATE.values(),
]  # fmt: skip
_PARTS = {
    "magnitude": {"M", "MAGNITUDE", "M_FFE", "M_SE", "M_IR", "MAG"},
    "phase": {"P", "PHASE", "PHASE MAP", "P_FFE"},
    "real": {"R", "REAL", "R_FFE", "R_SE", "R_IR"},
    "imaginary": {"I", "IMAGINARY", "I_FFE", "I_SE", "I_IR"},
}
_GE_PARTS = ("magnitude", "phase", "real", "imaginary")
# Images with one of these words were computed from others, or show something else.
_NOT_MEASURED = {
    "LOCALIZER", "SWI", "MINIP", "MNIP", "MIP", "MPR", "PROJECTION IMAGE", "SUBTRACTION", "REFORMATTED",
    "RESAMPLED", "VELOCITY MAP", "B0 MAP", "B0", "ADC", "MOSAIC", "SECONDARY", "SCREEN SAVE", "FIELD MAP",
    "QSM",
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What is the same for all images of one file.

    Parameters
    ----------
    path : of the file; ``packed`` where it is compressed as a whole (.gz)
    sop_uid, series_uid, study_uid, frame_of_reference : never written anywhere
    description : of the series, without the name and the number of the patient
    sequence : the vendor's name of the pulse sequence
    private : values of private elements, by group and element as in "2005,100e"
    """

    path: Path
    packed: bool
    sop_uid: str
    series_uid: str
    study_uid: str
    frame_of_reference: str
    enhanced: bool
    transfer_syntax: str
    series_number: int
    description: str
    manufacturer: str
    model: str
    software: str
    b0_tesla: float | None
    sequence: str
    private: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Image:
    """One slice: a classic file or one frame of an enhanced one.

    Parameters
    ----------
    part : "magnitude", "phase", "real", "imaginary" or "other"
    measured : False of localizers, projections and whatever else was computed from other images
    orientation : from one column to the next, then from one row to the next; unit vectors (LPS)
    position : centre of the first pixel, mm (LPS)
    spacing_mm : between rows, between columns
    shape : rows, columns
    echo_number : as numbered by the scanner, where there are no echo times; None where that is not said
    time_s : when it was acquired, seconds since a fixed day; None where that is not said
    order : temporal position, acquisition and instance number
    rescale, real_world : slope and intercept, None where there are none
    """

    header: Header
    frame: int
    part: str
    measured: bool
    image_type: tuple[str, ...]
    echo_time_s: float | None
    orientation: tuple[float, ...]
    position: Triple
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    time_s: float | None
    order: tuple[int, int, int]
    rescale: tuple[float, float] | None
    real_world: tuple[float, float] | None
    echo_number: int | None = None


@dataclass(frozen=True)
class Headers:
    """Images that were found, files that could not be read (and why), and how many hold something else.

    Parameters
    ----------
    series : study UID and series number of every file, whatever it holds
    maps : numbers of the series that this package exported
    """

    images: tuple[Image, ...]
    refused: tuple[tuple[Path, str], ...]
    others: int
    series: frozenset[tuple[str, int]] = frozenset()
    maps: frozenset[int] = frozenset()


class _File(NamedTuple):
    """What one file holds: its images, none where it is no MR image, and what it belongs to."""

    images: list[Image]
    study_uid: str
    series_number: int
    manufacturer: str


# ------------------------------------------------------------------------------------- reading
def read_headers(paths: Iterable[str | os.PathLike]) -> Headers:
    """The headers of all DICOM files among ``paths`` and in the folders among them.

    What is not DICOM by its first bytes is passed over, unless its name says that it is. A file that
    cannot be read is told of, and never ends the reading.

    Raises
    ------
    InputError
        When one of ``paths`` does not exist.
    """
    files = files_among(map(Path, paths))
    read: list[_File] = []
    refused: list[tuple[Path, str]] = []
    with warnings.catch_warnings():
        # Values that break the standard in small ways are usual, and pydicom warns of each.
        warnings.simplefilter("ignore")
        for index in steps(len(files), f"Reading {len(files)} headers"):
            path = files[index]
            try:
                read.append(_read_file(path))
            except _UNREADABLE as error:
                if is_named_dicom(path) or is_dicom(path):
                    refused.append((path, _in_words(error)))
    return Headers(
        tuple(image for file in read for image in file.images),
        tuple(refused),
        sum(not file.images for file in read),
        frozenset((file.study_uid, file.series_number) for file in read),
        frozenset(file.series_number for file in read if file.manufacturer == MADE_HERE),
    )


def _in_words(error: BaseException) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, InvalidDicomError):
        return "it is no DICOM file"
    if isinstance(error, PermissionError):
        return "it may not be read"
    if isinstance(error, (struct.error, EOFError)):
        return _HEADER_ENDS
    words = re.sub(r"\s+", " ", str(error))[:120]
    return f"its header is damaged ({words or type(error).__name__})"


def _read_file(path: Path) -> _File:
    with open_unpacked(path) as file:
        if not starts_as_dicom(file):
            raise InvalidDicomError
        file.seek(0)
        dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
        images = _images(path, file, dataset)
    return _File(
        images,
        text_of(dataset.get("StudyInstanceUID")),
        integer_of(dataset.get("SeriesNumber")),
        text_of(dataset.get("Manufacturer")),
    )


def _images(path: Path, file: BinaryIO, dataset: FileDataset) -> list[Image]:
    """The images of one file, which was read up to its pixels; none where it is no MR image."""
    sop_class = str(dataset.get("SOPClassUID", ""))
    if sop_class not in _MR_IMAGES:
        announced = str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
        cut_off = any(each.startswith(sop_class) for each in _MR_IMAGES)
        if cut_off and (not announced or announced in _MR_IMAGES):
            raise InputError(_HEADER_ENDS)
        return []
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian))
    enhanced = sop_class != _CLASSIC
    frames = max(1, integer_of(dataset.get("NumberOfFrames"))) if enhanced else 1
    check_pixels(file, dataset, syntax, frames)
    header = _header(path, dataset, enhanced, syntax)
    return _enhanced(header, dataset, frames) if enhanced else [_classic(header, dataset)]


# ------------------------------------------------------------------------------------- what they say
def _without_patient(text: str, dataset: Dataset) -> str:
    """A description with the words of the patient's name and number taken out of it."""
    named = f"{text_of(dataset.get('PatientName'))} {text_of(dataset.get('PatientID'))}"
    for word in sorted(set(re.split(r"[\s^=,]+", named)), key=len, reverse=True):
        if len(word) > 2:
            text = re.sub(re.escape(word), "", text, flags=re.IGNORECASE)
    return re.sub(r"\s+", " ", text).strip(" _^-")


def _header(path: Path, dataset: FileDataset, enhanced: bool, syntax: str) -> Header:
    private = {
        name: number
        for name, tag in _PRIVATE.items()
        if tag in dataset and (number := number_of(dataset[tag].value)) is not None
    }
    return Header(
        path=path,
        packed=is_packed(path),
        sop_uid=text_of(dataset.get("SOPInstanceUID")),
        series_uid=text_of(dataset.get("SeriesInstanceUID")),
        study_uid=text_of(dataset.get("StudyInstanceUID")),
        frame_of_reference=text_of(dataset.get("FrameOfReferenceUID")),
        enhanced=enhanced,
        transfer_syntax=syntax,
        series_number=integer_of(dataset.get("SeriesNumber")),
        description=_without_patient(text_of(dataset.get("SeriesDescription")), dataset),
        manufacturer=text_of(dataset.get("Manufacturer")),
        model=text_of(dataset.get("ManufacturerModelName")),
        software=text_of(dataset.get("SoftwareVersions")),
        b0_tesla=_b0_tesla(dataset),
        sequence=text_of(dataset.get("SequenceName") or dataset.get("PulseSequenceName")),
        private=private,
    )


def _b0_tesla(dataset: Dataset) -> float | None:
    stated = number_of(dataset.get("MagneticFieldStrength")) or 0
    if stated > STRONGEST_B0_TESLA:
        stated /= 10_000  # some write gauss
    if 0 < stated <= STRONGEST_B0_TESLA:
        return stated
    measured = (number_of(dataset.get("ImagingFrequency")) or 0) / GYROMAGNETIC_RATIO_MHZ_PER_T
    return round(measured, 4) if 0 < measured <= STRONGEST_B0_TESLA else None


def part_of(words: Iterable[str]) -> str | None:
    """The part that words of an image type name, None where they name none."""
    return next((part for part, names in _PARTS.items() if names & set(words)), None)


def _part(image_type: tuple[str, ...], component: Any, header: Header) -> str:
    """What an image shows: by its complex component, its type, or GE's own element."""
    for words in ({text_of(component).upper()}, set(image_type[2:])):
        if (part := part_of(words)) is not None:
            return part
    code = header.private.get("0043,102f")
    if header.manufacturer.upper().startswith("GE") and code in range(len(_GE_PARTS)):
        return _GE_PARTS[int(code)]
    return "other"


# ------------------------------------------------------------------------------------- images
def _image(
    header: Header, frame: int, image_type: tuple[str, ...], component: Any, values: Mapping[str, Any]
) -> Image:
    part = _part(image_type, component, header)
    echo_time_ms = number_of(values["echo_time_ms"])
    orientation = numbers_of(values["orientation"], 6, "orientation of the image")
    rows, columns = (math.hypot(*orientation[n : n + 3]) for n in (0, 3))
    if not (0.9 < rows < 1.1 and 0.9 < columns < 1.1):
        raise InputError("the orientation in its header is none")
    spacing = numbers_of(values["spacing"], 2, "size of the pixels")
    if min(spacing) <= 0:
        raise InputError("its header gives no size of the pixels")
    return Image(
        header=header,
        frame=frame,
        part=part,
        measured=part != "other" and not _NOT_MEASURED & set(image_type),
        image_type=image_type,
        echo_time_s=None if not echo_time_ms or echo_time_ms < 0 else round(echo_time_ms * 1e-3, 9),
        orientation=orientation,
        position=numbers_of(values["position"], 3, "position of the image"),
        spacing_mm=spacing,
        shape=values["shape"],
        time_s=seconds_of(values["time"]),
        order=values["order"],
        rescale=values["rescale"],
        real_world=values["real_world"],
        echo_number=integer_of(values["echo_number"]) or None,
    )


def _classic(header: Header, dataset: Dataset) -> Image:
    mapping = first_of(dataset, "RealWorldValueMappingSequence")
    stamp = text_of(dataset.get("AcquisitionDate")) + text_of(dataset.get("AcquisitionTime"))
    values = {
        "echo_time_ms": dataset.get("EchoTime"),
        "echo_number": dataset.get("EchoNumbers"),
        "orientation": dataset.get("ImageOrientationPatient"),
        "position": dataset.get("ImagePositionPatient"),
        "spacing": dataset.get("PixelSpacing"),
        "shape": (integer_of(dataset.get("Rows")), integer_of(dataset.get("Columns"))),
        "time": stamp if len(stamp) >= 14 else text_of(dataset.get("AcquisitionDateTime")),
        "order": tuple(
            integer_of(dataset.get(name))
            for name in ("TemporalPositionIdentifier", "AcquisitionNumber", "InstanceNumber")
        ),
        "rescale": pair_of(dataset, "RescaleSlope", "RescaleIntercept"),
        "real_world": pair_of(mapping, "RealWorldValueSlope", "RealWorldValueIntercept"),
    }
    return _image(header, 0, words_of(dataset.get("ImageType")), dataset.get("ComplexImageComponent"), values)


def _enhanced(header: Header, dataset: Dataset, frames: int) -> list[Image]:
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if len(own) != frames:
        raise InputError(f"it is truncated or damaged: {len(own)} of {frames} frames are described")
    shared = first_of(dataset, "SharedFunctionalGroupsSequence")
    images = []
    for index, frame in enumerate(own):

        def group(name: str, frame: Dataset = frame) -> Dataset:
            return first_of(frame, name) if name in frame else first_of(shared, name)

        kind, content = group("MRImageFrameTypeSequence"), group("FrameContentSequence")
        unassigned = group("UnassignedPerFrameConvertedAttributesSequence")  # of Legacy Converted ones
        scale, mapping = group("PixelValueTransformationSequence"), group("RealWorldValueMappingSequence")
        values = {
            "echo_time_ms": group("MREchoSequence").get("EffectiveEchoTime", unassigned.get("EchoTime")),
            "echo_number": unassigned.get("EchoNumbers"),
            "orientation": group("PlaneOrientationSequence").get("ImageOrientationPatient"),
            "position": group("PlanePositionSequence").get("ImagePositionPatient"),
            "spacing": group("PixelMeasuresSequence").get("PixelSpacing"),
            "shape": (integer_of(dataset.get("Rows")), integer_of(dataset.get("Columns"))),
            "time": text_of(content.get("FrameAcquisitionDateTime") or dataset.get("AcquisitionDateTime")),
            "order": (
                integer_of(content.get("TemporalPositionIndex")),
                integer_of(content.get("FrameAcquisitionNumber")),
                index,
            ),
            "rescale": pair_of(scale, "RescaleSlope", "RescaleIntercept"),
            "real_world": pair_of(mapping, "RealWorldValueSlope", "RealWorldValueIntercept"),
        }
        types = words_of(kind.get("FrameType")) or words_of(dataset.get("ImageType"))
        component = kind.get("ComplexImageComponent") or dataset.get("ComplexImageComponent")
        images.append(_image(header, index, types, component, values))
    return images

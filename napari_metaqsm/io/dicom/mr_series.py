"""A map as a classic MR series, a file for each slice: for a PACS that shows no parametric maps.

Values are in ppb there, stored as whole numbers with a rescale slope of 1. A PACS that applies the slope,
one that ignores it for MR, and one that shows whole numbers only thus all show the same, readable number;
the rounding, half a ppb at most, lies well below the noise of any map.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from highdicom import SOPClass
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from napari_metaqsm.io.dicom.derived import (
    Description,
    acceptable,
    add_compression,
    complete,
    derived_from,
    in_ppm,
    thickness_of,
)
from napari_metaqsm.io.dicom.grid import Grid, nearest_slices
from napari_metaqsm.io.dicom.source import Original

_PPB_PER_PPM = 1000.0
_LARGEST = 32767
# How it was acquired; what of this the source's header has.
_ACQUISITION = (
    "ProtocolName", "ScanningSequence",
    "SequenceVariant", "ScanOptions", "MRAcquisitionType", "SequenceName", "RepetitionTime",
    "EchoTrainLength", "FlipAngle", "MagneticFieldStrength", "ImagingFrequency", "ImagedNucleus",
    "AcquisitionDate", "AcquisitionTime", "AcquisitionNumber", "PositionReferenceIndicator",
)  # fmt: skip


def mr_series(images: np.ndarray, grid: Grid, original: Original, about: Description) -> list[Dataset]:
    """The objects, one for each slice, ready to be written.

    Parameters
    ----------
    images : (slice, row, column) float, ppm, on ``grid``
    original : whose patient, study and frame of reference they inherit, and to whose images they refer

    Notes
    -----
    The slope is the smallest of 1, 10, 100, … ppb with which all values fit 16 bits; no map of a head
    needs more than the first, which reaches 32.767 ppm.
    """
    ppb = np.asarray(images, dtype=np.float64) * _PPB_PER_PPM
    slope = 1.0
    while np.abs(ppb).max() / slope > _LARGEST:
        slope *= 10
    stored = np.rint(ppb / slope).astype("<i2")
    shared = _shared(original, grid, about, slope, (int(stored.min()), int(stored.max())))
    near = nearest_slices(grid, original.grid)
    return [
        _slice(shared, pixels, grid, n, derived_from(original.images[near[n]]))
        for n, pixels in enumerate(stored)
    ]


def _shared(
    original: Original, grid: Grid, about: Description, slope: float, ends: tuple[int, int]
) -> Dataset:
    """What all slices have in common."""
    header = acceptable(original.header)
    low, high = (edge * _PPB_PER_PPM for edge in about.window_ppm)
    image = SOPClass(
        **about.arguments("ppb"),
        study_instance_uid=header.StudyInstanceUID,
        sop_class_uid=MRImageStorage,
        modality="MR",
        patient_id=header.PatientID,
        patient_name=header.PatientName,
        patient_birth_date=header.PatientBirthDate,
        patient_sex=header.PatientSex,
        accession_number=header.AccessionNumber,
        study_id=header.StudyID,
        study_date=header.StudyDate,
        study_time=header.StudyTime,
        referring_physician_name=header.ReferringPhysicianName,
    )
    image.copy_patient_and_study_information(header)
    complete(image, original.header, f"Rounded to {slope:g} ppb. {about.derivation}")
    for keyword in _ACQUISITION:
        if keyword in header:
            image.add(header[keyword])
    _fill_required(image, header)
    image.FrameOfReferenceUID = header.FrameOfReferenceUID
    image.ImageType = ["DERIVED", "SECONDARY", "OTHER", "QSM"]
    image.BurnedInAnnotation = "NO"
    image.RecognizableVisualFeatures = "NO" if about.faceless else "YES"
    add_compression(image, header)
    image.ImageOrientationPatient = [_decimal(x) for x in grid.orientation.ravel()]
    image.PixelSpacing = [_decimal(x) for x in grid.spacing_mm]
    image.SliceThickness = _decimal(thickness_of(header, grid))
    image.SpacingBetweenSlices = _decimal(round(grid.slice_spacing_mm, 5))
    image.ImagesInAcquisition = len(grid.positions)
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = grid.shape
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = _decimal(slope), "0", "PPB"
    image.WindowCenter, image.WindowWidth = _decimal((low + high) / 2), _decimal(high - low)
    image.WindowCenterWidthExplanation = "ppb"
    image.RealWorldValueMappingSequence = [in_ppm(slope / _PPB_PER_PPM, *ends)]
    return image


def _fill_required(image: Dataset, header: Dataset) -> None:
    """What every classic MR image must have; an enhanced source says it in other words."""
    if not image.get("ScanningSequence"):
        spin = header.get("EchoPulseSequence") == "SPIN"
        image.ScanningSequence = "SE" if spin else "GR"
    if not image.get("SequenceVariant"):
        image.SequenceVariant = (
            "SP" if header.get("Spoiling") in ("RF", "GRADIENT", "RF_AND_GRADIENT") else "NONE"
        )
    # A map is of no one echo.
    for keyword in ("EchoTime", "EchoTrainLength", "RepetitionTime", "ScanOptions", "MRAcquisitionType"):
        if keyword not in image:
            setattr(image, keyword, None)
    if "PositionReferenceIndicator" not in image:
        image.PositionReferenceIndicator = ""


def _slice(shared: Dataset, pixels: np.ndarray, grid: Grid, n: int, source: Dataset) -> Dataset:
    image = deepcopy(shared)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    image.InstanceNumber = n + 1
    position = grid.positions[n]
    image.ImagePositionPatient = [_decimal(x) for x in position]
    image.SliceLocation = _decimal(float(position @ grid.normal))
    image.SourceImageSequence = [source]
    image.SmallestImagePixelValue, image.LargestImagePixelValue = int(pixels.min()), int(pixels.max())
    image.PixelData = pixels.tobytes()
    return image


def _decimal(value: float) -> str:
    return format_number_as_ds(float(value) + 0.0)  # no minus before zero

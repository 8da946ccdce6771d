"""Enhanced MR made for tests: all frames of a series in one file, or one file per part and echo.

``enhanced`` takes what ``made.classic`` takes. Philips puts every part and echo into one file, the others
one file per part and echo, as Siemens XA does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from made import AXIAL, PHILIPS_SCALE_SLOPE, VENDORS, as_stored, identify, place, save, set_pixels, uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

WHEN = "20210902121816"
SIEMENS_XA = {"manufacturer": "Siemens Healthineers", "model": "MAGNETOM Vida", "software": "syngo MR XA30"}


def enhanced(
    folder: Path,
    magnitude: np.ndarray,
    phase: np.ndarray,
    affine: np.ndarray = AXIAL,
    *,
    vendor: str = "Siemens",
    parts: Sequence[str] = ("magnitude", "phase"),
    echo_times_s: Sequence[float] = (0.005, 0.012),
    b0_tesla: float = 3.0,
    series: int = 8,
    description: str = "gre_qsm",
    stored: str | None = None,
    alternating: bool = False,
    study: str = "1",
) -> list[Path]:
    """Write the files of one run, and return them: by echo and part where each has its own."""
    this = VENDORS[vendor]
    if vendor == "Siemens":
        this = dataclasses.replace(this, **SIEMENS_XA)
    values = {p: as_stored(p, magnitude, phase, this, stored or this.stored, alternating) for p in parts}
    every = list(product(range(len(magnitude)), parts))
    files = [every] if vendor == "Philips" else [[one] for one in every]
    paths = []
    for number, stacks in enumerate(files, start=1):
        image = Dataset()
        image.SOPClassUID = EnhancedMRImageStorage
        of_parts = {part for _, part in stacks}
        image.SeriesNumber = series if this.one_series else series + parts.index(stacks[0][1])
        image.InstanceNumber, image.AcquisitionNumber = number, 1
        image.SeriesDescription = description
        image.Manufacturer, image.ManufacturerModelName = this.manufacturer, this.model
        image.SoftwareVersions, image.DeviceSerialNumber = this.software.split("\\"), "1"
        image.MagneticFieldStrength = b0_tesla
        component = "MIXED" if len(of_parts) > 1 else stacks[0][1].upper()
        kind = this.types[stacks[0][1]][0] if len(of_parts) == 1 else "MIXED"
        image.ImageType = ["ORIGINAL", "PRIMARY", "T1" if component == "MIXED" else kind, "NONE"]
        _describe(image, component)
        identify(image, study, f"{vendor} enhanced {description} {image.SeriesNumber}", f"{number}")
        _sequence(image)
        image.SharedFunctionalGroupsSequence = [_shared(affine, b0_tesla, len(magnitude))]
        frames, pixels = [], []
        for k in range(magnitude.shape[3]):
            for echo, part in stacks:
                stack = values[part]
                place_in = (1, k + 1, echo + 1, parts.index(part) + 1)
                frames.append(
                    _frame(
                        vendor, part, affine, k, echo_times_s[echo], stack[1], place_in, this.types[part][0]
                    )
                )
                pixels.append(stack[0][echo, :, :, k].T)
        image.PerFrameFunctionalGroupsSequence = frames
        image.NumberOfFrames = len(frames)
        set_pixels(image, np.stack(pixels))
        paths.append(save(image, folder / f"{series:04d}_{number:04d}.dcm"))
    return paths


def _describe(image: Dataset, component: str) -> None:
    image.PixelPresentation, image.VolumetricProperties = "MONOCHROME", "VOLUME"
    image.VolumeBasedCalculationTechnique, image.AcquisitionContrast = "NONE", "T1"
    image.ComplexImageComponent = component


def _sequence(image: Dataset) -> None:
    """What the standard asks of every gradient-echo acquisition."""
    image.MRAcquisitionType, image.EchoPulseSequence, image.PulseSequenceName = "3D", "GRADIENT", "*fl3d2"
    image.MultiPlanarExcitation = image.PhaseContrast = image.TimeOfFlightContrast = "NO"
    image.SteadyStatePulseSequence, image.EchoPlanarPulseSequence = "NONE", "NO"
    image.SaturationRecovery, image.SpectrallySelectedSuppression = "NO", "NONE"
    image.OversamplingPhase, image.GeometryOfKSpaceTraversal = "NONE", "RECTILINEAR"
    image.SegmentedKSpaceTraversal, image.RectilinearPhaseEncodeReordering = "SINGLE", "LINEAR"
    image.KSpaceFiltering, image.NumberOfKSpaceTrajectories, image.CoverageOfKSpace = "NONE", 1, "FULL"
    image.ResonantNucleus, image.ApplicableSafetyStandardAgency = "1H", "IEC"
    image.ContentQualification, image.BurnedInAnnotation = "PRODUCT", "NO"
    image.LossyImageCompression, image.PresentationLUTShape = "00", "IDENTITY"
    image.AcquisitionDateTime, image.AcquisitionDuration = WHEN, 60.0
    image.AcquisitionContextSequence = []
    organisation = Dataset()
    organisation.DimensionOrganizationUID = uid("dimensions")
    image.DimensionOrganizationSequence = [organisation]
    image.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=uid("dimensions"),
            DimensionIndexPointer=tag_for_keyword(keyword),
            FunctionalGroupPointer=tag_for_keyword(group),
        )
        for keyword, group in (
            ("StackID", "FrameContentSequence"),
            ("InStackPositionNumber", "FrameContentSequence"),
            ("EffectiveEchoTime", "MREchoSequence"),
            ("ComplexImageComponent", "MRImageFrameTypeSequence"),
        )
    ]


def _item(**values) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def _shared(affine: np.ndarray, b0_tesla: float, echoes: int) -> Dataset:
    size = np.linalg.norm(affine[:3, :3], axis=0)
    brain = _item(CodeValue="T-A0100", CodingSchemeDesignator="SRT", CodeMeaning="Brain")
    coil = _item(MultiCoilElementName="H1", MultiCoilElementUsed="YES")
    modes = [
        _item(OperatingModeType=kind, OperatingMode="IEC_NORMAL")
        for kind in ("STATIC FIELD", "RF", "GRADIENT")
    ]
    return _item(
        PixelMeasuresSequence=[
            _item(
                PixelSpacing=[f"{size[1]:.8g}", f"{size[0]:.8g}"],
                SliceThickness=f"{size[2]:.8g}",
                SpacingBetweenSlices=f"{size[2]:.8g}",
            )
        ],
        FrameAnatomySequence=[_item(AnatomicRegionSequence=[brain], FrameLaterality="U")],
        MRTimingAndRelatedParametersSequence=[
            _item(
                RepetitionTime="30", FlipAngle="15", EchoTrainLength=echoes, RFEchoTrainLength=0,
                GradientEchoTrainLength=echoes, OperatingModeSequence=modes,
                GradientOutputType="PER_NERVE_STIM", GradientOutput=50.0,
                SpecificAbsorptionRateSequence=[
                    _item(SpecificAbsorptionRateDefinition="IEC_HEAD", SpecificAbsorptionRateValue=0.1)
                ],
            )
        ],
        MRFOVGeometrySequence=[
            _item(
                InPlanePhaseEncodingDirection="COLUMN", MRAcquisitionFrequencyEncodingSteps=64,
                MRAcquisitionPhaseEncodingStepsInPlane=64, MRAcquisitionPhaseEncodingStepsOutOfPlane=12,
                PercentSampling="100", PercentPhaseFieldOfView="100",
            )
        ],
        MRModifierSequence=[
            _item(
                InversionRecovery="NO", FlowCompensation="NONE", Spoiling="RF", T2Preparation="NO",
                SpectrallySelectedExcitation="NONE", SpatialPresaturation="NONE", ParallelAcquisition="NO",
                PartialFourier="NO",
            )
        ],
        MRImagingModifierSequence=[
            _item(
                MagnetizationTransfer="NONE", BloodSignalNulling="NO", Tagging="NONE",
                TransmitterFrequency=42.577 * b0_tesla, PixelBandwidth="300",
            )
        ],
        MRReceiveCoilSequence=[
            _item(
                ReceiveCoilName="Head", ReceiveCoilManufacturerName="", ReceiveCoilType="MULTICOIL",
                QuadratureReceiveCoil="NO", MultiCoilDefinitionSequence=[coil],
            )
        ],
        MRTransmitCoilSequence=[
            _item(TransmitCoilName="Body", TransmitCoilManufacturerName="", TransmitCoilType="BODY")
        ],
        MRAveragesSequence=[_item(NumberOfAverages="1")],
    )  # fmt: skip


def _frame(vendor: str, part: str, affine, k: int, echo_time_s: float, scale, place_in, kind: str) -> Dataset:
    slope, intercept = scale or (1.0, 0.0)
    plane = Dataset()
    place(plane, affine, k)
    described = _item(FrameType=["ORIGINAL", "PRIMARY", "T1" if vendor == "Philips" else kind, "NONE"])
    _describe(described, part.upper())
    frame = _item(
        FrameContentSequence=[
            _item(
                FrameAcquisitionDateTime=WHEN, FrameReferenceDateTime=WHEN, FrameAcquisitionDuration=60000.0,
                StackID="1", InStackPositionNumber=k + 1, TemporalPositionIndex=1,
                DimensionIndexValues=list(place_in), FrameAcquisitionNumber=1,
            )
        ],
        PlanePositionSequence=[_item(ImagePositionPatient=plane.ImagePositionPatient)],
        PlaneOrientationSequence=[_item(ImageOrientationPatient=plane.ImageOrientationPatient)],
        MREchoSequence=[_item(EffectiveEchoTime=1000 * echo_time_s)],
        MRImageFrameTypeSequence=[described],
        PixelValueTransformationSequence=[
            _item(RescaleSlope=f"{slope:.15g}", RescaleIntercept=f"{intercept:.15g}", RescaleType="US")
        ],
    )  # fmt: skip
    if vendor == "Philips":
        private = Dataset()
        block = private.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", PHILIPS_SCALE_SLOPE[part])
        block.add_new(0x11, "CS", part[0].upper())
        frame.private_block(0x2005, "Philips MR Imaging DD 005", create=True).add_new(0x0F, "SQ", [private])
    return frame

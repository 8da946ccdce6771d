"""DICOM made for tests, as each vendor writes it: classic files, one a slice.

``classic(folder, magnitude, phase, affine, vendor="GE", parts=("magnitude", "real", "imaginary"))`` takes
float arrays (echo, i, j, k), the phase in radians of the package's convention (paramagnetic positive), and
stores them with the vendor's sign, scale, image types, private elements and file names. It returns the file
of every (part, echo, slice), echo and slice from 0, so that a test takes one away or breaks it. The k axis
runs from slice to slice; any affine with orthogonal columns gives any orientation. ``made_enhanced`` writes
the same as one file of many frames. ``given_axes`` brings a converted NIfTI file back to (i, j, k).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    generate_uid,
)

PARTS = ("magnitude", "phase", "real", "imaginary")
AXIAL = np.diag([0.8, 0.8, 2.0, 1.0])
# 20 degrees about the left-right axis, and 10 about the new anterior-posterior one.
OBLIQUE = np.array(
    [
        [0.787846, 0.0, 0.347296, -9.0],
        [0.047513, 0.751754, -0.673648, 11.0],
        [-0.130540, 0.273616, 1.850833, 40.0],
        [0, 0, 0, 1.0],
    ]
)
SAGITTAL = np.array([[0, 0, 2.0, -30], [0.8, 0, 0, -20], [0, 0.8, 0, 5], [0, 0, 0, 1.0]])


@dataclass(frozen=True)
class Vendor:
    """What tells vendors apart.

    Parameters
    ----------
    types : image type after ORIGINAL\\PRIMARY of each part
    sign : of the phase that is stored
    stored : how phase is stored, a key of ``PHASES``
    one_series : whether all parts are in one series, rather than each part in its own
    """

    manufacturer: str
    model: str
    software: str
    types: dict[str, tuple[str, ...]]
    sign: int
    stored: str
    one_series: bool
    file_name: str


def _types(*after: str) -> dict[str, tuple[str, ...]]:
    return {part: (code, *after) for part, code in zip(PARTS, "MPRI", strict=True)}


VENDORS = {
    "Siemens": Vendor(
        "SIEMENS", "Prisma_fit", "syngo MR E11", _types("ND"), 1, "±4096", False,
        "MADE.MR.QSM.{series:04d}.{instance:04d}.2021.09.02.12.18.16.{instance:06d}.IMA",
    ),
    "Philips": Vendor(
        "Philips", "Ingenia Elition X", "5.7.1",
        {"magnitude": ("M_FFE", "M", "FFE"), "phase": ("PHASE MAP", "P", "FFE"),
         "real": ("R_FFE", "R", "FFE"), "imaginary": ("I_FFE", "I", "FFE")},
        1, "mrad", True, "IM_{instance:04d}",
    ),
    "GE": Vendor(
        "GE MEDICAL SYSTEMS", "DISCOVERY MR750", "27\\LX\\MR Software release:DV25.1_R01_1617.b",
        dict.fromkeys(PARTS, ("OTHER",)), -1, "mrad, unscaled", True, "i{instance:07d}.MRDC.{instance}",
    ),
    "Canon": Vendor(
        "CANON_MEC", "Vantage Galan 3T", "V6.0", _types("NONE"), 1, "±4096", False,
        "IM{series:04d}{instance:05d}.dcm",
    ),
    "UIH": Vendor(
        "UIH", "uMR 790", "V10", _types("NONE"), 1, "±4096", False, "{series}/{instance:08d}.dcm",
    ),
}  # fmt: skip
# Slope, intercept (None: none in the header), lowest and highest stored value, stored steps per radian.
PHASES = {
    "±4096": ((2.0, -4096.0), 0, 4095, 2048 / np.pi),
    "0…4095": (None, 0, 4095, 2048 / np.pi),
    "mrad": ((1.53455433455433, -3142.0), 0, 4095, 1000 / 1.53455433455433),
    "mrad, unscaled": (None, -3142, 3142, 1000.0),
}
PHILIPS_SCALE_SLOPE = {
    "magnitude": 0.000237989,
    "phase": 651.74,
    "real": 0.000237989,
    "imaginary": 0.000237989,
}
GE_PART = {"magnitude": 0, "phase": 1, "real": 2, "imaginary": 3}
LARGEST = 4000


def phantom(shape=(20, 18, 12), echo_times_s=(0.005, 0.012), seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude and phase (echo, i, j, k) of an uneven ball in air; the phase wraps and fills its circle."""
    generator = np.random.default_rng(seed)
    i, j, k = (np.linspace(-1, 1, n) for n in shape)
    i, j, k = i[:, None, None], j[None, :, None], k[None, None, :]
    inside = (i / 0.8) ** 2 + (j / 0.9) ** 2 + (k / 0.95) ** 2 < 1
    field = 700 * i + 300 * j**2 + 250 * k + 150 * np.exp(-((i - 0.2) ** 2 + j**2 + k**2) / 0.1)  # rad/s
    times = np.array(echo_times_s)[:, None, None, None]
    signal = inside * (1 + 0.3 * j) * np.exp(-times / 0.04) * np.exp(1j * (field * times + 0.4))
    noise = generator.normal(size=(2, *signal.shape)) * 0.01
    signal = signal + noise[0] + 1j * noise[1]
    return np.abs(signal), np.angle(signal)


def classic(
    folder: Path,
    magnitude: np.ndarray,
    phase: np.ndarray,
    affine: np.ndarray = AXIAL,
    *,
    vendor: str = "Siemens",
    parts: Sequence[str] = ("magnitude", "phase"),
    echo_times_s: Sequence[float] | None = (0.005, 0.012),
    b0_tesla: float = 3.0,
    series: int = 8,
    description: str = "gre_qsm",
    stored: str | None = None,
    alternating: bool = False,
    manufacturer: str | None = None,
    study: str = "1",
    clock: str = "121816",
    copy: int = 0,
) -> dict[tuple[str, int, int], Path]:
    """Write one file per part, echo and slice, and return them.

    Parameters
    ----------
    echo_times_s : None leaves them out of the headers
    stored : how the phase is stored, other than the vendor does
    alternating : whether real and imaginary parts change sign from slice to slice
    clock : time of acquisition; series of other times are other acquisitions
    copy : other than 0, the same images again, under other names and UIDs, as a second sending makes them
    """
    this = VENDORS[vendor]
    files = {}
    counts: dict[int, int] = {}
    # Slices outermost, as scanners number them; parts innermost.
    for k in range(magnitude.shape[3]):
        for echo in range(len(magnitude)):
            for place, part in enumerate(parts):
                number = series if this.one_series else series + place
                instance = counts[number] = counts.get(number, 0) + 1
                values, scale = as_stored(part, magnitude, phase, this, stored or this.stored, alternating)
                image = _image(this, values[echo, :, :, k].T, scale, part, affine, k)
                image.SeriesNumber = number
                image.InstanceNumber = instance
                image.SeriesDescription = description
                image.MagneticFieldStrength = b0_tesla
                image.ImagingFrequency = round(42.577 * b0_tesla, 6)
                image.EchoTrainLength = len(magnitude)
                image.EchoNumbers = echo + 1
                image.EchoTime = None if echo_times_s is None else f"{1000 * echo_times_s[echo]:.6g}"
                image.Manufacturer = this.manufacturer if manufacturer is None else manufacturer
                identify(image, study, f"{vendor} {description} {number} {copy}", f"{instance}", clock)
                _private(image, vendor, part, len(magnitude), magnitude.shape[3], k)
                name = this.file_name.format(series=number, instance=instance)
                path = folder / (f"copy{copy}_{name}" if copy else name)
                files[part, echo, k] = save(image, path)
    return files


def as_stored(
    part: str, magnitude: np.ndarray, phase: np.ndarray, vendor: Vendor, stored: str, alternating: bool
) -> tuple[np.ndarray, tuple[float, float] | None]:
    """A part as integers, and the slope and intercept of its header."""
    philips = vendor.manufacturer == "Philips"
    if part == "phase":
        scale, low, high, steps = PHASES[stored]
        turned = np.angle(np.exp(1j * vendor.sign * phase)) * steps
        offset = 0 if low < 0 else (2048 if scale is None or scale[0] == 2 else -scale[1] / scale[0])
        return np.clip(np.rint(turned + offset), low, high).astype(np.int16), scale
    per_unit = LARGEST / magnitude.max()
    if part == "magnitude":
        return np.rint(magnitude * per_unit).astype(np.int16), (1.29158, 0.0) if philips else None
    signal = magnitude * per_unit * np.exp(1j * vendor.sign * phase)
    if alternating:
        signal = signal * np.where(np.arange(phase.shape[-1]) % 2, -1, 1)
    values = np.rint(signal.real if part == "real" else signal.imag).astype(np.int16)
    return values, (1.29158, 0.0) if philips else None


def _image(vendor: Vendor, pixels: np.ndarray, scale, part: str, affine: np.ndarray, k: int) -> Dataset:
    image = Dataset()
    image.SOPClassUID = MRImageStorage
    image.ImageType = ["ORIGINAL", "PRIMARY", *vendor.types[part]]
    image.ManufacturerModelName = vendor.model
    image.SoftwareVersions = vendor.software.split("\\")
    image.DeviceSerialNumber = "1"
    image.ScanningSequence, image.SequenceVariant, image.ScanOptions = "GR", "SP", "FC"
    image.MRAcquisitionType, image.RepetitionTime, image.FlipAngle = "3D", "30", "15"
    image.SequenceName = "*fl3d2"
    image.ImagedNucleus, image.NumberOfAverages, image.PixelBandwidth = "1H", "1", "300"
    place(image, affine, k)
    size = np.linalg.norm(affine[:3, :3], axis=0)
    image.PixelSpacing = [f"{size[1]:.8g}", f"{size[0]:.8g}"]
    image.SliceThickness = image.SpacingBetweenSlices = f"{size[2]:.8g}"
    image.AcquisitionNumber = 1
    set_pixels(image, pixels)
    if scale is not None:
        image.RescaleSlope, image.RescaleIntercept = f"{scale[0]:.15g}", f"{scale[1]:.15g}"
        image.RescaleType = "mrad" if scale[1] == -3142 else "normalized" if scale[1] == 0 else "US"
    return image


def place(image: Dataset, affine: np.ndarray, k: int) -> None:
    """Orientation and position of slice ``k``: columns run along i, rows along j, in LPS."""
    axes = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :3]
    axes /= np.linalg.norm(axes, axis=0)
    corner = np.array([-1.0, -1.0, 1.0]) * (affine @ [0, 0, k, 1])[:3]
    image.ImageOrientationPatient = [f"{v:.10f}" for v in (*axes[:, 0], *axes[:, 1])]
    image.ImagePositionPatient = [f"{v:.8f}" for v in corner]
    if image.get("SOPClassUID") == MRImageStorage:
        image.SliceLocation = f"{np.dot(np.cross(axes[:, 0], axes[:, 1]), corner):.8f}"


def set_pixels(image: Dataset, pixels: np.ndarray) -> None:
    """Pixels (…, row, column), int16, stored as 12 bits unsigned where they fit."""
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape[-2:]
    unsigned = pixels.min() >= 0
    image.BitsAllocated, image.BitsStored = 16, 12 if unsigned else 16
    image.HighBit, image.PixelRepresentation = image.BitsStored - 1, 0 if unsigned else 1
    image.PixelData = np.ascontiguousarray(pixels).tobytes()


def identify(image: Dataset, study: str, series: str, instance: str, clock: str = "121816") -> None:
    """Patient, study, dates and UIDs; the same names give the same UIDs."""
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Made^Up", "M1", "", "O"
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20210902"
    image.StudyTime = "120000"
    image.SeriesTime = image.AcquisitionTime = image.ContentTime = clock
    image.StudyInstanceUID = uid(study)
    image.SeriesInstanceUID = uid(study, series)
    image.SOPInstanceUID = uid(study, series, instance)
    image.FrameOfReferenceUID = uid(study, "frame of reference")
    image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "1", "", ""
    image.StudyDescription, image.ProtocolName = "made for tests", image.get("SeriesDescription", "")
    image.Modality, image.PatientPosition, image.PositionReferenceIndicator = "MR", "HFS", ""
    image.BodyPartExamined = "BRAIN"


def uid(*names: str) -> UID:
    return generate_uid(entropy_srcs=["made", *names])


def _private(image: Dataset, vendor: str, part: str, echoes: int, slices: int, k: int) -> None:
    """The vendor's own elements that converters read."""
    if vendor == "GE":
        image.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(0x7E, "SS", echoes)
        image.private_block(0x0021, "GEMS_RELA_01", create=True).add_new(0x4F, "SS", slices)
        image.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", GE_PART[part])
    if vendor == "Philips":
        block = image.private_block(0x2001, "Philips Imaging DD 001", create=True)
        block.add_new(0x0A, "IS", str(k + 1))
        block.add_new(0x18, "SL", slices)
        block = image.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0E, "FL", PHILIPS_SCALE_SLOPE[part])
        block.add_new(0x11, "CS", part[0].upper())


def save(image: Dataset, path: Path) -> Path:
    """Write a file with its preamble and meta information."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path


def without_preamble(path: Path, implicit: bool) -> Path:
    """A file as old archives hold it: neither preamble nor meta information, which say what it is."""
    image = pydicom.dcmread(path)
    image.preamble = None
    del image.file_meta
    pydicom.dcmwrite(path, image, implicit_vr=implicit, little_endian=True)
    assert path.read_bytes()[:2] == b"\x08\x00"
    return path


def given_axes(file: Path | nibabel.Nifti1Image, affine: np.ndarray) -> np.ndarray:
    """A converted NIfTI file on the axes that were made, its place in the world checked."""
    image = nibabel.load(file) if isinstance(file, Path) else file
    order = nibabel.orientations.io_orientation(np.linalg.inv(affine) @ image.affine)
    turned = image.as_reoriented(order)
    np.testing.assert_allclose(turned.affine, affine, atol=1e-3)
    return turned.get_fdata()


def clutter(folder: Path) -> list[Path]:
    """What lies beside the images on a disc from the hospital: an index, reports, viewers, previews."""
    state = Dataset()
    state.SOPClassUID = GrayscaleSoftcopyPresentationStateStorage
    identify(state, "1", "presentation state", "1")
    state.Modality, state.SeriesNumber, state.InstanceNumber = "PR", 99, 1
    index = Dataset()
    index.SOPClassUID, index.SOPInstanceUID = MediaStorageDirectoryStorage, uid("index")
    index.FileSetID, index.DirectoryRecordSequence = "MADE", []
    paths = [save(state, folder / "PS_0001"), save(index, folder / "DICOMDIR")]
    for name, content in {
        "README.TXT": b"Start VIEWER.EXE to see the images\r\n",
        "VIEWER.EXE": b"MZ" + bytes(200),
        "preview/0001.jpg": b"\xff\xd8\xff\xe0" + bytes(100),
        ".DS_Store": b"\0\0\0\1Bud1" + bytes(200),
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        paths.append(path)
    return paths

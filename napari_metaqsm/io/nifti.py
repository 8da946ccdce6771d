"""NIfTI in and out: arrays in the file's own axes, and the space that writes results back there."""

from __future__ import annotations

import gzip
import logging
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.staging import check_writable, staged
from napari_metaqsm.scan import Geometry

__all__ = ["Space", "check_file", "check_writable", "is_nifti", "read", "space_from", "staged", "write"]

# Everything nibabel raises on a file that is not what its name says.
_UNREADABLE = (
    HeaderDataError,
    HeaderTypeError,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    MemoryError,
    zlib.error,
)
# No byte of a gzip stream becomes more than 1032.
_LARGEST_DEFLATION = 1032
# Of NIfTI-2, in bytes.
_LONGEST_HEADER = 540
# Extensions stand between the header and the voxels, and hold kilobytes.
_LARGEST_OFFSET = 2**30
# A file that goes on behind its voxels is padded, or inflates without end.
_LONGEST_TAIL = 2**26
# What nibabel would log of a bad header is refused in one line.
_UNHEARD = logging.Logger("napari_metaqsm.io.nifti", logging.CRITICAL + 1)
# By the codes of NIfTI for metres, millimetres and micrometres.
_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}
_SCANNER = 1  # NIfTI code of a transform into the coordinates of the scanner
_ALIGNED = 2  # … into those of another scan
_TEMPLATE = (3, 4, 5)  # … and of those into a template's
# Cosine between two axes of a grid that is still rectangular: rounding in a qform, and no shear.
_LARGEST_SHEAR = 0.02
# What two transforms of one header may differ by: in size, and as the cosine between directions (1°).
_SAME_SIZE, _SAME_DIRECTION = 0.01, math.cos(math.radians(1))
_SMALLEST_VOXEL_MM, _LARGEST_VOXEL_MM = 0.005, 100.0


@dataclass(frozen=True, eq=False)
class Space:
    """Where an array lay in its file: what is needed to write another array to the same place.

    Parameters
    ----------
    shape : the three spatial axes
    affine : (4, 4), voxel index to the scanner's millimetres (right, anterior, superior)
    header : of the file, with its sform and qform, both written back unchanged
    known : False where the file holds no transform and its voxel sizes had to do
    note : what had to be assumed, for the user
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    header: nib.Nifti1Header
    known: bool = True
    note: str = ""

    def geometry(self) -> Geometry:
        """Voxel size, B0 direction and orientation along the file's own axes.

        Notes
        -----
        With R the columns of the affine at unit length, B0 along the array's axes is R^T (0, 0, 1).
        """
        size = nib.affines.voxel_sizes(self.affine)
        directions = self.affine[:3, :3] / size
        return Geometry(
            self.shape,
            voxel_size_mm=tuple(size),
            b0_direction=tuple(directions[2]),
            orientation="".join(nib.aff2axcodes(self.affine)),
        )


def space_from(geometry: Geometry) -> Space:
    """A space for arrays that come from no file, with the voxel size and the B0 of ``geometry``.

    The axes point where ``geometry.orientation`` says, turned by the smallest rotation that puts B0
    where it lies; the centre of the array is the origin.
    """
    to_patient = np.zeros((3, 3))
    for axis, code in enumerate(geometry.orientation):
        row, sign = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}[code]
        to_patient[row, axis] = sign
    b0 = np.asarray(geometry.b0_direction)
    if to_patient[2] @ b0 < 0:  # B0 has no sense that matters here: take the one that turns less
        b0 = -b0
    affine = np.eye(4)
    affine[:3, :3] = to_patient @ _rotation(b0, to_patient[2]) @ np.diag(geometry.voxel_size_mm)
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(geometry.shape) - 1) / 2)
    header = nib.Nifti1Header()
    header.set_data_shape(geometry.shape)
    header.set_xyzt_units("mm", "sec")
    header.set_qform(affine, code=_SCANNER)
    header.set_sform(affine, code=_SCANNER)
    return Space(geometry.shape, header.get_sform(), header)


def _rotation(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Smallest rotation that takes the unit vector ``start`` to ``end`` (Rodrigues)."""
    axis, cosine = np.cross(start, end), float(start @ end)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + cosine)


# ------------------------------------------------------------------------------------- reading
def is_nifti(path: str | Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return str(path).lower().endswith((".nii", ".nii.gz"))


def read(path: str | Path) -> tuple[np.ndarray, Space]:
    """Values and space of a NIfTI file.

    Returns
    -------
    array : (i, j, k), or (echo, i, j, k) from a 4-D file, float32, the header's slope applied
    space : see there; the array is in the file's own axes and order

    Raises
    ------
    InputError
        When the file is missing, is no NIfTI, is truncated, is not a 3-D volume (or several of the
        same), is complex, or its header cannot be meant.
    """
    path = Path(path)
    header, stored = _header(path)
    if np.issubdtype(header.get_data_dtype(), np.complexfloating):
        raise InputError(f"{path.name} is complex; give magnitude and phase as two files")
    if header.get_data_dtype().fields is not None:
        raise InputError(f"{path.name} holds colours; it must hold one number per voxel")
    space = _space(header, stored, path)
    _check_size(header, path)
    try:
        array = _values(header, path)
    except MemoryError as error:
        raise InputError(
            f"{path.name} does not fit in memory; {_count(header)} voxels are too many"
        ) from error
    except _UNREADABLE as error:
        reason = _one_line(error)
        raise InputError(f"{path.name} cannot be read; it is truncated or damaged ({reason})") from error
    array = array.reshape(
        (*space.shape, -1) if array.ndim > 3 and math.prod(array.shape[3:]) > 0 else space.shape
    )
    return np.ascontiguousarray(np.moveaxis(array, 3, 0) if array.ndim == 4 else array), space


def shape_of(path: str | Path) -> tuple[int, ...]:
    """Matrix size that the header promises, volumes last; no value is read.

    Raises
    ------
    InputError
        When the file is missing, is no NIfTI, or cannot hold as much.
    """
    header, _ = _header(Path(path))
    _check_size(header, Path(path))
    return tuple(int(n) for n in header.get_data_shape())


def _stream(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def _values(header: nib.Nifti1Header, path: Path) -> np.ndarray:
    """All values, scaled; a compressed file to its very end, where its checksum stands."""
    with _stream(path) as file, np.errstate(all="ignore"):
        array = np.asanyarray(ArrayProxy(file, header), dtype=np.float32)
        left = _LONGEST_TAIL
        while path.suffix.lower() == ".gz" and (block := file.read(2**20)):
            left -= len(block)
            if left < 0:
                raise OSError(f"it goes on for more than {_LONGEST_TAIL // 2**20} MiB behind its last voxel")
    return array


def _header(path: Path) -> tuple[nib.Nifti1Header, nib.Nifti1Header]:
    """The header as nibabel mends it, and as it is stored.

    Extensions are left unread: nothing in them is of use here, and what parses them is much code for
    bytes that anyone may have written.
    """
    try:
        check_file(path)
        if not is_nifti(path):
            raise InputError(f"{path.name} is no NIfTI file; its name must end in .nii or .nii.gz")
        with _stream(path) as file:
            block = file.read(_LONGEST_HEADER)
        for kind in (nib.Nifti1Header, nib.Nifti2Header):
            if kind.may_contain_header(block):
                return _checked(kind(block[: kind.sizeof_hdr], check=False))
        raise HeaderDataError("the file does not begin with a header of NIfTI-1 or NIfTI-2")
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError(f"{path.name} is no readable NIfTI file ({_one_line(error)})") from error


def _checked(stored: nib.Nifti1Header) -> tuple[nib.Nifti1Header, nib.Nifti1Header]:
    header = stored.copy()
    header.check_fix(logger=_UNHEARD)
    if not 0 <= header["dim"][0] <= 7:
        raise HeaderDataError(f"it would have {header['dim'][0]} axes")
    # nibabel takes an offset of 0, and the header itself for the first voxels.
    if not header.single_vox_offset <= header.get_data_offset() <= _LARGEST_OFFSET:
        raise HeaderDataError(f"its voxels would begin at byte {header.get_data_offset()}")
    if np.isinf(header["scl_slope"]):  # NaN and 0 mean that there is no slope
        raise HeaderDataError("its values would be multiplied by infinity")
    # Each raises where its field cannot be meant.
    header.get_data_dtype(), header.get_data_shape(), header.get_slope_inter()
    return header, stored


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def check_file(path: Path) -> None:
    """Raise `InputError` unless ``path`` is a file that can be opened: no folder, no pipe, no device."""
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is no file" if path.exists() else "does not exist"
            raise InputError(f"{path} {what}; give a NIfTI file")
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}); give a NIfTI file") from error


def _space(header: nib.Nifti1Header, stored: nib.Nifti1Header, path: Path) -> Space:
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if any(n < 1 for n in shape):
        raise InputError(f"{path.name}: the header gives {shape} voxels; each axis must have one or more")
    if len(shape) > 4:
        raise InputError(
            f"{path.name} has {len(shape)} axes; it must have three, or four with the echoes last"
        )
    affine, known, note = _scanner_affine(header, stored, path)
    affine = affine.copy()
    with _naming(path), np.errstate(all="ignore"):
        # nibabel knows no name for half of what these bits can be.
        affine[:3] *= _MM_PER_UNIT.get(int(header["xyzt_units"]) & 0b111, 1.0)
        space = Space(shape[:3], affine, _clean(header), known, note)
        size = nib.affines.voxel_sizes(affine)
        if (
            not (np.isfinite(affine).all() and size.min() > 0)
            or np.linalg.matrix_rank(affine[:3, :3] / size.max()) < 3
        ):
            raise InputError("the affine of the header is singular or not finite; repair the header")
        if size.min() < _SMALLEST_VOXEL_MM or size.max() > _LARGEST_VOXEL_MM:
            raise InputError(
                f"the voxels are {' × '.join(f'{s:g}' for s in size)} mm; they must lie between "
                f"{_SMALLEST_VOXEL_MM:g} and {_LARGEST_VOXEL_MM:g} mm"
            )
        cosines = (affine[:3, :3] / size).T @ (affine[:3, :3] / size) - np.eye(3)
        if np.abs(cosines).max() > _LARGEST_SHEAR:
            raise InputError("the affine of the header is sheared; resample the image to a rectangular grid")
        if len(shape) < 3:
            raise InputError(f"the image has {len(shape)} axes; susceptibility mapping needs a 3-D volume")
        space.geometry()
    return space


def _scanner_affine(
    header: nib.Nifti1Header, stored: nib.Nifti1Header, path: Path
) -> tuple[np.ndarray, bool, str]:
    """The transform whose z is that of the scanner, whether there is one, and what was assumed."""
    codes = {"sform": int(header["sform_code"]), "qform": int(header["qform_code"])}
    with _naming(path), np.errstate(all="ignore"):
        if codes["sform"] == 0:
            _check_zooms(stored)
        if codes["sform"] == 0 and codes["qform"] == 0:
            note = f"{path.name} holds no affine; B0 is taken along the third axis"
            return header.get_base_affine(), False, note
        # An sform into a template's space says nothing of B0; the scanner's own qform does.
        use_qform = codes["sform"] != _SCANNER and codes["qform"] == _SCANNER
        affine = header.get_qform() if use_qform or codes["sform"] == 0 else header.get_sform()
        code = codes["qform"] if use_qform or codes["sform"] == 0 else codes["sform"]
        note = ""
        if code in _TEMPLATE:
            note = f"{path.name} is in a template's space; B0 is taken along the template's z"
        return affine, True, note or _disagreement(header, path, "qform" if use_qform else "sform")


def _disagreement(header: nib.Nifti1Header, path: Path, used: str) -> str:
    """What the two transforms of a header say differently, though both are of the scan itself."""
    codes = [int(header["sform_code"]), int(header["qform_code"])]
    if not set(codes) <= {_SCANNER, _ALIGNED}:
        return ""
    try:
        forms = [header.get_sform(), header.get_qform()]
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):
        return ""
    sizes = [nib.affines.voxel_sizes(form) for form in forms]
    if not np.allclose(*sizes, rtol=_SAME_SIZE, atol=0):
        words = " and ".join(" × ".join(f"{size:.4g}" for size in each) for each in sizes)
        return f"sform and qform of {path.name} give voxels of {words}; those of the {used} are taken"
    directions = [form[2, :3] / size for form, size in zip(forms, sizes, strict=True)]
    # What was aligned with another scan has been turned, and only the scanner's own transform knows B0.
    if codes == [_SCANNER, _SCANNER] and abs(np.dot(*directions)) < _SAME_DIRECTION:
        degrees = np.degrees(np.arccos(abs(np.dot(*directions))))
        return (
            f"sform and qform of {path.name} put B0 {degrees:.1f} degrees apart; that of the {used} is taken"
        )
    return ""


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of the header's transforms as one about the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from error
    except (ValueError, HeaderDataError, np.linalg.LinAlgError) as error:
        raise InputError(f"{path.name}: the affine of the header is unusable ({_one_line(error)})") from error


def _check_zooms(stored: nib.Nifti1Header) -> None:
    """Refuse voxel sizes that nibabel would have replaced by 1 without a word."""
    sizes = [float(s) for s in stored["pixdim"][1:4]]
    if not all(math.isfinite(s) and s > 0 for s in sizes):
        text = ", ".join(f"{s:g}" for s in sizes)
        raise ValueError(f"voxel sizes {text}; each must be greater than 0")


def _check_size(header: nib.Nifti1Header, path: Path) -> None:
    """Refuse a header that promises more than the file or memory can hold, before memory is asked for."""
    voxels, itemsize = math.prod(header.get_data_shape()), header.get_data_dtype().itemsize
    there = path.stat().st_size
    if path.suffix.lower() == ".gz":
        there *= _LARGEST_DEFLATION
    if header.get_data_offset() + voxels * itemsize > there:
        raise InputError(f"{path.name} is truncated; its header promises {_count(header)} voxels")
    needed = voxels * (itemsize + np.dtype(np.float32).itemsize)
    if needed > _memory():
        raise InputError(
            f"{path.name} does not fit in memory; its {_count(header)} voxels need {needed / 2**30:.3g} GiB, "
            f"and this machine has {_memory() / 2**30:.3g}"
        )


def _count(header: nib.Nifti1Header) -> str:
    return "×".join(str(n) for n in header.get_data_shape())


def _memory() -> float:
    """Bytes of this machine, where asking for more kills the process; elsewhere Python refuses in time."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf


def _clean(header: nib.Nifti1Header) -> nib.Nifti1Header:
    """A copy without what describes the values of the input, not its place."""
    copy = type(header)(header.binaryblock, header.endianness, check=False)
    for name in ("cal_min", "cal_max", "slice_duration", "toffset"):
        copy[name] = 0
    for name in ("descrip", "intent_name", "aux_file"):
        copy[name] = b""
    copy.set_intent("none")
    copy["pixdim"][4:] = 1
    copy["magic"] = header.single_magic
    return copy


# ------------------------------------------------------------------------------------- writing
def write(path: Path, array: np.ndarray, space: Space) -> Path:
    """Write (i, j, k) or (echo, i, j, k) where ``space`` says, and return the path.

    Call it inside :func:`staged`, which moves whole files into place.

    Numbers become float32, masks uint8, labels the smallest integers that hold them; there is no
    slope; sform and qform are those of the file that ``space`` comes from.

    Raises
    ------
    InputError
        When the array has another shape than the space.
    """
    array = np.asarray(array)
    if array.shape[-3:] != tuple(space.shape) or array.ndim not in (3, 4):
        raise InputError(
            f"{path.name} would be {array.shape} voxels, but its space is {space.shape}; they must match"
        )
    if array.ndim == 4:
        array = np.moveaxis(array, 0, 3)
    array = array.astype(_stored_type(array), copy=False)
    header = space.header.copy()
    header.set_data_dtype(array.dtype)
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    # Without an affine nibabel leaves sform and qform of the header as they are.
    nib.save(kind(array, None, header), path)
    return path


def _stored_type(array: np.ndarray) -> type:
    if array.dtype.kind == "b":
        return np.uint8
    if array.dtype.kind in "iu":
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        for kind in (np.uint8, np.int16, np.int32):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return kind
    return np.float32

"""Maps for the tests of DICOM out: each real scan and one made oblique, exported once, and ways back."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from made import OBLIQUE, classic, phantom

from napari_metaqsm.io.dicom.dcm2niix import run_dcm2niix
from napari_metaqsm.io.dicom.export import export
from napari_metaqsm.io.dicom.source import Source, read_source
from napari_metaqsm.io.load import load
from napari_metaqsm.io.nifti import Space

REAL = {
    "Philips classic": "philips_2echo/In/cl",
    "Philips enhanced": "philips_2echo/In/enh",
    "Siemens classic": "siemens_classic/In",
    "Siemens enhanced": "siemens_enhanced/In",
}
CASES = [*REAL, "made oblique"]
CHAIN = [
    {"stage": "field", "method": "nonlinear_fit", "title": "Nonlinear fit", "parameters": {"iterations": 30}},
    {"stage": "mask", "method": "brain", "title": "Brain", "parameters": {"weights": "/home/x/w.pt"}},
    {"stage": "inversion", "method": "tkd", "title": "TKD", "parameters": {"threshold": 0.2},
     "result": "susceptibility_tkd"},
]  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """A map and what became of it.

    Parameters
    ----------
    folder : of the source
    chi : (i, j, k), ppm, on ``space``
    one : the parametric map, series : the classic images, in the order in which they were returned
    """

    folder: Path
    source: Source
    space: Space
    chi: np.ndarray
    record: dict[str, Any]
    one: Path
    series: list[Path]

    def source_images(self) -> dict[tuple[str, int | None], Any]:
        """Every image of the source, by its number and that of the frame."""
        return {
            (image.header.sop_uid, image.frame + 1 if image.header.enhanced else None): image
            for original in self.source.originals
            for image in original.stack.images
        }


def exporter(shared: Callable[[], Path], folder: Path) -> Callable[[str], Exported]:
    """Makes each case once."""
    made: dict[str, Exported] = {}

    def case(name: str) -> Exported:
        if name not in made:
            made[name] = _export(name, shared, folder / name.replace(" ", "_"))
        return made[name]

    return case


def _export(name: str, shared: Callable[[], Path], folder: Path) -> Exported:
    if name in REAL:
        given = shared() / "data/scans" / REAL[name]
        if not given.is_dir():
            pytest.skip(f"the scan {REAL[name]} is not there")
    else:
        given = folder / "in"
        classic(given, *phantom(), OBLIQUE)
    scan = load(given)
    chi = map_on(scan.space)
    record = {"inputs": dict(scan.sources), "steps": CHAIN}
    source = read_source(given)
    files = export({"susceptibility_tkd": chi}, scan.space, source, folder / "out", record=record)
    return Exported(given, source, scan.space, chi, record, files[0], files[1:])


def map_on(space: Space, largest_ppm: float = 0.3, seed: int = 0) -> np.ndarray:
    """Values that no two voxels share, so that none can take another's place; zero outside a ball."""
    generator = np.random.default_rng(seed)
    chi = generator.uniform(-largest_ppm, largest_ppm, space.shape)
    i, j, k = (np.linspace(-1, 1, n) for n in space.shape)
    return (chi * (i[:, None, None] ** 2 + j[:, None] ** 2 + k**2 < 0.9)).astype(np.float32)


def on_the_map(exported: Exported, position, orientation, spacing, shape) -> np.ndarray:
    """The map's values at the pixels of one image, by DICOM's equation (PS3.3 C.7.6.2.1.1)."""
    row, column = np.indices(shape)
    along_row, along_column = np.array(orientation, float).reshape(2, 3)
    lps = np.array(position, float) + (column * float(spacing[1]))[..., None] * along_row
    lps = lps + (row * float(spacing[0]))[..., None] * along_column
    to_voxel = np.linalg.inv(exported.space.affine)
    voxel = (lps * [-1, -1, 1]) @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    assert np.abs(voxel - np.round(voxel)).max() < 1e-3
    return exported.chi[tuple(np.moveaxis(np.round(voxel).astype(int), -1, 0))]


def through_dcm2niix(folder: Path, work: Path) -> nib.Nifti1Image:
    """The one image that the converter of the field makes of a folder, on its closest anatomical axes."""
    work.mkdir()
    (file,) = run_dcm2niix(folder, work, "the export", 0.0)
    return nib.as_closest_canonical(nib.load(file))


def check_same_image(image: nib.Nifti1Image, exported: Exported, scale: float, tolerance_ppm: float) -> None:
    """Array and affine are those of the map."""
    own = nib.as_closest_canonical(nib.Nifti1Image(exported.chi, exported.space.affine))
    assert image.shape == own.shape
    np.testing.assert_allclose(image.affine, own.affine, atol=1e-3)
    np.testing.assert_allclose(image.get_fdata() / scale, own.get_fdata(), atol=tolerance_ppm)


def errors_of(path: Path) -> list[str]:
    """What a validator of DICOM finds wrong."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (package dicom3tools) is not installed")
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace")
    lines = (done.stderr + done.stdout).splitlines()
    assert lines, "it says of which kind the object is"
    return [line for line in lines if line.startswith(("Error", "Abort"))]

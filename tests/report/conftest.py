"""A small scan with its maps, in memory and in a folder as ``metaqsm run`` writes it."""

import json

import nibabel as nib
import numpy as np
import pytest

from napari_metaqsm.io.load import load, save
from napari_metaqsm.method import running
from napari_metaqsm.pipeline import make_step, reconstruct
from napari_metaqsm.report.folder import open_folder

SHAPE = (16, 18, 14)
# Left to right is reversed, as scanners write it; oblique.
AFFINE = np.array([[-2.0, 0, 0, 0], [0, 1.9, 0.2, 0], [0, -0.13, 2.99, 0], [0, 0, 0, 1]])
SIDECAR = {
    "EchoTime": [0.006, 0.012, 0.018],
    "MagneticFieldStrength": 3,
    "Manufacturer": "Siemens",
    "ManufacturersModelName": "Prisma",
    "MRAcquisitionType": "3D",
    "ScanningSequence": "GR",
    "RepetitionTime": 0.035,
    "FlipAngle": 15,
    "PatientName": "Somebody^Known",
    "PatientID": "0815",
    "InstitutionName": "A hospital",
    "ProtocolName": "Somebody again",
    "AcquisitionDateTime": "2024-05-06T07:08:09",
}


def write(path, array, sidecar=None):
    nib.save(nib.Nifti1Image(np.asarray(array, np.float32), AFFINE), path)
    if sidecar:
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
    return path


@pytest.fixture(scope="session")
def scan_folder(tmp_path_factory):
    """Magnitude and phase of three echoes of a smooth ball, with sidecars that name somebody."""
    folder = tmp_path_factory.mktemp("scan")
    grid = np.stack(np.meshgrid(*(np.arange(n) - n / 2 for n in SHAPE), indexing="ij"))
    ball = ((grid / np.array([6.5, 7.5, 5.5])[:, None, None, None]) ** 2).sum(0) < 1
    rng = np.random.default_rng(3)
    field = 0.05 * grid[2] + 0.3 * np.exp(-(grid**2).sum(0) / 12)
    times = np.array(SIDECAR["EchoTime"])
    noise = rng.normal(0, 0.01, (2, 3, *SHAPE))
    signal = ball * np.exp(2j * np.pi * 127.7 * field * times[:, None, None, None]) + noise[0] + 1j * noise[1]
    write(folder / "part-mag.nii.gz", np.moveaxis(np.abs(signal), 0, -1), SIDECAR)
    write(folder / "part-phase.nii.gz", np.moveaxis(np.angle(signal), 0, -1), {**SIDECAR, "Units": "rad"})
    return folder


@pytest.fixture(scope="session")
def maps_folder(scan_folder, tmp_path_factory):
    """What ``metaqsm run`` writes of it: two maps and their record."""
    folder = tmp_path_factory.mktemp("maps")
    scan = load(magnitude=scan_folder / "part-mag.nii.gz", phase=scan_folder / "part-phase.nii.gz")
    chain = [
        make_step("field", "weighted_mean", unwrapping="laplacian"),
        make_step("mask", "threshold"),
        make_step("background", "vsharp", radius_mm=4.0),
        make_step("inversion", "tkd", threshold=0.15),
        make_step("inversion", "l2"),
    ]
    with running():  # it warns that Laplacian unwrapping is not exact, which the record keeps
        save(reconstruct(scan, chain, device="cpu"), folder)
    return folder


@pytest.fixture(scope="session")
def study(maps_folder, scan_folder):
    return open_folder(maps_folder, [scan_folder]).study

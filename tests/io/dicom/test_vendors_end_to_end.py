"""From the scanner back to the PACS, by vendor: what is paramagnetic comes out bright, and where it lay."""

import made
import numpy as np
import pydicom
import pytest
from made import OBLIQUE, SAGITTAL
from made_enhanced import enhanced

from napari_metaqsm import cli

pytest.importorskip("dcm2niix")
SHAPE, SIZE_MM = (30, 28, 24), np.array([1.2, 1.2, 1.6])
CHI_PPM, RADIUS_MM, TIMES_S = 0.5, 3.2, (0.004, 0.009)
# Off the middle along every axis, so that no axis exchanged or turned round leaves them in place.
BRIGHT, DARK = (11, 18, 9), (19, 10, 15)
RAD_PER_S_PPM = 2 * np.pi * 42.577478 * 3.0


def resized(affine):
    """With voxels that do not differ so much, along the same axes."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return np.block([[axes * SIZE_MM, affine[:3, 3:]], [np.array([0, 0, 0, 1.0])]])


def phantom(affine):
    """Magnitude and phase (echo, i, j, k) of a ball that holds a paramagnetic and a diamagnetic one, and
    what division in k-space can make of their field at best, ppm: all by numpy."""
    places = np.stack(np.indices(SHAPE), axis=-1)

    def ball(centre, radius_mm):
        return np.linalg.norm((places - centre) * SIZE_MM, axis=-1) < radius_mm

    chi = CHI_PPM * ball(BRIGHT, RADIUS_MM) - CHI_PPM * ball(DARK, RADIUS_MM)
    axes = (np.fft.fftfreq(2 * n, size) for n, size in zip(SHAPE, SIZE_MM, strict=True))
    frequencies = np.meshgrid(*axes, indexing="ij")
    k = np.stack(frequencies, axis=-1)
    along_b0 = k @ (affine[2, :3] / np.linalg.norm(affine[:3, :3], axis=0))  # B0 is the world's z
    square = np.maximum((k**2).sum(axis=-1), 1e-12)
    dipole = np.where(square > 1e-12, 1 / 3 - along_b0**2 / square, 0)
    spectrum = np.fft.fftn(chi, dipole.shape, axes=(0, 1, 2))
    clipped = np.where(np.abs(dipole) > 0.15, dipole, np.copysign(0.15, dipole))
    inside = (slice(SHAPE[0]), slice(SHAPE[1]), slice(SHAPE[2]))
    field = np.fft.ifftn(spectrum * dipole).real[inside]
    best = np.fft.ifftn(spectrum * dipole / clipped).real[inside]
    head = ball((np.array(SHAPE) - 1) / 2, 16.2)
    times = np.array(TIMES_S)[:, None, None, None]
    noise = np.random.default_rng(0).normal(size=(2, 2, *SHAPE)) * 0.004
    signal = head * np.exp(1j * (RAD_PER_S_PPM * field * times + 0.4)) + noise[0] + 1j * noise[1]
    return np.abs(signal), np.angle(signal), best


def voxels_of(files, affine):
    """What a PACS shows, ppm, on the axes (i, j, k) of the scan: by the places in the files alone."""
    chi = np.full(SHAPE, np.nan)
    for image in map(pydicom.dcmread, files):
        if "PixelData" in image:
            slices = [(image.pixel_array, image.ImagePositionPatient)]
            scale, orientation, spacing = 1e-3, image.ImageOrientationPatient, image.PixelSpacing
            assert (image.RescaleType, float(image.RescaleSlope)) == ("PPB", 1)
        else:
            shared = image.SharedFunctionalGroupsSequence[0]
            frames = image.PerFrameFunctionalGroupsSequence
            places = [frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames]
            slices, scale = list(zip(image.pixel_array, places, strict=True)), 1.0
            orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
            spacing = shared.PixelMeasuresSequence[0].PixelSpacing
        across, down = np.array(orientation, float).reshape(2, 3)
        for pixels, position in slices:
            row, column = np.indices(pixels.shape)
            lps = np.array(position, float) + column[..., None] * float(spacing[1]) * across
            lps = lps + row[..., None] * float(spacing[0]) * down
            voxel = (lps * [-1, -1, 1] - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
            assert np.abs(voxel - np.rint(voxel)).max() < 1e-2
            chi[tuple(np.moveaxis(np.rint(voxel).astype(int), -1, 0))] = pixels * scale
    return chi


CASES = {
    "Siemens": ("Siemens", made.classic, OBLIQUE, {}),
    "Siemens enhanced": ("Siemens", enhanced, SAGITTAL, {}),
    "Philips": ("Philips", made.classic, SAGITTAL, {}),
    "Philips enhanced": ("Philips", enhanced, OBLIQUE, {}),
    "GE phase": ("GE", made.classic, OBLIQUE, {}),
    "GE real and imaginary": (
        "GE", made.classic, SAGITTAL, {"parts": ("magnitude", "real", "imaginary"), "alternating": True},
    ),
    "Canon": ("Canon", made.classic, OBLIQUE, {}),
    "UIH": ("UIH", made.classic, SAGITTAL, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_paramagnetic_ball_is_bright_in_the_pacs_and_where_it_was(case, tmp_path, monkeypatch, capsys):
    vendor, write, affine, how = CASES[case]
    affine = resized(affine)
    magnitude, phase, best = phantom(affine)
    write(tmp_path / "in", magnitude, phase, affine, vendor=vendor, echo_times_s=TIMES_S, **how)
    monkeypatch.chdir(tmp_path)
    command = "run in --mask threshold --background lbv --invert tkd --set tkd.threshold=0.15 --out maps -q"
    for arguments in (command, "dicom maps --source in -q"):
        monkeypatch.setattr("sys.argv", ["metaqsm", *arguments.split()])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code, capsys.readouterr().err
    for kind in ("parametric_map", "mr_series"):
        chi = voxels_of((tmp_path / "maps/dicom").glob(f"*_{kind}/*.dcm"), affine)
        assert np.isfinite(chi).all()  # every voxel of the scan is in the study again
        for place in (BRIGHT, DARK):
            around = tuple(slice(p - 1, p + 2) for p in place)
            assert chi[around].mean() == pytest.approx(best[around].mean(), rel=0.1), kind
        assert 0.3 < chi[BRIGHT] < CHI_PPM
        assert -CHI_PPM < chi[DARK] < -0.3

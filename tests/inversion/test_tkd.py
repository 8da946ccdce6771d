"""TKD: exact where the threshold keeps everything, and the correction of its means."""

import dataclasses

import numpy as np
import pytest
import torch

from napari_metaqsm.inversion.tkd import TKDParameters, sphere_mean_of_psf, tkd
from napari_metaqsm.operators.dipole import dipole_kernel
from napari_metaqsm.operators.fourier import multiply_spectrum
from napari_metaqsm.scan import Geometry

OBLIQUE = Geometry((12, 15, 10), voxel_size_mm=(1.0, 0.8, 2.0), b0_direction=(0.2, 0.0, 1.0))
EVERYWHERE = torch.ones(OBLIQUE.shape, dtype=torch.bool)


def noise(*lead: int) -> torch.Tensor:
    return torch.randn((*lead, *OBLIQUE.shape), generator=torch.Generator().manual_seed(0))


def test_recovers_exactly_what_the_threshold_keeps():
    kernel = dipole_kernel(OBLIQUE, like=noise())
    chi = multiply_spectrum(noise(), (kernel.abs() > 0.1).to(kernel))
    field = multiply_spectrum(chi, kernel)
    found = tkd(field, EVERYWHERE, OBLIQUE, TKDParameters(threshold=0.1))
    torch.testing.assert_close(found, chi, rtol=0, atol=1e-5)


def test_divides_by_the_threshold_below_it_with_the_kernels_sign():
    kernel = dipole_kernel(OBLIQUE, like=noise())
    small = (kernel.abs() < 0.3).to(kernel)
    field = multiply_spectrum(noise(), small)
    expected = multiply_spectrum(field, kernel.sign() / 0.3)
    found = tkd(field, EVERYWHERE, OBLIQUE, TKDParameters(threshold=0.3))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert float(found.mean()) == pytest.approx(0, abs=1e-6)


def test_padding_removes_what_wraps_round():
    # A source at one face: its field at the other face comes from outside the volume unless padded.
    padded, plain = (
        tkd(field, EVERYWHERE, OBLIQUE, TKDParameters(padding=padding))
        for padding in (2.0, 1.0)
        for field in [torch.zeros(OBLIQUE.shape).index_put_((torch.tensor(0),) * 3, torch.tensor(1.0))]
    )
    assert float(plain[-1].abs().max()) > 3 * float(padded[-1].abs().max())


def test_what_lies_outside_the_mask_changes_nothing():
    mask = EVERYWHERE.clone()
    mask[:3] = False
    field = noise()
    changed = field.clone()
    changed[:3] = 100
    a, b = (tkd(f, mask, OBLIQUE, TKDParameters()) for f in (field, changed))
    assert torch.equal(a, b)


@pytest.mark.parametrize("threshold", [0.01, 0.1, 0.2, 1 / 3, 0.5, 2 / 3])
def test_mean_of_the_psf_is_the_mean_over_directions(threshold):
    u = (np.arange(200_000) + 0.5) / 200_000  # the cosine to B0 is uniform
    kernel = np.abs(1 / 3 - u**2)
    expected = np.where(kernel > threshold, 1, kernel / threshold).mean()
    assert sphere_mean_of_psf(threshold) == pytest.approx(expected, abs=1e-6)


def test_mean_of_the_psf_at_the_usual_threshold():
    assert sphere_mean_of_psf(0.2) == pytest.approx(0.822, abs=5e-4)


def test_correction_divides_by_that_mean_and_is_off_by_default():
    plain = tkd(noise(), EVERYWHERE, OBLIQUE, TKDParameters())
    corrected = tkd(noise(), EVERYWHERE, OBLIQUE, TKDParameters(psf_correction=True))
    torch.testing.assert_close(corrected * sphere_mean_of_psf(0.2), plain)


def test_threshold_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"threshold is 0\.0; it must lie in \[0\.01"):
        TKDParameters(threshold=0.0)
    with pytest.raises(ValueError, match=r"threshold is 0\.7; it must lie in"):
        TKDParameters(threshold=0.7)


def test_parameters_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TKDParameters().threshold = 0.1


def test_error_on_the_real_scan_of_2016(shared):
    nibabel = pytest.importorskip("nibabel")

    def read(name):
        return np.asarray(nibabel.load(shared / f"data/qsm2016/{name}.nii.gz").dataobj, np.float32)

    mask = read("msk") > 0
    geometry = Geometry(mask.shape, (1.0625, 1.0625, 1.0714286))
    found = tkd(torch.from_numpy(read("phs_tissue")), torch.from_numpy(mask), geometry, TKDParameters())
    truth = read("chi_cosmos")[mask]
    error = 100 * np.linalg.norm(found.numpy()[mask] - truth) / np.linalg.norm(truth)
    assert error == pytest.approx(84.1, abs=0.3)

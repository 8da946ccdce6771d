"""Both echo combinations: exact oracles, the laws, one and two echoes and differences, real scans."""

import nibabel
import numpy as np
import pytest
import torch

from napari_metaqsm.errors import Cancelled, InputError
from napari_metaqsm.field.scaling import phase_in_radians
from napari_metaqsm.field.unwrap import UNWRAPPINGS
from napari_metaqsm.method import find_method, running
from napari_metaqsm.scan import Acquisition, Geometry
from napari_metaqsm.units import rad_per_ppm

GEOMETRY = Geometry((21, 26, 15), voxel_size_mm=(1.0, 0.8, 2.0), b0_direction=(0.2, 0.0, 1.0))
UNEVEN = Acquisition((0.003, 0.0074, 0.0131, 0.0202), b0_tesla=3.0)
BOTH = pytest.mark.parametrize("name", ["nonlinear_fit", "weighted_mean"])


def _fit(name, phase, acquisition, magnitude=None, mask=None, geometry=GEOMETRY, **parameters):
    method = find_method("field", name)
    return method.function(
        phase, acquisition, geometry, method.make_parameters(**parameters), magnitude=magnitude, mask=mask
    )


def _grid():
    return torch.meshgrid(*[torch.arange(n) - (n - 1) / 2 for n in GEOMETRY.shape], indexing="ij")


def _field():
    """Between -0.1 and 1.7 ppm: up to seven turns in the last echo of ``UNEVEN``."""
    x, y, z = _grid()
    return (1.8 * torch.exp(-(x**2 + y**2 + z**2) / 60) - 0.1).float()


def _signal(field, acquisition, offset=0.0, noise=0.0, seed=0):
    """Wrapped phase and magnitude (echo, i, j, k) with a decay, and noise of that standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    phases, magnitudes = [], []
    for time in acquisition.echo_times_s:
        size = torch.full(field.shape, float(np.exp(-25 * time)))
        signal = torch.polar(size, offset + rad_per_ppm(acquisition.b0_tesla, time) * field)
        parts = [torch.randn(field.shape, generator=generator) for _ in range(2)]
        signal = signal + noise * torch.complex(*parts)
        phases.append(signal.angle())
        magnitudes.append(signal.abs())
    return torch.stack(phases), torch.stack(magnitudes)


# -------------------------------------------------------------------------------- exact oracles
@BOTH
@pytest.mark.parametrize("echoes", [1, 2, 3, 4])
def test_a_field_without_noise_is_found_to_rounding(name, echoes):
    acquisition = Acquisition(UNEVEN.echo_times_s[:echoes], 3.0)
    offset = 0.0 if echoes == 1 else 2.0
    phase, magnitude = _signal(_field(), acquisition, offset)
    total_field, *_ = _fit(name, phase, acquisition, magnitude)
    torch.testing.assert_close(total_field, _field(), rtol=0, atol=2e-5)


def test_a_free_offset_need_not_be_smooth():
    offset = torch.randn(GEOMETRY.shape, generator=torch.Generator().manual_seed(3))
    phase, magnitude = _signal(_field(), UNEVEN, offset)
    total_field, *_ = _fit("nonlinear_fit", phase, UNEVEN, magnitude, offset="free")
    torch.testing.assert_close(total_field, _field(), rtol=0, atol=2e-5)


@BOTH
def test_a_smooth_offset_with_slope_and_curve_is_taken_out(name):
    x, y, _ = _grid()
    offset = 0.8 * torch.sin(x / 25) + 0.03 * y + 2.8  # wraps
    phase, magnitude = _signal(_field(), UNEVEN, offset)
    total_field, *_ = _fit(name, phase, UNEVEN, magnitude)
    # left over at the edges of 21 mm, narrow for the Gaussian; 0.04 ppm if it were smoothed just once
    assert (total_field - _field()).abs().max() < 5e-3


@BOTH
def test_a_phase_difference_is_one_echo(name):
    two = Acquisition((0.010, 0.01246), 3.0)
    phase, magnitude = _signal(_field(), two, offset=1.0)
    difference = torch.angle(torch.polar(torch.ones(1), phase[1:] - phase[:1]))
    total_field, *_ = _fit(name, difference, Acquisition(0.00246, 3.0), magnitude)
    torch.testing.assert_close(total_field, _field(), rtol=0, atol=2e-5)


@BOTH
def test_an_even_field_is_read_without_magnitude_and_mask(name):
    # phase = 2 pi 42.577 B0 TE f = 2 pi * 42.577 * 1.5 * 0.01 * 0.1
    phase = torch.full((1, *GEOMETRY.shape), 0.4012787)
    total_field, *_ = _fit(name, phase, Acquisition(0.01, 1.5))
    torch.testing.assert_close(total_field, torch.full(GEOMETRY.shape, 0.1), rtol=1e-5, atol=0)


# ------------------------------------------------------------------------------ noise and misfit
@pytest.mark.parametrize(("offset", "acquisition"), [("smooth", UNEVEN), ("free", UNEVEN)])
def test_the_noise_map_is_the_spread_of_repeated_scans(offset, acquisition):
    fits = []
    for seed in range(6):
        phase, magnitude = _signal(_field(), acquisition, 0.5, noise=0.03, seed=seed)
        fits.append(_fit("nonlinear_fit", phase, acquisition, magnitude, offset=offset))
    spread = torch.stack([fit[0] for fit in fits]).var(0).mean().sqrt()
    for _, noise, residual, _ in fits:
        assert noise.square().mean().sqrt() == pytest.approx(float(spread), rel=0.06)
        assert 0.02 < residual.median() < 0.08


@pytest.mark.parametrize("echoes", [1, 2])
def test_noise_without_surplus_comes_from_the_magnitude(echoes):
    acquisition = Acquisition(UNEVEN.echo_times_s[:echoes], 3.0)
    phase, magnitude = _signal(_field(), acquisition, noise=0.02)
    total_field, noise, residual, _ = _fit("nonlinear_fit", phase, acquisition, magnitude, offset="free")
    assert residual is None
    assert noise.median() == pytest.approx(float((total_field - _field()).std()), rel=0.1)
    assert _fit("nonlinear_fit", phase, acquisition, offset="free")[1] is None


def test_the_unit_of_the_magnitude_does_not_matter():
    phase, magnitude = _signal(_field(), UNEVEN, noise=0.03)
    plain = _fit("nonlinear_fit", phase, UNEVEN, magnitude, offset="free")
    for unit in (1e-9, 1e9):
        scaled = _fit("nonlinear_fit", phase, UNEVEN, unit * magnitude, offset="free")
        for a, b in zip(plain, scaled, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-5)


def test_voxels_without_signal_are_noisy_and_finite():
    phase, magnitude = _signal(_field(), UNEVEN, noise=0.03)
    magnitude[:, 4, 4, 4] = 0
    total_field, noise, residual, _ = _fit("nonlinear_fit", phase, UNEVEN, magnitude)
    assert noise[4, 4, 4] > 100 * noise.median()
    assert all(m.isfinite().all() for m in (total_field, noise, residual))


# ------------------------------------------------------------------------------------------ laws
@BOTH
def test_zero_phase_gives_zero_field(name):
    total_field, noise, residual, _ = _fit(
        name, torch.zeros(3, *GEOMETRY.shape), Acquisition((0.004, 0.009, 0.02), 3.0)
    )
    assert not total_field.any()
    assert noise is None or not noise.any()
    assert residual is None or not residual.any()


@BOTH
def test_maps_are_zero_outside_the_mask_and_inputs_unchanged(name):
    phase, magnitude = _signal(_field(), UNEVEN, noise=0.03)
    mask = _field() > 0
    kept = [t.clone() for t in (phase, magnitude, mask)]
    for result in _fit(name, phase, UNEVEN, magnitude, mask):
        assert result is None or not result[~mask].any()
    for tensor, copy in zip((phase, magnitude, mask), kept, strict=True):
        assert torch.equal(tensor, copy)


@BOTH
def test_permuted_axes_give_the_permuted_maps(name):
    phase, magnitude = _signal(_field(), UNEVEN, 0.5, noise=0.03)
    mask, axes = _field() > 0, (2, 0, 1)
    plain = _fit(name, phase, UNEVEN, magnitude, mask)
    four = (0, *(a + 1 for a in axes))
    turned = _fit(
        name,
        phase.permute(four),
        UNEVEN,
        magnitude.permute(four),
        mask.permute(axes),
        GEOMETRY.permuted(axes),
    )
    for a, b in zip(plain, turned, strict=True):
        assert (a is None) is (b is None)
        if a is not None:
            torch.testing.assert_close(b, a.permute(axes), rtol=1e-3, atol=1e-4)


@BOTH
def test_cancel_stops_between_slabs(name):
    phase, magnitude = _signal(_field(), UNEVEN)
    labels = []
    with (
        pytest.raises(Cancelled),
        running(lambda f, label: labels.append(label), lambda: " the echoes" in str(labels)),
    ):
        _fit(name, phase, UNEVEN, magnitude)
    assert sum(" the echoes" in label for label in labels) == 1


@BOTH
@pytest.mark.parametrize("unwrapping", UNWRAPPINGS)
def test_every_unwrapping_finds_a_gentle_field(name, unwrapping):
    field = 0.3 * _field()
    phase, magnitude = _signal(field, UNEVEN, 0.5)
    with running():
        total_field, *_ = _fit(name, phase, UNEVEN, magnitude, unwrapping=unwrapping)
    assert (total_field - field).abs().max() < 0.01


@BOTH
def test_magnitudes_that_are_not_one_per_echo(name):
    phase, magnitude = _signal(_field(), UNEVEN)
    total_field, *_ = _fit(name, phase, UNEVEN, magnitude[:1])
    torch.testing.assert_close(total_field, _field(), rtol=0, atol=2e-5)
    with pytest.raises(InputError, match="3 echoes of magnitude for 4 echoes of phase"):
        _fit(name, phase, UNEVEN, magnitude[:3])


# ------------------------------------------------------------------------------------ real scans
def _scan(folder, phases, magnitudes, echo_times_s, phase_pi=None):
    def read(files):
        volumes = [np.asarray(nibabel.load(folder / f).dataobj, np.float32) for f in files]
        return np.moveaxis(volumes[0], 3, 0) if volumes[0].ndim == 4 else np.stack(volumes)

    sizes = nibabel.load(folder / phases[0]).header.get_zooms()[:3]
    acquisition = Acquisition(echo_times_s, 3.0, phase_pi=phase_pi)
    phase, _ = phase_in_radians(read(phases), acquisition)
    magnitude = np.ascontiguousarray(read(magnitudes))
    geometry = Geometry(phase.shape[1:], sizes)
    return torch.from_numpy(phase), torch.from_numpy(magnitude), acquisition, geometry


@pytest.mark.parametrize("case", ["philips", "romeo", "siemens"])
def test_real_fields_have_no_open_wraps(shared, case):
    scans = shared / "data" / "scans"
    stem = "Ref/2001_WIP_fcMRI_Field_Mapping_cl_e"
    files = {
        "philips": (
            "philips_2echo",
            [f"{stem}{e}_ph.nii.gz" for e in (1, 2)],
            [f"{stem}{e}.nii.gz" for e in (1, 2)],
        ),
        "romeo": ("romeo_3echo", ["Phase.nii"], ["Mag.nii"]),
        "siemens": (
            "siemens_enhanced",
            ["Ref/9_gre_field_mapping_e2_ph.nii"],
            [f"Ref/8_gre_field_mapping_e{e}.nii" for e in (1, 2)],
        ),
    }[case]
    times = {"philips": (0.0023, 0.0046), "romeo": (0.004, 0.008, 0.012), "siemens": (0.00246,)}[case]
    folder, phases, magnitudes = files
    phase, magnitude, acquisition, geometry = _scan(
        scans / folder, phases, magnitudes, times, 0.0036743775 if case == "romeo" else None
    )
    total_field, _, _, quality = _fit("nonlinear_fit", phase, acquisition, magnitude, geometry=geometry)
    turns = total_field * rad_per_ppm(3.0, times[1] - times[0] if len(times) > 1 else times[0]) / (2 * np.pi)
    brain = (magnitude[0] > 0.4 * magnitude[0].quantile(0.98)) & (quality > 0.6)
    assert brain.float().mean() > 0.1
    for axis in range(3):
        n = turns.shape[axis] - 1
        inside = brain.narrow(axis, 0, n) & brain.narrow(axis, 1, n)
        assert turns.diff(dim=axis)[inside].abs().max() < 0.5

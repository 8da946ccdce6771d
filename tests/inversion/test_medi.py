"""MEDI beside independent statements of its objective, and each of its options."""

import numpy as np
import pytest
import scipy.optimize
import torch

from napari_metaqsm.errors import InputError
from napari_metaqsm.inversion.medi import MEDIParameters, medi
from napari_metaqsm.inversion.morphology_enabled import MorphologyEnabled
from napari_metaqsm.method import running
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.scan import Acquisition, Geometry
from napari_metaqsm.simulation.shapes import sphere

OBLIQUE = Geometry((30, 27, 17), (1.0, 1.1, 1.8), (0.3, -0.2, 1.0))
ONE_ECHO = Acquisition((0.02,), 3.0)


@pytest.fixture(scope="module")
def head():
    """A ball with a strong and a weak source in it, seen in the magnitude; a field with noise."""
    mask = sphere(OBLIQUE, 12.0) > 0.5
    strong = sphere(OBLIQUE, 4.0, (3.0, -2.0, 1.0)) > 0.5
    weak = sphere(OBLIQUE, 3.5, (-5.0, 2.0, -2.0)) > 0.5
    truth = 0.4 * strong - 0.1 * weak
    noise = torch.full(OBLIQUE.shape, 0.002)
    noise[strong] = 0.006
    generator = torch.Generator().manual_seed(3)
    field = (dipole_field(truth, OBLIQUE) + noise * torch.randn(OBLIQUE.shape, generator=generator)) * mask
    magnitude = (1 - 0.6 * strong - 0.3 * weak) * mask
    return {"field": field, "mask": mask, "truth": truth, "magnitude": magnitude, "noise": noise}


def invert(head, acquisition=ONE_ECHO, initial=None, **changed):
    """The map, and what the run had to say."""
    arrays = {**head, **{n: changed.pop(n) for n in list(changed) if n in head}}
    with running() as run:
        found = medi(
            arrays["field"],
            arrays["mask"],
            OBLIQUE,
            MEDIParameters(**changed),
            acquisition,
            arrays["magnitude"],
            arrays["noise"],
            initial,
        )
    return found, run


def error(found, head, where=None):
    """Percent of the truth, both demeaned, in the mask."""
    where = head["mask"] if where is None else where
    a, b = found[where], head["truth"][where]
    return float(100 * ((a - a.mean()) - (b - b.mean())).norm() / (b - b.mean()).norm())


# ------------------------------------------------------------------------ against another statement
TINY = Geometry((9, 8, 7), (1.0, 0.8, 2.0), (0.2, 0.0, 1.0))
RADIANS, WEIGHT = 16.0, 300.0


def tiny_problem(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(TINY.shape, dtype=dtype)
    truth[2:5, 2:5, 2:5] = 0.3
    field = dipole_field(truth, TINY, 1.0)
    field += 0.01 * torch.randn(TINY.shape, generator=generator, dtype=torch.float64).to(dtype)
    trust = 0.5 + torch.rand(TINY.shape, generator=generator, dtype=torch.float64).to(dtype)
    trust[:, :, 5:] = 0  # outside the mask
    penalised = torch.rand(3, *TINY.shape, generator=generator) > 0.1
    return MorphologyEnabled(field, trust.square(), penalised, TINY, RADIANS, WEIGHT)


def stated(problem, smoothing):
    """The objective in the toolbox's words: radians, lambda, complex exponentials; numpy, float64."""
    f, m, penalised = (
        x.double().numpy() for x in (problem.field * RADIANS, problem.weights.sqrt(), problem.penalised)
    )
    k = np.meshgrid(
        *(np.fft.fftfreq(n, v) for n, v in zip(TINY.shape, TINY.voxel_size_mm, strict=True)), indexing="ij"
    )
    squared = sum(a**2 for a in k)
    squared[0, 0, 0] = 1
    along = sum(a * b for a, b in zip(k, TINY.b0_direction, strict=True))
    dipole = 1 / 3 - along**2 / squared
    dipole[0, 0, 0] = 0
    dipole = (dipole + np.roll(dipole[::-1, ::-1, ::-1], 1, (0, 1, 2))) / 2  # even on the Nyquist plane too

    def convolved(x):
        return np.fft.ifftn(np.fft.fftn(x) * dipole).real

    def value_and_slope(flat):
        x = flat.reshape(TINY.shape)
        misfit = m * (np.exp(1j * convolved(x)) - np.exp(1j * f))
        value = WEIGHT * np.sum(np.abs(misfit) ** 2)
        slope = convolved(2 * WEIGHT * m**2 * np.sin(convolved(x) - f))
        for axis, size in enumerate(TINY.voxel_size_mm):
            difference = penalised[axis] * (np.roll(x, -1, axis) - x) / size
            length = np.sqrt(difference**2 + smoothing)
            value += length.sum()
            pull = penalised[axis] * difference / length / size
            slope += np.roll(pull, 1, axis) - pull
        return value, slope.ravel()

    return value_and_slope


def test_it_reaches_the_minimum_that_quasi_newton_steps_reach():
    problem = tiny_problem()
    found, _ = problem.minimise(600, 1e-5)
    x = np.zeros(found.numel())
    for smoothing in (1e-3, 1e-5, 1e-7):  # from smooth to sharp, as the toolbox cannot
        x = scipy.optimize.minimize(
            stated(problem, smoothing), x, jac=True, method="L-BFGS-B", options={"maxiter": 200}
        ).x
    exact = stated(problem, 1e-30)
    ours, theirs = exact(found.numpy().ravel() * RADIANS)[0], exact(x)[0]
    assert problem.objective * 2 * WEIGHT * RADIANS**2 == pytest.approx(ours, rel=1e-6)
    assert ours <= theirs * (1 + 1e-4)
    a, b = found - found.mean(), torch.from_numpy(x.reshape(TINY.shape)) / RADIANS
    assert (a - (b - b.mean())).norm() < 0.02 * a.norm()


def test_at_the_end_no_direction_leads_down():
    problem = tiny_problem()
    found, _ = problem.minimise(600, 1e-5)
    exact, x = stated(problem, 1e-30), found.numpy().ravel() * RADIANS
    generator = np.random.default_rng(1)
    lowest = exact(x)[0]
    block = np.zeros(TINY.shape)
    block[2:5, 2:5, 2:5] = 1
    for direction in [*generator.standard_normal((10, x.size)), *np.eye(x.size)[::61], x, block.ravel()]:
        for step in (1e-4, -1e-4):
            assert exact(x + step * direction)[0] > lowest * (1 - 1e-7)


def test_a_start_at_the_solution_pulls_as_the_solution_does():
    ended, begun = tiny_problem(), tiny_problem()
    found, _ = ended.minimise(600, 1e-5)
    begun.start_at(found)
    image = dipole_field(found, TINY, 1.0)
    expected = ended.field_state - image
    assert (begun.field_state - image - expected).norm() < 0.02 * expected.norm()


def test_smaller_numbers_change_nothing():
    coarse, fine = (tiny_problem(t).minimise(200, 1e-9)[0] for t in (torch.float32, torch.float64))
    assert (coarse - fine).norm() < 1e-3 * fine.norm()


# ------------------------------------------------------------------------------------- the method
def test_float32_is_enough(head):
    coarse, _ = invert(head, data_weight=1000.0)
    fine, _ = invert(
        {n: x if x.dtype == torch.bool else x.double() for n, x in head.items()}, data_weight=1000.0
    )
    assert (coarse - fine).norm() < 1e-3 * fine.norm()


def test_a_piecewise_constant_map_comes_back_from_its_field(head):
    clean = dipole_field(head["truth"], OBLIQUE, 3.0) * head["mask"]
    found, run = invert(head, field=clean, data_weight=3e3, iterations=1000, tolerance=1e-4)
    assert error(found, head) < 6
    assert not run.notices


def test_the_objective_falls(head):
    _, run = invert(head, data_weight=1000.0)
    curve = np.array(run.curves["objective"])
    assert curve[-1] < 0.5 * curve[0]
    assert (curve[11:] <= curve[10:-1] * 1.05).all()
    assert curve[-1] <= curve.min() * 1.01


def test_edges_and_noise_help(head):
    full, none = (error(invert(head, **c)[0], head) for c in ({}, {"magnitude": None, "noise": None}))
    assert full < none


def test_without_noise_the_magnitude_tells_it(head):
    a, _ = invert(head, noise=None)
    b, _ = invert(head, noise=1 / head["magnitude"].clamp(min=1e-3))
    torch.testing.assert_close(a, b, rtol=0, atol=2e-4)


def test_voxels_without_noise_value_weigh_nothing(head):
    noise, field = head["noise"].clone(), head["field"].clone()
    noise[14, 13, 4:7], field[14, 13, 4:7] = 0, 0.3
    found, _ = invert(head, noise=noise, field=field, data_weight=300.0)
    field[14, 13, 4:7] = -0.2
    again, _ = invert(head, noise=noise, field=field, data_weight=300.0)
    assert (found - again).norm() < 0.02 * found.norm()
    with pytest.raises(InputError, match="no positive value"):
        invert(head, noise=torch.zeros_like(noise))


def test_a_weight_is_found_in_the_field_and_noise_lowers_it(head):
    _, clear = invert(head)
    noisy = head["field"] + 0.02 * torch.randn(OBLIQUE.shape, generator=torch.Generator().manual_seed(1))
    _, unclear = invert(head, field=noisy)
    assert unclear.remarks["data_weight"] < 0.5 * clear.remarks["data_weight"]


@pytest.mark.parametrize(
    ("acquisition", "b0", "echo_time", "assumed"),
    [
        (Acquisition(), 3.0, 0.02, ["b0_tesla", "echo_time_s"]),
        (Acquisition((0.01,), 7.0), 7.0, 0.01, []),
        (Acquisition((0.004, 0.009, 0.015), 1.5), 1.5, 0.005, []),
    ],
)
def test_the_phase_scale_is_of_the_acquisition_or_said(head, acquisition, b0, echo_time, assumed):
    _, run = invert(head, acquisition, iterations=20, tolerance=0.1)
    assert run.remarks["phase_scale"] == {"b0_tesla": b0, "echo_time_s": echo_time, "assumed": assumed}


def test_going_on_from_a_map_takes_fewer_steps_and_ends_at_the_same(head):
    options = {"data_weight": 500.0, "tolerance": 2e-3, "iterations": 300}
    cold, first = invert(head, **options)
    other, _ = invert(head, **{**options, "data_weight": 700.0})
    warm, second = invert(head, initial=other, **options)
    assert len(second.curves["objective"]) < 0.8 * len(first.curves["objective"])
    assert (warm - cold).norm() < 0.02 * cold.norm()


def test_what_went_nowhere_is_refused(head):
    with pytest.raises(InputError, match=r"medi diverged: its objective is .* data_weight is 1 "):
        invert(head, data_weight=1.0, iterations=1)
    with pytest.raises(InputError, match="medi diverged: its objective is nan"):
        invert(head, initial=torch.full(OBLIQUE.shape, float("inf")), iterations=3)


def test_too_few_steps_are_said(head):
    _, run = invert(head, iterations=8, data_weight=1000.0)
    assert any("stopped after 8 steps" in text for text in run.notices)


def test_an_empty_mask_is_refused(head):
    with pytest.raises(InputError, match="the mask is empty"):
        invert(head, mask=torch.zeros_like(head["mask"]))


# ---------------------------------------------------------------------------------------- options
def test_merit_withstands_voxels_that_lie(head):
    field = head["field"].clone()
    liars = torch.zeros_like(head["mask"])
    liars[8:22:5, 8:20:5, 5:12:3] = True
    field[liars & head["mask"]] += 0.12
    plain, merit = (
        error(invert(head, field=field, data_weight=1000.0, merit=m)[0], head) for m in (False, True)
    )
    assert merit < 0.8 * plain


def test_merit_leaves_the_next_map_of_a_batch_alone(head):
    fields = torch.stack([head["field"] + 0.2 * (head["noise"] > 0.005), head["field"]])
    together, _ = invert(head, field=fields, merit=True)
    alone, _ = invert(head, field=fields[1], merit=True)
    torch.testing.assert_close(together[1], alone, rtol=1e-4, atol=1e-6)


def test_spherical_means_take_away_background_left_over(head):
    ramp = 0.02 * torch.linspace(-1, 1, OBLIQUE.shape[0])[:, None, None] * head["mask"]
    found, run = invert(head, field=head["field"] + ramp, smv_radius_mm=4.0, data_weight=1000.0)
    kept = found != 0
    assert not (kept & ~head["mask"]).any()
    assert kept.sum() < 0.8 * head["mask"].sum()
    assert any("spherical means of 4 mm take" in text for text in run.notices)
    without, _ = invert(head, smv_radius_mm=4.0, data_weight=1000.0)
    assert (found - without).norm() < 0.05 * without.norm()
    plain, _ = invert(head, field=head["field"] + ramp, data_weight=1000.0)
    assert error(found, head, kept) < error(plain, head, kept)


def test_a_sphere_too_large_or_too_small_is_refused(head):
    with pytest.raises(InputError, match="no such sphere fits"):
        invert(head, smv_radius_mm=15.0)
    with pytest.raises(InputError, match=r"must be 0 or at least 1\.8"):
        invert(head, smv_radius_mm=0.5)


def test_ventricles_are_evened_out_and_become_zero(head):
    acquisition = Acquisition((0.005, 0.01, 0.015), 3.0)
    water = sphere(OBLIQUE, 3.5, (-5.0, 2.0, -2.0)) > 0.5
    echoes = torch.stack(
        [head["magnitude"] * torch.exp(-t * (20 - 19 * water)) for t in acquisition.echo_times_s]
    )
    found, run = invert(head, acquisition, magnitude=echoes, csf_weight=100.0)
    assert run.remarks["csf_voxels"] == int((water & head["mask"]).sum())
    assert abs(float(found[water].mean())) < 1e-6
    plain, _ = invert(head, acquisition, magnitude=echoes)
    assert found[water].std() < 0.7 * plain[water].std()


def test_ventricles_need_echoes(head):
    with pytest.raises(InputError, match=r"csf_weight needs the ventricles: .* 3 or more echoes"):
        invert(head, csf_weight=100.0)
    three = head["magnitude"].expand(3, *OBLIQUE.shape) * torch.tensor([1, 0.5, 0.2])[:, None, None, None]
    with pytest.raises(InputError, match="csf_weight needs the ventricles: no ventricles were found"):
        invert(head, Acquisition((0.005, 0.01, 0.015), 3.0), magnitude=three, csf_weight=100.0)

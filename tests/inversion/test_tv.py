"""TV by ADMM: its minimum against an independent solver, its weights, its choice of the penalty."""

import numpy as np
import pytest
import scipy.optimize
import torch

from napari_metaqsm.errors import InputError
from napari_metaqsm.inversion.nonlinear_tv import NonlinearTVParameters, nonlinear_tv
from napari_metaqsm.inversion.total_variation import TotalVariation
from napari_metaqsm.inversion.tv import TVParameters, tv
from napari_metaqsm.method import running
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.operators.fourier import multiply_spectrum
from napari_metaqsm.operators.gradient import gradient, gradient_adjoint
from napari_metaqsm.operators.pad import working_grid
from napari_metaqsm.operators.unexplained import ConeProbe
from napari_metaqsm.scan import Acquisition, Geometry
from napari_metaqsm.simulation.shapes import sphere

TINY = Geometry((6, 7, 5), (1.0, 0.8, 2.0), (0.2, -0.1, 1.0))
HEAD = Geometry((44, 40, 27), (1.0, 1.1, 1.6), (0.15, 0.0, 1.0))
MASK = sphere(HEAD, 19.0) > 0.5
# Spheres of one susceptibility each: what total variation is made for.
TRUTH = 0.1 * (sphere(HEAD, 5.0, (6.0, 4.0, 2.0)) > 0.5) - 0.05 * (sphere(HEAD, 6.0, (-7.0, -3.0, 0.0)) > 0.5)
FIELD = dipole_field(TRUTH, HEAD) * MASK
ACQUISITION = Acquisition(echo_times_s=(0.005, 0.025), b0_tesla=3.0)


def noise_of(level, seed=0):
    return level * torch.randn(HEAD.shape, generator=torch.Generator().manual_seed(seed))


def error(found, truth=TRUTH):
    return float((found - truth)[MASK].std() / truth[MASK].std())


@pytest.fixture(autouse=True)
def unheard():
    """Notices are kept, not raised as warnings."""
    with running():
        yield


def small_problem(radians=None):
    generator = torch.Generator().manual_seed(3)
    field, weights = torch.randn((2, *TINY.shape), generator=generator, dtype=torch.float64)
    penalised = torch.rand((3, *TINY.shape), generator=generator) > 0.2
    problem = TotalVariation(0.005 * field, weights.square(), penalised, TINY, radians)
    problem.set_weight(0.001)
    return problem


def objective(problem, x):
    residual = multiply_spectrum(x, problem.kernel) - problem.field
    misfit = problem.weights * residual.square() / 2
    if problem.radians:
        misfit = problem.weights * (1 - torch.cos(problem.radians * residual)) / problem.radians**2
    differences = gradient(x, TINY.voxel_size_mm, periodic=True)[problem.penalised]
    return misfit.sum() + problem.weight * differences.abs().sum()


@pytest.mark.parametrize("radians", [None, 120.0])
def test_it_reaches_the_minimum_that_an_independent_solver_finds(radians):
    """L-BFGS in float64 on the objective with its corners rounded ever less."""
    problem = small_problem(radians)
    found, _ = problem.minimise(1500, 1e-9, "ADMM")

    def smoothed(flat, rounding):
        x = torch.from_numpy(flat.reshape(TINY.shape)).requires_grad_()
        residual = multiply_spectrum(x, problem.kernel) - problem.field
        lag = residual.square() / 2 if radians is None else (1 - torch.cos(radians * residual)) / radians**2
        sides = [(x.roll(-1, a) - x) / TINY.voxel_size_mm[a] for a in range(3)]
        differences = torch.stack(sides)[problem.penalised]
        value = (problem.weights * lag).sum()
        value = value + problem.weight * (differences.square() + rounding**2).sqrt().sum()
        (slope,) = torch.autograd.grad(value, x)
        return float(value.detach()), slope.numpy().ravel()

    flat = np.zeros(np.prod(TINY.shape))
    for rounding in (1e-3, 1e-4, 1e-5, 1e-6):
        options = {"maxiter": 400, "ftol": 1e-13, "gtol": 1e-9}
        flat = scipy.optimize.minimize(
            smoothed, flat, args=(rounding,), jac=True, method="L-BFGS-B", options=options
        ).x
    expected = torch.from_numpy(flat.reshape(TINY.shape))
    assert float(objective(problem, found)) <= float(objective(problem, expected)) * (1 + 1e-4)
    expected = expected - expected.mean()
    assert float((found - expected).norm() / expected.norm()) < 0.03


def test_the_conditions_of_a_minimum_hold_at_the_end():
    """``D W^2 (D chi - f) + beta div' p = 0``, p the sign of each difference, in [-1, 1] where it is 0."""
    problem = small_problem()
    found, _ = problem.minimise(1500, 1e-10, "ADMM")
    smooth = problem.weight / TotalVariation.threshold
    state, threshold = problem.gradient_state, TotalVariation.threshold
    shrunk = torch.where(problem.penalised, state.sign() * (state.abs() - threshold).clamp(min=0), state)
    multiplier = smooth * (state - shrunk) / problem.weight
    differences = gradient(found, TINY.voxel_size_mm, periodic=True)
    assert float(multiplier.abs().max()) <= 1 + 1e-9
    assert float(multiplier[~problem.penalised].abs().max()) == 0
    steep = problem.penalised & (differences.abs() > 1e-6)
    torch.testing.assert_close(multiplier[steep], differences[steep].sign(), rtol=0, atol=1e-6)
    residual = multiply_spectrum(found, problem.kernel) - problem.field
    slope = multiply_spectrum(problem.weights * residual, problem.kernel)
    slope += problem.weight * gradient_adjoint(multiplier, TINY.voxel_size_mm, periodic=True)
    assert float(slope.norm()) < 1e-6 * float(
        multiply_spectrum(problem.weights * problem.field, problem.kernel).norm()
    )


def test_the_objective_falls():
    with running() as run:
        tv(FIELD + noise_of(0.002) * MASK, MASK, HEAD, TVParameters(tolerance=1e-4))
    curve = np.array(run.curves["objective"])
    assert (np.diff(curve[5:]) <= 1e-2 * curve[5:-1]).all()  # three digits are kept
    assert curve[-1] < 0.5 * curve[0]


def test_what_is_constant_in_pieces_is_found_again_without_noise():
    found = tv(
        FIELD,
        MASK,
        HEAD,
        TVParameters(weight_from="fixed", penalty_weight=0.05, iterations=400, tolerance=1e-4),
    )
    assert error(found) < 0.04


def test_double_precision_gives_the_same():
    noisy = (FIELD + noise_of(0.002)) * MASK
    single, double = (tv(noisy.to(t), MASK, HEAD, TVParameters()) for t in (torch.float32, torch.float64))
    assert double.dtype == torch.float64
    assert float((single - double).norm() / double.norm()) < 1e-3


@pytest.mark.parametrize("method", ["tv", "nonlinear_tv"])
def test_an_unreliable_voxel_does_no_harm_where_the_noise_map_tells_of_it(method):
    noise = torch.full(HEAD.shape, 0.002)
    wrong = FIELD.clone()
    at = (20, 22, 15)
    wrong[at] = 5.0
    noise[at] = 10.0

    def invert(field):
        if method == "tv":
            return tv(field, MASK, HEAD, TVParameters(weight_from="fixed"), noise=noise)
        return nonlinear_tv(
            field, MASK, HEAD, NonlinearTVParameters(weight_from="fixed"), ACQUISITION, noise=noise
        )

    right, found = invert(FIELD), invert(wrong)
    assert float((found - right).norm() / right.norm()) < 0.02
    alarmed = tv(wrong, MASK, HEAD, TVParameters(weight_from="fixed"))
    assert float((alarmed - right).norm() / right.norm()) > 0.5


def test_a_noise_map_without_a_positive_value_is_refused():
    with pytest.raises(InputError, match="no positive value in the mask"):
        tv(FIELD, MASK, HEAD, TVParameters(), noise=torch.zeros(HEAD.shape))


def test_an_empty_mask_is_refused():
    with pytest.raises(InputError, match="the mask is empty"):
        tv(FIELD, torch.zeros_like(MASK), HEAD, TVParameters())


def test_a_field_that_is_not_finite_is_no_result():
    field = FIELD.clone()
    field[20, 22, 15] = torch.inf
    with pytest.raises(InputError, match="not finite"):
        tv(field, MASK, HEAD, TVParameters(weight_from="fixed"))


# ------------------------------------------------------------------------------------- nonlinear
def test_nonlinear_and_linear_agree_on_small_phases():
    weak = Acquisition(echo_times_s=(0.0005,), b0_tesla=1.0)
    parameters = {"weight_from": "fixed", "tolerance": 1e-4}
    linear = tv(FIELD, MASK, HEAD, TVParameters(**parameters))
    found = nonlinear_tv(FIELD, MASK, HEAD, NonlinearTVParameters(**parameters), weak)
    assert float((found - linear).norm() / linear.norm()) < 1e-3


def test_voxels_off_by_a_whole_turn_do_no_harm_to_the_nonlinear_one():
    turn = 1 / (42.577 * 3.0 * 0.02)  # ppm, at an echo spacing of 20 ms
    wrapped = (
        FIELD + turn * (torch.rand(HEAD.shape, generator=torch.Generator().manual_seed(1)) < 0.01) * MASK
    )
    # Where the level of the field is taken from, a turn looks like noise.
    parameters = {"weight_from": "fixed"}
    right, found = (
        nonlinear_tv(f, MASK, HEAD, NonlinearTVParameters(**parameters), ACQUISITION)
        for f in (FIELD, wrapped)
    )
    linear = tv(wrapped, MASK, HEAD, TVParameters(**parameters))
    assert error(found) < 1.05 * error(right) + 0.01
    assert error(linear) > 2 * error(found)


def test_without_echo_times_the_misfit_is_linear_and_says_so():
    with running() as run:
        found = nonlinear_tv(FIELD, MASK, HEAD, NonlinearTVParameters(), Acquisition())
    torch.testing.assert_close(found, tv(FIELD, MASK, HEAD, TVParameters()))
    assert "the misfit is linear" in run.notices[0]


def test_edges_of_the_magnitude_help():
    magnitude = (1 + 5 * TRUTH) * MASK
    noisy = (FIELD + noise_of(0.004)) * MASK
    arguments = (noisy, MASK, HEAD, NonlinearTVParameters(), ACQUISITION)
    assert error(nonlinear_tv(*arguments, magnitude=magnitude)) < 0.9 * error(nonlinear_tv(*arguments))


# -------------------------------------------------------------------------------- the weight
@pytest.mark.parametrize(("weight_from", "level"), [("level", 0.002), ("level", 0.008), ("auto", 0.008)])
def test_the_weight_found_is_near_the_best_one(level, weight_from):
    """Nearly as good as the best of a range; the level of noise differs by a factor of 4."""
    noisy = (FIELD + noise_of(level)) * MASK
    found = error(tv(noisy, MASK, HEAD, TVParameters(weight_from=weight_from)))
    best = min(
        error(tv(noisy, MASK, HEAD, TVParameters(weight_from="fixed", penalty_weight=w)))
        for w in (0.1, 0.3, 1, 3, 10, 30)
    )
    assert found < 1.5 * best, (found, best)


@pytest.mark.parametrize("level", [0.001, 0.003])
def test_auto_leaves_a_residual_as_the_best_linear_filter_would(level):
    """Of amplitude cone² / whole, in the band that the weight is chosen by; the cone tells the noise."""
    noisy = (FIELD + noise_of(level)) * MASK
    with running() as run:
        tv(noisy, MASK, HEAD, TVParameters(weight_from="auto"))
    weight = run.remarks["penalty_weight_ppm_mm"]
    grid = working_grid(MASK, HEAD)
    inside = grid.cut(MASK)
    field = grid.cut(noisy)
    probe = ConeProbe(inside, grid.geometry, field)
    problem = TotalVariation(field, inside.float(), inside.new_ones((3, *field.shape)), grid.geometry)
    problem.set_weight(weight)
    problem.minimise(100, 1e-3, "ADMM")
    unexplained, whole = probe.amplitudes(field)
    residual = probe.amplitudes(problem.residual())[1]
    assert residual == pytest.approx(unexplained**2 / whole, rel=0.25)
    assert (residual * whole) ** 0.5 == pytest.approx(level, rel=0.25)


def test_a_field_twice_as_strong_asks_for_twice_the_weight():
    weights = []
    for factor in (1, 2):
        with running() as run:
            tv(factor * (FIELD + noise_of(0.003)) * MASK, MASK, HEAD, TVParameters())
        weights.append(run.remarks["penalty_weight_ppm_mm"])
    assert weights[1] == pytest.approx(2 * weights[0], rel=0.01)


@pytest.mark.parametrize("method", ["tv", "nonlinear_tv"])
def test_going_on_from_a_map_takes_fewer_steps_to_the_same(method):
    noisy = (FIELD + noise_of(0.002)) * MASK

    def invert(weight, initial=None):
        parameters = {"penalty_weight": weight, "tolerance": 1e-3, "iterations": 500}
        with running() as run:
            if method == "tv":
                found = tv(noisy, MASK, HEAD, TVParameters(**parameters), initial_susceptibility=initial)
            else:
                found = nonlinear_tv(
                    noisy,
                    MASK,
                    HEAD,
                    NonlinearTVParameters(**parameters),
                    ACQUISITION,
                    initial_susceptibility=initial,
                )
        return found, len(run.curves["objective"])

    first, _ = invert(1.0)
    cold, cold_steps = invert(1.3)
    warm, warm_steps = invert(1.3, first)
    assert warm_steps < 0.9 * cold_steps
    assert float((warm - cold).norm() / cold.norm()) < 0.03


def test_steps_that_do_not_suffice_are_told():
    with running() as run:
        tv(FIELD, MASK, HEAD, TVParameters(iterations=3))
    assert "stopped after 3 steps" in run.notices[0]

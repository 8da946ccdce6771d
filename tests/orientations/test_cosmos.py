"""COSMOS against dense float64 linear algebra, and what it refuses."""

import dataclasses

import numpy as np
import pytest
import torch

from napari_metaqsm.doors import combine_orientations
from napari_metaqsm.errors import InputError, MetaQSMWarning
from napari_metaqsm.method import running
from napari_metaqsm.operators.dipole import dipole_field, dipole_kernel
from napari_metaqsm.operators.fourier import multiply_spectrum
from napari_metaqsm.operators.pad import working_grid
from napari_metaqsm.orientations.conditioning import conditioning
from napari_metaqsm.orientations.cosmos import CosmosParameters, cosmos
from napari_metaqsm.pipeline import reconstruct_orientations
from napari_metaqsm.scan import Geometry, Scan

GEOMETRY = Geometry((7, 6, 5), (1.0, 0.8, 2.0))
DIRECTIONS = ((0.1, 0.0, 1.0), (0.5, 0.1, 1.0), (-0.2, 0.6, 1.0), (0.3, -0.7, 1.0))
CLOSED = CosmosParameters(fit="closed form", threshold=0.0)
EXACT = CosmosParameters(tolerance=1e-7, iterations=1000)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turned(geometry: Geometry, direction) -> Geometry:
    return dataclasses.replace(geometry, b0_direction=direction)


def dense(grid: Geometry, direction) -> np.ndarray:
    """The dipole convolution on a grid as a matrix."""
    count = int(np.prod(grid.shape))
    units = torch.eye(count, dtype=torch.float64).reshape(count, *grid.shape)
    kernel = dipole_kernel(turned(grid, direction), like=units)
    return multiply_spectrum(units, kernel).reshape(count, count).numpy().T


def combine(fields, directions, mask, geometry=GEOMETRY, parameters=EXACT, **optional):
    with running() as run:
        found, eroded = cosmos(fields, torch.tensor(directions), mask, geometry, parameters, **optional)
    return found, eroded, run


# -------------------------------------------------------------------------- against linear algebra
@pytest.fixture
def everywhere(monkeypatch):
    """No margin round the mask, so that a tiny grid is all there is."""
    monkeypatch.setattr(
        "napari_metaqsm.orientations.cosmos.working_grid",
        lambda mask, geometry: working_grid(mask, geometry, 0),
    )
    return torch.ones((8, 6, 5), dtype=torch.bool), Geometry((8, 6, 5), (1.0, 0.8, 2.0))


def test_closed_form_solves_the_normal_equations(everywhere):
    mask, geometry = everywhere
    fields = random(4, *geometry.shape)
    matrices = [dense(geometry, d) for d in DIRECTIONS]
    normal = sum(m.T @ m for m in matrices)
    right = sum(m.T @ f.numpy().ravel() for m, f in zip(matrices, fields, strict=True))
    expected = np.linalg.pinv(normal, rcond=1e-10) @ right  # the mean cannot be known
    found, *_ = combine(fields, DIRECTIONS, mask, geometry, CLOSED)
    np.testing.assert_allclose(found.numpy().ravel(), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def weighted_case():
    mask = torch.zeros(GEOMETRY.shape, dtype=torch.bool)
    mask[1:6, 1:5, 1:4] = True
    masks = mask.repeat(4, 1, 1, 1)
    masks[0, :3], masks[3, :, 3:] = False, False
    noises = 0.5 + random(4, *GEOMETRY.shape, seed=3).abs()
    return mask, masks, noises, random(4, *GEOMETRY.shape, seed=1)


def test_least_squares_is_the_dense_weighted_solution_within_the_mask():
    mask, masks, noises, fields = weighted_case()
    grid = working_grid(mask, GEOMETRY)
    inside = grid.cut(mask).numpy().ravel()
    rows, targets = [], []
    for n, direction in enumerate(DIRECTIONS):
        known = grid.cut(masks[n]).numpy().ravel()
        weight = 1 / grid.cut(noises[n]).numpy().ravel()[known]
        rows.append(weight[:, None] * columns(grid.geometry, direction, inside)[known])
        targets.append(weight * grid.cut(fields[n]).numpy().ravel()[known])
    expected = np.linalg.lstsq(np.concatenate(rows), np.concatenate(targets), rcond=None)[0]
    found, *_ = combine(fields, DIRECTIONS, mask, noises=noises, masks=masks)
    determined = (masks.sum(0) >= 3)[mask].numpy()
    np.testing.assert_allclose(
        found[mask].numpy()[determined], expected[determined], rtol=0, atol=1e-5 * np.abs(expected).max()
    )


def columns(grid: Geometry, direction, inside: np.ndarray) -> np.ndarray:
    """Those of the dense dipole matrix that belong to voxels ``inside``."""
    units = torch.zeros((int(inside.sum()), int(np.prod(grid.shape))), dtype=torch.float64)
    units[torch.arange(len(units)), torch.from_numpy(np.flatnonzero(inside))] = 1
    kernel = dipole_kernel(turned(grid, direction), like=units)
    return multiply_spectrum(units.reshape(-1, *grid.shape), kernel).reshape(len(units), -1).numpy().T


@pytest.mark.parametrize("parameters", [CLOSED, EXACT], ids=["closed form", "least squares"])
def test_recovers_a_map_from_noiseless_fields_to_rounding(parameters, everywhere):
    mask, geometry = everywhere
    chi = random(*geometry.shape)
    chi -= chi.mean()
    fields = [multiply_spectrum(chi, dipole_kernel(turned(geometry, d), like=chi)) for d in DIRECTIONS]
    found, *_ = combine(torch.stack(fields), DIRECTIONS, mask, geometry, parameters)
    torch.testing.assert_close(found - found.mean(), chi, rtol=0, atol=1e-4)


# ------------------------------------------------------------------------------ on a scan's scale
SCAN = Geometry((31, 28, 15), (1.0, 1.2, 2.0))


def head(snr=None):
    """A textured ball, its fields in four orientations and their noise, ten times as large in places."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in SCAN.shape), indexing="ij")
    mask = sum(a**2 for a in axes) < 0.8
    chi = 0.05 * random(*SCAN.shape) * mask
    fields = torch.stack([dipole_field(chi, turned(SCAN, d)) for d in DIRECTIONS])
    noises = torch.full_like(fields, 0.0 if snr is None else float(fields[:, mask].std()) / snr)
    for n in range(4):
        noises[n, 5 * n + 5 : 5 * n + 12] *= 10
    fields = fields + noises * random(*fields.shape, seed=9)
    return chi, mask, torch.where(mask, fields, torch.nan), noises


def error(found, chi, where):
    difference = (found - chi)[where]
    return float((difference - difference.mean()).norm() / chi[where].norm())


def test_the_field_outside_the_mask_is_not_taken_to_be_zero():
    chi, mask, fields, _ = head()
    closed, *_ = combine(fields, DIRECTIONS, mask, SCAN, CosmosParameters(fit="closed form"))
    found, *_ = combine(fields, DIRECTIONS, mask, SCAN, CosmosParameters())
    assert error(found, chi, mask) < 0.03
    assert error(closed, chi, mask) > 4 * error(found, chi, mask)


def test_noise_maps_weigh_the_fields():
    chi, mask, fields, noises = head(snr=20)
    plain, *_ = combine(fields, DIRECTIONS, mask, SCAN, CosmosParameters())
    found, _, run = combine(fields, DIRECTIONS, mask, SCAN, CosmosParameters(), noises=noises)
    assert error(found, chi, mask) < 0.5 * error(plain, chi, mask)
    assert len(run.curves["relative residual"]) < 14
    rescaled, *_ = combine(fields, DIRECTIONS, mask, SCAN, CosmosParameters(), noises=1000 * noises)
    torch.testing.assert_close(rescaled, found, rtol=1e-6, atol=1e-9)


def test_no_noise_at_all_means_not_known_and_hardly_any_is_not_believed():
    _, mask, fields, noises = head(snr=20)
    lacking = noises.clone()
    lacking[:2, :, :12] = 0
    _, eroded, _ = combine(fields, DIRECTIONS, mask, SCAN, CosmosParameters(), noises=lacking)
    expected = mask.clone()
    expected[:, :12] = False
    torch.testing.assert_close(eroded, expected)
    # A voxel whose noise is a millionth of the others' weighs a hundred times as much as they, no more.
    bold, cautious = noises.clone(), noises.clone()
    bold[0, 15, 14, 7], cautious[0, 15, 14, 7] = (
        1e-6 * noises.min(),
        0.1 * noises[:, mask].median(1)[0].median(),
    )
    maps = [
        combine(fields, DIRECTIONS, mask, SCAN, CosmosParameters(), noises=n)[0] for n in (bold, cautious)
    ]
    torch.testing.assert_close(*maps, rtol=0, atol=1e-9)


def test_masks_that_differ_lose_only_what_fewer_than_three_fields_know():
    chi, mask, fields, _ = head()
    masks = mask.repeat(4, 1, 1, 1)
    masks[0, :8], masks[1, :, 20:], masks[2, :6] = False, False, False
    fields = torch.where(masks, fields, torch.nan)
    found, eroded, run = combine(fields, DIRECTIONS, mask, SCAN, CosmosParameters(), masks=masks)
    torch.testing.assert_close(eroded, mask & (masks.sum(0) >= 3))
    assert not found[~eroded].any()
    assert error(found, chi, eroded) < 0.1
    assert "is left out" in run.notices[0]
    closed, all_known, _ = combine(
        fields, DIRECTIONS, mask, SCAN, CosmosParameters(fit="closed form"), masks=masks
    )
    torch.testing.assert_close(all_known, masks.all(0))
    assert error(closed, chi, all_known) > 2 * error(found, chi, all_known)


@pytest.mark.parametrize("fit", ["closed form", "least squares"])
def test_single_precision_changes_less_than_a_thousandth(fit):
    _, mask, fields, noises = head(snr=20)
    maps = [
        combine(fields.to(t), DIRECTIONS, mask, SCAN, CosmosParameters(fit=fit), noises=noises.to(t))[
            0
        ].double()
        for t in (torch.float32, torch.float64)
    ]
    assert float((maps[0] - maps[1]).norm() / maps[1].norm()) < 1e-3


def test_neither_length_nor_sense_of_a_direction_matters():
    _, mask, fields, _ = head(snr=20)
    expected, *_ = combine(fields, DIRECTIONS, mask, SCAN, CLOSED)
    other = [tuple(s * b for b in d) for s, d in zip((-1, 3, -0.5, 1), DIRECTIONS, strict=True)]
    found, *_ = combine(fields, other, mask, SCAN, CLOSED)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_too_few_iterations_are_said():
    _, mask, fields, _ = head(snr=20)
    *_, run = combine(fields, DIRECTIONS, mask, SCAN, CosmosParameters(iterations=1, tolerance=1e-6))
    assert "stopped after 1 iterations" in run.notices[0]


# --------------------------------------------------------------------------------- the directions
def tilted(*pairs):
    return [
        (np.sin(np.radians(x)), np.sin(np.radians(y)), np.cos(np.radians(abs(x) + abs(y)))) for x, y in pairs
    ]


def test_condition_and_noise_gain_of_known_sets():
    best = conditioning(tilted((0, 0), (60, 0), (-60, 0)))
    assert best.condition == pytest.approx(2.03, abs=0.02)  # Liu 2009: 60 degrees is the best of rotations
    assert all(conditioning(tilted((0, 0), (a, 0), (-a, 0))).condition > best.condition for a in (30, 50, 75))
    slight = conditioning(tilted((0, 0), (15, 0), (-15, 0)))
    assert slight.condition > 50
    assert slight.smallest_angle_degrees == pytest.approx(15)
    assert conditioning(tilted((0, 0), (20, 0), (0, 20))).noise_gain > best.noise_gain


def test_the_noise_gain_is_that_of_the_closed_form():
    directions = tilted((0, 0), (40, 0), (0, 40), (-40, 0))
    geometry = Geometry((40, 40, 40), (1, 1, 1))
    everywhere = torch.ones(geometry.shape, dtype=torch.bool)
    found, *_ = combine(random(4, *geometry.shape), directions, everywhere, geometry, CLOSED)
    # The box of k is no sphere: its corners are sampled more densely.
    assert float(found.std()) == pytest.approx(conditioning(directions).noise_gain, rel=0.25)


def test_a_poor_set_is_told_and_guarded():
    directions = tilted((0, 0), (6, 0), (-6, 0))
    mask, noise = head()[1], random(3, *SCAN.shape)
    guarded, _, run = combine(noise, directions, mask, SCAN, CosmosParameters(fit="closed form"))
    assert "poorly conditioned" in run.notices[0]
    assert run.remarks["conditioning"]["condition"] > 50
    bare, *_ = combine(noise, directions, mask, SCAN, CLOSED)
    assert float(guarded.norm()) < 0.95 * float(bare.norm())


@pytest.mark.parametrize(
    ("directions", "message"),
    [
        (DIRECTIONS[:2], "there are 2 fields; COSMOS needs 3 or more"),
        ([(0, 0, 1), (0.01, 0, 1), (0.5, 0, 1)], "fields 1 and 2 are 0.6 degrees apart"),
        ([(0, 0, 1), (0.5, 0, 1), (-0.5, 0, -1)], "fields 2 and 3 are 0.0 degrees apart"),
        ([(0, 0, 1), (0, 0, 0), (0, 1, 1)], r"\(0, 0, 0\); it must point along B0"),
    ],
)
def test_directions_that_cannot_tell_are_refused(directions, message):
    _, mask, fields, _ = head()
    with pytest.raises(InputError, match=message):
        combine(fields[: len(directions)], [tuple(map(float, d)) for d in directions], mask, SCAN)


def test_a_repeated_orientation_beside_three_others_is_welcome():
    conditioning([*DIRECTIONS, DIRECTIONS[0]])


# ---------------------------------------------------------------------------------- from numpy
def arrays():
    _, mask, fields, noises = head(snr=20)
    return fields.nan_to_num().float().numpy(), mask.numpy(), noises.float().numpy()


def test_the_python_door_takes_lists_of_arrays():
    fields, mask, noises = arrays()
    found = combine_orientations(
        list(fields), mask, SCAN.voxel_size_mm, DIRECTIONS, list(noises), device="cpu"
    )
    expected, *_ = combine(
        torch.from_numpy(fields), DIRECTIONS, torch.from_numpy(mask), SCAN, CosmosParameters(),
        noises=torch.from_numpy(noises),
    )  # fmt: skip
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"local_fields": lambda f: [*f[:3], f[3][:-1]]}, "register them to one grid"),
        ({"local_fields": lambda f: [f[0], 1000 * f[1], *f[2:]]}, "orientation 2: the local field reaches"),
        (
            {"local_fields": lambda f: [f[0], f[1], 0 * np.nan_to_num(f[2]), f[3]]},
            "orientation 3: .* zero ever",
        ),
        ({"b0_directions": lambda d: d[:3]}, r"b0 directions have the shape \(3, 3\); it must be \(4, 3\)"),
        ({"b0_directions": lambda d: [*d[:3], (np.nan, 0, 1)]}, "not finite"),
        ({"noises": lambda n: -n}, "orientation 1: the noise goes down to"),
        ({"masks": lambda m: [m, m, 0 * m, m]}, "orientation 3: the mask is empty"),
        (
            {"masks": lambda m: [m * (np.arange(15) == n) for n in (5, 6, 7, 8)]},
            "check that the masks overlap",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_number(change, message):
    fields, mask, noises = arrays()
    given = {"local_fields": fields, "b0_directions": DIRECTIONS, "noises": noises, "masks": mask}
    changed = {name: make(given[name]) for name, make in change.items()}
    given = {"local_fields": fields, "b0_directions": DIRECTIONS, **changed}
    with pytest.raises(InputError, match=message), np.errstate(all="ignore"):
        combine_orientations(mask=mask, voxel_size_mm=SCAN.voxel_size_mm, **given)


def test_scans_become_one_result_with_its_record():
    fields, mask, noises = arrays()
    cut = mask & (np.arange(SCAN.shape[0]) > 6)[:, None, None]
    scans = [
        Scan(turned(SCAN, d), local_field=f, noise=s, mask=cut if n == 1 else mask if n == 0 else None)
        for n, (d, f, s) in enumerate(zip(DIRECTIONS, fields, noises, strict=True))
    ]
    result = reconstruct_orientations(scans, device="cpu")
    assert list(result.maps) == ["susceptibility_cosmos"]  # three of four fields are known everywhere
    chi = result.maps["susceptibility_cosmos"]
    assert float(chi[mask].mean()) == pytest.approx(0, abs=1e-6)
    assert {f"{kind}_{n}" for kind in ("local_field", "noise") for n in (1, 2, 3, 4)} <= set(
        result.record["inputs"]
    )
    (step,) = result.record["steps"]
    assert step["result"] == "susceptibility_cosmos"
    assert len(step["b0_directions"]) == 4
    assert step["conditioning"]["condition"] < 10
    with pytest.raises(InputError, match="noise maps for 3 of 4 fields"):
        reconstruct_orientations([dataclasses.replace(scans[0], noise=None), *scans[1:]])
    with pytest.raises(InputError, match="the mask is missing"):
        reconstruct_orientations([scan.with_mask(None) for scan in scans])


def test_notices_warn_where_nobody_listens():
    _, mask, fields, noises = head(snr=20)
    with pytest.warns(MetaQSMWarning, match="uses the noise maps only"):
        cosmos(
            fields, torch.tensor(DIRECTIONS), mask, SCAN, CosmosParameters(fit="closed form"), noises=noises
        )

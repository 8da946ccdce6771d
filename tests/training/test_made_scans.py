"""Made scans: their fields are those of their susceptibility, and what is not is named."""

import math

import pytest
import torch

from napari_metaqsm.network.conditions import measure_level, outside_trained_range, turned
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.scan import Geometry
from napari_metaqsm.simulation.shapes import cylinder, sphere
from napari_metaqsm.training.examples import (
    Recipe,
    acquire,
    make_subject,
    random_geometry,
)
from napari_metaqsm.training.shapes import Draw, body, veins
from napari_metaqsm.training.sources import Head, Map, Sources

SMALL = Recipe(shape=(40, 44, 20), vein_count=(5, 10), nucleus_count=(0, 3))
# Nothing in the field but the dipole of what is in the mask.
PURE = Recipe(
    shape=(40, 44, 20), complex_mean=0, clean_background=1, no_mismatch=1, no_noise=1, background_ppm=0,
    negative=0, holes=0, no_magnitude=0,
)  # fmt: skip
THICK = Geometry(SMALL.shape, (0.8, 0.9, 2.5), (0.1, 0.3, 1.0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def head() -> Sources:
    """A ball of white matter in cortex and fluid, with a putamen."""
    labels = torch.zeros(90, 90, 80, dtype=torch.uint8)
    grid = Geometry(tuple(labels.shape), (1.0, 1.0, 1.0))
    for label, radius in ((24, 42), (3, 36), (2, 28), (12, 8)):
        labels[sphere(grid, radius) > 0.5] = label
    return Sources(heads=(Head(labels, (labels > 0) & (labels != 24), (1.0, 1.0, 1.0)),))


def test_the_field_is_the_dipole_field_of_what_lies_in_the_mask(head):
    subject = make_subject(head, PURE, generator(3), THICK)
    example = acquire(subject, PURE, generator(4))
    expected = dipole_field(example.susceptibility, THICK, padding=3.0)[example.mask]
    # Another padding: a constant and a little curvature differ.
    found = example.local_field[example.mask]
    assert float((found - expected).std() / expected.std()) < 0.02


def test_the_same_generator_makes_the_same_scan_and_another_a_different_one(head):
    first, again, other = (acquire(make_subject(head, SMALL, g), SMALL, g) for g in map(generator, (1, 1, 2)))
    assert torch.equal(first.local_field, again.local_field)
    assert first.geometry == again.geometry
    assert first.geometry != other.geometry


def test_scans_are_zero_outside_their_mask_and_turned(head):
    g = generator(5)
    for _ in range(6):
        example = acquire(make_subject(head, SMALL, g), SMALL, g)
        assert not example.local_field[~example.mask].any()
        assert not example.susceptibility[~example.mask].any()
        turn, after = turned(example.geometry)
        assert turn.axes == (0, 1, 2)
        assert after == example.geometry


def test_every_random_geometry_lies_in_the_trained_range():
    draw = Draw(generator(7))
    drawn = [random_geometry(SMALL, draw) for _ in range(200)]
    assert all(outside_trained_range(g) is None for g in drawn)
    assert max(g.voxel_size_mm[2] for g in drawn) > 3.5
    assert min(g.voxel_size_mm[0] for g in drawn) < 0.6
    assert max(math.degrees(math.acos(min(g.b0_direction[2], 1))) for g in drawn) > 25


def test_mismatch_raises_the_level_of_anatomy_and_noise_that_of_high_frequencies(head):
    def level(**changed):
        recipe = Recipe(**{**vars(PURE), **changed})
        example = acquire(make_subject(head, PURE, generator(3), THICK), recipe, generator(9))
        return measure_level(example.local_field, example.mask, THICK)

    pure = level()
    assert level(no_noise=0, noise_ppm=(0.003, 0.0031)).noise > pure.noise + 0.1
    assert level(no_mismatch=0, mismatch=(1.0, 1.01)).mismatch > pure.mismatch + 0.1


def test_a_negative_scan_has_field_and_susceptibility_turned_round_and_its_magnitude_not(head):
    subject = make_subject(head, PURE, generator(3), THICK)
    plain = acquire(subject, PURE, generator(4))
    turned_round = acquire(subject, Recipe(**{**vars(PURE), "negative": 1}), generator(4))
    assert torch.equal(turned_round.local_field, -plain.local_field)
    assert torch.equal(turned_round.susceptibility, -plain.susceptibility)
    assert torch.equal(turned_round.magnitude, plain.magnitude)


def test_a_map_from_a_file_keeps_its_values_up_to_contrast():
    grid = Geometry((60, 60, 60), (1.0, 1.0, 1.0))
    ball = sphere(grid, 20.0)
    source = Sources(maps=(Map(0.05 * ball - 0.1 * sphere(grid, 6.0), (1.0, 1.0, 1.0)),))
    recipe = Recipe(
        **{**vars(PURE), "vein_count": (0, 0), "nucleus_count": (0, 0), "lesion": 0, "erosion_mm": (0, 0)}
    )
    example = acquire(
        make_subject(source, recipe, generator(1), Geometry(recipe.shape, (1.2, 1.2, 2.0))),
        recipe,
        generator(2),
    )
    values = example.susceptibility[example.mask]
    assert 0.01 < float(values.max()) < 0.1
    assert float(values.min()) < 0


def test_without_a_source_there_are_shapes_alone():
    example = acquire(make_subject(Sources(), SMALL, generator(2)), SMALL, generator(3))
    values = example.susceptibility[example.mask]
    assert float((values == 0).float().mean()) > 0.05
    assert float(values.std()) > 0.01


def test_a_body_has_about_the_volume_of_its_half_sides():
    size = (0.7, 0.7, 0.7)
    for seed in range(8):
        draw = Draw(generator(seed))
        box, filled = body((40, 40, 40), size, (0.0, 0.0, 0.0), draw, (5.0, 5.0))
        volume = float(filled.sum()) * math.prod(size)
        # Ball, cube, or cylinder of half sides of 5 mm.
        assert min(abs(volume / v - 1) for v in (4 / 3 * math.pi * 125, 1000, math.pi * 250)) < 0.06
        assert all(s.stop <= 40 for s in box)
    assert body((40, 40, 40), size, (100.0, 0.0, 0.0), Draw(generator()), (5.0, 5.0)) is None


def test_a_vein_has_the_volume_of_a_tube():
    filled = veins(
        (60, 60, 60), (0.5, 0.5, 0.5), torch.zeros(1, 3), Draw(generator(1)), (1.0, 1.001), (8.0, 8.001)
    )
    tube = cylinder(Geometry((60, 60, 60), (0.5, 0.5, 0.5)), 1.0, (0.0, 0.0, 1.0), length_mm=8.0)
    assert float(filled.sum()) == pytest.approx(float(tube.sum()), rel=0.15)

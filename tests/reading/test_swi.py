"""χ-weighted SWI against the formula of its paper, and what it must leave alone."""

import numpy as np
import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.reading.study import Study
from napari_metaqsm.reading.swi import chi_weighted_swi
from napari_metaqsm.scan import Geometry

GEOMETRY = Geometry((4, 5, 6), (1.0, 0.8, 2.0))


@pytest.fixture
def study():
    random = np.random.default_rng(0)
    chi = random.uniform(-0.2, 0.6, GEOMETRY.shape).astype(np.float32)
    chi[0] = 0  # outside the map's mask
    return Study(GEOMETRY, {"TV": chi}, magnitude=random.uniform(50, 100, (2, *GEOMETRY.shape)))


@pytest.mark.parametrize(("lower", "upper", "power"), [(0.0, 0.45, 2.0), (0.05, 0.2, 4.0), (0.0, -0.1, 1.0)])
def test_it_is_the_formula_voxel_by_voxel(study, lower, upper, power):
    swi = chi_weighted_swi(study, "TV", lower, upper, power, echo=2)
    for voxel in np.ndindex(GEOMETRY.shape):
        chi, magnitude = float(study.maps["TV"][voxel]), study.magnitude[1][voxel]
        part = (chi - lower) / (upper - lower)
        weight = 1.0 if chi == 0 or part <= 0 else 0.0 if part >= 1 else 1 - part
        assert swi[voxel] == pytest.approx(magnitude * weight**power, rel=2e-5, abs=1e-5)


def test_all_echoes_are_averaged_and_what_is_not_known_stays(study):
    swi = chi_weighted_swi(study, "TV", lower_ppm=-1.0)
    np.testing.assert_allclose(swi[0], study.magnitude[:, 0].mean(0), rtol=1e-6)
    assert (swi[1:] < study.magnitude[:, 1:].mean(0)).all()


def test_nothing_that_came_in_is_changed(study):
    before = study.maps["TV"].copy(), study.magnitude.copy()
    chi_weighted_swi(study, "TV")
    np.testing.assert_array_equal(study.maps["TV"], before[0])
    np.testing.assert_array_equal(study.magnitude, before[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"title": "MEDI"}, "title is 'MEDI'; it must be one of TV"),
        ({"echo": 3}, r"echo is 3; it must lie in \[1, 2\]"),
        ({"echo": 0}, "echo is 0"),
        ({"upper_ppm": 0.0}, "two different numbers"),
        ({"power": 0.0}, "power is 0; it must be greater than 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(study, settings, message):
    with pytest.raises(InputError, match=message):
        chi_weighted_swi(study, **{"title": "TV", **settings})


def test_without_a_magnitude_there_is_none(study):
    with pytest.raises(InputError, match="there is no magnitude"):
        chi_weighted_swi(Study(GEOMETRY, study.maps), "TV")

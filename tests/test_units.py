"""Field units: the numbers, and that they undo each other."""

import math

import numpy as np
import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.units import hz_per_ppm, ppm_from, ppm_per_unit, rad_per_ppm


def test_one_ppm_at_three_tesla():
    assert hz_per_ppm(3.0) == pytest.approx(127.731)
    assert rad_per_ppm(3.0, 0.020) == pytest.approx(2 * math.pi * 127.731 * 0.020)


def test_fields_become_ppm():
    assert ppm_from(127.731, "Hz", 3.0) == pytest.approx(1)
    assert ppm_from(2 * math.pi * 127.731, "rad/s", 3.0) == pytest.approx(1)
    np.testing.assert_allclose(ppm_from(np.array([0.0, 127.731 * 2]), "Hz", 6.0), [0, 1])


def test_ppm_stay_themselves_and_need_no_field_strength():
    field = np.zeros(3)
    assert ppm_from(field, "ppm", None) is field


def test_unknown_unit_and_missing_field_strength_are_refused():
    with pytest.raises(InputError, match=r"unit is 'hz'; it must be one of ppm, Hz, rad/s"):
        ppm_per_unit("hz", 3.0)
    with pytest.raises(InputError, match=r"a field in Hz needs the field strength"):
        ppm_per_unit("Hz", None)

"""Compiled loops where there is a place to keep them, and where there is none."""

import numba
import pytest

from napari_metaqsm.operators.compiled import compiled


def test_what_cannot_be_kept_on_disk_is_compiled_all_the_same():
    """As in a container that may not be written to; code that lies in no file has no place either."""
    made = {}
    exec("def double(x):\n    return 2 * x", made)
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(made["double"])
    double = compiled()(made["double"])
    assert double(3.5) == 7.0
    assert double.targetoptions["nogil"]


def test_what_can_be_kept_is():
    def triple(x):
        return 3 * x

    assert compiled(inline="always")(triple)._cache.cache_path

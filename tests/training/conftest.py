"""Runs so small that a test can wait for them."""

import pytest

from napari_metaqsm.training.config import configuration_from

# A few small bodies in a small box; everything else of the recipe is as shipped.
TINY = {
    "data": {"samples_per_step": 2, "validation_voxels_mm": [[1.0, 1.0, 1.0]]},
    "recipe": {"shape": [16, 16, 8], "margin_mm": 0.0, "shape_count": [2, 4]},
    "architecture": {"width": 2, "levels": 2, "kernels": 2},
    "optimisation": {"steps": 6, "warmup_steps": 2, "average_decay": 0.5, "precision": "float32"},
    "run": {"device": "cpu", "log_every": 1},
}


@pytest.fixture(scope="session")
def tiny():
    """A function that gives the configuration of a run of seconds, with some settings changed."""

    def make(**tables):
        return configuration_from(
            {name: {**TINY.get(name, {}), **tables.get(name, {})} for name in {*TINY, *tables}}
        )

    return make

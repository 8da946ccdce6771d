"""The example configurations run, made small."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_metaqsm.network.checkpoint import read_weights
from napari_metaqsm.training.config import read_configuration
from napari_metaqsm.training.fit import train

# Lightning's own call, deprecated in the newest torch
pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("train*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_each_example_runs(path, tmp_path, request):
    settings = [
        "recipe.shape=[16,16,8]",
        "recipe.margin_mm=0.0",
        "architecture.width=2",
        "optimisation.steps=2",
        "optimisation.minutes=0",
        "data.samples_per_step=1",
        "data.validation_voxels_mm=[[1,1,1]]",
        "run.device=cpu",
    ]
    if "window =" in path.read_text():
        settings += ["data.window=[8,8,8]"]
    if "heads" in path.read_text():
        folder = request.getfixturevalue("shared") / "data/labels"
        one = tmp_path / "labels"
        one.mkdir()
        for number in (3, 19):
            (one / f"head_{number}.nii.gz").symlink_to(folder / f"training_seg_{number:02d}.nii.gz")
        settings += [f"data.labels={one}", "data.validation=[19]"]
    elif "cosmos" in path.read_text():
        chi = 0.05 * np.random.default_rng(0).standard_normal((20, 24, 22)).astype(np.float32)
        nib.save(nib.Nifti1Image(chi, np.diag([1.06, 1.06, 1.06, 1])), tmp_path / "cosmos.nii.gz")
        settings += [f'data.maps=["{tmp_path / "cosmos.nii.gz"}"]']
    chosen = read_configuration(path, settings)
    report = train(chosen, tmp_path / "run")
    read = read_weights(report.weights)
    assert read.network.architecture == chosen.architecture
    if chosen.recipe.voxel_size_mm:
        assert tuple(read.provenance["voxel_size_mm"]) == chosen.recipe.voxel_size_mm

"""Label maps and susceptibility maps read from files."""

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_metaqsm.errors import InputError
from napari_metaqsm.simulation.anatomy import OUTSIDE_BRAIN
from napari_metaqsm.training.sources import load_sources


def write(path, values, axes=(1, 1, 1)):
    nib.save(nib.Nifti1Image(values, np.diag([*axes, 1.0])), path)


@pytest.fixture
def folder(tmp_path):
    """Two heads: a brain with a fluid-filled sulcus in soft tissue numbered above 255."""
    for number in (3, 12):
        labels = np.zeros((30, 32, 34), np.int32)
        labels[4:26, 4:28, 4:30] = 507
        labels[8:22, 8:24, 8:26] = 2
        labels[14:16, 8:24, 16:26] = 24
        labels[10:12, 10:12, 10:12] = number
        write(tmp_path / f"head_{number:02d}.nii.gz", labels, (-1, 1, 1))
    return tmp_path


def test_heads_are_cropped_turned_and_their_high_numbers_are_soft_tissue(folder):
    (head,) = load_sources(folder, [3]).heads
    assert head.labels.shape == (22, 24, 26)
    assert head.labels.dtype == torch.uint8
    assert int(head.labels[0, 0, 0]) == 127
    # The file's first axis runs to the left.
    assert int(head.labels[22 - 1 - 6, 6, 6]) == 3


def test_a_narrow_sulcus_belongs_to_the_brain_and_the_head_does_not(folder):
    (head,) = load_sources(folder, [12]).heads
    assert bool(head.brain[head.labels == 24].all())
    assert bool(head.brain[head.labels == 2].all())
    assert not head.brain[head.labels == 127].any()


def test_numbers_choose_among_the_files_and_a_missing_one_is_named(folder):
    assert len(load_sources(folder).heads) == 2
    with pytest.raises(InputError, match=r"no label map 4; it has 3, 12"):
        load_sources(folder, [3, 4])
    with pytest.raises(InputError, match="must be a folder of numbered label maps"):
        load_sources(folder / "nowhere")


def test_a_susceptibility_map_is_read_in_ppm_without_its_nan(tmp_path):
    values = np.zeros((10, 10, 10), np.float32)
    values[2:8, 3:7, 4:9] = 0.05
    values[0, 0, 0] = np.nan
    write(tmp_path / "chi.nii", values, (1.0, 1.0, 2.0))
    (source,) = load_sources(maps=[tmp_path / "chi.nii"]).maps
    assert source.voxel_size_mm == (1.0, 1.0, 2.0)
    assert source.susceptibility.shape == (6, 4, 5)
    assert float(source.susceptibility.min()) == pytest.approx(0.05)
    with pytest.raises(InputError, match="there is no file"):
        load_sources(maps=[tmp_path / "other.nii"])


def test_the_real_label_maps_have_brains_of_one_to_two_litres(shared):
    (head,) = load_sources(shared / "data" / "labels", [19]).heads
    assert 1.0e6 < int(head.brain.sum()) < 2.0e6
    outside = torch.isin(head.labels, torch.tensor([n for n in OUTSIDE_BRAIN if n != 24], dtype=torch.uint8))
    assert not (head.brain & outside).any()

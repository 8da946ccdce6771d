"""The synthetic head: its parts on a coarse grid, and that it is the same for the same seed."""

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_metaqsm.io.resources import resource
from napari_metaqsm.scan import Geometry
from napari_metaqsm.simulation.anatomy import TISSUES, anatomy, blockwise, brain_mask, resampled
from napari_metaqsm.simulation.head import LABELS, synthetic_head


@pytest.fixture(scope="module")
def head():
    return synthetic_head(seed=1, voxel_size_mm=(1.5, 1.5, 3.0), echo_times_s=(0.005, 0.010))


def test_resampling_keeps_a_slope_and_the_sum():
    x = torch.arange(12.0)[:, None, None] + 2 * torch.arange(10.0)[:, None] + torch.zeros(9)
    grid = Geometry((9, 10, 4), (1.0, 1.5, 1.5))
    found = resampled(x, (1.0, 2.0, 1.0), grid)
    # One middle for both: index i of 9 lies at i + 1.5 of 12, index j of 10 at 0.75 j + 1.125 of 10.
    expected = (torch.arange(9.0) + 1.5)[:, None, None] + 2 * (0.75 * torch.arange(10.0) + 1.125)[:, None]
    torch.testing.assert_close(found, expected.expand(9, 10, 4))

    point = torch.zeros(8, 8, 8)
    point[3, 4, 5] = 1
    fine = resampled(point, (1.0, 1.0, 1.0), Geometry((20, 20, 20), (0.5, 0.7, 0.6)))
    assert float(fine.sum()) * 0.5 * 0.7 * 0.6 == pytest.approx(1)


def test_blocks_are_averaged():
    x = torch.arange(48.0).reshape(1, 4, 3, 4)
    expected = x.reshape(1, 2, 2, 3, 1, 2, 2).mean(dim=(2, 4, 6))
    assert torch.equal(blockwise(x, (2, 1, 2)), expected)


def test_every_label_of_the_bundled_map_is_known_and_the_brain_is_one_brain():
    image = nib.load(resource(LABELS))
    labels = np.asarray(image.dataobj)
    assert set(np.unique(labels)) <= {0, *TISSUES}
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    mask = brain_mask(labels, (1, 1, 1))
    assert 1.0e6 < mask.sum() < 1.6e6  # one litre to 1.6 litres
    assert not mask[(labels == 0) | (labels == 129)].any()
    assert mask[(labels == 13) | (labels == 4)].all()


def test_the_scan_and_its_truth_belong_together(head):
    scan, truth = head
    assert scan.phase.shape == (2, *scan.geometry.shape)
    assert scan.geometry.orientation == "RAS"
    mask = truth["mask"]
    for name in ("susceptibility", "local_field", "total_field"):
        assert truth[name].shape == scan.geometry.shape
        assert truth[name].dtype == np.float32
    assert not truth["susceptibility"][~mask].any()
    # Away from the rim, the phase gathered between the echoes is the field's.
    deep = np.zeros_like(mask)
    deep[40:67, 53:80, 25:35] = True
    gathered = np.angle(np.exp(1j * (scan.phase[1] - scan.phase[0])))
    expected = 2 * np.pi * 127.731 * 0.005 * truth["total_field"]
    error = np.angle(np.exp(1j * (gathered - expected)))[deep & mask]
    assert np.median(np.abs(error)) < 0.05


def test_iron_is_bright_lesions_have_their_sign_and_the_background_dominates(head):
    scan, truth = head
    chi, mask = truth["susceptibility"], truth["mask"]
    labels = np.asarray(nib.load(resource(LABELS)).dataobj)
    grid = Geometry(scan.geometry.shape, scan.geometry.voxel_size_mm)

    def mean_of(*numbers):
        part = torch.from_numpy(np.isin(labels, numbers).astype(np.float32))
        # The head's grid ends where the map does above; the map is 155 mm high, the grid 156.
        weight = resampled(part, (1.0, 1.0, 1.0), grid).numpy() > 0.9
        return float(np.median(chi[weight & mask]))

    white, putamen, pallidum = mean_of(2, 41), mean_of(12, 51), mean_of(13, 52)
    assert white == pytest.approx(-0.03, abs=0.01)
    assert putamen == pytest.approx(0.07, abs=0.02)
    assert pallidum == pytest.approx(0.15, abs=0.04)
    assert chi.max() > 0.4  # the bleed, averaged over voxels
    assert -0.301 < chi.min() < -0.15  # the calcification, and no bone at the rim
    # Texture: as strong as said and smooth over more than a voxel.
    part = torch.from_numpy(np.isin(labels, (2, 41)).astype(np.float32))
    inside = (resampled(part, (1.0, 1.0, 1.0), grid).numpy() > 0.99) & (np.abs(chi + 0.03) < 0.04)
    pairs = inside[1:] & inside[:-1]
    assert chi[inside].std() == pytest.approx(0.01, abs=0.003)
    assert np.corrcoef(chi[1:][pairs], chi[:-1][pairs])[0, 1] > 0.8
    background = truth["total_field"] - truth["local_field"]
    assert background[mask].std() > 5 * truth["local_field"][mask].std()


def test_same_seed_same_head_other_seed_other_head():
    labels = np.asarray(nib.load(resource(LABELS)).dataobj)[::3, ::3, ::3]
    grid = Geometry((40, 48, 40), (4.0, 4.0, 4.0))
    first, second, other = (
        anatomy(labels, (3.0, 3.0, 3.0), grid, (1, 1, 1), torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    )
    for same, again in zip(first, second, strict=True):
        assert torch.equal(same, again)
    assert torch.equal(first.mask, other.mask)
    assert not torch.equal(first.susceptibility, other.susceptibility)


def test_what_is_bundled_is_found_and_what_is_not_is_said():
    assert len(list(resource("samples/philips_2echo").glob("*.nii.gz"))) == 4
    for folder in ("samples/philips_2echo", "samples/labels"):
        assert (resource(folder) / "LICENSE").is_file()
    with pytest.raises(FileNotFoundError, match=r"the bundled samples/none is missing"):
        resource("samples/none")

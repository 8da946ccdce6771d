"""Brain extraction: the network sees the head upright, and finds the brain of a real one."""

import itertools

import nibabel
import numpy as np
import pytest
import scipy.ndimage
import torch

from napari_metaqsm.errors import InputError
from napari_metaqsm.mask import brain as module
from napari_metaqsm.mask.brain import BrainParameters, brain
from napari_metaqsm.scan import Geometry


class Recorder:
    """In the network's place: what is bright is brain; ``seen`` is the image it was given."""

    def run_model(self, image):
        self.seen = image
        return (image > 1).astype(np.float32)


@pytest.fixture
def recorder(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(module, "_network", lambda device: recorder)
    return recorder


def every_orientation():
    for axes in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            yield axes, flips


def test_the_network_sees_right_anterior_superior_whatever_the_axes(recorder):
    upright = torch.zeros(5, 6, 7)
    upright[3:, 1:3, 2:4] = torch.rand(2, 2, 2) + 2
    for axes, flips in every_orientation():
        stored = upright.permute(axes).flip([n for n, flip in enumerate(flips) if flip])
        codes = "".join("LPI"[a] if flip else "RAS"[a] for a, flip in zip(axes, flips, strict=True))
        geometry = Geometry(stored.shape, (1, 1, 1), orientation=codes)
        mask = brain(stored[None], geometry, BrainParameters())
        np.testing.assert_array_equal(recorder.seen, upright)
        assert torch.equal(mask, stored > 1)


def test_low_phase_quality_is_left_out_only_on_request(recorder):
    magnitude = torch.full((2, 6, 6, 6), 2.0)
    quality = torch.ones(6, 6, 6)
    quality[:2] = 0.2
    quality[4, 3, 3] = torch.nan  # a cavity
    geometry = Geometry((6, 6, 6), (1, 1, 1))
    assert brain(magnitude, geometry, BrainParameters(), quality).all()
    filled = brain(magnitude, geometry, BrainParameters(min_quality=0.5), quality)
    assert not filled[:2].any()
    assert filled[2:].all()
    assert not brain(magnitude, geometry, BrainParameters(min_quality=0.5, fill_holes=False), quality)[
        4, 3, 3
    ]
    with pytest.raises(InputError, match=r"the mask is empty; lower min_quality"):
        brain(magnitude, geometry, BrainParameters(min_quality=0.5), torch.zeros(6, 6, 6))


def test_an_image_without_a_brain_is_refused():
    with pytest.raises(InputError, match="no brain was found in the magnitude"):
        brain(torch.zeros(1, 12, 12, 12), Geometry((12, 12, 12), (1, 1, 1)), BrainParameters())


def test_a_real_head_gives_its_brain_without_scalp_or_air(shared):
    folder = shared / "data" / "scans" / "philips_2echo" / "Ref"
    echoes = [nibabel.load(folder / f"2001_WIP_fcMRI_Field_Mapping_cl_e{n}.nii.gz") for n in (1, 2)]
    magnitude = np.stack([echo.get_fdata(dtype=np.float32) for echo in echoes])
    geometry = Geometry(
        magnitude.shape[1:],
        echoes[0].header.get_zooms(),
        orientation="".join(nibabel.aff2axcodes(echoes[0].affine)),
    )
    mask = brain(torch.from_numpy(magnitude), geometry, BrainParameters()).numpy()
    assert 1000 < mask.sum() * np.prod(geometry.voxel_size_mm) / 1000 < 1800

    air = magnitude[0] < 0.05 * np.quantile(magnitude[0], 0.99)
    assert air[mask].mean() < 0.01
    # Scalp is what lies within 6 mm of the air around the head.
    around, _ = scipy.ndimage.label(air)
    depth = scipy.ndimage.distance_transform_edt(around != around[0, 0, -1], geometry.voxel_size_mm)
    assert (depth[mask] < 6).mean() < 0.01

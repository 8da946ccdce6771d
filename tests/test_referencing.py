"""Zero can be the mean of a region, the fluid of the ventricles, or a number; the record says which."""

import numpy as np
import pytest

import napari_metaqsm as mq
from napari_metaqsm.referencing import csf, reference, shift

SHAPE = (24, 26, 20)
GEOMETRY = mq.Geometry(SHAPE, (4.0, 4.0, 5.0))
ACQUISITION = mq.Acquisition((0.005, 0.012, 0.02), 3.0)


@pytest.fixture
def brain():
    """Tissue of 20 1/s with fluid of 2 1/s in the middle and, as a trap, at the rim; a mask."""
    mask = np.zeros(SHAPE, bool)
    mask[2:-2, 2:-2, 2:-2] = True
    decay = np.full(SHAPE, 20.0)
    fluid = np.zeros(SHAPE, bool)
    fluid[10:14, 11:15, 8:12] = True
    decay[fluid] = 2
    decay[2:4] = 2
    magnitude = np.stack([np.exp(-t * decay) for t in ACQUISITION.echo_times_s]).astype(np.float32)
    return magnitude, mask, fluid


def test_the_fluid_in_the_middle_is_found_and_that_at_the_rim_is_not(brain):
    magnitude, mask, fluid = brain
    np.testing.assert_array_equal(csf(magnitude, mask, GEOMETRY, ACQUISITION), fluid)


def test_the_chain_takes_the_fluid_as_its_zero(brain):
    magnitude, mask, fluid = brain
    field = np.random.default_rng(1).normal(0, 0.02, SHAPE).astype(np.float32)
    scan = mq.Scan(GEOMETRY, ACQUISITION, magnitude=magnitude, local_field=field, mask=mask)
    result = mq.reconstruct(scan, [mq.make_step("inversion", "tkd")], reference="csf")
    chi = result.maps["susceptibility_tkd"]
    about = result.record["reference"]["susceptibility_tkd"]
    assert abs(chi[fluid].mean()) < 1e-7
    assert about["region"] == "csf"
    assert about["voxels"] == fluid.sum()
    assert about["sd_ppm"] == pytest.approx(chi[fluid].std(), rel=1e-4)


def test_fluid_needs_three_echoes_and_that_is_said_before_anything_runs(brain):
    magnitude, mask, _ = brain
    times = mq.Acquisition(ACQUISITION.echo_times_s[:2], 3.0)
    scan = mq.Scan(GEOMETRY, times, magnitude=magnitude[:2], local_field=magnitude[0] / 10, mask=mask)
    with pytest.raises(mq.InputError, match="3 or more echoes and their times; there are 2 echoes"):
        mq.reconstruct(scan, [mq.make_step("inversion", "tkd")], reference="csf")


def test_no_fluid_is_said(brain):
    magnitude, mask, fluid = brain
    magnitude[:, fluid] = magnitude[:, 5:6, 5, 5]
    with pytest.raises(mq.InputError, match="no ventricles were found"):
        csf(magnitude, mask, GEOMETRY, ACQUISITION)


def test_a_number_can_be_the_zero_and_is_undone_by_any_other_reference(brain):
    _, mask, fluid = brain
    chi = np.where(mask, np.random.default_rng(2).normal(0.1, 0.05, SHAPE), 0).astype(np.float32)
    moved, record = shift(chi, 0.03, mask)
    np.testing.assert_allclose(moved[mask], chi[mask] - 0.03, atol=1e-6)
    assert not moved[~mask].any()
    assert record == {"region": "offset", "mean_ppm": 0.03, "sd_ppm": 0.0, "voxels": 0}
    again, _ = reference(moved, fluid, mask)
    direct, _ = reference(chi, fluid, mask)
    np.testing.assert_allclose(again, direct, atol=1e-6)
    with pytest.raises(mq.InputError, match="offset_ppm is nan"):
        shift(chi, float("nan"), mask)

"""The whole chain on real scans: what an expert would look for in the maps."""

import numpy as np
import pytest

import napari_metaqsm as mq
from napari_metaqsm.io.resources import resource


@pytest.fixture(scope="module")
def head():
    scan = mq.load(resource("samples/philips_2echo"))
    return mq.reconstruct(scan, mq.default_chain(scan, inversion=["tkd", "l2"]))


def mean_around(array, place, reach=(1, 2, 1)):
    return array[tuple(slice(p - r, p + r + 1) for p, r in zip(place, reach, strict=True))].mean()


@pytest.mark.parametrize("name", ["susceptibility_tkd", "susceptibility_l2"])
def test_basal_ganglia_and_sinus_are_bright_on_both_sides(head, name):
    chi = head.maps[name]
    right, left, straight_sinus = (46, 42, 28), (33, 42, 28), (40, 29, 28)
    for place in (right, left, straight_sinus):
        assert 0.08 < mean_around(chi, place) < 0.4
    inside = head.maps["eroded_mask"]
    assert abs(np.median(chi[inside])) < 0.01


def test_every_step_of_the_head_is_plausible(head):
    maps, voxel_ml = head.maps, 0.027
    assert 1200 < maps["mask"].sum() * voxel_ml < 1800
    assert 0.6 < maps["eroded_mask"].sum() / maps["mask"].sum() < 0.95
    assert not (maps["eroded_mask"] & ~maps["mask"]).any()
    inside = maps["eroded_mask"]
    assert maps["local_field"][inside].std() < 0.4 * maps["total_field"][inside].std()
    assert head.record["steps"][0]["phase_scaling"]["meaning"].startswith("radians")


def test_an_inverted_sign_turns_the_map_dark(head):
    scan = mq.load(resource("samples/philips_2echo"), phase_sign=-1)
    chain = [mq.make_step("field", "nonlinear_fit"), mq.make_step("background", "resharp")]
    chain.append(mq.make_step("inversion", "tkd"))
    inverted = mq.reconstruct(scan.with_mask(head.maps["mask"]), chain).maps["susceptibility_tkd"]
    assert np.corrcoef(inverted.ravel(), head.maps["susceptibility_tkd"].ravel())[0, 1] < -0.99


def test_a_phase_difference_needs_nothing_but_its_sidecar(shared):
    scan = mq.load(shared / "data/scans/siemens_enhanced/Ref")
    assert scan.acquisition.echo_times_s == pytest.approx((0.00246,))
    with (
        pytest.warns(mq.MetaQSMWarning, match=r"under two voxels of 3\.4 mm"),
        pytest.warns(mq.MetaQSMWarning, match=r"3\.375 mm across B0 \(nearest trained: 1\.25 mm\)"),
    ):
        result = mq.reconstruct(scan)
    assert result.record["steps"][0]["phase_scaling"]["stored_pi"] == 4096
    inside = result.maps["eroded_mask"]
    assert np.abs(result.maps["total_field"][inside]).max() < 3  # ppm: no wrap is left, one is 3.2
    assert 0.02 < result.maps["susceptibility_tkd"][inside].std() < 0.2


def test_a_crop_in_arbitrary_units_runs_once_its_scale_is_given(shared):
    folder = shared / "data/scans/romeo_3echo"
    files = {"phase": folder / "Phase.nii", "magnitude": folder / "Mag.nii"}
    scan = mq.load(**files, echo_times_s=(0.004, 0.008, 0.012), b0_tesla=7, phase_pi=0.0036743775)
    chain = [
        mq.make_step("field", "nonlinear_fit"),
        mq.make_step("mask", "phase_quality"),
        mq.make_step("background", "resharp", radius_mm=4),
        mq.make_step("inversion", "tkd"),
    ]
    result = mq.reconstruct(scan, chain)
    assert scan.geometry.voxel_size_mm == pytest.approx((0.46875, 0.46875, 1.0))
    assert 0.01 < result.maps["susceptibility_tkd"][result.maps["eroded_mask"]].std() < 0.2

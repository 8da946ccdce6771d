"""The chain in memory: entering it anywhere, what is refused, what is recorded."""

import json

import numpy as np
import pytest

import napari_metaqsm as mq
from napari_metaqsm.method import DEFAULT_INVERSIONS, Cancelled, running
from napari_metaqsm.pipeline import check_chain, default_chain, go_on, reconstruct_orientations, run_step

SHAPE = (15, 18, 12)
VOXEL = (1.0, 0.8, 2.0)
OBLIQUE = (0.2, 0.0, 1.0)


@pytest.fixture
def local_field():
    return np.random.default_rng(0).normal(0, 0.02, SHAPE).astype(np.float32)


@pytest.fixture
def mask():
    mask = np.zeros(SHAPE, bool)
    mask[3:-3, 3:-3, 2:-2] = True
    return mask


def scan_of(**arrays):
    return mq.Scan(mq.Geometry(SHAPE, VOXEL, OBLIQUE), **arrays)


def test_chain_enters_at_the_local_field(local_field, mask):
    result = mq.reconstruct(scan_of(local_field=local_field, mask=mask))
    assert set(result.maps) == {f"susceptibility_{name}" for name in DEFAULT_INVERSIONS}
    for name, chi in result.susceptibilities.items():
        assert chi.dtype == np.float32
        assert not chi[~mask].any()
        assert abs(chi[mask].mean()) < 1e-6, name
    alone = mq.invert(local_field, mask, VOXEL, "tkd", OBLIQUE)
    offset = result.record["reference"]["susceptibility_tkd"]["mean_ppm"]
    np.testing.assert_allclose(result.maps["susceptibility_tkd"][mask], (alone - offset)[mask], atol=1e-6)


def test_the_inversion_works_in_the_eroded_mask(local_field, mask):
    scan = scan_of(total_field=local_field, mask=mask)
    chain = default_chain(scan, inversion=["tkd"], parameters={"resharp": {"radius_mm": 3}})
    with pytest.warns(mq.MetaQSMWarning, match="under two voxels"):
        maps = mq.reconstruct(scan, chain).maps
    assert 0 < maps["eroded_mask"].sum() < mask.sum()
    np.testing.assert_array_equal(maps["susceptibility_tkd"] != 0, maps["eroded_mask"])


def test_record_is_json_and_names_method_parameters_inputs_and_device(local_field, mask):
    step = mq.make_step("inversion", "tkd", threshold="0.15")
    record = mq.reconstruct(scan_of(local_field=local_field, mask=mask), [step], device="cpu").record
    record = json.loads(json.dumps(record))
    (run,) = record["steps"]
    assert run["method"] == "tkd"
    assert run["parameters"]["threshold"] == 0.15
    assert run["inputs"] == ["local_field", "mask"]
    assert run["device"] == "cpu"
    assert record["inputs"]["local_field"]["shape"] == list(SHAPE)
    assert record["software"]["torch"]


def test_one_changed_voxel_changes_the_recorded_hash(local_field, mask):
    step = [mq.make_step("inversion", "tkd")]
    before = mq.reconstruct(scan_of(local_field=local_field, mask=mask), step).record
    local_field[5, 5, 5] += 1e-3
    after = mq.reconstruct(scan_of(local_field=local_field, mask=mask), step).record
    assert before["inputs"]["local_field"]["sha256"] != after["inputs"]["local_field"]["sha256"]
    assert before["inputs"]["mask"] == after["inputs"]["mask"]


def test_a_method_run_twice_gives_two_maps(local_field, mask):
    chain = [mq.make_step("inversion", "tkd", threshold=t) for t in (0.1, 0.2)]
    maps = mq.reconstruct(scan_of(local_field=local_field, mask=mask), chain).maps
    assert list(maps) == ["susceptibility_tkd", "susceptibility_tkd-2"]
    assert maps["susceptibility_tkd"].std() > maps["susceptibility_tkd-2"].std()


def without_times(record):
    steps = [{k: v for k, v in step.items() if k != "seconds"} for step in record["steps"]]
    return {**record, "made_at": "", "steps": steps}


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_chain_that_goes_on_from_a_result_gives_what_it_gives_at_once(local_field, mask, cut):
    scan = scan_of(total_field=local_field, mask=mask, magnitude=1 + np.abs(local_field))
    small = {"resharp": {"radius_mm": 3}}
    chain = default_chain(scan, inversion=["tkd", "l2", "tkd"], parameters=small)
    region = np.zeros(SHAPE, bool)
    region[5:9, 5:9, 4:8] = True
    with running():
        whole = mq.reconstruct(scan, chain, reference=region)
        first = mq.reconstruct(scan, chain[:cut], reference=region)
        both = go_on(first, chain[cut:], reference=region)
    assert list(both.maps) == list(whole.maps)
    for name, values in whole.maps.items():
        np.testing.assert_array_equal(both.maps[name], values)
    assert without_times(both.record) == without_times(whole.record)
    assert len(first.record["steps"]) == cut  # what was gone on from is left as it was


def test_a_step_that_has_run_is_not_gone_on_with(local_field, mask):
    scan = scan_of(total_field=local_field, mask=mask)
    chain = default_chain(scan, inversion=["tkd"], parameters={"resharp": {"radius_mm": 3}})
    with running():
        first = mq.reconstruct(scan, chain[:1])
    with pytest.raises(mq.InputError, match="has a local field already"):
        go_on(first, chain)


def test_reference_region_and_none(local_field, mask):
    scan = scan_of(local_field=local_field, mask=mask)
    region = np.zeros(SHAPE, bool)
    region[5:9, 5:9, 4:8] = True
    chain = [mq.make_step("inversion", "tkd")]
    referenced = mq.reconstruct(scan, chain, reference=region).maps["susceptibility_tkd"]
    plain = mq.reconstruct(scan, chain, reference="none").maps["susceptibility_tkd"]
    assert abs(referenced[region].mean()) < 1e-7
    np.testing.assert_allclose((plain - referenced)[mask], plain[region].mean(), atol=1e-6)
    again, record = mq.reference(referenced, mask, mask)
    np.testing.assert_allclose(again[mask], (plain - plain[mask].mean())[mask], atol=1e-6)
    assert record["voxels"] == mask.sum()


def test_a_reference_region_that_erosion_took_away_does_not_cost_the_map(local_field, mask):
    region = np.zeros(SHAPE, bool)
    region[3, 3, 2] = True
    scan = scan_of(local_field=local_field, mask=mask & ~region)
    with pytest.warns(
        mq.MetaQSMWarning, match="has no voxel in the map's mask; .* left as the method gave it"
    ):
        result = mq.reconstruct(scan, [mq.make_step("inversion", "tkd")], reference=region)
    plain = mq.invert(local_field, mask & ~region, VOXEL, "tkd", OBLIQUE)
    np.testing.assert_array_equal(result.maps["susceptibility_tkd"], plain)
    assert result.record["reference"]["susceptibility_tkd"]["region"] == "none"
    assert "left as the method gave it" in result.record["warnings"][0]


def test_mask_of_the_user_is_used_verbatim(local_field):
    holes = np.zeros(SHAPE, np.float32)
    holes[2:-2, 2:-2, 2:-2] = 0.3
    holes[7, 9, 6] = 0
    result = mq.reconstruct(scan_of(local_field=local_field, mask=holes))
    np.testing.assert_array_equal(result.maps["susceptibility_tkd"] != 0, holes != 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": np.zeros(SHAPE)}, "the mask is empty"),
        ({"mask": np.full(SHAPE, np.nan)}, "the mask has values that are not finite"),
        ({"local_field": np.full(SHAPE, np.nan)}, "NaN or infinite inside the mask"),
        ({"local_field": np.zeros(SHAPE)}, "the local field is zero everywhere"),
        (
            {"local_field": np.eye(*SHAPE[:2])[..., None] * (np.arange(SHAPE[2]) == 0)},
            "the mask touches nothing",
        ),
        ({"local_field": np.full(SHAPE, 30.0)}, "the local field reaches 30 ppm; in tissue none does"),
        ({"mask": np.ones((3, 3, 3))}, "must match"),
    ],
)
def test_unusable_arrays_are_refused(local_field, mask, change, message):
    arrays = {"local_field": local_field, "mask": mask, **change}
    with pytest.raises(mq.InputError, match=message):
        mq.reconstruct(scan_of(**arrays), [mq.make_step("inversion", "tkd")])


def test_values_that_are_not_finite_outside_the_mask_do_not_spread(local_field, mask):
    clean = mq.invert(np.where(mask, local_field, 0), mask, VOXEL, b0_direction=OBLIQUE)
    local_field[~mask] = np.nan
    with pytest.warns(mq.MetaQSMWarning, match="outside the mask"):
        chi = mq.invert(local_field, mask, VOXEL, b0_direction=OBLIQUE)
    np.testing.assert_array_equal(chi, clean)


@pytest.mark.parametrize(
    ("arrays", "chain", "message"),
    [
        (["local_field"], [("inversion", "tkd")], "TKD needs the mask, which is not there"),
        (["local_field", "mask"], [], "the chain is empty"),
        (["mask"], [("inversion", "tkd"), ("background", "resharp")], "the order is field, mask"),
        (
            ["local_field", "mask"],
            [("background", "resharp"), ("inversion", "tkd")],
            "has a local field already",
        ),
        (["mask", "phase"], [("field", "nonlinear_fit")], "the echo times are missing"),
    ],
)
def test_chains_that_cannot_run_are_refused_before_computing(arrays, chain, message):
    scan = scan_of(**{name: np.ones(SHAPE) for name in arrays})
    with pytest.raises(mq.InputError, match=message):
        check_chain(scan, [mq.make_step(*names) for names in chain])


def test_default_chain_starts_where_the_data_do():
    ones = np.ones(SHAPE)
    stages = [s.stage for s in default_chain(scan_of(phase=ones, magnitude=ones))]
    assert stages == ["field", "mask", "background", "inversion", "inversion"]
    stages = [s.stage for s in default_chain(scan_of(total_field=ones, mask=ones))]
    assert stages == ["background", "inversion", "inversion"]


def test_parameters_of_a_method_that_does_not_run_are_refused():
    scan = scan_of(local_field=np.ones(SHAPE), mask=np.ones(SHAPE))
    (step,) = default_chain(scan, inversion=["tkd"], parameters={"tkd": {"threshold": 0.1}})
    assert step.parameters.threshold == 0.1
    with pytest.raises(mq.InputError, match="parameters for resharp, but the chain runs tkd, "):
        default_chain(scan, parameters={"resharp": {"radius_mm": 4}})


def test_read_only_arrays_will_do(local_field, mask):
    local_field.setflags(write=False)
    mask.setflags(write=False)
    assert mq.invert(local_field, mask, VOXEL).any()


def test_progress_rises_to_one_and_cancel_stops(local_field, mask):
    seen = []
    scan = scan_of(local_field=local_field, mask=mask)
    with running(lambda done, label: seen.append((done, label))):
        mq.reconstruct(scan, default_chain(scan, inversion=["tkd", "l2"]))
    fractions = [done for done, _ in seen]
    assert fractions == sorted(fractions)
    assert seen[-1] == (1.0, "Done")
    assert any(label.startswith("Closed-form L2") for _, label in seen)
    with pytest.raises(Cancelled), running(stopped=lambda: True):
        mq.reconstruct(scan)


def test_missing_device_is_refused(local_field, mask):
    with pytest.raises(mq.InputError, match="device is 'tpu'"):
        mq.invert(local_field, mask, VOXEL, device="tpu")


def test_step_without_its_input_is_refused(mask):
    step = mq.make_step("inversion", "tkd")
    with pytest.raises(mq.InputError, match="TKD needs the local field"):
        run_step(step, {"mask": mask}, mq.Geometry(SHAPE, VOXEL))


def test_decisions_and_notes_of_the_reader_stand_apart_in_the_record(local_field, mask):
    told = {"notes": ("a mask was assumed",), "decisions": ("made by someone", "3 T")}
    scan = scan_of(local_field=local_field, mask=mask, **told)
    chain = [mq.make_step("inversion", "tkd"), mq.make_step("inversion", "l2")]
    record = mq.reconstruct(scan, chain).record
    assert record["decisions"] == ["made by someone", "3 T"]
    assert record["warnings"] == ["a mask was assumed"]
    cut = go_on(mq.reconstruct(scan, chain[:1]), chain[1:]).record
    assert without_times(cut) == without_times(record)


def test_decisions_of_several_orientations_are_told_once(local_field, mask):
    scans = [
        mq.Scan(
            mq.Geometry(SHAPE, VOXEL, direction),
            local_field=local_field,
            mask=mask,
            notes=("same",),
            decisions=("3 T", f"orientation {n}"),
        )
        for n, direction in enumerate([(0, 0, 1), (0, 0.5, 0.9), (0.5, 0, 0.9)])
    ]
    with running():
        record = reconstruct_orientations(scans).record
    assert record["decisions"] == ["3 T", "orientation 0", "orientation 1", "orientation 2"]
    assert record["warnings"].count("same") == 1

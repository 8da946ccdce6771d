"""The desk holds the maps of one grid, what their scan has beside them, and tells of every change."""

import gc

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.compare_section import CompareSection
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.zero import NONE, OFFSET, Zero, zero_record
from napari_metaqsm.scan import Acquisition

SHAPE = (6, 8, 10)
ACQUISITION = Acquisition((0.01, 0.02), 3.0)


def add(viewer, name, quantity, shape=SHAPE, value=0.5, **place):
    metadata = {"metaqsm": {"quantity": quantity, "orientation": "IPL", "b0_direction": (1.0, 0.0, 0.0)}}
    scale = (1.0,) * (len(shape) - 3) + (3.0, 0.8, 0.7)
    units = ("",) * (len(shape) - 3) + ("mm",) * 3
    data = np.full(shape, value, np.float32)
    return viewer.add_image(data, name=name, scale=scale, units=units, metadata=metadata, **place)


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    add(viewer, "one", "susceptibility")
    magnitude = add(viewer, "echoes", "magnitude", (2, *SHAPE))
    magnitude.metadata["metaqsm"]["acquisition"] = ACQUISITION
    add(viewer, "elsewhere", "susceptibility", (5, 8, 10))
    add(viewer, "shifted", "susceptibility", translate=(3, 0, 0))
    return viewer


@pytest.fixture
def desk(viewer):
    desk = Desk(viewer)
    yield desk
    desk.release()


def test_maps_of_the_first_ones_grid_lie_on_it_with_their_scan(desk):
    study = desk.study()
    assert list(study.maps) == ["one"]
    assert study.magnitude.shape == (2, *SHAPE)
    assert study.acquisition == ACQUISITION
    assert study.geometry.voxel_size_mm == pytest.approx((3, 0.8, 0.7))
    assert study.noise is None


def test_a_new_map_joins_and_a_deleted_one_leaves(desk, viewer, qtbot):
    with qtbot.waitSignal(desk.changed):
        second = add(viewer, "two", "susceptibility")
    assert list(desk.study().maps) == ["one", "two"]
    with qtbot.waitSignal(desk.changed):
        viewer.layers.remove(second)
    assert list(desk.study().maps) == ["one"]


def test_new_values_are_told_once_and_are_in_the_study(desk, viewer, qtbot):
    qtbot.wait(10)
    told = []
    desk.changed.connect(lambda: told.append(desk.study().maps["one"].max()))
    viewer.layers["one"].data = np.full(SHAPE, 1, np.float32)
    viewer.layers["one"].data = np.full(SHAPE, 2, np.float32)
    qtbot.waitUntil(lambda: bool(told), timeout=30_000)
    assert told == [2]


@pytest.fixture
def told(desk, qtbot):
    """What the desk tells, from now on."""
    qtbot.wait(10)
    told = []
    desk.changed.connect(lambda: told.append("changed"))
    desk.relisted.connect(lambda: told.append("relisted"))
    return told


def test_layers_that_the_study_is_not_made_of_are_only_listed(desk, viewer, told, qtbot):
    study = desk.study()
    shapes = viewer.add_shapes([[[0, 0, 0], [1, 1, 1]]], shape_type="line")
    qtbot.waitUntil(lambda: told == ["relisted"], timeout=30_000)
    labels = viewer.add_labels(np.zeros(SHAPE, np.uint8), scale=(3.0, 0.8, 0.7), units=("mm",) * 3)
    add(viewer, "of another scan", "magnitude", (2, 5, 8, 10))
    qtbot.waitUntil(lambda: told == ["relisted"] * 2, timeout=30_000)
    labels.name = "regions"
    viewer.layers["echoes"].name = "magnitude"
    qtbot.waitUntil(lambda: told == ["relisted"] * 3, timeout=30_000)
    viewer.layers.remove(shapes)
    qtbot.waitUntil(lambda: told == ["relisted"] * 4, timeout=30_000)
    assert desk.study() is study


@pytest.mark.parametrize(
    "change",
    [
        lambda viewer, desk: add(viewer, "two", "susceptibility"),
        lambda viewer, desk: add(viewer, "noise", "noise"),
        lambda viewer, desk: add(viewer, "newer echoes", "magnitude", (2, *SHAPE)),
        lambda viewer, desk: viewer.layers.remove("echoes"),
        lambda viewer, desk: setattr(viewer.layers["one"], "name", "another name"),
        lambda viewer, desk: setattr(viewer.layers["echoes"], "data", np.ones((2, *SHAPE), np.float32)),
        lambda viewer, desk: desk.choose([viewer.layers["shifted"]]),
    ],
)
def test_what_the_study_is_made_of_changes_it_once(change, desk, viewer, told, qtbot):
    study = desk.study()
    change(viewer, desk)
    assert desk.study() is not study
    qtbot.waitUntil(lambda: bool(told), timeout=30_000)
    qtbot.wait(10)
    assert told == ["changed"]


def test_without_a_map_there_is_no_study(desk):
    desk.choose([])
    with pytest.raises(InputError, match="no map is chosen"):
        desk.study()


@pytest.mark.parametrize("voxel", [(0, 0, 0), (5, 7, 9), (2, 3, 4)])
def test_going_to_a_voxel_shows_its_slices(desk, viewer, voxel):
    desk.go_to(voxel)
    assert desk.voxel == voxel
    assert viewer.dims.point[-3:] == pytest.approx(np.multiply(voxel, (3, 0.8, 0.7)))


def test_what_is_added_again_takes_the_place_of_the_earlier_one(desk, viewer):
    first = desk.add(np.zeros(SHAPE, np.float32), "difference", "a − b")
    again = desk.add(np.ones(SHAPE, np.float32), "difference", "a − b")
    assert again == first
    assert again.data.max() == 1
    assert tuple(again.scale) == pytest.approx((3, 0.8, 0.7))


def test_letting_go_leaves_no_listener_behind(viewer):
    events = [viewer.layers.events.inserted, viewer.layers.events.removed, viewer.layers["one"].events.data]
    before = [len(event.callbacks) for event in events]
    for _ in range(50):
        Desk(viewer).release()
    gc.collect()
    assert [len(event.callbacks) for event in events] == before


def test_every_map_follows_another_zero_and_says_so(desk, viewer, qtbot):
    two = add(viewer, "two", "susceptibility", value=0.1)
    two.data[:, :, :4] = 0  # outside its mask
    region = np.zeros(SHAPE, bool)
    region[0, 0] = True
    desk.refer(Zero("thalamus", region))
    qtbot.waitUntil(lambda: not desk.is_referring, timeout=30_000)
    assert zero_record(two) == pytest.approx(
        {"region": "thalamus", "mean_ppm": 0.1, "sd_ppm": 0, "voxels": 6}, abs=1e-6
    )
    assert zero_record(desk.maps[0])["voxels"] == 10
    assert all(abs(layer.data).max() < 1e-6 for layer in desk.maps)
    desk.refer(Zero(OFFSET, offset_ppm=0.02))
    desk.refer(Zero(NONE))  # the last one asked for counts
    qtbot.waitUntil(lambda: not desk.is_referring, timeout=30_000)
    assert two.data.max() == pytest.approx(0.1)
    assert zero_record(two)["region"] == NONE


def test_a_region_outside_a_map_changes_none_and_says_why(desk, viewer, qtbot):
    two = add(viewer, "two", "susceptibility", value=0.1)
    two.data[:3] = 0
    region = np.zeros(SHAPE, bool)
    region[0] = True
    with qtbot.waitSignal(desk.failed) as told:
        desk.refer(Zero("vein", region))
    assert "'vein' has no voxel" in told.args[0]
    assert viewer.layers["one"].data.max() == 0.5
    assert zero_record(two) is None


def test_a_map_made_later_gets_the_zero_that_the_others_were_given(desk, viewer, qtbot):
    region = np.zeros(SHAPE, bool)
    region[2] = True
    desk.refer(Zero("vein", region))
    qtbot.waitUntil(lambda: not desk.is_referring, timeout=30_000)
    section = CompareSection(viewer)
    qtbot.addWidget(section)
    section.maps.findItems("one", Qt.MatchFlag.MatchExactly)[0].setCheckState(Qt.CheckState.Checked)
    two = add(viewer, "two", "susceptibility", value=0.1)
    section.add(two)
    assert zero_record(two)["region"] == "vein"
    assert zero_record(two)["voxels"] == 80

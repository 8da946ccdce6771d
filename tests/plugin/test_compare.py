"""The comparison puts maps side by side and gives the viewer back as it was."""

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin import compare as compare_module
from napari_metaqsm.plugin.compare import compare
from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.plugin.reading.cells import VIEW
from napari_metaqsm.plugin.reading.planes import EDGES, Axes, edge_letters

SHAPE = (6, 8, 10)
DOWN_RIGHT = ("down", "right")


def add_map(viewer, name, orientation="IPL", shape=SHAPE):
    values = np.linspace(-0.3, 0.3, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    metadata = {"metaqsm": {"quantity": "susceptibility", "orientation": orientation}} if orientation else {}
    return viewer.add_image(values, name=name, scale=(3, 1, 1), units=("mm",) * 3, metadata=metadata)


@pytest.fixture(autouse=True)
def _nothing_left_open():
    yield
    for comparison in list(compare_module._open):
        comparison.close()


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    add_map(viewer, "first")
    viewer.add_labels(np.ones(SHAPE, int), name="mask", scale=(3, 1, 1), units=("mm",) * 3)
    add_map(viewer, "second")
    viewer.add_image(np.zeros((2, *SHAPE)), name="echoes", scale=(1, 3, 1, 1), units=("",) + ("mm",) * 3)
    return viewer


def state_of(viewer):
    grid, camera = viewer.canvas.grid, viewer.scene.camera
    overlays = viewer.canvas.overlays
    maps = [layer for layer in viewer.layers if layer.name in ("first", "second")]
    return {
        "names": [layer.name for layer in viewer.layers],
        "visible": [layer.visible for layer in viewer.layers],
        "limits": [tuple(layer.contrast_limits) for layer in maps],
        "colours": [layer.colormap.name for layer in maps],
        "bars": [layer.colorbar.model_dump() for layer in maps],
        "grid": grid.model_dump(),
        "overlays": {name: overlays[name].model_dump() for name in overlays},
        "dims": (viewer.dims.order, viewer.dims.ndisplay, viewer.dims.point),
        "camera": (camera.center, camera.zoom, camera.angles),
    }


def seen(viewer):
    """The user's own layers that are visible."""
    return [layer for layer in viewer.layers if layer.visible and metadata_of(layer).get("quantity") != VIEW]


def letters(viewer):
    overlays = viewer.canvas.overlays
    return "".join(overlays[f"metaqsm_{edge}"].text for edge in EDGES)


def test_maps_stand_alone_in_one_row_in_the_order_given(viewer):
    second, first = viewer.layers["second"], viewer.layers["first"]
    compare(viewer, [second, first])
    grid = viewer.canvas.grid
    assert grid.enabled
    assert grid.actual_shape(viewer.layers) == (1, 2)
    assert seen(viewer) == [second, first]
    assert grid.position(viewer.layers.index(second), viewer.layers) == (0, 0)
    assert grid.position(viewer.layers.index(first), viewer.layers) == (0, 1)
    assert all(layer.colorbar.visible for layer in (first, second))
    bar = viewer.canvas.overlays.scale_bar
    assert bar.visible
    assert bar.gridded


@pytest.mark.parametrize(("canvas", "shape"), [((400, 1600), (1, 3)), ((1200, 600), (2, 2))])
def test_three_maps_are_laid_out_as_the_canvas_is(canvas, shape):
    viewer = ViewerModel()
    viewer.canvas.size = canvas
    compare(viewer, [add_map(viewer, name) for name in "abc"])
    assert viewer.canvas.grid.actual_shape(viewer.layers) == shape


def test_the_brain_fills_what_name_and_bars_leave_of_a_cell(viewer):
    layer = add_map(viewer, "small", shape=(6, 8, 6))
    layer.data = np.pad(np.ones((2, 4, 2)), 2)
    viewer.canvas.size = (400, 400)
    compare(viewer, [layer])
    zoom = (400 - 135) / 4  # four rows, in what name and bars leave
    row, column = viewer.scene.camera.center[1:]
    assert viewer.scene.camera.zoom == pytest.approx(zoom)
    assert column == 2.5  # the middle of columns 2 and 3
    assert row == pytest.approx(3.5 - 27.5 / zoom)  # of rows 2 to 5, below the name


def test_one_window_for_all_by_default_a_tenth_of_a_ppm(viewer):
    maps = [viewer.layers["first"], viewer.layers["second"]]
    comparison = compare(viewer, maps)
    assert [tuple(m.contrast_limits) for m in maps] == [(-0.1, 0.1)] * 2
    maps[0].contrast_limits = (-0.05, 0.2)  # by the layer's own slider
    assert tuple(maps[1].contrast_limits) == (-0.05, 0.2)
    comparison.window_ppm = 0.15
    assert [tuple(m.contrast_limits) for m in maps] == [(-0.15, 0.15)] * 2
    with pytest.raises(InputError, match=r"window_ppm is 0 to 0"):
        comparison.window_ppm = 0


@pytest.mark.parametrize(
    ("plane", "order", "expected"),
    [
        ("axial", (0, 1, 2, 3), "RLAP"),
        ("sagittal", (0, 3, 1, 2), "APSI"),
        ("coronal", (0, 2, 1, 3), "RLSI"),
    ],
)
def test_planes_are_radiological(viewer, plane, order, expected):
    comparison = compare(viewer, [viewer.layers["first"]])
    comparison.show_plane(plane)
    assert viewer.dims.order == order  # four axes: the echoes stay first
    assert letters(viewer) == expected
    assert all(viewer.canvas.overlays[f"metaqsm_{edge}"].gridded for edge in EDGES)


def test_letters_follow_whatever_turns_the_axes(viewer):
    compare(viewer, [viewer.layers["first"]])
    viewer.dims.order = (0, 1, 3, 2)  # napari's own transpose button
    assert letters(viewer) == "APRL"
    viewer.scene.camera.orientation2d = ("up", "left")
    assert letters(viewer) == "PALR"
    viewer.dims.ndisplay = 3
    assert letters(viewer) == ""


@pytest.mark.parametrize(
    ("orientation", "axes", "sides", "expected"),
    [
        ("IPL", (0, 1, 2), DOWN_RIGHT, "RLAP"),
        ("SAR", (0, 1, 2), DOWN_RIGHT, "LRPA"),  # as stored in RAS, transposed: upside down, and it says so
        ("RAS", (2, 1, 0), DOWN_RIGHT, "LRPA"),
        ("IPL", (0, 1, 2), ("up", "right"), "RLPA"),
    ],
)
def test_letters_are_those_of_the_orientation(orientation, axes, sides, expected):
    found = edge_letters(orientation, Axes(*axes), sides)
    assert "".join(found[edge] for edge in EDGES) == expected


def test_a_coronal_acquisition_still_gives_an_axial_view():
    viewer = ViewerModel()
    layer = add_map(viewer, "coronal slices", orientation="PIL")
    compare(viewer, [layer])
    assert viewer.dims.order == (1, 0, 2)
    assert letters(viewer) == "RLAP"


def test_an_unknown_orientation_gets_no_letters_rather_than_invented_ones():
    viewer = ViewerModel()
    comparison = compare(viewer, [add_map(viewer, "foreign", orientation=None)])
    assert letters(viewer) == ""
    assert comparison.planes == ()


def test_closing_gives_the_viewer_back(viewer):
    viewer.layers["mask"].visible = False
    viewer.layers["second"].colormap = "viridis"
    viewer.dims.ndisplay = 3
    viewer.scene.camera.angles = (10, 20, 30)
    viewer.scene.camera.zoom = 3.3
    viewer.dims.set_point(1, 9)
    before = state_of(viewer)
    closed = []
    comparison = compare(
        viewer, [viewer.layers["second"], viewer.layers["first"]], on_closed=lambda: closed.append(1)
    )
    comparison.show_plane("coronal")
    comparison.window_ppm = 0.02
    assert state_of(viewer) != before
    comparison.close()
    comparison.close()
    assert state_of(viewer) == before
    assert closed == [1]
    viewer.layers["first"].contrast_limits = (-1, 1)  # no longer linked
    assert tuple(viewer.layers["second"].contrast_limits) != (-1, 1)


def test_layers_deleted_and_added_meanwhile(viewer):
    closed = []
    first, second = viewer.layers["first"], viewer.layers["second"]
    comparison = compare(viewer, [first, second], on_closed=lambda: closed.append(1))
    viewer.layers.remove("echoes")
    add_map(viewer, "third")
    viewer.layers.remove(first)
    assert comparison.is_open
    viewer.layers.remove(second)
    assert closed == [1]
    assert not viewer.canvas.grid.enabled
    assert [layer.name for layer in viewer.layers] == ["mask", "third"]
    assert viewer.layers["mask"].visible


def test_a_second_comparison_takes_over_from_the_first(viewer):
    before = state_of(viewer)
    first = compare(viewer, [viewer.layers["first"]])
    second = compare(viewer, [viewer.layers["second"]])
    assert not first.is_open
    second.close()
    assert state_of(viewer) == before


def test_maps_must_be_there_and_on_one_grid(viewer):
    with pytest.raises(InputError, match="no map is chosen"):
        compare(viewer, [])
    other = add_map(viewer, "other", shape=(4, 4, 4))
    with pytest.raises(InputError, match=r"other is \(4, 4, 4\) voxels, but first is \(6, 8, 10\)"):
        compare(viewer, [viewer.layers["first"], other])
    assert not viewer.canvas.grid.enabled

"""The comparison puts maps side by side and gives the viewer back as it was."""

import inspect
import json
from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin import compare as compare_module
from napari_metaqsm.plugin.compare import compare
from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.plugin.reading.cells import VIEW
from napari_metaqsm.plugin.reading.look_state import Look
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
        "background": viewer.canvas.background_color_override,
        "overlays": {name: overlays[name].model_dump() for name in overlays},
        "dims": (viewer.dims.order, viewer.dims.ndisplay, viewer.dims.point),
        "camera": (camera.center, camera.zoom, camera.angles),
    }


def seen(viewer):
    """The user's own layers that are visible."""
    return [layer for layer in viewer.layers if layer.visible and metadata_of(layer).get("quantity") != VIEW]


def letters(viewer):
    overlays = viewer.canvas.overlays
    return "".join(overlays[f"metaqsm_{edge}"].text.strip() for edge in EDGES)


def test_maps_stand_alone_in_one_row_in_the_order_given(viewer):
    second, first = viewer.layers["second"], viewer.layers["first"]
    compare(viewer, [second, first])
    grid = viewer.canvas.grid
    assert grid.enabled
    assert grid.actual_shape(viewer.layers) == (1, 2)
    assert seen(viewer) == [second, first]
    assert grid.position(viewer.layers.index(second), viewer.layers) == (0, 0)
    assert grid.position(viewer.layers.index(first), viewer.layers) == (0, 1)
    assert [layer.colorbar.visible for layer in (second, first)] == [True, False]  # one for one window
    assert viewer.canvas.overlays.scale_bar.visible


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
    zoom = (400 - 120) / 4  # four rows, in what name and bars leave
    row, column = viewer.scene.camera.center[1:]
    assert viewer.scene.camera.zoom == pytest.approx(zoom)
    assert column == 2.5  # the middle of columns 2 and 3
    assert row == pytest.approx(3.5)  # of rows 2 to 5


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


# --------------------------------------------------------------------------- planes, pairs, differences
def picture_of(cell, viewer):
    """What napari is given for the slice that the viewer stands at."""
    index = [slice(None)] * 3
    through = viewer.dims.order[-3] - (viewer.dims.ndim - 3)
    index[through] = 0 if cell.is_own else round(viewer.dims.point[viewer.dims.order[-3]] / 3)
    return np.asarray(cell.layer.data[tuple(index)])


@pytest.fixture
def two(viewer):
    """The first map is known but for one voxel, the second is its double."""
    first, second = viewer.layers["first"], viewer.layers["second"]
    second.data = 2 * first.data
    second.data[2, 3, 4] = 0
    return [first, second]


def test_planes_stand_in_rows_each_through_the_cross_hair(viewer, two):
    comparison = compare(viewer, two, look=Look(planes=("axial", "sagittal", "coronal")))
    comparison.go_to((2, 5, 7))
    assert viewer.canvas.grid.actual_shape(viewer.layers) == (3, 2)
    values = two[0].data
    expected = (
        values[2],
        values[:, :, 7],
        values[:, 5, :],
    )  # rows from S to I, columns from R to L or A to P
    for cell, plane in zip(comparison.cells[::2], expected, strict=True):
        np.testing.assert_array_equal(picture_of(cell, viewer), plane)
    assert letters(viewer) == ""  # they stand in the pictures
    viewer.dims.set_point(1, 3 * 4.0)  # another slice: the rows of the other planes stay where they were
    assert comparison.state()["voxel"] == [4, 5, 7]
    np.testing.assert_array_equal(picture_of(comparison.cells[2], viewer), values[:, :, 7])


def test_a_click_into_any_cell_moves_the_cross_hair(viewer, two):
    comparison = compare(viewer, two, look=Look(planes=("coronal", "axial")))
    comparison.go_to((2, 5, 7))
    place = list(viewer.dims.point)
    place[-3] += 3.0  # in a cell of the first row: down one voxel of 3 mm, and three to the left
    place[-1] -= 3.0
    click(viewer, (0, 1), place)
    assert comparison.state()["voxel"] == [3, 5, 4]
    place = list(viewer.dims.point)
    place[-3] = (2.5 * 3) + (
        1 - 3.5
    )  # the row of axial planes: their middle stands on that of the coronal ones
    click(viewer, (1, 0), place)
    assert comparison.state()["voxel"] == [3, 1, 4]


def click(viewer, cell, position, button=1, moves=()):
    event = SimpleNamespace(
        type="mouse_press",
        button=button,
        modifiers=(),
        pos=np.array([50.0, 50.0]),
        viewbox=cell,
        position=tuple(position),
        handled=False,
    )
    drags = [callback(viewer, event) for callback in viewer.mouse_drag_callbacks]
    running = [drag for drag in drags if inspect.isgenerator(drag) and next(drag, "over") != "over"]
    for move in moves:
        event.type, event.pos = "mouse_move", np.array([50.0, 50.0]) + move
        running = [drag for drag in running if next(drag, "over") != "over"]
    event.type = "mouse_release"
    for drag in running:
        next(drag, None)
    return event


def test_a_right_drag_makes_one_window_for_all_maps_wider_and_higher(viewer, two):
    echoes = viewer.layers["echoes"]
    comparison = compare(viewer, [*two, echoes])
    own = tuple(echoes.contrast_limits)
    assert click(viewer, (0, 0), (0, 0, 0, 0), 2, [(150, 0), (150, 30)]).handled  # the camera stays
    low, high = comparison.look.window_ppm
    assert high - low == pytest.approx(0.2 * np.e)
    assert (low + high) / 2 == pytest.approx(0.02)
    assert {tuple(m.contrast_limits) for m in two} == {(low, high)}
    assert tuple(echoes.contrast_limits) == own
    column = comparison.cells.index(next(c for c in comparison.cells if c.layer == echoes))
    shape = viewer.canvas.grid.actual_shape(viewer.layers)
    click(viewer, divmod(column, shape[1]), (0, 0, 0, 0), 2, [(75, 0)])
    assert np.ptp(echoes.contrast_limits) == pytest.approx(np.ptp(own) * np.exp(0.5))
    assert comparison.look.window_ppm == (low, high)


def test_a_drag_with_the_left_button_is_no_click(viewer, two):
    comparison = compare(viewer, two)
    before = comparison.state()["voxel"]
    event = click(viewer, (0, 0), (0, 3, 1, 1), moves=[(10, 0)])
    assert comparison.state()["voxel"] == before
    assert not event.handled  # napari pans


def test_every_cell_says_the_value_at_the_cross_hair(viewer, two):
    comparison = compare(viewer, two)
    comparison.go_to((2, 3, 4))
    value = f"{two[0].data[2, 3, 4]:+.3f}".replace("-", "−")
    assert [cell.marks.name for cell in comparison.cells] == [f"first   {value} ppm", "second   –"]
    two[0].data = np.full(SHAPE, 0.25, np.float32)  # computed anew
    assert comparison.cells[0].marks.name == "first   +0.250 ppm"
    assert viewer.canvas.overlays["metaqsm_place"].text.startswith("axial")


def test_differences_from_a_map_where_both_are_known(viewer, two):
    comparison = compare(viewer, two, look=Look(layout="differences", against="first", difference_ppm=0.03))
    comparison.go_to((2, 3, 4))
    reference, cell = comparison.cells
    assert (reference.layer, cell.picture.title) == (two[0], "second − first")
    expected = two[0].data[2].copy()
    expected[3, 4] = 0
    np.testing.assert_allclose(picture_of(cell, viewer), expected, atol=1e-7)
    assert tuple(cell.layer.contrast_limits) == (-0.03, 0.03)
    assert cell.layer.colormap.map([0.5])[0].tolist() == [0, 0, 0, 1]
    with pytest.raises(InputError, match="a difference needs two maps"):
        comparison.show(against="echoes")
    assert comparison.look.against == "first"


def test_two_maps_in_one_place_are_wiped_and_blinked(viewer, two):
    comparison = compare(viewer, two, look=Look(layout="in place", pair=("first", "second"), outline=False))
    (cell,) = comparison.cells
    one, other = (m.data[0] for m in two)
    comparison.go_to((0, 1, 8))
    np.testing.assert_array_equal(picture_of(cell, viewer), one)
    comparison.show(wipe=0.5)
    np.testing.assert_array_equal(picture_of(cell, viewer), np.hstack([one[:, :5], other[:, 5:]]))
    assert cell.marks.name.startswith("first | second")
    assert cell.marks.name.endswith(f"{other[1, 8]:+.3f} ppm".replace("-", "−"))
    blink = next(f for key, f in viewer.keymap.items() if str(key).upper() == "B")
    held = blink(viewer)
    next(held)
    np.testing.assert_array_equal(picture_of(cell, viewer), np.hstack([other[:, :5], one[:, 5:]]))
    next(held, None)
    np.testing.assert_array_equal(picture_of(cell, viewer), np.hstack([one[:, :5], other[:, 5:]]))


@pytest.mark.parametrize(
    ("projection", "mode", "extreme"), [("maximum", "max", np.max), ("minimum", "min", np.min)]
)
def test_a_slab_is_as_thick_as_it_says_in_every_plane(viewer, two, projection, mode, extreme):
    look = Look(planes=("axial", "coronal"), projection=projection, slab_mm=9.0)
    comparison = compare(viewer, two, look=look)
    comparison.go_to((3, 4, 4))
    assert two[0].projection_mode == mode
    dims = viewer.dims
    assert (dims.margin_left[1], dims.margin_right[1]) == (3.0, 3.0)  # three slices of 3 mm
    coronal = comparison.cells[2]
    np.testing.assert_array_equal(
        picture_of(coronal, viewer), extreme(two[0].data[:, 0:8], axis=1)
    )  # of 1 mm
    comparison.show(projection="")
    assert not any(dims.margin_left)


def test_the_whole_look_goes_through_json_and_back(viewer, two):
    comparison = compare(viewer, two)
    comparison.show(
        layout="in place",
        pair=("second", "first"),
        planes=("coronal", "axial"),
        window_ppm=(-0.1, 0.2),
        wipe=0.25,
        projection="maximum",
        slab_mm=6.0,
        outline=False,
    )
    comparison.go_to((1, 2, 3))
    viewer.scene.camera.zoom, viewer.scene.camera.center = 7.5, (0, 3, 4)
    state = json.loads(json.dumps(comparison.state()))
    comparison.close()
    again = compare(viewer, two)
    assert again.state() != state
    again.look_at(state)
    assert again.state() == state


def test_fifty_rounds_leave_no_callback_behind(viewer, two):
    def heard():
        emitters = [
            viewer.layers.events,
            viewer.dims.events,
            viewer.scene.camera.events,
            viewer.canvas.events,
            *(layer.events for layer in viewer.layers),
        ]
        return [len(e.callbacks) for group in emitters for e in group.emitters.values()] + [
            len(viewer.mouse_drag_callbacks),
            len(viewer.keymap),
            len(viewer.layers),
            len(viewer.canvas.overlays),
        ]

    compare(viewer, two).close()  # napari's own links stay from the first time
    before = heard()
    for _ in range(50):
        comparison = compare(viewer, two, look=Look(planes=("axial", "coronal")))
        comparison.show(outline=False)
        comparison.close()
    assert heard() == before


def test_the_cross_hair_stays_when_other_cells_are_made(viewer, two):
    comparison = compare(viewer, two)
    comparison.go_to((1, 7, 9))
    for planes in (("axial", "sagittal", "coronal"), ("coronal",), ("sagittal", "axial"), ("axial",)):
        comparison.show(planes=planes)
        assert comparison.state()["voxel"] == [1, 7, 9]

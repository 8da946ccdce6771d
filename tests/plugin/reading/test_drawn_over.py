"""Regions, spots, veil and line are seen in every cell of a comparison, and can be drawn in."""

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_metaqsm.plugin.compare import compare
from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.plugin.reading import marks
from napari_metaqsm.plugin.reading.look_state import Look

SHAPE, SCALE = (6, 20, 24), (3.0, 1.0, 1.0)
PLACE = {"scale": SCALE, "units": ("mm",) * 3}


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    for name in ("one", "two"):
        known = {"metaqsm": {"quantity": "susceptibility", "orientation": "IPL"}}
        viewer.add_image(np.ones(SHAPE, np.float32), name=name, metadata=known, **PLACE)
    viewer.dims.set_point(0, 9.0)
    return viewer


@pytest.fixture
def opened(viewer):
    comparisons = []

    def open_comparison(**look):
        comparisons.append(compare(viewer, [viewer.layers["one"], viewer.layers["two"]], look=Look(**look)))
        return comparisons[-1]

    yield open_comparison
    for comparison in comparisons:
        comparison.close()


def add_regions(viewer, name="regions", label=2, **settings):
    labels = np.zeros(SHAPE, np.int32)
    labels[3, 5:12, 6:15] = label
    return viewer.add_labels(labels, name=name, **{**PLACE, **settings})


def drawn(cell):
    """Where a cell's marks show colours that are not their own, in one plane."""
    picture = np.asarray(cell.marks.data[3])
    return picture > marks.LINE


@pytest.mark.parametrize("label", [2, 70000, -3])
def test_a_region_is_outlined_in_its_colour_in_every_cell(label, viewer, opened):
    regions = add_regions(viewer, label=label)
    comparison = opened(cross_hair=False, outline=False)
    assert not regions.visible  # it has no cell of its own
    for cell in comparison.cells:
        rim = drawn(cell)
        per = np.divide(rim.shape, SHAPE[1:])
        where = np.argwhere(rim) / per
        np.testing.assert_allclose(where.min(0), (5, 6), atol=0.1)
        np.testing.assert_allclose(where.max(0), (12, 15), atol=0.1)
        middle = (int(8 * per[0]), int(10 * per[1]))
        assert not rim[middle]
        colour = cell.marks.colormap.colors[cell.marks.data[3][tuple(np.argwhere(rim)[0])]]
        np.testing.assert_allclose(colour[:3], regions.get_color(label)[:3], atol=1e-6)


def test_a_veil_lies_over_the_whole_and_a_mask_is_not_drawn(viewer, opened):
    add_regions(viewer, "veil", metadata={"metaqsm": {"quantity": "unreliable"}}, visible=False)
    add_regions(viewer, "mask", metadata={"metaqsm": {"quantity": "mask"}})
    comparison = opened(cross_hair=False, outline=False)
    whole = drawn(comparison.cells[0])
    assert whole.mean() == pytest.approx(7 * 9 / (20 * 24), rel=0.05)
    assert len(np.unique(comparison.cells[0].marks.data[3])) == 2


def test_what_is_painted_meanwhile_is_seen_at_once_in_all_cells(viewer, opened):
    regions = add_regions(viewer)
    comparison = opened(cross_hair=False, outline=False)
    before = [drawn(cell).sum() for cell in comparison.cells]
    regions.data_setitem((np.array([3]), np.array([15]), np.array([18])), 7)
    after = [drawn(cell).sum() for cell in comparison.cells]
    assert all(more > less for more, less in zip(after, before, strict=True))


def test_the_layer_that_is_drawn_in_stands_in_the_first_cell_until_another_is_selected(viewer, opened):
    regions = add_regions(viewer)
    comparison = opened()
    viewer.layers.selection.active = regions
    regions.visible = True
    regions.mode = "paint"
    assert regions.mode == "paint"
    grid = viewer.canvas.grid
    cells = {}
    for layer in viewer.layers:
        if layer.visible:
            cells.setdefault(grid.position(viewer.layers.index(layer), viewer.layers), []).append(layer)
    assert len(cells) == len(comparison.cells)
    assert [regions in layers for layers in cells.values()].count(True) == 1
    viewer.layers.selection.active = viewer.layers["two"]
    assert not regions.visible
    assert drawn(comparison.cells[1]).any()
    assert grid.stride == 2


def test_a_closed_eye_takes_a_region_away_and_an_opened_one_brings_it_back(viewer, opened):
    regions = add_regions(viewer)
    comparison = opened(cross_hair=False, outline=False)
    regions.visible = True
    regions.visible = False
    assert not drawn(comparison.cells[1]).any()
    regions.visible = True
    assert drawn(comparison.cells[1]).any()


def test_a_line_is_drawn_in_its_slice_alone(viewer, opened):
    comparison = opened(cross_hair=False, outline=False)
    viewer.add_shapes([np.array([[3.0, 4, 4], [3, 4, 18]])], shape_type="line", name="line", ndim=3, **PLACE)
    picture = np.asarray(comparison.cells[1].marks.data[3])
    rows, columns = np.nonzero(picture == marks.LINE)
    per = np.divide(picture.shape, SHAPE[1:])
    assert rows.mean() / per[0] == pytest.approx(4.5, abs=0.1)
    assert (columns.min() / per[1], columns.max() / per[1]) == pytest.approx((4.5, 18.5), abs=0.2)
    viewer.dims.set_point(0, 12.0)
    assert not (np.asarray(comparison.cells[1].marks.data[4]) == marks.LINE).any()


def test_closing_gives_every_layer_back(viewer, opened):
    seen, hidden = add_regions(viewer), add_regions(viewer, "hidden", visible=False)
    comparison = opened()
    new = add_regions(viewer, "new")
    names = [layer.name for layer in viewer.layers if metadata_of(layer).get("quantity") != "view"]
    comparison.close()
    assert (seen.visible, hidden.visible, new.visible) == (True, False, True)
    assert {layer.name for layer in viewer.layers} == set(names)
    assert all("drawn_over" not in metadata_of(layer) for layer in viewer.layers)
    events = (seen.events.visible, seen.events.labels_update, viewer.layers.selection.events.active)
    before = [len(event.callbacks) for event in events]
    for _ in range(5):
        opened().close()
    assert [len(event.callbacks) for event in events] == before

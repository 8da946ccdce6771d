"""The plots follow the maps, the regions, the line and the theme, and are saved whole."""

import gc
import time

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QApplication

from napari_metaqsm.plugin.reading import plots as plots_module
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.drawn_line import PROFILE_LINE
from napari_metaqsm.plugin.reading.plots import HISTOGRAM, PAIR, PROFILE, REGIONS, PlotsPanel
from napari_metaqsm.reading.agreement import Pair, Points, difference
from napari_metaqsm.reading.distribution import Distribution
from napari_metaqsm.reading.profile import Profile, profile
from napari_metaqsm.reading.regions import RegionMeasures

SHAPE = (8, 20, 16)
SCALE = (3.0, 0.8, 0.7)
RNG = np.random.default_rng(6)
BASE = RNG.normal(0, 0.05, SHAPE).astype(np.float32)


def add_map(viewer, name, values=BASE):
    known = {"quantity": "susceptibility", "orientation": "IPL", "b0_direction": (1.0, 0.0, 0.0)}
    place = {"scale": SCALE, "units": ("mm",) * 3, "translate": (5, 0, -2)}
    return viewer.add_image(values, name=name, metadata={"metaqsm": known}, **place)


def add_regions(viewer):
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 2:8], labels[:, 10:16] = 1, 2
    names = {"metaqsm": {"names": {1: "caudate", 2: "putamen"}}}
    place = {"scale": SCALE, "units": ("mm",) * 3, "translate": (5, 0, -2)}
    return viewer.add_labels(labels, name="nuclei", metadata=names, **place)


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    add_map(viewer, "χ one")
    add_map(viewer, "χ two", 0.8 * BASE + 0.02)
    return viewer


@pytest.fixture
def desk(viewer, qtbot):
    desk = Desk(viewer)
    yield desk
    desk.release()


@pytest.fixture
def panel(desk, qtbot):
    panel = PlotsPanel(desk)
    panel.resize(1100, 260)
    panel.show()
    yield panel
    qtbot.waitUntil(lambda: not panel._latest.is_busy, timeout=30_000)
    panel.release()
    panel.close()
    panel.deleteLater()


def settle(qtbot, panel):
    """Until what was asked for last is drawn."""
    timers = (panel._soon, panel.desk._told)
    qtbot.waitUntil(
        lambda: not (panel._latest.is_busy or any(timer.isActive() for timer in timers)), timeout=30_000
    )


def pick(qtbot, panel, kind):
    panel.kind.setCurrentIndex(panel.kind.findData(kind))
    settle(qtbot, panel)


def draw_line(panel, points):
    """Points in voxels of the maps, as the pen leaves them in a Shapes layer of those axes."""
    layer = panel.line.draw()
    layer.add_lines([np.asarray(points, float)])
    return layer


# ----------------------------------------------------------------------------- what is drawn
def test_each_kind_draws_its_plot_with_the_numbers_of_the_maps(viewer, panel, qtbot):
    layer = add_regions(viewer)
    pick(qtbot, panel, REGIONS)
    assert isinstance(panel.shown, RegionMeasures)
    assert [region.name for region in panel.shown] == ["caudate", "putamen"]
    assert panel.shown.region(2).maps["χ one"].mean == pytest.approx(BASE[layer.data == 2].mean(), abs=1e-7)
    pick(qtbot, panel, PAIR)
    assert isinstance(panel.shown, Pair)
    assert (panel.shown.a, panel.shown.b) == ("χ one", "χ two")
    assert panel.shown.difference == pytest.approx(difference(BASE, 0.8 * BASE + 0.02))
    pick(qtbot, panel, HISTOGRAM)
    assert isinstance(panel.shown, Distribution)
    assert list(panel.shown.percent) == ["χ one", "χ two"]
    assert panel.words == ""


def test_only_the_controls_of_the_kind_are_seen(viewer, panel, qtbot):
    seen = {}
    for kind in (REGIONS, PAIR, PROFILE, HISTOGRAM):
        pick(qtbot, panel, kind)
        controls = {"a": panel.a, "b": panel.b, "by": panel.by, "regions": panel.choice.combo}
        seen[kind] = {n for n, w in {**controls, "draw": panel.draw_button}.items() if w.isVisible()}
    assert seen == {REGIONS: {"regions"}, PAIR: {"a", "b", "by"}, PROFILE: {"draw"}, HISTOGRAM: set()}
    pick(qtbot, panel, PAIR)
    panel.by.setCurrentIndex(1)
    panel.by.activated.emit(1)
    assert panel.choice.combo.isVisible()


def test_two_maps_can_be_compared_by_the_means_of_regions(viewer, panel, qtbot):
    add_regions(viewer)
    pick(qtbot, panel, PAIR)
    panel.by.setCurrentIndex(1)
    panel.by.activated.emit(1)
    settle(qtbot, panel)
    assert isinstance(panel.shown.scatter, Points)
    assert panel.shown.scatter.names == ("caudate", "putamen")


def test_what_is_missing_is_said_in_place_of_the_plot(viewer, panel, qtbot):
    pick(qtbot, panel, REGIONS)
    assert panel.words.startswith("Choose a Labels layer")
    pick(qtbot, panel, PROFILE)
    assert panel.words.startswith("Draw a line over the maps")
    pick(qtbot, panel, PAIR)
    del viewer.layers["χ two"]
    settle(qtbot, panel)
    assert panel.words == "Choose two different maps to compare"
    viewer.layers.clear()
    settle(qtbot, panel)
    assert panel.words.startswith("No map is chosen")
    assert panel.figure.texts[0].get_text() == panel.words
    assert not panel.save_button.isEnabled()


# ------------------------------------------------------------------------------- what it follows
def test_new_values_names_and_maps_are_drawn_at_once(viewer, panel, qtbot):
    pick(qtbot, panel, PAIR)
    viewer.layers["χ two"].data = BASE - 0.1
    settle(qtbot, panel)
    assert panel.shown.difference.mean == pytest.approx(0.1)
    viewer.layers["χ two"].name = "χ other"
    settle(qtbot, panel)
    assert panel.b.currentText() == "χ other"
    assert panel.shown.b == "χ other"
    add_map(viewer, "χ three", BASE + 0.3)
    settle(qtbot, panel)
    panel.b.setCurrentText("χ three")
    panel.b.activated.emit(2)
    settle(qtbot, panel)
    assert panel.shown.difference.mean == pytest.approx(-0.3)


def test_strokes_of_the_brush_are_measured_anew(viewer, panel, qtbot):
    layer = add_regions(viewer)
    pick(qtbot, panel, REGIONS)
    layer.data_setitem(np.nonzero(layer.data == 0), 3)
    settle(qtbot, panel)
    assert [region.name for region in panel.shown] == ["caudate", "putamen", "region 3"]


def test_a_map_keeps_its_colour_while_others_come_and_go(viewer, panel, qtbot):
    add_map(viewer, "χ three", BASE + 0.3)
    settle(qtbot, panel)
    before = panel.look.colour("χ three")
    panel.desk.choose([viewer.layers["χ three"], viewer.layers["χ one"]])
    settle(qtbot, panel)
    assert panel.look.colour("χ three") == before
    freed = panel.look.colour("χ one")
    del viewer.layers["χ one"]
    add_map(viewer, "χ four")
    settle(qtbot, panel)
    assert panel.look.colour("χ four") == freed
    assert panel.look.colour("χ three") == before


def test_the_plot_takes_the_colours_of_the_theme(viewer, panel, qtbot):
    pick(qtbot, panel, HISTOGRAM)
    colours = []
    for theme in ("dark", "light"):
        viewer.theme = theme
        colours.append((to_hex(panel.figure.get_facecolor()), panel.figure.axes[0].xaxis.label.get_color()))
    assert colours[0][0] < "#333333" < "#cccccc" < colours[1][0]
    assert colours[0][1] != colours[1][1]


def test_nothing_is_computed_for_a_plot_that_nobody_sees(viewer, desk, qtbot, monkeypatch):
    computed = []
    monkeypatch.setattr(plots_module, "pair", lambda *args: computed.append(args))
    panel = PlotsPanel(desk)
    qtbot.addWidget(panel)
    panel.kind.setCurrentIndex(panel.kind.findData(PAIR))
    viewer.layers["χ two"].data = BASE - 0.1
    qtbot.wait(3 * plots_module.QUIET_MS)
    assert computed == []
    panel.show()
    qtbot.waitUntil(lambda: len(computed) == 1, timeout=30_000)
    qtbot.waitUntil(lambda: not panel._latest.is_busy, timeout=30_000)
    panel.release()


def test_of_many_changes_while_one_is_computed_the_last_alone_is_computed(viewer, panel, qtbot, monkeypatch):
    computed = []

    def slow(study):
        computed.append(float(study.maps["χ two"][0, 0, 0]))
        time.sleep(0.3)
        return plots_module.Distribution(np.array([0.0, 1.0]), {"χ two": np.array([computed[-1]])})

    monkeypatch.setattr(plots_module, "distribution", slow)
    panel.kind.setCurrentIndex(panel.kind.findData(HISTOGRAM))
    qtbot.waitUntil(lambda: len(computed) == 1, timeout=30_000)
    for value in (1.0, 2.0, 3.0):
        viewer.layers["χ two"].data = np.full(SHAPE, value)
        qtbot.wait(60)
    settle(qtbot, panel)
    assert computed[1:] == [3.0]
    assert panel.shown.percent["χ two"] == [3.0]


# ------------------------------------------------------------------------------------ the line
def test_a_line_is_drawn_on_the_maps_grid_and_its_profile_is_that_of_the_core(viewer, panel, qtbot):
    pick(qtbot, panel, PROFILE)
    qtbot.mouseClick(panel.draw_button, Qt.MouseButton.LeftButton)
    (layer,) = [x for x in viewer.layers if x.metadata.get("metaqsm", {}).get("quantity") == PROFILE_LINE]
    assert layer.mode == "add_line"
    assert viewer.layers.selection.active is layer
    np.testing.assert_allclose(
        layer.data_to_world((1, 2, 3)), viewer.layers["χ one"].data_to_world((1, 2, 3))
    )
    points = [(3, 2, 1), (3, 15, 12)]
    layer.add_lines([np.array(points, float)])
    settle(qtbot, panel)
    assert isinstance(panel.shown, Profile)
    expected = profile(panel.desk.study(), np.array(points))
    np.testing.assert_allclose(panel.shown.distances_mm, expected.distances_mm, rtol=1e-5)
    np.testing.assert_allclose(panel.shown.values["χ two"], expected.values["χ two"], atol=1e-6)


def test_a_line_that_is_moved_is_followed_and_the_pen_is_not_given_twice(viewer, panel, qtbot):
    pick(qtbot, panel, PROFILE)
    layer = draw_line(panel, [(3, 2, 1), (3, 15, 12)])
    settle(qtbot, panel)
    layer.data = [np.array([(3, 2, 1), (3, 2, 8)], float)]
    settle(qtbot, panel)
    assert panel.shown.distances_mm[-1] == pytest.approx(7 * 0.7)
    assert panel.line.draw() is layer
    layer.data = []
    settle(qtbot, panel)
    assert panel.words.startswith("Draw a line")


def test_of_several_lines_the_selected_one_counts_else_the_last(viewer, panel, qtbot):
    pick(qtbot, panel, PROFILE)
    layer = draw_line(panel, [(3, 2, 1), (3, 2, 11)])
    layer.add_paths([np.array([(3, 2, 1), (3, 12, 1), (3, 12, 11)], float)])
    layer.add_rectangles([np.array([(3, 0, 0), (3, 0, 4), (3, 4, 4), (3, 4, 0)], float)])
    settle(qtbot, panel)
    assert panel.shown.distances_mm[-1] == pytest.approx(15)
    assert panel.shown.corners_mm == pytest.approx((8,))
    layer.selected_data = {0}
    settle(qtbot, panel)
    assert panel.shown.distances_mm[-1] == pytest.approx(7)


def test_a_line_of_any_shapes_layer_is_read_in_voxels_of_the_maps(viewer, panel, qtbot):
    pick(qtbot, panel, PROFILE)
    world = [viewer.layers["χ one"].data_to_world(v) for v in ((3, 2, 1), (3, 2, 11))]
    viewer.add_shapes([np.array(world)], shape_type="line", units=("mm",) * 3)  # a layer of millimetres
    settle(qtbot, panel)
    np.testing.assert_allclose(panel.line.points, [(3, 2, 1), (3, 2, 11)], atol=1e-5)
    four = [
        np.hstack([[[0], [0]], [viewer.layers["χ one"].data_to_world(v) for v in ((1, 2, 1), (1, 9, 1))]])
    ]
    viewer.add_shapes(four, shape_type="line", units=("",) + ("mm",) * 3)  # beside echoes
    settle(qtbot, panel)
    np.testing.assert_allclose(panel.line.points, [(1, 2, 1), (1, 9, 1)], atol=1e-5)


# ------------------------------------------------------------------------------- what is kept
@pytest.mark.parametrize(("ending", "begins"), [(".svg", b"<?xml"), (".png", b"\x89PNG")])
def test_the_plot_is_saved_on_white_whatever_the_theme(panel, qtbot, tmp_path, ending, begins):
    pick(qtbot, panel, HISTOGRAM)
    panel.save(tmp_path / f"plot{ending}")
    assert [file.name for file in tmp_path.iterdir()] == [f"plot{ending}"]  # nothing else is left
    content = (tmp_path / f"plot{ending}").read_bytes()
    assert content.startswith(begins)
    if ending == ".svg":
        assert b"fill: #ffffff" in content
    assert panel.status.text() == f"Saved plot{ending}"


def test_a_name_without_a_known_ending_becomes_svg_and_a_bad_folder_is_told(panel, qtbot, tmp_path):
    pick(qtbot, panel, HISTOGRAM)
    panel.save(tmp_path / "χ 0.2 plot")
    assert [file.name for file in tmp_path.iterdir()] == ["χ 0.2 plot.svg"]
    (tmp_path / "file").write_text("")
    panel.save(tmp_path / "file" / "plot.png")
    assert "could not be written" in panel.status.text()


def test_its_choices_are_kept_and_taken_again(viewer, panel, desk, qtbot):
    pick(qtbot, panel, PAIR)
    panel.a.setCurrentText("χ two")
    panel.b.setCurrentText("χ one")
    state = panel.state()
    other = PlotsPanel(desk)
    qtbot.addWidget(other)
    other.restore(state)
    assert other.state() == state == {"kind": PAIR, "a": "χ two", "b": "χ one", "by": "Voxels"}
    add_map(viewer, "χ three")  # and the desk has not told of it yet
    other.restore({**state, "a": "χ three"})
    assert other.state()["a"] == "χ three"
    other.restore({"kind": "unheard of"})
    assert other.state()["kind"] == REGIONS
    other.release()


def test_nothing_hears_of_the_viewer_after_release(viewer, desk, qtbot):
    add_regions(viewer)
    layer = viewer.add_shapes([np.array([(5, 1, 1), (5, 1, 5.0)])], shape_type="line")

    def heard():
        QApplication.processEvents()
        gc.collect()
        events = [viewer.events.theme, *(layer.events[n] for n in ("data", "set_data", "highlight"))]
        events += [
            viewer.layers["nuclei"].events[n] for n in ("labels_update", "data", "set_data", "features")
        ]
        return [len(e.callbacks) for e in events], desk.receivers(desk.changed)

    before = heard()
    for _ in range(50):
        panel = PlotsPanel(desk)
        panel.release()
        panel.deleteLater()
    assert heard() == before


@pytest.mark.window
def test_the_canvas_is_of_the_windows_own_qt_and_shows_the_plot(panel, qtbot):
    import matplotlib.backends.qt_compat as compat
    import qtpy

    pick(qtbot, panel, HISTOGRAM)
    assert compat.QT_API.lower() == qtpy.API_NAME.lower()
    image = panel.grab().toImage().convertToFormat(QImage.Format.Format_RGB888)
    pixels = np.array(image.constBits().asarray(image.sizeInBytes())).reshape(image.height(), -1)
    pixels = pixels[:, : 3 * image.width()].reshape(image.height(), -1, 3)[
        :, plots_module.CONTROLS_WIDTH + 20 :
    ]
    for colour in (panel.look.background, panel.look.foreground, panel.look.colour("χ one")):
        apart = np.abs(pixels.astype(int) - np.rint(255 * np.array(to_rgb(colour))))
        assert (apart.max(axis=-1) <= 8).any(), colour  # a screen of 16 bits rounds to 8
    np.testing.assert_allclose(pixels[-10, -10], 255 * np.array(to_rgb(panel.look.background)), atol=8)

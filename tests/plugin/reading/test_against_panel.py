"""The table of all maps against a reference: the core's figures, computed when they are looked at."""

import csv
import io
import time

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication
from scipy.ndimage import gaussian_filter

from napari_metaqsm.method import steps
from napari_metaqsm.plugin.reading import against as against_module
from napari_metaqsm.plugin.reading.against import AgainstPanel
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.reading.agreement import against

SHAPE = (10, 24, 20)
RNG = np.random.default_rng(8)
MASK = np.linalg.norm((np.indices(SHAPE).T - (5, 12, 10)) / (5, 10, 9), axis=-1).T < 1
TRUTH = (0.3 * gaussian_filter(RNG.standard_normal(SHAPE), 1.2) * MASK).astype(np.float32)


def add_map(viewer, name, values, quantity="susceptibility"):
    known = {"quantity": quantity, "orientation": "IPL", "b0_direction": (1.0, 0.0, 0.0)}
    metadata = {"metaqsm": known} if quantity else {}
    place = {"scale": (3.0, 0.8, 0.7), "units": ("mm",) * 3}
    return viewer.add_image(values.astype(np.float32), name=name, metadata=metadata, **place)


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    for name, noise in (("rough", 0.03), ("fine", 0.002), ("middling", 0.01)):
        add_map(viewer, name, (TRUTH + noise * RNG.standard_normal(SHAPE)) * MASK)
    add_map(viewer, "truth", TRUTH)
    return viewer


@pytest.fixture
def desk(viewer, qtbot):
    desk = Desk(viewer)
    yield desk
    desk.release()


@pytest.fixture
def panel(desk, qtbot):
    panel = AgainstPanel(desk)
    panel.resize(1100, 260)
    panel.show()
    yield panel
    settle(qtbot, panel)
    panel.release()
    panel.close()
    panel.deleteLater()


def settle(qtbot, panel):
    """Until what was asked for last is shown."""
    timers = (panel._soon, panel.desk._told)
    qtbot.waitUntil(
        lambda: not (panel._latest.is_busy or any(timer.isActive() for timer in timers)), timeout=30_000
    )


def choose(qtbot, panel, name):
    panel.choose(next(x for x in panel._references if x is not None and x.name == name))
    settle(qtbot, panel)


def cells(panel):
    table = panel.table
    return [[table.item(r, c).text() for c in range(table.columnCount())] for r in range(table.rowCount())]


def test_the_table_holds_the_figures_of_the_core(panel, desk, qtbot):
    choose(qtbot, panel, "truth")
    expected = against(desk.study(), "truth")
    assert panel.figures == expected
    assert [row[0] for row in cells(panel)] == ["rough", "fine", "middling"]
    row = dict(
        zip([c if isinstance(c, str) else c.title for c in expected.columns], expected.rows[1], strict=True)
    )
    shown = dict(zip(row, cells(panel)[1], strict=True))
    assert shown["NRMSE %"] == f"{row['NRMSE %']:.1f}"
    assert shown["XSIM"] == f"{row['XSIM']:.3f}"
    assert shown["Voxels"] == f"{MASK.sum():,}".replace(",", "\u2009")
    assert "Against truth" in panel.status.text()
    tips = [panel.table.horizontalHeaderItem(n).toolTip() for n in range(1, panel.table.columnCount())]
    assert all(tips)


def test_a_reference_that_is_not_read_is_measured_against_all_the_same(viewer, panel, desk, qtbot):
    desk.choose([viewer.layers["rough"], viewer.layers["fine"]])
    add_map(viewer, "of another program", TRUTH, quantity=None)
    settle(qtbot, panel)
    choose(qtbot, panel, "of another program")
    assert [row[0] for row in cells(panel)] == ["rough", "fine"]
    assert panel.figures.rows == against(desk.study(), TRUTH).rows
    assert panel.figures.title == "Agreement with of another program"


def test_until_a_reference_is_chosen_it_says_what_to_do(viewer, panel, desk, qtbot):
    assert panel.status.text() == "Choose the map that the others are measured against"
    assert not panel.copy_button.isEnabled()
    desk.choose([viewer.layers["truth"]])
    settle(qtbot, panel)
    choose(qtbot, panel, "truth")
    assert panel.status.text() == "There is no other map; choose at least two"
    viewer.layers.clear()
    settle(qtbot, panel)
    assert panel.status.text().startswith("No map is chosen")
    assert panel.table.rowCount() == 0


def test_it_sorts_by_value_and_not_by_text(panel, qtbot):
    choose(qtbot, panel, "truth")
    panel.table.sortItems(3, Qt.SortOrder.AscendingOrder)
    assert [row[0] for row in cells(panel)] == ["fine", "middling", "rough"]
    values = [float(row[3]) for row in cells(panel)]
    assert values == sorted(values)
    assert sorted(map(str, values)) != list(map(str, values))


def test_new_values_are_computed_by_themselves_only_while_it_is_seen(viewer, panel, qtbot, monkeypatch):
    choose(qtbot, panel, "truth")
    computed = []

    def counted(*args):
        computed.append(args)
        return against(*args)

    monkeypatch.setattr(against_module, "against", counted)
    viewer.layers["rough"].data = TRUTH * 0.5
    settle(qtbot, panel)
    assert len(computed) == 1
    assert panel.figures.rows[0][-2] == pytest.approx(0.5)
    panel.hide()
    viewer.layers["rough"].data = TRUTH * 0.25
    qtbot.wait(2 * against_module.QUIET_MS)
    assert len(computed) == 1
    panel.show()
    settle(qtbot, panel)
    assert panel.figures.rows[0][-2] == pytest.approx(0.25)
    panel.hide()
    panel.show()
    settle(qtbot, panel)
    assert len(computed) == 2  # nothing has changed


def test_another_reference_stops_what_is_being_computed(panel, qtbot, monkeypatch):
    begun, ended = [], []

    def slow(study, reference, title):
        begun.append(title)
        for _ in steps(200, "slow"):
            time.sleep(0.01 if title == "truth" else 0)
        ended.append(title)
        return against(study, reference, title)

    monkeypatch.setattr(against_module, "against", slow)
    panel.choose(panel._references[4])
    qtbot.waitUntil(lambda: begun == ["truth"] and panel.progress.value() > 0, timeout=30_000)
    assert panel.progress.isVisible()
    panel.choose(panel._references[2])
    settle(qtbot, panel)
    assert (begun, ended) == (["truth", "fine"], ["fine"])
    assert panel.figures.title == "Agreement with fine"
    assert not panel.progress.isVisible()


def test_what_cannot_be_compared_is_told_in_words(viewer, panel, qtbot):
    add_map(viewer, "elsewhere", np.where(MASK, 0, 0.1))
    settle(qtbot, panel)
    choose(qtbot, panel, "elsewhere")
    assert panel.status.text() == "Rough and elsewhere have no voxels in common"
    assert panel.figures is None
    assert not panel.export_button.isEnabled()
    choose(qtbot, panel, "truth")  # of which elsewhere is one that has nothing in common
    assert panel.status.text() == "Elsewhere and truth have no voxels in common"


def test_it_is_copied_and_exported_with_all_digits(panel, desk, qtbot, tmp_path):
    choose(qtbot, panel, "truth")
    qtbot.mouseClick(panel.copy_button, Qt.MouseButton.LeftButton)
    copied = [line.split("\t") for line in QGuiApplication.clipboard().text().split("\n")]
    expected = list(csv.reader(io.StringIO(against(desk.study(), "truth").csv())))
    assert copied == expected
    panel.export(tmp_path / "figures.csv")
    assert list(csv.reader(io.StringIO((tmp_path / "figures.csv").read_text(encoding="utf-8")))) == expected
    assert [file.name for file in tmp_path.iterdir()] == ["figures.csv"]
    assert panel.status.text() == "Written: figures.csv"
    panel.export(tmp_path / "figures.csv" / "inside.csv")
    assert "could not be written" in panel.status.text()


def test_its_choice_is_kept_and_taken_again(viewer, panel, desk, qtbot):
    choose(qtbot, panel, "fine")
    other = AgainstPanel(desk)
    qtbot.addWidget(other)
    other.restore(panel.state())
    assert other.reference.currentText() == "fine"
    add_map(viewer, "opened", TRUTH)  # and the desk has not told of it yet
    other.restore({"reference": "opened"})
    assert other.reference.currentText() == "opened"
    other.restore({"reference": "gone"})
    assert other.state() == {"reference": ""}
    other.release()


def test_the_desk_is_let_go(desk, qtbot):
    before = desk.receivers(desk.changed)
    for _ in range(50):
        panel = AgainstPanel(desk)
        panel.release()
        panel.deleteLater()
    assert desk.receivers(desk.changed) == before

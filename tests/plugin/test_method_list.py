"""The list of inversions: groups, what is folded, how long each takes, and what is refused before a run."""

import threading
from dataclasses import dataclass

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QLabel
from torch import Tensor

from napari_metaqsm import method as registry_module
from napari_metaqsm.errors import InputError
from napari_metaqsm.method import check_parameters, find_method, method, methods, parameter, steps
from napari_metaqsm.plugin import beforehand
from napari_metaqsm.plugin.chain import SusceptibilityMapping
from napari_metaqsm.plugin.section import State
from napari_metaqsm.scan import Geometry
from napari_metaqsm.timing import Timed, Times

SHAPE, SCALE = (12, 16, 14), (3.0, 1.0, 1.0)


@dataclass(frozen=True)
class PickyParameters:
    """Of a method that does not take everything."""

    size: float = parameter(1.0, low=0, high=10, help="Too large above 5")

    __post_init__ = check_parameters


class Seen:
    """Runs of the method, and a gate in it."""

    def __init__(self):
        self.shapes, self.stopped = [], False
        self.open = threading.Event()
        self.open.set()


@pytest.fixture
def seen(monkeypatch):
    methods()
    registry = {key: m for key, m in registry_module._REGISTRY.items() if m.name in ("tkd", "l2", "metaqsm")}
    monkeypatch.setattr(registry_module, "_REGISTRY", registry)
    seen = Seen()

    def check(geometry, parameters):
        if parameters.size > 5:
            raise InputError(f"size is {parameters.size}; it must be smaller for this scan")

    @method(
        "inversion",
        title="Picky",
        reference="doi:10.1000/182",
        kind="iterative",
        check=check,
        stand_ins={"noise": "even noise"},
    )
    def picky(
        local_field: Tensor,
        mask: Tensor,
        geometry: Geometry,
        parameters: PickyParameters,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Iterative: sharp; not for everything."""
        check(geometry, parameters)
        seen.shapes.append(tuple(local_field.shape))
        seen.stopped = True
        for _ in steps(10**9, "Waits"):
            if seen.open.wait(0.002):
                break
        seen.stopped = False
        return local_field * mask

    return seen


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def dock(seen, viewer, qtbot):
    dock = SusceptibilityMapping(viewer)
    qtbot.addWidget(dock)
    dock.show()
    tick(dock, "picky")
    yield dock
    seen.open.set()
    dock.release()
    QThreadPool.globalInstance().waitForDone(10_000)


@pytest.fixture
def scan(viewer, dock):
    """A local field and a mask in the viewer, chosen in the dock."""
    known = {"quantity": "local_field", "unit": "ppm", "b0_direction": (1, 0, 0), "orientation": "IPL"}
    place = {"scale": SCALE, "units": ("mm",) * 3}
    field = np.random.default_rng(0).normal(0.05, 0.02, SHAPE).astype(np.float32)
    viewer.add_image(field, name="field", metadata={"metaqsm": known}, **place)
    viewer.add_labels(np.pad(np.ones([n - 4 for n in SHAPE], np.uint8), 2), name="drawn", **place)
    dock.inversion.choices["mask"].choose(viewer.layers["drawn"])


def tick(dock, *names):
    for name, box in dock.inversion.boxes.items():
        box.setChecked(name in names)


def time_of(dock, name):
    return dock.inversion.list.rows[name].time.text()


# --------------------------------------------------------------------------------- how it looks
def test_methods_stand_under_the_headings_of_their_kinds(dock):
    layout = dock.inversion.list.layout()
    listed = [layout.itemAt(i).widget() for i in range(layout.count())]
    assert [w.text() if isinstance(w, QLabel) else w.box.text() for w in listed] == [
        "Direct", "Closed-form L2", "TKD", "Iterative", "Picky", "Learned", "Meta-QSM",
    ]  # fmt: skip


def test_what_stands_in_for_an_input_is_that_of_the_checked_methods(dock, viewer, qtbot):
    @method(
        "inversion",
        title="Other",
        reference="doi:10.1000/1",
        kind="direct",
        stand_ins={"noise": "none: no weights"},
    )
    def other(
        local_field: Tensor,
        mask: Tensor,
        geometry: Geometry,
        parameters: PickyParameters,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Direct: of no use."""
        return local_field * mask

    dock = SusceptibilityMapping(viewer)
    qtbot.addWidget(dock)
    noise = dock.inversion.choices["noise"]
    for names, says in (
        (["picky"], "none: even noise"),
        (["other"], "none: no weights"),
        (["other", "picky"], "none: Other: no weights; Picky: even noise"),
    ):
        tick(dock, *names)
        assert noise._combo.itemText(0) == noise._combo.toolTip() == says
    tick(dock, "tkd")
    assert noise.isHidden()
    dock.release()


def test_each_says_what_it_is_good_at_and_links_its_paper(dock):
    about = dock.inversion.list.rows["picky"].about
    assert about.text().startswith("Sharp; not for everything. <a ")
    assert 'href="https://doi.org/10.1000/182"' in about.text()
    assert about.openExternalLinks()
    assert about.toolTip() == "Open the paper in the browser: doi:10.1000/182"


def test_parameters_are_behind_the_arrow_and_a_slider_is_not(dock):
    row = dock.inversion.list.rows["metaqsm"]
    calm, weights = (row.form.form._editors[name].native for name in ("calm", "weights"))
    assert not row.form.isVisible()
    row.box.click()
    assert calm.isVisible()
    assert not weights.isVisible()
    row.arrow.click()
    assert calm.isVisible()
    assert weights.isVisible()
    row.box.click()
    assert weights.isVisible()  # to look at before it is checked
    row.arrow.click()
    assert not row.form.isVisible()
    assert not dock.inversion.list.rows["tkd"].form.isVisible()


def test_the_list_follows_the_theme(dock, viewer):
    about = dock.inversion.list.rows["tkd"].about
    dark = about.palette().color(about.foregroundRole())
    viewer.theme = "light"
    light = about.palette().color(about.foregroundRole())
    assert dark.lightnessF() > 0.5 > light.lightnessF()
    assert light.name() in about.text()  # and so does the link


# ---------------------------------------------------------------------------------- how long
def test_without_a_scan_no_time_is_said(dock):
    assert {time_of(dock, name) for name in dock.inversion.boxes} == {""}


def test_what_is_not_measured_is_not_guessed(dock, scan):
    assert time_of(dock, "tkd") == "not yet measured"


def test_times_are_for_this_scan(dock, scan, viewer, times_file):
    voxels = int(np.prod([n - 4 for n in SHAPE]))
    dock.inversion.beforehand.times.learn(find_method("inversion", "picky"), Timed(voxels, 8.0, "cpu"))
    viewer.layers["drawn"].refresh()
    dock.inversion.look_ahead_on("cpu")
    assert time_of(dock, "picky") == "about 8 s"
    whole = viewer.add_labels(np.ones(SHAPE, np.uint8), name="whole", scale=SCALE, units=("mm",) * 3)
    dock.inversion.choices["mask"].choose(whole)
    assert time_of(dock, "picky") == "about 25 s"  # 2688 voxels in place of 960
    assert times_file.exists()


def test_they_are_measured_once_while_nothing_runs(dock, scan, seen, qtbot, monkeypatch, times_file):
    monkeypatch.setattr(beforehand, "MEASURE_PAUSE_MS", 10)
    monkeypatch.setattr(beforehand, "measure", quick_measure(seen))
    seen.open.clear()
    dock.inversion.look_ahead_on("cpu")
    qtbot.waitUntil(lambda: time_of(dock, "picky") == "measuring …", timeout=30_000)  # checked, so the first
    seen.open.set()
    qtbot.waitUntil(
        lambda: all(time_of(dock, n) == "under 1 s" for n in dock.inversion.boxes), timeout=30_000
    )
    count = len(seen.shapes)
    dock.inversion.look_ahead_on("auto")
    qtbot.wait(100)
    assert len(seen.shapes) == count
    assert Times(times_file).estimate(find_method("inversion", "tkd"), 1000) == pytest.approx(0.01)


def quick_measure(seen):
    """In place of the real one, which takes seconds: the picky method alone is run."""

    def measure(entry, geometry, device):
        if entry.name == "picky":
            for _ in steps(10**9, "Waits"):
                if seen.open.wait(0.002):
                    break
        return [Timed(1000, 0.01, "cpu")]

    return measure


def test_a_run_stops_the_measuring_and_comes_first(dock, scan, seen, qtbot, monkeypatch):
    monkeypatch.setattr(beforehand, "MEASURE_PAUSE_MS", 10)
    monkeypatch.setattr(beforehand, "measure", quick_measure(seen))
    seen.open.clear()
    dock.inversion.look_ahead_on("cpu")
    qtbot.waitUntil(lambda: dock.inversion.beforehand.measured is not None, timeout=30_000)
    monkeypatch.setattr(beforehand, "MEASURE_PAUSE_MS", 10**8)
    dock.inversion.run_button.click()
    qtbot.waitUntil(lambda: dock.inversion.beforehand.measured is None, timeout=30_000)
    assert dock.is_running
    assert time_of(dock, "picky") == "not yet measured"
    seen.open.set()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=30_000)
    assert dock.inversion.state is State.DONE
    assert time_of(dock, "picky") == "under 1 s"  # the run itself has told


def test_runs_with_other_parameters_teach_nothing(dock, scan, qtbot):
    dock.inversion.method_forms["picky"].form.set_values(size=2.0)
    dock.inversion.run_button.click()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=30_000)
    assert time_of(dock, "picky") == "not yet measured"


def test_nothing_is_measured_behind_another_tab_or_after_the_dock(dock, scan, seen, qtbot, monkeypatch):
    monkeypatch.setattr(beforehand, "MEASURE_PAUSE_MS", 10)
    monkeypatch.setattr(beforehand, "measure", lambda *args: seen.shapes.append(args))
    dock.hide()
    dock.inversion.look_ahead_on("cpu")
    qtbot.wait(100)
    dock.release()
    dock.show()
    dock.inversion.look_ahead_on("cpu")
    qtbot.wait(100)
    assert seen.shapes == []


def test_a_dock_that_is_closed_stops_the_measuring(dock, scan, seen, qtbot, monkeypatch):
    monkeypatch.setattr(beforehand, "MEASURE_PAUSE_MS", 10)
    monkeypatch.setattr(beforehand, "measure", quick_measure(seen))
    seen.open.clear()
    dock.inversion.look_ahead_on("cpu")
    qtbot.waitUntil(lambda: dock.inversion.beforehand.measured is not None, timeout=30_000)
    dock.close()
    qtbot.waitUntil(lambda: dock.inversion.beforehand._worker is None, timeout=30_000)


def test_a_method_that_cannot_be_measured_is_left_alone(dock, scan, seen, qtbot, monkeypatch):
    tried = []

    def refuse(entry, geometry, device):
        tried.append(entry.name)
        raise InputError("no weights fit 3×1×1 mm")

    monkeypatch.setattr(beforehand, "MEASURE_PAUSE_MS", 10)
    monkeypatch.setattr(beforehand, "measure", refuse)
    dock.inversion.look_ahead_on("cpu")
    qtbot.waitUntil(lambda: time_of(dock, "metaqsm") == "not for this scan", timeout=30_000)
    assert dock.inversion.list.rows["metaqsm"].time.toolTip() == "no weights fit 3×1×1 mm"
    qtbot.waitUntil(lambda: len(tried) == len(dock.inversion.boxes), timeout=30_000)
    qtbot.wait(100)
    assert sorted(tried) == sorted(dock.inversion.boxes)


# -------------------------------------------------------------------------- refused beforehand
def test_what_cannot_run_is_said_before_it_runs(dock, scan, seen, qtbot):
    tick(dock, "tkd", "picky")
    dock.inversion.method_forms["picky"].form.set_values(size=7.0)
    says = "\nPicky cannot run: size is 7.0; it must be smaller for this scan"
    qtbot.waitUntil(lambda: says in dock.inversion.status.text(), timeout=30_000)
    assert dock.inversion.state is State.READY  # TKD can
    assert "border-left" in dock.inversion.status.styleSheet()
    assert seen.shapes == []
    dock.inversion.method_forms["picky"].form.set_values(size=1.0)
    assert "cannot run" not in dock.inversion.status.text()


def test_where_nothing_can_run_the_step_has_failed(dock, scan, qtbot):
    dock.inversion.method_forms["picky"].form.set_values(size=7.0)
    qtbot.waitUntil(lambda: dock.inversion.state is State.FAILED, timeout=30_000)
    assert dock.inversion.status.text().startswith("✗  Picky cannot run: size is 7.0")
    dock.inversion.method_forms["picky"].form.set_values(size=1.0)
    assert dock.inversion.state is State.READY


def test_weights_that_are_not_there_are_named_before_the_run(dock, scan, qtbot, tmp_path):
    tick(dock, "tkd", "metaqsm")
    missing = tmp_path / "mine.safetensors"
    dock.inversion.method_forms["metaqsm"].form.set_values(weights=str(missing))
    qtbot.waitUntil(lambda: "Meta-QSM cannot run" in dock.inversion.status.text(), timeout=30_000)
    assert "mine.safetensors" in dock.inversion.status.text()

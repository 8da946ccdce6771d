"""The report in the window: it writes what is chosen, copies what ran, and lets go when it is closed."""

import gc

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtGui import QDesktopServices, QGuiApplication

from napari_metaqsm.method import find_method, parameter_infos
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.report import HERE, Parts, ReportPanel
from napari_metaqsm.reading.regions import measure_regions
from napari_metaqsm.report.content import PARTS

SHAPE = (10, 12, 14)
FILES = ["methods.txt", "references.bib", "report.html", "report.pdf"]


def step_of(stage, name):
    entry = find_method(stage, name)
    parameters = {info.name: info.default for info in parameter_infos(entry.parameters)}
    return {
        "stage": stage, "method": name, "title": entry.title, "reference": entry.reference,
        "parameters": parameters,
    }  # fmt: skip


def add_map(viewer, name="χ TKD"):
    chi = np.zeros(SHAPE, np.float32)
    chi[1:-1, 1:-1, 1:-1] = np.random.default_rng(0).normal(0, 0.05, np.subtract(SHAPE, 2))
    metadata = {
        "quantity": "susceptibility",
        "orientation": "IPL",
        "b0_direction": (1.0, 0.0, 0.0),
        "record": {"steps": [step_of("inversion", "tkd")]},
    }
    return viewer.add_image(
        chi, name=name, scale=(3.0, 0.8, 0.7), units=("mm",) * 3, metadata={"metaqsm": metadata}
    )


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    add_map(viewer)
    return viewer


@pytest.fixture
def desk(viewer):
    desk = Desk(viewer)
    yield desk
    desk.release()


@pytest.fixture
def panel(desk, qtbot):
    panel = ReportPanel(desk)
    qtbot.addWidget(panel)
    yield panel
    panel.release()


@pytest.fixture
def opened(monkeypatch):
    """What was to be shown in the browser."""
    urls = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: urls.append(url.toLocalFile()))
    return urls


def written(panel, folder, qtbot):
    panel.write(folder)
    qtbot.waitUntil(lambda: panel.status.text().startswith(("Written", "Failed")), timeout=60_000)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_it_writes_what_was_typed_and_chosen(panel, qtbot, tmp_path, opened):
    panel.title.setText("A head")
    panel.comment.setPlainText("line one\nline two")
    for name in ("pictures", "acquisition"):
        panel.included[name].setChecked(False)
    page = written(panel, tmp_path, qtbot)
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES
    for text in ("A head", "line one\nline two", PARTS["findings"], PARTS["pipeline"], "χ TKD"):
        assert text in page
    for name in ("pictures", "acquisition", "regions", "spots"):
        assert f"<h2>{PARTS[name]}</h2>" not in page
    assert opened == []


def test_it_opens_the_page_only_where_asked(panel, qtbot, tmp_path, opened):
    panel.included["pictures"].setChecked(False)
    panel.open_when_done.setChecked(True)
    written(panel, tmp_path, qtbot)
    assert opened == [str(tmp_path / "report.html")]


def test_slices_are_those_where_the_viewer_stands(panel, desk, qtbot, tmp_path):
    desk.go_to((2, 3, 4))
    panel.slices.setCurrentIndex(panel.slices.findData(HERE))
    page = written(panel, tmp_path, qtbot)
    # Axes run to inferior, posterior and left: counted from the feet, the left and the back.
    assert (
        "axial 8 of 10 from the feet, sagittal 10 of 14 from the left, coronal 9 of 12 from the back" in page
    )
    assert "data:image/png;base64," in page


def test_what_other_panels_measured_is_in_it(desk, qtbot, tmp_path):
    labels = np.zeros(SHAPE, int)
    labels[3:6, 3:6, 3:6] = 1
    measures = measure_regions(desk.study(), labels, {1: "the nucleus"})
    panel = ReportPanel(desk, lambda: Parts(regions=measures, findings=[], unit="ppb"))
    qtbot.addWidget(panel)
    panel.included["pictures"].setChecked(False)
    page = written(panel, tmp_path, qtbot)
    assert "the nucleus" in page
    assert "mean ± SD ppb" in page
    panel.release()


def test_methods_and_bibtex_are_copied(panel):
    panel.methods_button.click()
    text = QGuiApplication.clipboard().text()
    assert "truncated k-space division (TKD) [1] (threshold 0.2" in text
    assert "doi:10.1002/mrm.22135" in text
    assert panel.status.text() == "Copied the methods: 2 references"
    panel.bibtex_button.click()
    assert QGuiApplication.clipboard().text().startswith("@article{shmueli2009,")


def test_without_a_map_nothing_can_be_reported(panel, desk, viewer, qtbot):
    desk.choose([])
    qtbot.waitUntil(lambda: not panel.report_button.isEnabled(), timeout=30_000)
    assert not panel.methods_button.isEnabled()
    assert "No map is chosen" in panel.status.text()
    assert panel.documents() == []
    add_map(viewer, "again")
    qtbot.waitUntil(panel.report_button.isEnabled, timeout=30_000)
    assert panel.status.text() == ""


def test_a_folder_that_cannot_be_written_to_is_said(panel, qtbot, tmp_path):
    (tmp_path / "file").write_text("in the way")
    panel.included["pictures"].setChecked(False)
    panel.write(tmp_path / "file")
    qtbot.waitUntil(lambda: "cannot be written to" in panel.status.text(), timeout=60_000)
    qtbot.waitUntil(panel.report_button.isEnabled, timeout=30_000)


def test_documents_write_themselves_into_a_folder(panel, tmp_path):
    panel.included["pictures"].setChecked(False)
    (document,) = panel.documents()
    document(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == FILES


def test_choices_come_back(panel, desk, qtbot):
    panel.title.setText("A head")
    panel.comment.setPlainText("said")
    panel.included["spots"].setChecked(False)
    panel.slices.setCurrentIndex(panel.slices.findData(HERE))
    other = ReportPanel(desk)
    qtbot.addWidget(other)
    other.restore(panel.state())
    assert other.state() == panel.state()
    assert "spots" not in other.wishes().parts
    assert other.wishes().voxels == (desk.voxel,)
    other.restore({})
    assert other.wishes().parts == tuple(PARTS)
    other.release()


def test_closing_leaves_nothing_behind(desk, qtbot):
    before = desk.receivers(desk.changed)
    for _ in range(50):
        panel = ReportPanel(desk)
        panel.release()
        panel.deleteLater()
    gc.collect()
    assert desk.receivers(desk.changed) == before

"""One reading from beginning to end in a real window, as a radiologist would do it."""

import csv
import json

import numpy as np
import pytest
from napari.layers import Layer

from napari_metaqsm.plugin.chain import SusceptibilityMapping
from napari_metaqsm.plugin.layers import metadata_of
from napari_metaqsm.plugin.reading.room import ReadingRoom
from napari_metaqsm.plugin.samples import philips_two_echoes
from napari_metaqsm.plugin.zero import zero_record

pytestmark = pytest.mark.window

METHODS = ("tkd", "l2", "metaqsm")
# In the straight sinus of the real head, and in tissue: (z, y, x) of the layers.
VEIN, TISSUE = (26, 52, 39), (26, 40, 25)


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    viewer = make_napari_viewer_proxy(show=True)
    viewer.window.resize(1500, 950)
    return viewer


def open_room(viewer, qtbot):
    room = ReadingRoom(viewer)
    viewer.window.add_dock_widget(room, name="Reading room")
    qtbot.waitUntil(lambda: room.measures.isVisible(), timeout=10_000)
    return room


def paint(layer, centre, label):
    layer.selected_label = label
    layer.brush_size = 5
    layer.n_edit_dimensions = 2
    layer.paint(centre, label)


def test_a_reading_from_the_sample_to_the_report_and_back(viewer, qtbot, tmp_path):
    # ---- open the sample and run three methods
    for layer in philips_two_echoes():
        viewer.add_layer(Layer.create(*layer))
    chain = SusceptibilityMapping(viewer)
    viewer.window.add_dock_widget(chain, name="Susceptibility mapping")
    for name, box in chain.inversion.boxes.items():
        box.setChecked(name in METHODS)
    chain.run_button.click()
    qtbot.waitUntil(lambda: not chain.is_running, timeout=300_000)
    room = open_room(viewer, qtbot)
    titles = [layer.name for layer in room.desk.maps]
    assert len(titles) == 3

    # ---- compare them
    room.look.open_button.click()
    assert room.look.comparison is not None
    assert viewer.canvas.grid.enabled

    # ---- draw two regions; their figures are those of numpy
    room.regions.choice.new_layer.click()
    labels = room.regions.labels_layer
    paint(labels, VEIN, 1)
    paint(labels, TISSUE, 2)
    qtbot.waitUntil(
        lambda: room.regions.measures is not None and len(room.regions.measures) == 2, timeout=20_000
    )
    for label in (1, 2):
        region = room.regions.measures.region(label)
        for title in titles:
            chi = viewer.layers[title].data
            inside = (labels.data == label) & (chi != 0)
            assert region.maps[title].mean == pytest.approx(chi[inside].mean(dtype=float), abs=1e-6)
            assert region.maps[title].sd == pytest.approx(chi[inside].std(ddof=1, dtype=float), rel=1e-4)
        assert region.volume_mm3 == pytest.approx((labels.data == label).sum() * np.prod(labels.scale))
    vein, tissue = (room.regions.measures.region(n).maps[titles[0]].mean for n in (1, 2))
    assert vein > tissue + 0.05

    # ---- probe the vein
    room.spots.probe(VEIN)
    qtbot.waitUntil(lambda: len(room.spots.spots) == 1, timeout=20_000)
    assert room.spots.spots[0].sign > 0

    # ---- take the tissue as zero: every map, table and spot follows
    before = room.spots.spots[0].to_dict()
    room.maps.zero.setCurrentText("A region")
    room.maps.zero.activated.emit(room.maps.zero.currentIndex())
    room.maps.region.setCurrentText(labels.name)
    room.maps.label.setValue(2)
    room.maps.apply.click()

    def followed():
        measures = room.regions.measures
        return measures is not None and all(abs(m.mean) < 1e-6 for m in measures.region(2).maps.values())

    qtbot.waitUntil(followed, timeout=30_000)
    qtbot.waitUntil(lambda: room.spots.spots[0].to_dict() != before, timeout=30_000)
    assert all("sd_ppm" in zero_record(viewer.layers[title]) for title in titles)

    # ---- report
    room.report.title.setText("A walk through the room")
    room.report.write(tmp_path / "report")
    qtbot.waitUntil(lambda: (tmp_path / "report" / "report.html").exists(), timeout=120_000)
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "A walk through the room" in page
    assert "RESHARP" in page
    assert (tmp_path / "report" / "report.pdf").read_bytes().startswith(b"%PDF")

    # ---- save everything, close, and open it again
    with qtbot.waitSignal(room.ended, timeout=300_000) as done:
        room.save(tmp_path / "kept")
    assert done.args == [True], room.status.text()
    names = {file.name for file in (tmp_path / "kept").iterdir()}
    assert {"session.json", "report.pdf", "regions.csv", "histogram.svg", "methods.txt"} <= names
    rows = list(csv.DictReader((tmp_path / "kept" / "regions.csv").read_text().splitlines()))
    assert len(rows) == 6
    spots, measures = room.spots.state(), room.regions.measures
    kept = {title: viewer.layers[title].data.copy() for title in titles}
    point = viewer.dims.point
    chain.release()
    room.release()
    viewer.layers.clear()
    room = open_room(viewer, qtbot)
    with qtbot.waitSignal(room.ended, timeout=300_000):
        room.open(tmp_path / "kept")
    assert [layer.name for layer in room.desk.maps] == titles
    for title in titles:
        np.testing.assert_allclose(viewer.layers[title].data, kept[title], atol=1e-6)
        assert zero_record(viewer.layers[title])["voxels"] > 0
        assert metadata_of(viewer.layers[title])["record"]["steps"]
    assert room.look.comparison is not None
    assert viewer.dims.point == pytest.approx(point)
    qtbot.waitUntil(lambda: len(room.spots.spots) == 1, timeout=30_000)
    assert json.dumps(room.spots.state()[0]["clicked"]) == json.dumps(spots[0]["clicked"])
    qtbot.waitUntil(lambda: room.regions.measures is not None, timeout=30_000)
    for region in measures:
        again = room.regions.measures.region(region.label)
        assert again.maps[titles[0]].mean == pytest.approx(region.maps[titles[0]].mean, abs=1e-6)
    room.release()

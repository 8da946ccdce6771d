"""The samples of the File menu, and the demo, as napari opens them."""

import numpy as np
import pytest

from napari_metaqsm.method import DEFAULT_INVERSIONS
from napari_metaqsm.plugin.demo import open_demo
from napari_metaqsm.plugin.layers import geometry_of
from napari_metaqsm.plugin.samples import philips_two_echoes
from napari_metaqsm.plugin.section import State


def test_the_real_head_is_two_paired_echo_layers():
    (phase, about, _), (magnitude, *_) = philips_two_echoes()
    assert phase.shape == magnitude.shape == (2, 53, 80, 80)
    known = about["metadata"]["metaqsm"]
    assert known["acquisition"].b0_tesla == 3
    assert known["quantity"] == "phase"


@pytest.mark.window
def test_the_synthetic_head_opens_without_holding_up_the_window(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    beats = []
    from qtpy.QtCore import QTimer

    timer = QTimer()
    timer.timeout.connect(lambda: beats.append(1))
    timer.start(50)
    viewer.open_sample("napari-metaqsm", "synthetic_head")
    timer.stop()
    assert len(beats) > 5  # the event loop went on while the head was made
    truth = next(layer for layer in viewer.layers if "χ" in layer.name)
    assert geometry_of(truth).voxel_size_mm == pytest.approx((3.0, 0.75, 0.75))
    phase = next(layer for layer in viewer.layers if layer.name.startswith("phase"))
    assert phase.data.shape == (5, *truth.data.shape)
    assert np.ptp(truth.data) > 0.5


@pytest.mark.window
def test_the_demo_runs_the_chain_and_opens_the_comparison(make_napari_viewer, qtbot):
    make_napari_viewer()  # so that what opens is also closed and checked for leaks
    viewer, chain = open_demo()
    try:
        qtbot.waitUntil(lambda: chain.compare.comparison is not None, timeout=120_000)
        assert len(chain.compare.comparison.layers) == len(DEFAULT_INVERSIONS)
        assert chain.inversion.state is State.DONE
        assert viewer.canvas.grid.enabled
    finally:
        viewer.close()

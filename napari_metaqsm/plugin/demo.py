"""``metaqsm demo`` in a window: the real head, the chain run, the comparison up."""

from __future__ import annotations

import napari

from napari_metaqsm.io.resources import resource
from napari_metaqsm.plugin.chain import SusceptibilityMapping
from napari_metaqsm.plugin.samples import REAL_HEAD

BASAL_GANGLIA_MM = 72.0  # below the top slice


def open_demo() -> tuple[napari.Viewer, SusceptibilityMapping]:
    """A viewer with the real head, its chain running; the comparison opens when that has ended."""
    viewer = napari.Viewer(title="Meta-QSM")
    viewer.open(resource(REAL_HEAD), plugin="napari-metaqsm")
    _, chain = viewer.window.add_plugin_dock_widget("napari-metaqsm", "Susceptibility mapping")

    def compare_once() -> None:
        chain.ended.disconnect(compare_once)
        if len(chain.compare.checked()) > 1:  # else the chain says what went wrong
            chain.compare.toggle()
            viewer.dims.set_point(viewer.dims.ndim - 3, BASAL_GANGLIA_MM)

    chain.ended.connect(compare_once)
    chain.run_all()
    return viewer, chain


def show_demo() -> None:
    """Open the demo and stay until its window is closed."""
    open_demo()
    napari.run()

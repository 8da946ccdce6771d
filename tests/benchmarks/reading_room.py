"""How long the next slice takes in a comparison of four maps, outlines and cross hair on, in a real window.

``python tests/benchmarks/reading_room.py``, on a screen or under Xvfb; ``--planes`` adds the rows of the
other planes, ``--bare`` shows the maps in napari's own grid and nothing else. Prints milliseconds for each
change of the slice: until all has been told and computed, and until it stands on the screen, which without a
graphics card is mostly the painting. Of each also the processor's time of the window's thread, which other
work on the machine does not lengthen.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("NAPARI_CONFIG", os.path.join(tempfile.mkdtemp(), "settings.yaml"))

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_metaqsm.plugin.compare import compare
from napari_metaqsm.plugin.reading.look_state import Look
from napari_metaqsm.plugin.reading.planes import PLANES

SHAPE = (128, 512, 512)
SIZE_MM = (1.25, 0.45, 0.45)
MAPS = 4
CHANGES = 40
GOAL_MS = 50


def head() -> tuple[list[np.ndarray], np.ndarray]:
    """Maps of smooth noise in an ellipsoid."""
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in SHAPE]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    mask = z**2 + (y / 0.9) ** 2 + (x / 0.75) ** 2 < 1
    waves = np.sin(23 * y) * np.cos(19 * x) * np.cos(11 * z)
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.02, SHAPE[1:]).astype(np.float32)
    return [(0.05 * (k + 1) / MAPS * waves + noise) * mask for k in range(MAPS)], mask


def measure(change: Callable[[int], None], application: QApplication) -> np.ndarray:
    """(change, 4) ms: told, shown, and the processor's time of either."""
    rows = []
    for step in range(CHANGES):
        clock, thread = time.perf_counter(), time.thread_time()
        change(step)
        told, told_thread = time.perf_counter() - clock, time.thread_time() - thread
        application.processEvents()
        shown, shown_thread = time.perf_counter() - clock, time.thread_time() - thread
        rows.append((told, shown, told_thread, shown_thread))
    return 1e3 * np.array(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--planes", action="store_true", help="all three planes as rows")
    parser.add_argument(
        "--bare", action="store_true", help="napari's own grid of the same maps, for comparison"
    )
    chosen = parser.parse_args()
    viewer = napari.Viewer(show=False)
    viewer.window.resize(1600, 1000)
    viewer.show()
    application = QApplication.instance()
    maps, mask = head()
    place = {"scale": SIZE_MM, "units": ("mm",) * 3}
    known = {
        "quantity": "susceptibility",
        "unit": "ppm",
        "orientation": "IPL",
        "b0_direction": (1.0, 0.0, 0.0),
    }
    layers = [
        viewer.add_image(
            values,
            name=f"χ {number}",
            contrast_limits=(-0.1, 0.1),
            interpolation2d="linear",
            metadata={"metaqsm": known},
            **place,
        )
        for number, values in enumerate(maps)
    ]
    outline = viewer.add_labels(mask.astype(np.uint8), name="mask", visible=False, **place)
    if chosen.bare:
        viewer.canvas.grid.shape, viewer.canvas.grid.enabled = (-1, MAPS), True
    else:
        planes = tuple(PLANES) if chosen.planes else ("axial",)
        compare(viewer, layers, look=Look(planes=planes), mask=outline)
    for _ in range(20):
        application.processEvents()
        time.sleep(0.02)
    middle = SHAPE[0] // 2 - CHANGES // 2
    found = measure(lambda step: viewer.dims.set_point(0, (middle + step) * SIZE_MM[0]), application)
    titles = ("told", "on the screen", "told, processor", "on the screen, processor")
    print(f"{MAPS} maps of {'×'.join(map(str, SHAPE[::-1]))}, {CHANGES} slices; goal: {GOAL_MS} ms")
    for title, values in zip(titles, found.T, strict=True):
        print(f"{title:26s} median {np.median(values):6.1f} ms, worst {values.max():6.1f} ms")
    viewer.close()


if __name__ == "__main__":
    main()

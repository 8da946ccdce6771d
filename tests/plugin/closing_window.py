"""A window with every kind of work under way, which is then closed; run by test_window_faults.

Arguments: a folder of DICOM, and one to write into. Prints what was under way.
"""

import sys
import time
from pathlib import Path

import napari
import numpy as np
from napari.layers import Layer
from qtpy.QtCore import QTimer

from napari_metaqsm.io.nifti import space_from
from napari_metaqsm.plugin.chain import SusceptibilityMapping
from napari_metaqsm.plugin.layers import layer_data
from napari_metaqsm.plugin.reading.room import ReadingRoom
from napari_metaqsm.scan import Acquisition, Geometry

AFTER_MS = 200
WORKING_S = 0.2


def main(dicom: str, out: Path) -> None:
    """Open, start everything, close."""
    geometry = Geometry((128, 128, 80), (1.0, 1.0, 1.5))
    space, noise = space_from(geometry), np.random.default_rng(0)
    field = noise.normal(0, 0.05, geometry.shape).astype(np.float32)
    mask = np.zeros(geometry.shape, bool)
    mask[8:-8, 8:-8, 8:-8] = True
    values = {"susceptibility": field * mask, "local_field": field * mask, "mask": mask}
    viewer = napari.Viewer(show=True)
    for quantity, array in values.items():
        layer = layer_data(array, space, quantity, quantity, Acquisition((0.01,), 3.0))
        viewer.add_layer(Layer.create(*layer))
    chain, room = SusceptibilityMapping(viewer), ReadingRoom(viewer)
    viewer.window.add_dock_widget(chain, name="chain")
    viewer.window.add_dock_widget(room, name="room", tabify=True)
    for name, box in chain.inversion.boxes.items():
        box.setChecked(name == "tv")
    room.pacs.source.setText(dicom)
    room.pacs.source.setModified(True)
    room.pacs.out.setText(str(out / "exported"))
    chain.inversion.run_button.click()  # long: it tells of itself while the window is painted

    def close() -> None:
        chain.scan.open([dicom])
        room.save(out / "saved")
        room.report.write(out / "report")
        room.pacs.export()
        # This thread does not look up, theirs work: what ends by now is told to a window that closes.
        time.sleep(WORKING_S)
        busy = [chain.is_running, not chain.scan.run_button.isEnabled()]
        busy += [not room.save_button.isEnabled(), not room.report.report_button.isEnabled()]
        busy += [not room.pacs.export_button.isEnabled()]
        print("busy", *busy, flush=True)
        print("closed", time.time(), flush=True)
        viewer.close()

    QTimer.singleShot(AFTER_MS, close)
    napari.run()
    print("ended", time.time(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

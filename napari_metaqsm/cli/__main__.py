"""``python -m napari_metaqsm.cli``."""

from napari_metaqsm.cli import main

main()

"""The plugin as npe2 finds it, and settings of napari that are not the user's own."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
from npe2 import PluginManifest

os.environ["NAPARI_CONFIG"] = os.path.join(tempfile.mkdtemp(), "settings.yaml")

from napari_metaqsm.plugin import beforehand

# The maker of DICOM, which stands beside the tests of what reads it.
sys.path.insert(0, str(Path(__file__).parents[1] / "io" / "dicom"))

MANIFEST = Path(__file__).parents[2] / "napari.yaml"


@pytest.fixture(autouse=True)
def times_file(monkeypatch, tmp_path):
    """No user's times are read or written, and none are measured unless a test asks for it."""
    file = tmp_path / "times.json"
    monkeypatch.setattr(beforehand, "times_file", lambda: file)
    monkeypatch.setattr(beforehand, "MEASURE_PAUSE_MS", 10**8)
    return file


@pytest.fixture
def plugin(npe2pm):
    """This plugin alone, from the manifest."""
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(MANIFEST)) as dynamic:
        yield dynamic

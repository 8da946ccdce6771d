"""The plugin as npe2 finds it, and settings of napari that are not the user's own."""

import os
import tempfile
from pathlib import Path

import pytest
from npe2 import PluginManifest

os.environ["NAPARI_CONFIG"] = os.path.join(tempfile.mkdtemp(), "settings.yaml")

MANIFEST = Path(__file__).parents[2] / "napari.yaml"


@pytest.fixture
def plugin(npe2pm):
    """This plugin alone, from the manifest."""
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(MANIFEST)) as dynamic:
        yield dynamic

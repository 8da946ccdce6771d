"""Settings of napari that the tests neither read from nor write into the user's own."""

import os
import tempfile

os.environ["NAPARI_CONFIG"] = os.path.join(tempfile.mkdtemp(), "settings.yaml")

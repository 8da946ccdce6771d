"""The napari side: the only place that imports napari or Qt. No mathematics here."""

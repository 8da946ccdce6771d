"""Files in and out: NIfTI, sidecars, pairing by name. No napari here."""

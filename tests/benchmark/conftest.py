"""A folder of label maps in which only the two validation heads can be read."""

import nibabel as nib
import numpy as np
import pytest

from napari_metaqsm.benchmark.synthetic import validation_heads
from napari_metaqsm.io.resources import resource


@pytest.fixture(scope="session")
def labels(tmp_path_factory):
    """The bundled head at 2 mm as number 19, and flipped as 20; 18 is no image at all."""
    folder = tmp_path_factory.mktemp("labels")
    image = nib.load(resource("samples/labels/head_labels.nii.gz"))
    head = np.asarray(image.dataobj)[::2, ::2, ::2]
    for number, values in ((19, head), (20, head[::-1])):
        nib.save(
            nib.Nifti1Image(np.ascontiguousarray(values), np.diag([2, 2, 2, 1.0])),
            folder / f"seg_{number}.nii.gz",
        )
    (folder / "seg_18.nii.gz").write_bytes(b"a training head")
    return folder


@pytest.fixture(scope="session")
def heads(labels):
    return validation_heads(labels)

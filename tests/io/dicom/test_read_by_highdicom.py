"""What was exported, as another reader of DICOM has it: values in ppm, at their places."""

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.mark.parametrize(("kind", "tolerance_ppm"), [("parametric map", 0), ("mr series", 0.00051)])
def test_it_is_the_map_where_the_map_lies(exported, kind, tolerance_ppm):
    if kind == "parametric map":
        volume = highdicom.imread(exported.one).get_volume(apply_real_world_transform=True, dtype=np.float64)
    else:
        images = [pydicom.dcmread(path) for path in exported.series]
        volume = highdicom.get_volume_from_series(images, apply_real_world_transform=True, dtype=np.float64)
    read = nib.as_closest_canonical(nib.Nifti1Image(volume.array, LPS @ volume.affine))
    own = nib.as_closest_canonical(nib.Nifti1Image(exported.chi, exported.space.affine))
    np.testing.assert_allclose(read.affine, own.affine, atol=1e-3)
    np.testing.assert_allclose(read.get_fdata(), own.get_fdata(), rtol=0, atol=tolerance_ppm)

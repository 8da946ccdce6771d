"""Where an image has its edges: the differences that a penalty on gradients leaves free."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_metaqsm.operators.gradient import gradient
from napari_metaqsm.scan import Geometry


def strongest_differences(image: Tensor, mask: Tensor, geometry: Geometry, share: float) -> Tensor:
    """The strongest forward differences, per mm, of ``image`` cut out by ``mask``: (3, i, j, k) bool.

    Parameters
    ----------
    image : (i, j, k); outside ``mask`` it may be anything, even NaN
    mask : (i, j, k) bool; its boundary is an edge like any other
    share : of the three differences of each voxel of the mask; fewer where not so many differ from zero

    Notes
    -----
    Differences are periodic, and those equal to the weakest chosen are chosen too. Outside the mask and
    beyond its boundary there is no difference, and so no edge.
    """
    differences = gradient(torch.where(mask, image, 0), geometry.voxel_size_mm, periodic=True).abs_()
    present = differences[differences > 0]
    wanted = round(3 * share * int(mask.sum()))
    if wanted >= present.numel():
        return differences > 0
    if wanted == 0:
        return torch.zeros_like(differences, dtype=torch.bool)
    return differences >= present.kthvalue(present.numel() - wanted + 1).values

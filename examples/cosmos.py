"""One map from several head orientations: ``python cosmos.py [PICTURE]``.

The synthetic head is put into four positions, its fields are made with noise, and COSMOS is held against
TKD, which has one of the fields alone.
"""

import dataclasses
import sys

import numpy as np
import torch

import napari_metaqsm as mq
from napari_metaqsm.evaluation.metrics import nrmse
from napari_metaqsm.evaluation.picture import comparison_picture
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.simulation.head import synthetic_head

picture = sys.argv[1] if len(sys.argv) > 1 else "cosmos.png"
directions = [(0, 0, 1), (0.34, 0, 0.94), (-0.34, 0, 0.94), (0, 0.34, 0.94)]  # tilted by 20 degrees

scan, truth = synthetic_head(seed=0, voxel_size_mm=(1.5, 1.5, 3.0), echo_times_s=(0.02,))
chi, mask, geometry = truth["susceptibility"], truth["mask"], scan.geometry
generator = np.random.default_rng(0)
fields = []
for direction in directions:
    turned = dataclasses.replace(geometry, b0_direction=direction)
    field = dipole_field(torch.from_numpy(chi), turned).numpy()
    fields.append(field + generator.normal(0, 0.001, chi.shape).astype(np.float32))

maps = {
    "COSMOS": mq.combine_orientations(fields, mask, geometry.voxel_size_mm, directions),
    "COSMOS, closed form": mq.combine_orientations(
        fields, mask, geometry.voxel_size_mm, directions, fit="closed form"
    ),
    "TKD, one field": mq.invert(fields[0], mask, geometry.voxel_size_mm, "tkd", directions[0]),
}
for title, found in maps.items():
    maps[title], _ = mq.reference(found, mask, mask)
    print(f"{title:20} NRMSE {nrmse(maps[title], chi, mask):5.1f} %")
comparison_picture({"Truth": chi, **maps}, geometry).save(picture)
print("written:", picture)

"""Every inversion method on one local field, as a picture: ``python compare_methods.py [PICTURE]``.

The scan is synthetic, so that the truth stands beside the maps.
"""

import sys

import napari_metaqsm as mq
from napari_metaqsm.errors import InputError
from napari_metaqsm.evaluation.metrics import nrmse, xsim
from napari_metaqsm.evaluation.picture import comparison_picture
from napari_metaqsm.simulation.head import synthetic_head

picture = sys.argv[1] if len(sys.argv) > 1 else "comparison.png"

scan, truth = synthetic_head(seed=0)
chi, mask, geometry = truth["susceptibility"], truth["mask"], scan.geometry
maps = {"Truth": chi}
for entry in mq.methods("inversion"):
    try:
        found = mq.invert(
            truth["local_field"],
            mask,
            geometry.voxel_size_mm,
            entry.name,
            geometry.b0_direction,
            magnitude=scan.magnitude,
            acquisition=scan.acquisition,
        )
    except InputError as error:  # Mesa-QSM takes no voxels but those it was trained for
        print(f"{entry.title:16} {error}")
        continue
    maps[entry.title], _ = mq.reference(found, mask, mask)
    print(f"{entry.title:16} NRMSE {nrmse(found, chi, mask):5.1f} %  XSIM {xsim(found, chi, mask):.3f}")
comparison_picture(maps, geometry).save(picture)
print("written:", picture)

"""Every inversion method on one local field: ``python compare_methods.py [PICTURE [METHODS [VOXEL]]]``.

The scan is synthetic, so that the truth stands beside the maps. METHODS are names with commas between them,
as tkd,l2,metaqsm; without them it is all methods, in a minute. VOXEL are the three sizes of a voxel in mm, as
1.5,1.5,3.
"""

import sys
import time

import napari_metaqsm as mq
from napari_metaqsm.errors import InputError
from napari_metaqsm.evaluation.metrics import nrmse, xsim
from napari_metaqsm.evaluation.picture import comparison_picture
from napari_metaqsm.simulation.head import synthetic_head

picture = sys.argv[1] if len(sys.argv) > 1 else "comparison.png"
chosen = sys.argv[2].split(",") if len(sys.argv) > 2 else [entry.name for entry in mq.methods("inversion")]
sizes = sys.argv[3] if len(sys.argv) > 3 else "0.75,0.75,3"

# The true local field is inverted, so that nothing but the inversion differs. It holds what no dipole model
# explains: signal and field are means over finer voxels.
scan, truth = synthetic_head(seed=0, voxel_size_mm=tuple(map(float, sizes.split(","))))
chi, mask, geometry = truth["susceptibility"], truth["mask"], scan.geometry
maps = {"Truth": chi}
for entry in mq.methods("inversion"):
    if entry.name not in chosen:
        continue
    begun = time.perf_counter()
    try:
        found = mq.invert(
            truth["local_field"],
            mask,
            geometry.voxel_size_mm,
            entry.name,
            geometry.b0_direction,
            magnitude=scan.magnitude,  # some methods take edges and noise from it
            acquisition=scan.acquisition,
        )
    except InputError as error:  # a method may not take every scan, such as a network of one voxel size
        print(f"{entry.title:16} {error}")
        continue
    seconds = time.perf_counter() - begun
    # Both at the same zero: the mean of the brain.
    maps[entry.title], _ = mq.reference(found, mask, mask)
    # NRMSE weighs every voxel alike; XSIM is the similarity of structures as radiologists look at them.
    scores = f"NRMSE {nrmse(found, chi, mask):5.1f} %  XSIM {xsim(found, chi, mask):.3f}"
    print(f"{entry.title:16} {scores}  {seconds:5.1f} s")
comparison_picture(maps, geometry).save(picture)
print("written:", picture)

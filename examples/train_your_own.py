"""Train a network and invert with it: ``python train_your_own.py [FOLDER [MINUTES]]``.

Without MINUTES it is one: enough to see every part at work, not for a good network. It needs no data (scans
are made from geometric shapes as training goes) and the extra ``train``.
"""

import sys
import tempfile
from pathlib import Path

import napari_metaqsm as mq
from napari_metaqsm.evaluation.metrics import nrmse
from napari_metaqsm.evaluation.picture import comparison_picture
from napari_metaqsm.simulation.head import synthetic_head
from napari_metaqsm.training.config import read_configuration
from napari_metaqsm.training.fit import train

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="metaqsm-"))
minutes = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0

# The recipe is a file; what stands in it can be set here as well. train.toml is that of the shipped weights.
recipe = Path(__file__).with_name("train_small.toml")
configuration = read_configuration(recipe, [f"optimisation.minutes={minutes}"])
print(f"training for {minutes:g} minutes ...")
report = train(configuration, folder / "run")
print(report)  # what it reached on scans that it never saw, beside the closed-form L2

# A head that is nothing like the shapes it was trained with.
scan, truth = synthetic_head(seed=0, voxel_size_mm=(1.2, 1.2, 3.0), echo_times_s=(0.006, 0.012, 0.018))
chi, mask, geometry = truth["susceptibility"], truth["mask"], scan.geometry
maps = {"Truth": chi}
for title, method, parameters in (
    ("Your own", "metaqsm", {"weights": str(report.weights)}),
    ("Shipped", "metaqsm", {}),
    ("Closed-form L2", "l2", {}),
):
    # Its record would hold the hash of the weights: mq.make_step and mq.reconstruct, as for any method.
    found = mq.invert(
        truth["local_field"], mask, geometry.voxel_size_mm, method, magnitude=scan.magnitude, **parameters
    )
    maps[title], _ = mq.reference(found, mask, mask)
    print(f"{title:16} NRMSE {nrmse(maps[title], chi, mask):5.1f} %")
picture = folder / "trained.png"
comparison_picture(maps, geometry).save(picture)
print("written:", report.weights, picture, sep="\n  ")

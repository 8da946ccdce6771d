"""From the files of a scan to susceptibility maps: ``python reconstruct_one_scan.py [FOLDER [OUT]]``.

Without a folder the bundled real head is taken (two echoes at 3 T).
"""

import sys

import napari_metaqsm as mq
from napari_metaqsm.io.resources import resource

folder = sys.argv[1] if len(sys.argv) > 1 else resource("samples/philips_2echo")
out = sys.argv[2] if len(sys.argv) > 2 else "maps"

scan = mq.load(folder)
chain = [
    mq.make_step("field", "nonlinear_fit"),
    mq.make_step("mask", "brain"),
    mq.make_step("background", "resharp", radius_mm=9),  # three voxels of this scan
    mq.make_step("inversion", "tkd", threshold=0.2),
]
result = mq.reconstruct(scan, chain)
for name, chi in result.susceptibilities.items():
    print(f"{name}: standard deviation {chi[chi != 0].std():.3f} ppm")
print("written:", *mq.save(result, out), sep="\n  ")

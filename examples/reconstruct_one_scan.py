"""From the files of a scan to susceptibility maps: ``python reconstruct_one_scan.py [FOLDER [OUT]]``.

Without a folder the bundled real head is taken (two echoes at 3 T). A folder may hold NIfTI files with their
sidecars, a mask among them at will, or DICOM files.
"""

import sys

import napari_metaqsm as mq
from napari_metaqsm.evaluation.picture import comparison_picture
from napari_metaqsm.io.resources import resource

folder = sys.argv[1] if len(sys.argv) > 1 else resource("samples/philips_2echo")
out = sys.argv[2] if len(sys.argv) > 2 else "maps"

# Names and sidecars tell which file is what, the echo times, the field strength and where B0 lies.
scan = mq.load(folder)
echoes = ", ".join(f"{1000 * time:.3g}" for time in scan.acquisition.echo_times_s)
print(f"{scan.geometry.shape} voxels, echoes at {echoes} ms, {scan.acquisition.b0_tesla:g} T")
for note in scan.notes:  # what had to be decided or assumed while reading
    print("note:", note)

# Every step names a registered method (`metaqsm methods` lists them) and what is not its default.
chain = [
    mq.make_step("field", "nonlinear_fit"),  # phase of all echoes -> total field
    *([] if scan.mask is not None else [mq.make_step("mask", "brain")]),  # a mask in the folder is taken
    # The background is told from spheres, so the mask loses their radius at its rim: here three voxels.
    mq.make_step("background", "resharp", radius_mm=9),
    mq.make_step("inversion", "tkd", threshold=0.2),  # several inversions at will, of one local field
    mq.make_step("inversion", "l2"),
]
result = mq.reconstruct(scan, chain)

# A map is known up to a constant; here zero is the mean of the brain. `reference="csf"` needs three echoes.
for name, chi in result.susceptibilities.items():
    print(f"{name}: standard deviation {chi[chi != 0].std():.3f} ppm")
for step in result.record["steps"]:  # the record has every parameter, and what the step found
    print(f"{step['title']}: {step['seconds']:.1f} s", *step["warnings"], sep="\n  ")

# NIfTI files where the input lay, with record.json; `metaqsm report OUT` makes a page of them.
files = mq.save(result, out)
picture = f"{out}/maps.png"
comparison_picture(result.susceptibilities, scan.geometry).save(picture)
print("written:", *files, picture, sep="\n  ")

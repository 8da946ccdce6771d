"""From a scanner's DICOM folder to maps that a PACS takes: ``python dicom_to_pacs.py FOLDER OUT [SERIES]``.

FOLDER holds magnitude and phase of one study, classic or enhanced, in any order and beside anything else.
SERIES are numbers with commas between them, as 8,9, where there are several runs. OUT gets the series;
sending them is left to the tools of the PACS.
"""

import sys

import napari_metaqsm as mq
from napari_metaqsm.io.dicom.export import export
from napari_metaqsm.io.dicom.opened import open_dicom
from napari_metaqsm.io.dicom.source import read_source

if len(sys.argv) < 3:
    sys.exit(__doc__)
folder, out = sys.argv[1:3]
series = [int(number) for number in sys.argv[3].split(",")] if len(sys.argv) > 3 else None

# Which series is what, the phase's scale and its sign are told from the headers, by the rules of the vendors.
# Read what was decided: a wrong sign turns veins dark, and `open_dicom(..., phase_sign=-1)` overrides it.
scan = open_dicom(folder, series=series)
for note in scan.notes:
    print("note:", note)

result = mq.reconstruct(scan, mq.default_chain(scan, inversion=["tkd", "l2"]))
for step in result.record["steps"]:
    for warning in step["warnings"]:
        print("warning:", warning)

# The maps become series of the study they were made from: its patient, its frame of reference. Two kinds, for
# not every PACS shows parametric maps: floats in ppm, and a classic series of whole ppb with a rescale slope.
files = export(
    result.susceptibilities,
    scan.space,
    read_source(folder),
    out,
    record=result.record,
    kind="both",
    window_ppm=(-0.1, 0.1),
    deidentify=False,  # True leaves out patient, dates and institution, and makes new UIDs
)
print("written:", *dict.fromkeys(str(file.parent) for file in files), sep="\n  ")

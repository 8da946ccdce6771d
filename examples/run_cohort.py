"""A cohort, from a BIDS dataset to the page of all scans: ``python run_cohort.py [FOLDER [HEADS [MASK]]]``.

A small dataset is made in FOLDER (else in a temporary one): the bundled real head, some synthetic heads
(HEADS of them, else 6), and a subject without phase, so that a failure is seen as well. MASK is a method of
masks, else brain.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from napari_metaqsm.cohort.run import run_cohort
from napari_metaqsm.io.nifti import space_from, write
from napari_metaqsm.io.resources import resource
from napari_metaqsm.simulation.head import synthetic_head


def make_dataset(dataset: Path, heads: int) -> None:
    """What a scanner's data look like after their conversion to BIDS: files and sidecars by agreed names."""
    (dataset / "sub-philips" / "anat").mkdir(parents=True)
    about = {"Name": "A small cohort", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (dataset / "dataset_description.json").write_text(json.dumps(about))
    for file in Path(resource("samples/philips_2echo")).glob("sub-*"):
        shutil.copy(file, dataset / "sub-philips" / "anat")
    for seed in range(1, heads + 1):
        scan, _ = synthetic_head(seed, (2.0, 2.0, 3.0), (0.006, 0.012, 0.018))
        folder = dataset / f"sub-head{seed}" / "anat"
        folder.mkdir(parents=True)
        for echo, echo_time in enumerate(scan.acquisition.echo_times_s):
            for part, array in (("mag", scan.magnitude), ("phase", scan.phase)):
                name = f"sub-head{seed}_echo-{echo + 1}_part-{part}_MEGRE"
                write(folder / f"{name}.nii.gz", array[echo], space_from(scan.geometry))
                sidecar = {"EchoTime": echo_time, "MagneticFieldStrength": scan.acquisition.b0_tesla}
                sidecar |= {"Units": "rad"} if part == "phase" else {}
                (folder / f"{name}.json").write_text(json.dumps(sidecar))
    shutil.copytree(dataset / "sub-philips", dataset / "sub-nophase")
    for file in (dataset / "sub-nophase" / "anat").iterdir():
        if "part-phase" in file.name:
            file.unlink()
        else:
            file.rename(file.with_name(file.name.replace("sub-philips", "sub-nophase")))


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="metaqsm-"))
    heads = int(sys.argv[2]) if len(sys.argv) > 2 else 6
    mask = sys.argv[3] if len(sys.argv) > 3 else "brain"
    make_dataset(folder / "dataset", heads)

    # The cohort itself. A second run does only what is missing or was made with other settings.
    out = folder / "derivatives"
    result = run_cohort(folder / "dataset", out, mask=mask, inversion=("tkd", "l2"))
    for failure in result.failed:
        print(f"{failure.label} failed: {failure.reason}")
    print(f"{result}\nlook at: {out / 'group.html'}")


# Dask's workers are processes that read this file again; only the first may run the cohort.
if __name__ == "__main__":
    main()

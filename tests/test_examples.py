"""The examples run as they stand, those that take minutes in a short form."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from napari_metaqsm.io.resources import resource

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def coarse_head(monkeypatch):
    """The synthetic head is made on the voxels of its scan, not on finer ones, which takes less time."""
    monkeypatch.setattr("napari_metaqsm.simulation.head.LONGEST_SIDE_MM", 3.0)


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run an example in an empty folder; what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_reconstruct_one_scan(run, tmp_path):
    """On the middle of the bundled head, with a mask, for to find one takes longer than all the rest."""
    folder = shutil.copytree(resource("samples/philips_2echo"), tmp_path / "head")
    for file in folder.glob("*.nii*"):
        image = nib.load(file).slicer[:, :, 14:40]
        nib.save(nib.Nifti1Image(np.array(image.dataobj), image.affine, image.header), file)
    magnitude = nib.load(next(folder.glob("*echo-1_part-mag*.nii*")))
    values = magnitude.get_fdata()
    mask = (values > 0.2 * values.max()).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, magnitude.affine), folder / "mask.nii.gz")
    out = run("reconstruct_one_scan.py", str(folder))
    assert "(80, 80, 26) voxels, echoes at 2.3, 4.6 ms, 3 T" in out
    assert "susceptibility_tkd" in out
    assert (tmp_path / "maps/maps.png").is_file()
    chi = nib.load(tmp_path / "maps/susceptibility_tkd.nii.gz").get_fdata()
    assert 0.02 < chi[chi != 0].std() < 0.1


def test_add_a_method(run, monkeypatch):
    from napari_metaqsm import method

    monkeypatch.setattr(method, "_REGISTRY", dict(method._REGISTRY))  # the example's own is taken back
    lines = run("add_a_method.py").splitlines()
    values = {line.split(":")[0]: float(line.split()[1]) for line in lines}
    assert 0.7 < values["tkd"] < 0.9
    assert 0.5 < values["tikhonov"] < 0.9


def test_compare_methods(coarse_head, run, tmp_path):
    out = run("compare_methods.py", "comparison.png", "tkd,l2,metaqsm,mesaqsm", "1.2,1.2,3")
    lines = [line for line in out.splitlines() if "NRMSE" in line]
    assert [line[:16].strip() for line in lines] == ["Closed-form L2", "Meta-QSM", "TKD"]
    assert "no Mesa-QSM weights fit 1.2×1.2×3 mm" in out
    picture = np.asarray(Image.open(tmp_path / "comparison.png"))
    assert len(np.unique(picture)) > 100


def test_cosmos(coarse_head, run, tmp_path):
    errors = {line[:20].strip(): float(line.split()[-2]) for line in run("cosmos.py").splitlines()[:3]}
    assert errors["COSMOS"] < 12
    assert errors["COSMOS"] < 0.5 * errors["COSMOS, closed form"]
    assert errors["COSMOS, closed form"] < 0.7 * errors["TKD, one field"]
    assert (tmp_path / "cosmos.png").is_file()


# ------------------------------------------------------------------------------- files and processes
def start(*command, cwd, **environment):
    """A process as a user starts it."""
    surroundings = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent), **environment}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=surroundings, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """The folder of the cohort's example without synthetic heads, and what it printed."""
    folder = tmp_path_factory.mktemp("cohort")
    done = start(sys.executable, EXAMPLES / "run_cohort.py", folder, "0", "threshold", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_run_cohort(cohort):
    folder, out = cohort
    assert "sub-nophase failed: there is magnitude, but no phase" in out
    assert "1 done, 0 done before, 1 failed" in out
    maps = folder / "derivatives/sub-philips/anat"
    chi = nib.load(maps / "sub-philips_desc-tkd_Chimap.nii.gz").get_fdata()
    assert 0.02 < chi[chi != 0].std() < 0.5  # a threshold leaves the skull in, too
    page = (folder / "derivatives/group.html").read_text(encoding="utf-8")
    for name in ("report.html", "picture.webp"):
        place = f"sub-philips/reports/sub-philips/{name}"
        assert f'"{place}"' in page
        assert (folder / "derivatives" / place).is_file()


@pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "dask", "metaqsm"))), reason="bash or an entry point is not there"
)
def test_cohort_on_slurm_with_its_task_on_this_machine(cohort, tmp_path):
    dataset = cohort[0] / "dataset"
    command = [
        "bash",
        EXAMPLES / "cohort_slurm.sh",
        dataset,
        tmp_path / "out",
        "--participant-label",
        "philips",
    ]
    chain = ["--fit", "weighted_mean", "--mask", "threshold", "--background", "vsharp", "--invert", "tkd"]
    done = start(*command, *chain, cwd=tmp_path, SRUN="", SLURM_SUBMIT_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/sub-philips/anat/sub-philips_desc-tkd_Chimap.nii.gz").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # the scheduler's file is gone


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not there")
def test_cohort_on_slurm_says_how_it_is_called(tmp_path):
    done = start("bash", EXAMPLES / "cohort_slurm.sh", cwd=tmp_path)
    assert done.returncode != 0
    assert "BIDS_DIR OUT_DIR" in done.stderr


def test_cohort_on_slurm_from_python_says_how_it_is_called(run):
    with pytest.raises(SystemExit, match="BIDS_DIR OUT_DIR"):
        run("cohort_slurm.py")


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")  # torch's own, within Lightning
def test_train_your_own(coarse_head, run, tmp_path):
    pytest.importorskip("lightning")
    lines = run("train_your_own.py", str(tmp_path), "0.01").splitlines()
    errors = {line[:16].strip(): float(line.split()[-2]) for line in lines if " NRMSE " in line}
    assert errors["Shipped"] < errors["Closed-form L2"]
    assert errors["Your own"] < 100
    assert (tmp_path / "run/weights.safetensors").is_file()
    assert (tmp_path / "trained.png").is_file()


@pytest.mark.filterwarnings("ignore:resharp. the radius of 6 mm")  # the example prints it
def test_dicom_to_pacs(run, shared, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    folder = shared / "data/scans/siemens_enhanced"
    run("dicom_to_pacs.py", str(folder), str(tmp_path / "out"))
    written = [pydicom.dcmread(file, stop_before_pixels=True) for file in tmp_path.rglob("*.dcm")]
    assert len({header.SeriesInstanceUID for header in written}) == 4  # two maps in two kinds
    assert len({(header.StudyInstanceUID, header.FrameOfReferenceUID) for header in written}) == 1

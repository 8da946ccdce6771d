"""The examples run as they stand."""

import runpy
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


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
    assert "susceptibility_tkd" in run("reconstruct_one_scan.py")
    chi = nib.load(tmp_path / "maps/susceptibility_tkd.nii.gz").get_fdata()
    assert 0.02 < chi[chi != 0].std() < 0.1


def test_add_a_method(run, monkeypatch):
    from napari_metaqsm import method

    monkeypatch.setattr(method, "_REGISTRY", dict(method._REGISTRY))  # the example's own is taken back
    lines = run("add_a_method.py").splitlines()
    values = {line.split(":")[0]: float(line.split()[1]) for line in lines}
    assert 0.7 < values["tkd"] < 0.9
    assert 0.5 < values["tikhonov"] < 0.9


def test_compare_methods(run, tmp_path):
    out = run("compare_methods.py")
    assert "TKD" in out
    assert "Closed-form L2" in out
    picture = np.asarray(Image.open(tmp_path / "comparison.png"))
    assert len(np.unique(picture)) > 100


def test_cosmos(run, tmp_path):
    errors = {line[:20].strip(): float(line.split()[-2]) for line in run("cosmos.py").splitlines()[:3]}
    assert errors["COSMOS"] < 12
    assert errors["COSMOS"] < 0.5 * errors["COSMOS, closed form"]
    assert errors["COSMOS, closed form"] < 0.7 * errors["TKD, one field"]
    assert (tmp_path / "cosmos.png").is_file()

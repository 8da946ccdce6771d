"""``metaqsm train`` as a user types it."""

import subprocess
import sys

import pytest

from napari_metaqsm import cli

# Lightning's own call, deprecated in the newest torch
pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")

RUN = """
[data]
samples_per_step = 1
validation_voxels_mm = [[1, 1, 1]]
[recipe]
shape = [16, 16, 8]
shape_count = [2, 4]
margin_mm = 0
[architecture]
width = 2
levels = 2
[optimisation]
steps = 2
[run]
device = "cpu"
log_every = 1
"""


@pytest.fixture
def metaqsm(monkeypatch, capsys, tmp_path):
    """Run ``metaqsm`` in a folder with a configuration: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(RUN)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["metaqsm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


def test_it_trains_and_goes_on_from_pieces_and_says_so(metaqsm, tmp_path):
    code, out, err = metaqsm("train", "run.toml", "--out", "first", "--set", "run.pieces=compact")
    assert code == 0
    assert out.startswith("finished at step 2: first/weights.safetensors")
    assert "100% step 2, loss" in err
    pieces = next((tmp_path / "first").glob("pieces-*"))
    code, out, err = metaqsm(
        "train", "run.toml", "--out", "second", "--resume", pieces, "--set", "optimisation.steps=3"
    )
    assert code == 0
    assert out.startswith("finished at step 3")
    assert "note: " in err
    assert "compact checkpoint" in err


def test_what_cannot_be_trained_ends_with_2_and_one_line(metaqsm, monkeypatch):
    for arguments, words in [
        (("nothing.toml",), "nothing.toml cannot be read"),
        (("run.toml", "--set", "data.labels=nowhere"), "it must be a folder of numbered label maps"),
        (("run.toml", "--resume", "nowhere"), "there is no checkpoint in nowhere"),
    ]:
        code, out, err = metaqsm("train", *arguments)
        assert (code, out) == (2, "")
        assert words in err
        assert err.count("\n") == 1
    monkeypatch.setattr(cli.learning, "find_spec", lambda name: None)
    code, _, err = metaqsm("train", "run.toml")
    assert code == 2
    assert (
        'training needs lightning and tensorboard; install them with: pip install "napari-metaqsm[train]"'
        in err
    )


def test_training_needs_no_window_and_none_of_what_only_the_chain_needs():
    code = "import sys, napari_metaqsm.training.fit; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not set(loaded.split()) & {"napari", "qtpy", "magicgui", "numba", "skimage", "deepbet"}

"""Names, places and values that programs trip over: in reading, saving, reporting, on the command line."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hostile import REPOSITORY, child, one_sentence, outcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_metaqsm import cli
from napari_metaqsm.io.load import load
from napari_metaqsm.io.nifti import check_writable, read, staged

SHAPE = (17, 20, 13)
NAMES = {
    "spaces": "a scan  of mine",
    "accents in two characters": "e\u0301tude\u0308",
    "right to left": "מוח",
    "emoji": "🧠🧲",
    "of no encoding": os.fsdecode(b"scan-\xff\xfe"),
    "a line break": "two\nlines",
    "quotes": 'it\'s "quoted" $HOME `x` %s {0}',
    "a leading hyphen": "-scan",
    "dots": "a.b..c",
    "longest of a name": "x" * 200,
}


@pytest.fixture
def metaqsm(monkeypatch, capfd, tmp_path):
    """Run ``metaqsm`` in an empty folder: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["metaqsm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capfd.readouterr()

    return run


def scan(folder: Path) -> Path:
    """A local field and a mask in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    inside = np.zeros(SHAPE, np.float32)
    inside[3:-3, 3:-3, 3:-3] = 1
    field = np.random.default_rng(0).normal(0, 0.02, SHAPE).astype(np.float32) * inside
    for name, array in (("local_field", field), ("mask", inside)):
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{name}.nii.gz")
    return folder


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_any_name_goes_in_and_out(metaqsm, tmp_path, name):
    try:
        folder = scan(tmp_path / name)
    except OSError as error:
        pytest.skip(f"this file system has no such names ({error.strerror})")
    os.rename(folder / "local_field.nii.gz", folder / f"{name[:200]}_local_field.nii.gz")
    out = tmp_path / f"{name[:200]} out"
    code, told, err = metaqsm("run", "--invert", "tkd", "--unit", "ppm", f"--out={out}", "--", Path(name))
    assert code == 0, err
    assert len(told.splitlines()) == 2 * (1 + str(out).count("\n"))
    record = json.loads((out / "record.json").read_bytes())
    assert record["inputs"]["local_field"][0]["file"] == f"{name[:200]}_local_field.nii.gz"
    code, _, err = metaqsm("report", out, "--html")
    assert code == 0, err
    assert (out / "report.html").stat().st_size > 10_000
    code, _, err = metaqsm("run", "--local-field", tmp_path / name / "none.nii", "--out", "none")
    assert code == 2
    assert err.rstrip("\n").isprintable()


def test_names_are_printed_whatever_the_encoding_of_the_terminal(tmp_path):
    folder = scan(tmp_path / "é🧠")
    command = [
        sys.executable,
        "-m",
        "napari_metaqsm.cli",
        "run",
        str(folder),
        "--invert",
        "tkd",
        "--unit",
        "ppm",
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [*command, "--out", str(folder / "out")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "\\U0001f9e0" in done.stdout


@pytest.mark.parametrize(
    "path", ["x" * 256, "/".join(["y" * 200] * 25), "nowhere/" + "x" * 300], ids=["a name", "all", "below"]
)
def test_names_too_long_for_the_system_are_refused_before_anything_is_computed(metaqsm, tmp_path, path):
    folder = scan(tmp_path / "scan")
    for arguments in (
        ["run", folder, "--unit", "ppm", "--out", path],
        ["run", path, "--out", "out"],
        ["run", "--local-field", f"{path}.nii", "--out", "out"],
        ["run", folder, "--mask", f"{path}.nii", "--unit", "ppm", "--out", "out"],
        ["report", path],
        ["train", path],
    ):
        code, _, err = metaqsm(*arguments)
        assert code == 2, err
        assert len(err.splitlines()) == 1
        assert one_sentence(err.strip(), 700), err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scan"]


def test_links_are_followed_and_circles_refused(metaqsm, tmp_path):
    folder = scan(tmp_path / "real")
    (tmp_path / "linked").symlink_to(folder)
    (tmp_path / "file.nii.gz").symlink_to(folder / "mask.nii.gz")
    (tmp_path / "circle.nii.gz").symlink_to("circle.nii.gz")
    (tmp_path / "nothing.nii.gz").symlink_to("gone.nii.gz")
    (tmp_path / "nowhere").symlink_to("gone")
    (folder / "back").symlink_to(tmp_path)
    assert load(tmp_path / "linked").mask.any()
    assert read(tmp_path / "file.nii.gz")[0].any()
    for name in ("circle.nii.gz", "nothing.nii.gz", "nowhere"):
        for found in (outcome(load, tmp_path / name), outcome(load, local_field=tmp_path / name)):
            assert isinstance(found, str), name
    for name in ("nowhere", "circle.nii.gz", "file.nii.gz", "circle.nii.gz/below"):
        assert "cannot be written to" in outcome(check_writable, tmp_path / name)
    before = (folder / "mask.nii.gz").read_bytes()
    with staged(tmp_path / "linked") as inside:
        (inside / "a.txt").write_text("a")
    assert (folder / "a.txt").read_text() == "a"
    with staged(tmp_path) as inside:
        (inside / "file.nii.gz").write_text("new")
    assert (folder / "mask.nii.gz").read_bytes() == before, "a link is replaced, not what it leads to"


def test_a_folder_where_a_file_would_go_is_kept(tmp_path):
    (tmp_path / "record.json").mkdir()
    (tmp_path / "record.json" / "mine.txt").write_text("mine")
    (tmp_path / "map.nii").write_text("old")

    def save():
        with staged(tmp_path) as folder:
            for name in ("map.nii", "record.json"):
                (folder / name).write_text("new")

    assert "record.json is a folder" in outcome(save)
    assert (tmp_path / "record.json" / "mine.txt").read_text() == "mine"
    assert (tmp_path / "map.nii").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


@contextmanager
def locked(folder: Path):
    """Let nobody write to a folder, not even root: mounted so, or without the permission."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)
        return
    mounts = [["mount", "--bind", folder, folder], ["mount", "-o", "remount,ro,bind", folder]]
    try:
        mounted = all(subprocess.run(m, capture_output=True).returncode == 0 for m in mounts)
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("a read-only folder cannot be mounted, and permissions do not bind root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def read_only(tmp_path):
    with locked(scan(tmp_path / "locked")) as folder:
        yield folder


def test_a_read_only_folder_is_read_from_and_refused_to_write_to(metaqsm, read_only, tmp_path):
    code, _, err = metaqsm("run", read_only, "--unit", "ppm", "--invert", "tkd", "--out", read_only / "out")
    assert code == 2
    assert "cannot be written to" in err
    assert len(err.splitlines()) == 1
    out = tmp_path / "out"
    assert metaqsm("run", read_only, "--unit", "ppm", "--invert", "tkd", "--out", out)[0] == 0
    assert metaqsm("report", out, "--html", "--out", read_only)[0] == 2


def test_a_program_that_may_write_nowhere_runs(tmp_path):
    """As in a container: neither beside its files nor at home is there a place for what Numba compiles."""
    place = tmp_path / "container"
    package = place / "napari_metaqsm"
    shutil.copytree(REPOSITORY / package.name, package, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(place), "HOME": str(place), "XDG_CACHE_HOME": str(place)}
    every = "from napari_metaqsm.method import methods\nprint(json.dumps([m.name for m in methods()]))"
    with locked(place):
        ended = child(every, cwd=tmp_path, env=environment)
    assert ended.code == 0, ended.err
    assert {"nonlinear_fit", "tv"} <= set(ended.value)


# --------------------------------------------------------------------------------------- values
OPTIONS = (
    "--echo-times", "--b0", "--b0-direction", "--phase-sign", "--phase-pi", "--unit", "--set", "--invert",
    "--mask", "--fit", "--background", "--reference", "--device", "--series",
)  # fmt: skip
VALUES = st.one_of(
    st.text(max_size=20),
    st.floats().map(str),
    st.integers().map(str),
    st.sampled_from(["", ",", "1,,2", "nan", "inf", "1e999", "0,0,0", "tkd.", ".x=", "tkd.threshold=", "="]),
    st.tuples(st.sampled_from(["tkd.threshold", "tv.iterations", "x.y"]), st.text(max_size=9)).map("=".join),
)  # fmt: skip
OF_REPORT = ("--window", "--voxel", "--title", "--labels", "--names", "--inputs")


@settings(
    derandomize=True, deadline=None, max_examples=60, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(st.data())
def test_any_value_of_an_option_is_taken_or_refused_in_words(metaqsm, tmp_path, data):
    folder = scan(tmp_path / "scan")
    command = data.draw(st.sampled_from(["run", "report"]))
    option = data.draw(st.sampled_from(OPTIONS if command == "run" else OF_REPORT))
    value = data.draw(VALUES.filter(lambda text: "\0" not in text))
    arguments = [command, folder, option, value]
    if command == "run":
        # One field of the wrong size ends every chain that would begin.
        arguments += ["--local-field", folder / "mask.nii.gz", "--noise", tmp_path / "none.nii"]
    code, out, err = metaqsm(*arguments, "--out", tmp_path / "out")
    assert code == 2, (arguments, err)
    assert out == ""
    assert "Traceback" not in err
    # Typer's own refusals begin with how the command is used.
    assert err.startswith("Usage: ") or len(err.splitlines()) == 1, err
    assert not (tmp_path / "out").exists()

"""What happens when the process is killed, the disk is full, memory is short, or the user stops it."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hostile import REPOSITORY, child

from napari_metaqsm import cli
from napari_metaqsm.io import staging
from napari_metaqsm.io.staging import make_parents, staged
from napari_metaqsm.method import notice

SHAPE = (24, 26, 22)
FULL = "No space left on device"


@pytest.fixture
def metaqsm(monkeypatch, capsys):
    """Run ``metaqsm`` in this process: exit code and standard error."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["metaqsm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, capsys.readouterr().err

    return run


def write(path, array, affine=None):
    nib.save(nib.Nifti1Image(np.asarray(array, np.float32), np.eye(4) if affine is None else affine), path)
    return path


@pytest.fixture
def inputs(tmp_path):
    """Arguments of ``metaqsm run`` on a local field of noise."""
    inside = np.zeros(SHAPE)
    inside[3:-3, 3:-3, 3:-3] = 1
    field = np.random.default_rng(0).normal(0, 0.02, SHAPE)
    field = write(tmp_path / "field.nii.gz", field * inside)
    return ["--local-field", field, "--mask", write(tmp_path / "mask.nii.gz", inside), "--unit", "ppm"]


def contents(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in sorted(folder.iterdir()) if f.is_file()}


def test_a_folder_that_goes_while_it_is_written_to_does_not_grow_again(tmp_path):
    """As a network folder whose mount is lost: its place is an empty folder of the local disk then."""
    out = tmp_path / "out"
    out.mkdir()
    with staged(out) as folder:
        make_parents(folder / "sub-01/anat/first.txt", folder).write_text("whole")
        out.rename(tmp_path / "gone")
        for deep in ("sub-01/anat/second.txt", "logs/second.txt"):
            with pytest.raises(FileNotFoundError):
                make_parents(folder / deep, folder)
            assert not out.exists()
        (tmp_path / "gone").rename(out)
    assert [f.name for f in (out / "sub-01/anat").iterdir()] == ["first.txt"]


# --------------------------------------------------------------------------------------- kill -9
KILLED_SAVES = """
import itertools, os, random, signal, time, types
from pathlib import Path
import numpy as np
from napari_metaqsm.io.load import save
from napari_metaqsm.io.nifti import read, staged
from napari_metaqsm.scan import Acquisition, Geometry, Scan

out, dice, shape = Path(sys.argv[1]), random.Random(0), (24, 26, 22)

def save_for_ever(start):
    for number in itertools.count(start):
        maps = {f"susceptibility_{n}": np.full(shape, number, np.float32) for n in range(4)}
        scan = Scan(Geometry(shape, (1, 1, 1)), Acquisition(), local_field=maps["susceptibility_0"])
        save(types.SimpleNamespace(scan=scan, maps=maps, record={"number": number}), out)

told = {"left": 0, "records": 0, "kills": 0}
for start in range(0, 30_000_000, 1_000_000):
    if not (process := os.fork()):
        save_for_ever(start)
    time.sleep(0.05 + dice.uniform(0, 0.1))
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    told["kills"] += 1
    values = {float(v) for f in out.glob("*.nii.gz") for v in np.unique(read(f)[0])}
    told["left"] += len(list(out.glob(".metaqsm-*")))
    if (out / "record.json").exists():
        told["records"] += 1
        assert values == {np.float32(json.loads((out / "record.json").read_text())["number"])}
    assert len(list(out.glob("*.nii.gz"))) in (0, 4)
with staged(out) as folder:
    (folder / "last.txt").write_text("")
assert not list(out.glob(".metaqsm-*")), "the next save removes what killed ones have left"
print(json.dumps(told))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9 is of POSIX")
def test_a_save_that_is_killed_leaves_whole_files_and_a_true_record(tmp_path):
    """30 kills at random moments of a save: a record that is there tells of every map beside it."""
    ended = child(KILLED_SAVES, tmp_path / "out")
    assert ended.code == 0, ended.err
    assert ended.value["kills"] == 30
    assert ended.value["left"] > 3, "hardly a kill came while a save ran; nothing was tested"
    assert ended.value["records"] > 3


def test_what_a_living_save_holds_is_not_swept_away(tmp_path):
    with staged(tmp_path) as first:
        (first / "a.txt").write_text("a")
        with staged(tmp_path) as second:
            (second / "b.txt").write_text("b")
        assert (first / "a.txt").read_text() == "a"
    assert set(contents(tmp_path)) == {"a.txt", "b.txt"}


def test_where_there_are_no_locks_only_what_is_a_day_old_is_swept_away(tmp_path, monkeypatch):
    monkeypatch.setattr(staging, "fcntl", None)
    old, new = tmp_path / ".metaqsm-00000000", tmp_path / ".metaqsm-00000001"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (time.time() - 90_000,) * 2)
    (tmp_path / ".metaqsm-link").symlink_to(new)
    with staged(tmp_path) as folder:
        (folder / "a.txt").write_text("")
    assert not old.exists()
    assert new.exists()
    assert (tmp_path / "a.txt").exists()


def test_a_move_that_fails_half_way_is_undone(tmp_path, monkeypatch):
    for name in ("a.nii", "b.nii", "record.json"):
        (tmp_path / name).write_text("old")
    replace = os.replace

    def failing(source, target):
        if Path(target).name == "b.nii" and Path(target).parent == tmp_path and len(failed) == 0:
            failed.append(target)
            raise PermissionError(13, "another program has it open")
        replace(source, target)

    failed: list[Path] = []
    monkeypatch.setattr(os, "replace", failing)

    def save():
        with staged(tmp_path) as folder:
            for name in ("a.nii", "a_new.nii", "b.nii", "record.json"):
                (folder / name).write_text("new")

    with pytest.raises(PermissionError):
        save()
    assert contents(tmp_path) == dict.fromkeys(("a.nii", "b.nii", "record.json"), b"old")
    assert len(list(tmp_path.iterdir())) == 3
    save()
    assert set(contents(tmp_path).values()) == {b"new"}


# --------------------------------------------------------------------------------------- power cut
CUT_SAVES = """
import itertools, os, shutil, types
from pathlib import Path
import numpy as np
from napari_metaqsm.io.load import save
from napari_metaqsm.io.nifti import read
from napari_metaqsm.scan import Acquisition, Geometry, Scan

out, shape = Path(sys.argv[1]), (3, 4, 5)

def save_number(number, names):
    maps = {name: np.full(shape, number, np.float32) for name in names}
    scan = Scan(Geometry(shape, (1, 1, 1)), Acquisition(), local_field=maps[names[0]])
    save(types.SimpleNamespace(scan=scan, maps=maps, record={"number": number, "maps": names}), out)

def ends_at(step):
    steps = itertools.count()
    def ending(real):
        def call(*arguments, **named):
            if next(steps) == step:
                os._exit(9)
            return real(*arguments, **named)
        return call
    os.replace, os.link = ending(os.replace), ending(os.link)

ended = []
for step in itertools.count():
    shutil.rmtree(out, ignore_errors=True)
    save_number(1, ["a", "b"])
    if not (process := os.fork()):
        ends_at(step)
        save_number(2, ["b", "c"])
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    values = {f.name[0]: set(np.unique(read(f)[0])) for f in out.glob("*.nii.gz")}
    assert all(len(found) == 1 for found in values.values()), values
    if (out / "record.json").exists():
        record = json.loads((out / "record.json").read_text())
        assert all(values[name] == {record["number"]} for name in record["maps"]), (step, record, values)
        ended.append(record["number"])
    else:
        ended.append(None)
    if code == 0:
        break
print(json.dumps(ended))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked to end it")
def test_a_record_stands_for_what_is_there_wherever_a_save_ends(tmp_path):
    """The power is cut before each single move: the old record, then none, then the new one."""
    ended = child(CUT_SAVES, tmp_path / "out")
    assert ended.code == 0, ended.err
    assert len(ended.value) > 4
    assert ended.value[0] == 1
    assert None in ended.value
    assert ended.value[-1] == 2
    order = [{1: 0, None: 1, 2: 2}[number] for number in ended.value]
    assert order == sorted(order)


def test_files_are_on_disk_before_the_first_of_them_moves(tmp_path, monkeypatch):
    """Else a power cut could leave a record on disk, and its maps without content."""
    told = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda d: (told.append(("disk", os.fstat(d).st_ino)), fsync(d)))
    monkeypatch.setattr(os, "replace", lambda a, b: (told.append(("move", a.stat().st_ino)), replace(a, b)))
    out = tmp_path / "out"
    with staged(out) as folder:
        for name in ("a.nii", "b.nii", "record.json"):
            (folder / name).write_text(name)
    files = {(out / name).stat().st_ino for name in ("a.nii", "b.nii", "record.json")}
    assert [what for what, _ in told] == ["disk"] * 3 + ["move"] * 3 + ["disk"]
    assert {number for _, number in told[:3]} == {number for _, number in told[3:6]} == files
    assert told[-1] == ("disk", out.stat().st_ino), "the names last"


# --------------------------------------------------------------------------------------- disk full
def fill(folder, leave):
    """Take all of the disk but ``leave`` bytes."""
    room = os.statvfs(folder)
    (folder / "filler").write_bytes(bytes(room.f_bavail * room.f_frsize - leave))


@pytest.mark.parametrize("leave", [0, 8192, 40_000])
def test_a_full_disk_ends_with_one_sentence_and_earlier_results_whole(metaqsm, inputs, small_disk, leave):
    out = small_disk / "out"
    code, err = metaqsm("run", *inputs, "--invert", "tkd", "--out", out, "--quiet")
    assert code == 0, err
    before = contents(out)
    fill(small_disk, leave)
    code, err = metaqsm("run", *inputs, "--invert", "l2", "--invert", "tkd", "--out", out, "--quiet")
    assert code == 1
    assert FULL in err
    assert len(err.strip().splitlines()) == 1, err
    assert contents(out) == before
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("command", ["report", "cosmos", "demo", "train", "evaluate", "convert", "dicom"])
def test_every_command_says_that_the_disk_is_full(
    metaqsm, inputs, small_disk, tmp_path, monkeypatch, command
):
    out = small_disk / "out"
    assert metaqsm("run", *inputs, "--invert", "tkd", "--out", tmp_path / "maps", "--quiet")[0] == 0
    fields, mask = [inputs[1]] * 3, ["--mask", inputs[3]]
    turned = [w for b0 in ("0,0,1", "0.5,0,1", "0,0.5,1") for w in ("--b0-direction", b0)]
    (tmp_path / "train.toml").write_text("[optimisation]\nsteps = 1\n[recipe]\nshape = [16, 16, 16]\n")
    arguments = {
        "report": [tmp_path / "maps", "--html"],
        "cosmos": [*fields, *mask, *turned, "--unit", "ppm"],
        "demo": ["--no-window"],
        "train": [tmp_path / "train.toml"],
        "evaluate": ["--labels", tmp_path, "--volumes", 1, "--shape", "32,32,16", "--methods", "tkd"],
        "convert": [tmp_path / "dicom"],
        "dicom": [tmp_path / "maps", "--source", tmp_path / "dicom"],
    }[command]
    if command == "evaluate":
        for number in (19, 20):
            write(tmp_path / f"labels_{number}.nii.gz", np.ones(SHAPE))
    if command in ("convert", "dicom"):
        monkeypatch.syspath_prepend(str(REPOSITORY / "tests/io/dicom"))
        from made import AXIAL, classic

        values = np.random.default_rng(0).uniform(0, 1, (2, 16, 16, 8))
        classic(tmp_path / "dicom", values, values, AXIAL)
    if command == "dicom":
        typed = ["run", tmp_path / "dicom", "--mask", "threshold", "--background", "vsharp", "--quiet"]
        code, err = metaqsm(*typed, "--invert", "tkd", "--out", tmp_path / "maps")
        assert code == 0, err
    fill(small_disk, 0)
    code, err = metaqsm(command, *arguments, "--out", out)
    assert code == 1, err
    assert FULL in err
    assert "Traceback" not in err
    assert [f.name for f in small_disk.iterdir()] == ["filler"]


# --------------------------------------------------------------------------------------- memory
RUN = "from napari_metaqsm.cli import main\nsys.argv[0] = 'metaqsm'\nmain()"


def test_too_little_memory_ends_with_one_sentence(inputs, tmp_path):
    """Address space for the program and a small volume, but not for one of 256³ voxels."""
    if sys.platform != "linux":
        pytest.skip("address space is limited on Linux alone")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **threads}
    tell = "import atexit\natexit.register(lambda: print(open('/proc/self/status').read()))\n"
    options = ["--invert", "l2", "--quiet", "--out", tmp_path / "maps"]
    small = child(tell + RUN, "run", *inputs, *options, env=environment)
    assert small.code == 0, small.err
    taken = int(small.out.split("VmPeak:")[1].split()[0]) * 1024
    large = np.zeros((256, 256, 256), np.float32)
    large[::7] = 0.01
    field = write(tmp_path / "large.nii", large)
    mask = write(tmp_path / "ones.nii", np.ones_like(large))
    arguments = ["run", "--local-field", field, "--mask", mask, "--unit", "ppm", *options]
    before = contents(tmp_path / "maps")
    # Too little to read it, and to compute with it; a library that is loaded late may be what does not fit.
    told = [child(RUN, *arguments, memory=taken + more * 2**20, env=environment) for more in (40, 200)]
    for ended in told:
        assert ended.code in (1, 2), ended.err
        assert len(ended.err.strip().splitlines()) == 1, ended.err
    assert any("memory" in ended.err for ended in told), told
    assert contents(tmp_path / "maps") == before


def test_the_command_line_says_that_a_gpu_ran_out_of_memory(metaqsm, inputs, tmp_path, monkeypatch):
    """The ladder itself is tested with the devices; here, that its notice is told and recorded."""
    from napari_metaqsm.inversion import l2

    real = l2.multiply_spectrum

    def full_once(*arguments):
        if not called:
            called.append(True)
            notice("cuda ran out of memory; computed on the CPU instead")
        return real(*arguments)

    called: list[bool] = []
    monkeypatch.setattr(l2, "multiply_spectrum", full_once)
    code, err = metaqsm("run", *inputs, "--invert", "l2", "--out", tmp_path / "maps")
    assert code == 0
    assert "note: cuda ran out of memory; computed on the CPU instead" in err
    record = json.loads((tmp_path / "maps/record.json").read_text())
    assert "cuda ran out of memory; computed on the CPU instead" in record["warnings"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_every_kind_of_too_little_memory_is_one_sentence(metaqsm, inputs, tmp_path, monkeypatch, error):
    def fails(*arguments, **named):
        raise error

    monkeypatch.setattr("napari_metaqsm.pipeline.reconstruct", fails)
    code, err = metaqsm("run", *inputs, "--out", tmp_path / "maps")
    assert code == 1
    assert err.strip() == (
        "metaqsm: failed: there is not enough memory for this step; close other programs, or crop the volume"
    )


def test_a_fault_of_the_program_shows_where_it_is(metaqsm, inputs, tmp_path, monkeypatch):
    def fails(*arguments, **named):
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr("napari_metaqsm.pipeline.reconstruct", fails)
    code, err = metaqsm("run", *inputs, "--out", tmp_path / "maps")
    assert code == 1
    assert "Traceback" in err
    assert err.splitlines()[-1] == "metaqsm: failed: by zero"


# --------------------------------------------------------------------------------------- stopping
@pytest.mark.parametrize(
    ("sent", "moment"),
    [
        *((signal.SIGINT, moment) for moment in (0.3, 1.5, 3.0)),
        *((signal.SIGTERM, moment) for moment in (0.8, 2.5)),
        *((getattr(signal, name), 2.0) for name in ("SIGHUP",) if hasattr(signal, name)),
    ],
)
def test_a_run_that_is_stopped_says_so_and_leaves_nothing(inputs, tmp_path, sent, moment):
    """At moments from the imports to the inversion, which would go on for a minute."""
    code = f"import sys; from napari_metaqsm.cli import main; print(flush=True)\n{RUN}"
    command = [sys.executable, "-c", code, "run", *map(str, inputs), "--quiet"]
    command += ["--invert", "tv"] * 40 + [
        "--set",
        "tv.iterations=500",
        "--set",
        "tv.tolerance=1e-6",
        "--out",
        str(tmp_path / "out"),
    ]
    with subprocess.Popen(
        command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        running.stdout.readline()
        time.sleep(moment)
        running.send_signal(sent)
        _, err = running.communicate(timeout=120)
    assert running.returncode == 128 + sent, err
    assert err == "metaqsm: stopped\n"
    assert not (tmp_path / "out").exists()


def test_a_stop_while_torch_is_loaded_waits_until_it_is(inputs, tmp_path):
    """It is loaded from C++ in part, where an exception ends the process without a word."""
    code = f"""
import atexit, os, signal, sys
from napari_metaqsm.cli import main

class Stopping:
    def find_spec(self, name, path, target=None):
        if name == "torch.autograd":
            os.kill(os.getpid(), signal.SIGTERM)

assert "torch" not in sys.modules
sys.meta_path.insert(0, Stopping())
atexit.register(lambda: print(hasattr(sys.modules.get("torch"), "compile")))
{RUN}"""
    command = [
        sys.executable,
        "-c",
        code,
        "run",
        *map(str, inputs),
        "--quiet",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "metaqsm: stopped\n")
    assert done.stdout == "True\n"
    assert not (tmp_path / "out").exists()


def test_an_interrupt_that_a_library_swallows_stops_at_the_next_step(metaqsm, inputs, tmp_path, monkeypatch):
    from napari_metaqsm.inversion import l2

    real = l2.multiply_spectrum

    def swallows(*arguments):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        return real(*arguments)

    monkeypatch.setattr(l2, "multiply_spectrum", swallows)
    code, err = metaqsm("run", *inputs, "--invert", "l2", "--invert", "tv", "--out", tmp_path / "maps")
    assert (code, err.splitlines()[-1]) == (130, "metaqsm: stopped")
    assert not (tmp_path / "maps").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_fails_after_an_interrupt_was_swallowed_is_the_interrupt(metaqsm, inputs, tmp_path, monkeypatch):
    """As compiling does: the exception ends a callback of C, and what it should have made is missing."""
    from napari_metaqsm.inversion import l2

    @ctypes.CFUNCTYPE(None)
    def callback():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

    def fails(*arguments):
        callback()
        raise RuntimeError("no compiled object yet")

    monkeypatch.setattr(l2, "multiply_spectrum", fails)
    code, err = metaqsm("run", *inputs, "--invert", "l2", "--out", tmp_path / "maps", "--quiet")
    assert (code, err) == (130, "metaqsm: stopped\n")

"""``metaqsm bids`` as it is typed, stopped and typed again."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import made_bids
import pytest
from cheap import TYPED

from napari_metaqsm.cohort.outcomes import DONE, FAILED, Outcome, read_outcomes, write_outcome

# Enough that a run is stopped before it has done all, even where this process is slow to hear.
SCANS, WITHOUT_PHASE = 12, "sub-06"
DOABLE = SCANS - 1


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """To be read alone."""
    root = made_bids.make_dataset(tmp_path_factory.mktemp("bids") / "data")
    for number in range(1, SCANS + 1):
        made_bids.add_subject(root, f"{number:02d}", session="a" if number == 1 else None, seed=number % 3)
    made_bids.take_away(root, f"{WITHOUT_PHASE}/anat/*part-phase*")
    return root


def test_a_dry_run_says_what_would_be_done_and_why_not(metaqsm, dataset, tmp_path):
    code, out, _ = metaqsm("bids", dataset, tmp_path / "out", "participant", "--dry-run", *TYPED)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith(f"{SCANS} scans: {DOABLE} to do, 0 done before, 1 unusable; ")
    assert "GB of memory" in lines[0]
    assert lines[1:] == [
        "sub-01_ses-a: to do",
        *(f"sub-{n:02d}: to do" for n in range(2, SCANS + 1) if n != 6),
        f"{WITHOUT_PHASE}: there is magnitude, but no phase",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        (["--participant-label", "02", "sub-04", "03"], ["sub-02", "sub-04", "sub-03"]),
        (["--participant_label", "02", "--participant-label=03", "--n-cpus", "2"], ["sub-02", "sub-03"]),
        (["--participant-label", "01", "--session-label", "a", "--quiet"], ["sub-01_ses-a"]),
    ],
)  # fmt: skip
def test_labels_are_given_as_bids_apps_take_them(metaqsm, dataset, tmp_path, options, labels):
    code, out, _ = metaqsm("bids", dataset, tmp_path / "out", "participant", *options, "--dry-run", *TYPED)
    assert code == 0
    assert sorted(line.split(":")[0] for line in out.splitlines()[1:]) == sorted(labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["participant", "--participant-label", "99"],
            "participant is '99'; it must be one of the dataset's",
        ),
        (["participant", "--invert", "magic"], "there is no inversion method 'magic'"),
        (["participant", "--workers", "0"], "workers is 0; it must be greater than 0"),
        (["participant", "--workers", "2000", "--mem-gb", "9"], "2000 workers of"),
        (["participants"], "participants"),
    ],
)
def test_what_cannot_be_meant_ends_with_code_2_and_writes_nothing(
    metaqsm, dataset, tmp_path, arguments, message
):
    code, _, err = metaqsm("bids", dataset, tmp_path / "out", *arguments)
    assert code == 2
    assert message in err
    assert not (tmp_path / "out").exists()


def test_the_group_level_makes_the_page_of_what_is_there(metaqsm, dataset, tmp_path):
    assert metaqsm("bids", dataset, tmp_path / "out", "group")[0] == 2
    write_outcome(Outcome("sub-01", FAILED, "it had moved"), tmp_path / "out")
    code, out, _ = metaqsm("bids", dataset, tmp_path / "out", "group")
    assert code == 0
    assert str(tmp_path / "out/group.html") in out
    assert "it had moved" in (tmp_path / "out/group.html").read_text()


def started(dataset, out, *options):
    command = [
        sys.executable,
        "-m",
        "napari_metaqsm.cli",
        "bids",
        dataset,
        out,
        "participant",
        *TYPED,
        *options,
    ]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def read_until(process, text):
    for line in process.stderr:
        if text in line:
            return line
    raise AssertionError(f"it ended without {text!r}")


def alive(session):
    """Processes of a session, by what the kernel says."""
    told = subprocess.run(["ps", "-o", "pid=,stat=", "-s", str(session)], capture_output=True, text=True)
    return [line for line in told.stdout.splitlines() if "Z" not in line]


@pytest.mark.skipif(not os.path.exists("/proc"), reason="processes are counted as Linux has them")
def test_a_run_that_is_stopped_keeps_what_is_done_and_is_completed_by_the_same_command(
    dataset, tmp_path, metaqsm, monkeypatch, scheduler
):
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    kept = set()
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        with started(dataset, out, "--workers", "1") as process:
            read_until(process, f" {DONE}\n")
            # Ctrl-C reaches every process of a terminal; kill -9 the one that is meant.
            (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
            told = process.stderr.read()
        assert process.returncode == code
        assert "Traceback" not in told, told
        patience = time.monotonic() + 200
        while alive(process.pid) and time.monotonic() < patience:
            time.sleep(0.1)
        assert not alive(process.pid)
        before, kept = kept, {o.label for o in read_outcomes(out) if o.status == DONE}
        assert before < kept
        assert len(kept) < DOABLE
        # What the workers of the killed run had on disk is swept by the next.
        assert bool(list(scratch.glob("metaqsm-workers-*"))) == (number == signal.SIGKILL)

    _, listed, _ = metaqsm("bids", dataset, out, "participant", "--dry-run", *TYPED)
    assert f"{DOABLE - len(kept)} to do, {len(kept)} done before, 1 unusable" in listed
    code, _, told = metaqsm("bids", dataset, out, "participant", "--scheduler", scheduler, *TYPED)
    assert code == 1
    assert told.splitlines()[-1] == f"metaqsm: {DOABLE - len(kept)} done, {len(kept)} done before, 1 failed"
    assert not list(out.rglob(".metaqsm-*"))

"""Fixtures that every room's tests share, and what to do where no window can be opened."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

WHY_NO_WINDOW = "no display and no Xvfb: a real window cannot be opened"


def _has_display() -> bool:
    linux = sys.platform.startswith("linux")
    return not linux or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@pytest.hookimpl(trylast=True)  # after the plugin that starts Xvfb
def pytest_configure() -> None:
    """Without a display, widgets can still be driven on Qt's offscreen platform; stops are to be heard."""
    if not _has_display():
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    # A shell starts what runs in its background deaf to Ctrl-C, and nohup deaf to a terminal that closes;
    # every child would inherit it.
    heard = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL}
    for number, handler in ((getattr(signal, name, None), heard[name]) for name in heard):
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out the tests of a real window where there can be none; in CI that is a failure."""
    if item.get_closest_marker("window") and not _has_display():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(WHY_NO_WINDOW)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real scans beside the repository; what needs it is skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("the folder of real scans, ../shared, is not there")
    return folder


@pytest.fixture
def metaqsm(monkeypatch, capsys, tmp_path):
    """Run ``metaqsm`` with some arguments in an empty folder: exit code, standard output and error."""
    from napari_metaqsm import cli

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["metaqsm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("a small file system cannot be mounted: that takes Linux and root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)

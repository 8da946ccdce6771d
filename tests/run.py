"""Run the tests, after installing the system libraries that a window needs: ``python tests/run.py``.

Only where they are missing, and only on Debian and its children, whose names these are; anything else
on the command line goes to pytest.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

# What Qt and OpenGL load, and a display for the window tests.
PACKAGES = """
    xvfb xauth libgl1 libgl1-mesa-dri libglx-mesa0 libegl1 libxkbcommon-x11-0 libdbus-1-3 libxcb-cursor0
    libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0
    libxcb-xinerama0 libxcb-xinput0 libxcb-xkb1 libfontconfig1 libglib2.0-0 fonts-dejavu-core
"""


def install_missing() -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        return
    packages = PACKAGES.split()
    if subprocess.run(["dpkg", "-s", *packages], capture_output=True).returncode == 0:
        return
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
    ):
        print("+", *as_root, *command, flush=True)
        subprocess.run([*as_root, *command], env=environment, check=True)


if __name__ == "__main__":
    install_missing()
    tests = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    # The installed package is tested, not the one that lies beside the tests.
    top = Path(__file__).resolve().parents[1]
    safe = {**os.environ, "PYTHONSAFEPATH": "1"}
    sys.exit(subprocess.run(tests, cwd=top, env=safe).returncode)

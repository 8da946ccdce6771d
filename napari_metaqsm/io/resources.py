"""Where the data that come with the package lie: samples, labels, the icon, the manifest."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PACKAGE = "napari_metaqsm_resources"


def resource(path: str) -> Path:
    """The bundled file or folder at ``path``, as in "samples/philips_2echo".

    Raises
    ------
    FileNotFoundError
        When the installation does not hold it.

    Notes
    -----
    An installed wheel keeps ``resources/`` as a package of its own beside the code; in a checkout, or an
    editable install, it is the folder at the top of the repository.
    """
    for folder in _folders():
        if (folder / path).exists():
            return folder / path
    raise FileNotFoundError(f"the bundled {path} is missing; install the package again")


def _folders() -> list[Path]:
    checkout = Path(__file__).resolve().parents[2] / "resources"
    package = find_spec(PACKAGE)
    installed = [Path(p) for p in package.submodule_search_locations] if package else []
    return [checkout, *installed]

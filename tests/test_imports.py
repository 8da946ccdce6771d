"""Who imports whom. A room that is not in the table has no place yet: add it, with a reason."""

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "napari_metaqsm"
STAGES = {"field", "mask", "background", "inversion", "orientations"}
BASE = {"errors", "units", "scan"}
ENGINE = {*BASE, "method", "operators", "solvers", "network"}

# A room may import itself and these.
ROOMS: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "units": {"errors"},
    "scan": {"errors", "units"},
    "method": {"errors"},
    "device": {"errors", "method"},
    "operators": {"errors", "scan"},
    "solvers": {"errors", "method"},
    # Weights lie among the bundled files, which io knows where to find.
    "network": {*BASE, "operators", "method", "io"},
    **dict.fromkeys(STAGES, ENGINE),
    "referencing": ENGINE,
    "checks": {*BASE, "method"},
    "provenance": BASE,
    # The synthetic head starts from a bundled label map, which io knows where to find.
    "simulation": {*BASE, "operators", "io"},
    "evaluation": {*BASE, "operators"},
    # Reading tells of itself, and can be stopped, as methods do.
    "io": {*BASE, "method"},
    "pipeline": {*ENGINE, *STAGES, "device", "checks", "provenance", "referencing"},
    # The package's functions for one step, which __init__ names.
    "doors": {"pipeline", "scan"},
    # It runs methods as the window does, on heads that it makes itself.
    "timing": {*BASE, "method", "device", "operators", "pipeline"},
    # Weights say which versions made them.
    "training": {*ENGINE, "simulation", "evaluation", "provenance"},
    # It runs methods as users do (pipeline), on scans made as training makes them and on those in files.
    "benchmark": {
        *ENGINE,
        "pipeline",
        "device",
        "provenance",
        "simulation",
        "training",
        "evaluation",
        "io",
    },
    # What a reader measures on maps, in memory. Its checks read stored phase and tell noise as field does.
    "reading": {*BASE, "method", "operators", "evaluation", "referencing", "field"},
    # It tells of the methods that ran, so it reads the registry; it reads and writes folders.
    "report": {*BASE, "method", "reading", "evaluation", "io", "provenance", "pipeline"},
    # Scan after scan it does what the command line does with one, and writes a report of each and of all.
    "cohort": {*BASE, "method", "pipeline", "io", "evaluation", "provenance", "reading", "report", "device"},
}
ANYTHING = {"cli", "plugin"}
WINDOW = {"napari", "qtpy", "magicgui", "superqt", "vispy", "PyQt5", "PyQt6", "PySide2", "PySide6"}
# The command line asks whether there is a Qt binding before it opens a window, or writes files instead.
ASKS_FOR_QT = {("cli", "qtpy")}

FILES = sorted(PACKAGE.rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names that run when the file does; what only type checkers read is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (name for branch in node.orelse for name in imports(branch))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(PACKAGE).as_posix())
def test_a_file_imports_only_from_the_rooms_below(file):
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in ROOMS or room in ANYTHING, f"{room} is not in the table of rooms"
    for name in imports(ast.parse(file.read_text(encoding="utf-8"))):
        first, _, rest = name.partition(".")
        if first in WINDOW:
            assert room == "plugin" or (room, first) in ASKS_FOR_QT, f"{file.name} imports {name}"
        if first == PACKAGE.name and room not in ANYTHING:
            other = rest.partition(".")[0]
            assert other == room or other in ROOMS[room], f"{room} may not import {name}"


def test_no_two_files_import_each_other_not_even_by_way_of_others():
    """Imports inside functions count too: they only hide the circle."""
    files = {".".join((PACKAGE.name, *f.relative_to(PACKAGE).with_suffix("").parts)): f for f in FILES}
    imported = {
        file: {
            module
            for name in imports(ast.parse(path.read_text(encoding="utf-8")))
            for module in (name, name.rpartition(".")[0])
            if module in files
        }
        for file, path in files.items()
    }
    graphlib.TopologicalSorter(imported).prepare()  # raises CycleError, which names the circle


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after ``statement``."""
    code = (
        f"import json, sys; {statement}; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("statement", ["import napari_metaqsm", "import napari_metaqsm.errors"])
def test_importing_the_package_loads_nothing_heavy(statement):
    heavy = {"torch", "napari", "numpy", "scipy", "nibabel", "numba", "skimage", "qtpy", "magicgui"}
    assert not modules_after(statement) & heavy


def test_listing_the_methods_loads_no_window_and_no_optional_library():
    loaded = modules_after("import napari_metaqsm; napari_metaqsm.methods()")
    assert "torch" in loaded
    assert not loaded & {*WINDOW, "deepbet", "skimage", "nibabel"}


def test_every_name_at_the_front_door_opens():
    import napari_metaqsm

    for name in napari_metaqsm.__all__:
        assert callable(getattr(napari_metaqsm, name))
    with pytest.raises(AttributeError, match="no attribute 'reconstuct'"):
        napari_metaqsm.reconstuct  # noqa: B018

"""What a user installs: the manifest and the resources beside the code, in every kind of install."""

import importlib.metadata
import importlib.resources
import subprocess
import sys
import tarfile
import zipfile
from functools import reduce
from operator import truediv
from pathlib import Path

import npe2
import pytest

from napari_metaqsm.method import methods

TOP = Path(__file__).parents[1]


def test_installed_manifest_and_resources_are_those_of_the_repository():
    """An editable install copies them: install again after editing."""
    assert installed("napari.yaml") == (TOP / "napari.yaml").read_bytes()
    for file in (TOP / "resources").rglob("*"):
        if file.is_file():
            assert installed(*file.relative_to(TOP / "resources").parts) == file.read_bytes()


def installed(*parts):
    return reduce(truediv, parts, importlib.resources.files("napari_metaqsm_resources")).read_bytes()


def test_manifest_is_valid_and_all_it_names_can_be_imported():
    manifest = npe2.PluginManifest.from_distribution("napari-metaqsm")
    manifest.validate_imports()
    assert manifest.contributions.widgets
    assert manifest.contributions.readers
    assert manifest.contributions.writers
    assert len(manifest.contributions.sample_data) == 2


def test_base_dependencies_bring_no_qt_binding():
    required = [r for r in importlib.metadata.requires("napari-metaqsm") if "extra ==" not in r]
    assert any(r.startswith("napari>") for r in required)
    assert not [r for r in required if "pyqt" in r.lower() or "pyside" in r.lower() or "napari[" in r]


def test_readme_commands_are_the_two_that_are_tested():
    commands = [
        line for line in (TOP / "README.md").read_text().splitlines() if line.startswith("pip install")
    ]
    assert commands == [
        'pip install ".[all]" && metaqsm demo',
        'pip install ".[all,test]" && python tests/run.py',
    ]
    assert "README.md" in (TOP / ".ci/run").read_text()


def test_readme_lists_every_method():
    readme = (TOP / "README.md").read_text()
    for entry in methods():
        doi = entry.reference.removeprefix("doi:")
        row = f"| {entry.stage} | `{entry.name}` | {entry.title} | [doi:{doi}](https://doi.org/{doi}) |"
        assert row in readme


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, and the wheel made from it."""
    folder = tmp_path_factory.mktemp("built")

    def build(kind, source):
        command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
        subprocess.run(command, cwd=source, check=True, capture_output=True)
        return next(folder.glob("*.tar.gz" if kind == "sdist" else "*.whl"))

    sdist = build("sdist", TOP)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    return sdist, build("wheel", next((folder / "unpacked").iterdir()))


def test_sdist_is_complete(built):
    with tarfile.open(built[0]) as archive:
        names = {n.split("/", 1)[1] for n in archive.getnames() if "/" in n}
    assert {"napari.yaml", "LICENSE", "README.md", "CHANGELOG.md", "tests/test_packaging.py"} <= names
    assert any(n.startswith("resources/samples/") for n in names)
    assert any(n.startswith("examples/") for n in names)


def test_wheel_from_sdist_holds_code_manifest_resources_and_licence(built):
    with zipfile.ZipFile(built[1]) as archive:
        names = set(archive.namelist())
    assert {"napari_metaqsm/cli/app.py", "napari_metaqsm_resources/napari.yaml"} <= names
    for file in (TOP / "resources").rglob("*"):
        if file.is_file():
            assert f"napari_metaqsm_resources/{file.relative_to(TOP / 'resources').as_posix()}" in names
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert not [n for n in names if n.startswith(("tests/", "examples/"))]

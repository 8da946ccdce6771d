"""The maker of BIDS datasets stands with the tests of BIDS; the command line is run in this process."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "io" / "bids"))


@pytest.fixture
def metaqsm(monkeypatch, capsys):
    """Exit code, standard output and error of ``metaqsm`` with some arguments."""
    from napari_metaqsm import cli

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["metaqsm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run

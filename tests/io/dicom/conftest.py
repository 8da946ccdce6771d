"""Fixtures of DICOM out."""

import pytest
from back import CASES, exporter


@pytest.fixture(scope="session")
def cases(request, tmp_path_factory):
    """Exports a case by its name, once."""
    return exporter(lambda: request.getfixturevalue("shared"), tmp_path_factory.mktemp("exported"))


@pytest.fixture(params=CASES)
def exported(request, cases):
    return cases(request.param)


@pytest.fixture
def made(cases):
    """The made-up oblique scan, small, for what does not depend on the scanner."""
    return cases("made oblique")

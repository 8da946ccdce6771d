"""Maps that this package exported, where a scan is looked for."""

import shutil

import numpy as np
import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.convert import survey
from napari_metaqsm.io.load import load

pytest.importorskip("dcm2niix")


@pytest.fixture
def beside(made, tmp_path):
    """A folder with the images and, in another below it, the maps that were made of them."""
    shutil.copytree(made.folder, tmp_path / "in")
    shutil.copytree(made.one.parents[1], tmp_path / "in" / "maps")
    return tmp_path / "in"


def test_they_are_left_out_beside_the_scan_with_a_word(made, beside):
    scan, before = load(beside), load(made.folder)
    np.testing.assert_array_equal(scan.phase, before.phase)
    told = "left out, for they are maps that this package exported: series 801, 802"
    assert scan.decisions == (*before.decisions, told)
    assert scan.notes == before.notes
    assert [(left.series, left.why) for left in survey(beside).left] == [
        ((801,), "maps made here"),
        ((802,), "maps made here"),
    ]


@pytest.mark.parametrize("kind", ["both", "one", "series"])
def test_they_alone_are_told_for_what_they_are(made, beside, kind):
    path = {"both": beside / "maps", "one": made.one, "series": made.series[0].parent}[kind]
    numbers = {"both": "801, 802", "one": "801", "series": "802"}[kind]
    words = (
        "^there are no images of a scanner, but maps made of them; give the DICOM of the scan that they were "
        rf"made from; left out, for they are maps that this package exported: series {numbers}$"
    )
    with pytest.raises(InputError, match=words):
        load(path)


def test_they_are_told_for_what_they_are_where_their_series_is_asked_for(beside):
    with pytest.raises(
        InputError, match=r"left out, for they are maps that this package exported: series 801$"
    ):
        load(beside, series=[801])

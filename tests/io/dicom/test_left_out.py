"""The series of which nothing is made: each with its reason, in a few words and in a sentence."""

import pydicom
from made import AXIAL, OBLIQUE, SAGITTAL, classic, phantom

from napari_metaqsm.io.dicom.convert import survey

MAGNITUDE, PHASE = phantom()


def change(files, **values):
    for path in files.values():
        image = pydicom.dcmread(path)
        for name, value in values.items():
            setattr(image, name, value)
        image.save_as(path)


def test_every_series_that_no_run_uses_is_there_with_its_reason(tmp_path):
    classic(tmp_path, MAGNITUDE, PHASE, series=8)
    classic(tmp_path, MAGNITUDE, PHASE, series=18, copy=1, description="again")
    classic(tmp_path, MAGNITUDE, PHASE, OBLIQUE, series=30, parts=("magnitude",), description="t1")
    computed = classic(
        tmp_path, MAGNITUDE, PHASE, SAGITTAL, series=40, parts=("magnitude",), description="swi"
    )
    change(computed, ImageType=["DERIVED", "SECONDARY", "M", "SWI"])
    flat = {"series": 50, "parts": ("magnitude",), "description": "scout"}
    classic(tmp_path, MAGNITUDE[..., :2], PHASE[..., :2], AXIAL, **flat)
    holes = classic(tmp_path, MAGNITUDE, PHASE, series=60, description="cut", clock="170000")
    for (_, _, k), path in holes.items():
        if k == 4:
            path.unlink()
    found = survey(tmp_path)
    assert [run.series for run in found.runs] == [[8, 9]]
    assert [each[:3] for each in found.left] == [
        ((18,), "again", "no phase"),
        ((19,), "again", "there twice"),  # and so its magnitude belongs to no phase
        ((30,), "t1", "no phase"),
        ((40,), "swi", "not as measured"),
        ((50,), "scout", "too few slices"),
        ((60, 61), "cut", "incomplete"),
    ]
    for each in found.left:
        assert each.sentence in (*found.notes, *found.decisions)
        assert any(str(number) in each.sentence for number in each.series)


def test_a_series_of_which_a_part_is_used_is_not_left_out(tmp_path):
    classic(tmp_path, MAGNITUDE, PHASE, series=8)
    (tmp_path / "copy").mkdir()
    classic(tmp_path / "copy", MAGNITUDE, PHASE, series=8, copy=1)
    assert survey(tmp_path).left == ()

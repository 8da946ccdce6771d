"""Methods as they are named on the command line."""

import pytest

from napari_metaqsm.benchmark.contenders import classical, every_contender, parse_contender, parse_contenders
from napari_metaqsm.errors import InputError
from napari_metaqsm.method import methods


def test_a_method_with_values():
    found = parse_contender("tkd:threshold=0.15:padding=2")
    assert (found.step.parameters.threshold, found.step.parameters.padding) == (0.15, 2.0)
    assert found.label == "TKD (threshold=0.15, padding=2)"
    assert parse_contender(" l2 ").label == "Closed-form L2"


def test_a_colon_in_a_value_belongs_to_it():
    found = parse_contender(r"metaqsm:weights=C:\mine\brain.safetensors:use_magnitude=false")
    assert found.step.parameters.weights == r"C:\mine\brain.safetensors"
    assert found.step.parameters.use_magnitude is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("magic", "no inversion method 'magic'"),
        ("", "no inversion method ''"),
        ("tkd,,l2", "no inversion method ''"),
        ("tkd:threshold", "must be method or method:parameter=value"),
        ("tkd:", "must be method or method:parameter=value"),
        ("tkd:threshold=", "must be method or method:parameter=value"),
        ("tkd:=2", "must be method or method:parameter=value"),
        ("tkd:treshold=0.1", "tkd has no parameter 'treshold'"),
        ("tkd:threshold=2", r"threshold is 2.0; it must lie in \[0.01"),
        ("tkd:threshold=0.1:threshold=0.2", "two values of threshold"),
        ("tkd,l2,tkd", "TKD twice"),
    ],
)
def test_what_is_no_method_is_refused_by_name(text, message):
    with pytest.raises(InputError, match=message):
        parse_contenders(text)


def test_all_are_every_method_for_any_voxel_size_and_what_takes_a_magnitude_also_without():
    found = every_contender()
    names = {c.step.method for c in found}
    assert names == {m.name for m in methods("inversion")} - {"mesaqsm"}
    shown = [c.step.parameters.use_magnitude for c in found if c.step.method == "metaqsm"]
    assert shown == [True, False]
    assert set(classical(found)) == {c.label for c in found if c.step.method != "metaqsm"}

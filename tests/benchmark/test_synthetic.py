"""The synthetic scans: whose heads, always the same, and how they are grouped."""

import math

import numpy as np
import pytest

from napari_metaqsm.benchmark.parts import Outcome
from napari_metaqsm.benchmark.synthetic import (
    THICKNESS_MM,
    VALIDATION_HEADS,
    as_volume,
    generator,
    grouped,
    make_example,
    mesa_parts,
    ratios,
    summary,
    synthetic_part,
    validation_heads,
)
from napari_metaqsm.errors import InputError
from napari_metaqsm.training.config import Data
from napari_metaqsm.training.examples import Recipe, make_subject

SHAPE = (32, 32, 16)


def test_heads_are_those_that_stay_out_of_training(labels, heads, tmp_path):
    assert len(heads.heads) == 2  # number 18 would not have been read
    (tmp_path / "seg_03.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match="no label map 19"):
        validation_heads(tmp_path)


def test_the_default_of_training_holds_out_the_same_heads():
    assert Data().validation == VALIDATION_HEADS


def arrays(volume):
    return [*(volume.data[name] for name in ("local_field", "mask", "magnitude")), volume.truth]


def test_a_scan_is_the_same_however_many_are_asked_for(heads):
    few, many = (synthetic_part(heads, (), count, SHAPE, 5) for count in (2, 9))
    alone = few.make(1)
    many.make(0)
    again = many.make(1)
    for found, expected in zip(arrays(again), arrays(alone), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert again.geometry == alone.geometry
    for other in (few.make(0), synthetic_part(heads, (), 2, SHAPE, 6).make(1)):
        assert other.geometry != alone.geometry


def test_scans_have_the_sign_of_their_head(heads):
    """Training also sees scans of inverted sign."""
    for index in range(8):
        example = make_example(heads, SHAPE, 0, index)
        subject = make_subject(heads, Recipe(shape=SHAPE), generator(0, index))
        np.testing.assert_array_equal(example.susceptibility, subject.susceptibility * subject.mask)


def test_scans_have_a_truth_and_a_magnitude(heads):
    volume = as_volume("0", make_example(heads, SHAPE, 0, 0))
    field, mask, magnitude, truth = arrays(volume)
    assert all(a.shape == SHAPE for a in (field, mask, magnitude, truth))
    assert not truth[~mask].any()
    assert truth[mask].std() > 0.005
    assert magnitude[mask].min() >= 0
    assert volume.score(truth)["nrmse"] == 0
    assert volume.score(np.zeros(SHAPE))["nrmse"] == pytest.approx(100)


def test_scans_for_mesa_have_the_two_voxel_sizes_of_the_paper_and_b0_straight(heads):
    parts = mesa_parts(heads, (), 1, SHAPE, 0)
    geometries = [part.make(0).geometry for part in parts]
    assert [g.voxel_size_mm for g in geometries] == [(0.5, 0.5, 2.0), (0.7639, 0.7639, 3.0)]
    assert all(g.b0_direction == (0.0, 0.0, 1.0) for g in geometries)


def outcome(volume, contender, rmse, thickness=1.5):
    figures = (
        {} if rmse is None else dict.fromkeys(("rmse_ppm", "rmse", "nrmse", "hfen", "ssim", "xsim"), rmse)
    )
    record = {} if rmse is None else {"method": contender}
    facts = {"mm k": thickness}
    return Outcome("synthetic", volume, facts, contender, figures, 0.5, record, "" if figures else "no luck")


OUTCOMES = [
    outcome("0", "A", 4.0, 0.8), outcome("0", "B", 2.0, 0.8), outcome("0", "net", 1.0, 0.8),
    outcome("1", "A", 4.0, 3.5), outcome("1", "B", 8.0, 3.5), outcome("1", "net", 3.0, 3.5),
    outcome("2", "A", 3.0, 3.0), outcome("2", "B", None, 3.0), outcome("2", "net", 1.5, 3.0),
]  # fmt: skip


def test_the_ratio_is_to_the_best_classical_method_on_the_same_scans():
    # Over all its scans A has 11, and B 10 over those where it did not fail: net has 5.5 and 4.
    assert ratios("net", OUTCOMES, ("A", "B"))[0] == pytest.approx(max(5.5 / 11, 4 / 10))
    # Scan by scan the best are 2, 4 and 3.
    assert ratios("net", OUTCOMES, ("A", "B"))[1] == pytest.approx(max(1 / 2, 3 / 4, 1.5 / 3))
    assert all(math.isnan(r) for r in ratios("net", OUTCOMES, ()))


def test_the_summary_has_a_row_a_method_and_says_who_failed_and_why():
    rows = {row[0]: row for row in summary(OUTCOMES, ("A", "B")).rows}
    assert list(rows) == ["A", "B", "net"]
    assert rows["A"][1].mean == pytest.approx(11 / 3)
    assert rows["B"][1][::2] == (5.0, 2)
    assert rows["B"][-1] == "failed on 1 of 3: no luck"
    assert rows["net"][-1] == ""


def test_groups_hold_each_scan_once():
    table = grouped(OUTCOMES, ("A", "B"), "mm k", THICKNESS_MM, "thickness", "by_resolution")
    counts = {row[:3:2]: row[1] for row in table.rows}
    assert counts[("0 to 1", "A")] == 1
    assert counts[("from 3", "A")] == 2
    assert counts[("from 3", "B")] == 1
    assert not [group for group, _ in counts if group in ("1 to 2", "2 to 3")]

"""Figures of regions: against numpy, against a known sphere, and what is told where they mislead."""

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.resources import resource
from napari_metaqsm.reading.freesurfer import FREESURFER
from napari_metaqsm.reading.regions import STATISTICS, UNRELIABLE_PERCENT, measure_regions
from napari_metaqsm.reading.study import Study
from napari_metaqsm.scan import Geometry
from napari_metaqsm.simulation.anatomy import PALLIDUM, TISSUES

SHAPE = (7, 6, 5)
VOXEL_MM = (0.5, 2.0, 3.0)


def study_of(**maps):
    shape = next(iter(maps.values())).shape
    return Study(Geometry(shape, VOXEL_MM), maps)


def random_map(seed, shape=SHAPE):
    return np.random.default_rng(seed).normal(0.02, 0.1, shape).astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    labels=npst.arrays(
        st.sampled_from([np.uint8, np.int16, np.int64]),
        SHAPE,
        elements=st.integers(0, 4),
        fill=st.just(0),
    ),
    holes=npst.arrays(bool, SHAPE),
    seed=st.integers(0, 2**16),
    flipped=st.booleans(),
)
def test_every_figure_is_numpys_own(labels, holes, seed, flipped):
    chi = {"a": random_map(seed), "b": random_map(seed + 1)}
    chi["b"][holes] = 0  # outside the mask of this map
    if flipped:
        chi, labels = {t: m[::-1].copy(order="F")[::-1] for t, m in chi.items()}, labels[:, ::-1]
    measures = measure_regions(study_of(**chi), labels)
    assert [r.label for r in measures] == [n for n in np.unique(labels) if n]
    for region in measures:
        where = labels == region.label
        assert region.voxels == where.sum()
        assert region.volume_mm3 == pytest.approx(3.0 * where.sum())
        assert labels[region.centre] == region.label
        for title, measure in region.maps.items():
            values = chi[title][where & (chi[title] != 0)].astype(float)
            assert measure.voxels == values.size
            assert measure.outside_percent == pytest.approx(100 * (1 - values.size / where.sum()))
            if values.size == 0:
                assert all(math.isnan(figure) for figure in measure[:7])
                continue
            sd = np.std(values, ddof=1) if values.size > 1 else math.nan
            expected = [values.mean(), sd, np.median(values), *np.percentile(values, (5, 25, 75, 95))]
            np.testing.assert_allclose(measure[:7], expected, rtol=1e-6, atol=1e-12)


def test_a_sphere_has_its_volume_its_susceptibility_and_its_centre():
    shape, size, radius_mm, middle_mm = (90, 24, 18), np.array(VOXEL_MM), 14.0, (20.0, 22.0, 26.0)
    coordinates = np.indices(shape).reshape(3, -1).T * size
    inside = (np.linalg.norm(coordinates - middle_mm, axis=1) < radius_mm).reshape(shape)
    chi = np.where(inside, 0.15, -0.03).astype(np.float32)
    (region,) = measure_regions(study_of(chi=chi), inside).regions
    assert region.volume_mm3 == pytest.approx(4 / 3 * math.pi * radius_mm**3, rel=0.02)
    assert region.maps["chi"].mean == pytest.approx(0.15)
    assert region.maps["chi"].sd == pytest.approx(0, abs=1e-9)
    assert np.abs(region.centre * size - middle_mm).max() <= size.max() / 2


def test_the_centre_is_nearest_in_mm_and_in_the_region_even_of_a_ring():
    labels = np.zeros((9, 9, 3), int)
    labels[0, 4, 1] = labels[8, 4, 1] = labels[4, 6, 1] = labels[4, 2, 1] = 3  # around (4, 4, 1), hollow
    (region,) = measure_regions(study_of(chi=random_map(0, labels.shape)), labels).regions
    # Along the first axis four voxels are 2 mm, along the second two voxels are 4 mm.
    assert region.centre == (0, 4, 1)


@pytest.mark.parametrize("numbers", [(1, 70_000), (-3, 4), (2, 2**40)])
def test_labels_of_any_size_are_regions(numbers):
    labels = np.zeros(SHAPE, np.int64)
    labels[1], labels[4:6] = numbers
    chi = random_map(1)
    measures = measure_regions(study_of(chi=chi), labels)
    assert [r.label for r in measures] == list(numbers)
    assert measures.region(numbers[1]).maps["chi"].mean == pytest.approx(chi[4:6].mean(), rel=1e-5)
    with pytest.raises(KeyError):
        measures.region(17)


def test_nothing_labelled_gives_no_region():
    measures = measure_regions(study_of(chi=random_map(2)), np.zeros(SHAPE, np.uint8))
    assert (len(measures), measures.titles) == (0, ("chi",))
    assert measures.long_table().csv().count("\n") == 1


def test_a_value_that_is_no_number_is_not_counted():
    chi = random_map(3)
    chi[0, 0, 0], chi[0, 0, 1] = math.nan, math.inf
    labels = np.zeros(SHAPE, int)
    labels[0] = 1
    measure = measure_regions(study_of(chi=chi), labels).region(1).maps["chi"]
    assert measure.voxels == labels.sum() - 2
    assert measure.mean == pytest.approx(chi[0][np.isfinite(chi[0])].mean(), rel=1e-5)


# ------------------------------------------------------------------------------------ warnings
def halved():
    """Label 1 half outside the mask of "b", label 2 wholly, label 3 whole; four voxels of label 4."""
    a, labels = random_map(4), np.zeros(SHAPE, int)
    labels[0], labels[1], labels[2], labels[3, 0, :4] = 1, 2, 3, 4
    b = a.copy()
    b[0, :3] = b[1] = 0
    return study_of(a=a, b=b), labels


def test_what_lies_outside_a_mask_is_told_by_map():
    study, labels = halved()
    measures = measure_regions(study, labels)
    assert measures.region(1).warnings() == ["50 % of its voxels lie outside the mask of b and do not count"]
    assert measures.region(2).warnings() == ["It lies outside the mask of b; nothing can be measured there"]
    assert measures.region(3).warnings() == []
    # The same share in every map is told once.
    both = study_of(a=study.maps["b"], b=study.maps["b"])
    assert "outside the mask of every map" in measure_regions(both, labels).region(2).warnings()[0]


def test_few_voxels_are_told():
    study, labels = halved()
    (told,) = measure_regions(study, labels).region(4).warnings()
    assert told == "Only 4 voxels count: too few for a mean to be trusted"
    labels[3, 0, 1:4] = 0
    region = measure_regions(study, labels).region(4)
    assert region.warnings() == ["Only one voxel counts: too few for a mean to be trusted"]
    assert math.isnan(region.maps["a"].sd)


def test_the_unreliable_share_is_of_the_voxels_that_count_in_any_map():
    study, labels = halved()
    unreliable = np.zeros(SHAPE, bool)
    unreliable[0, :2] = unreliable[2, 0, :2] = True
    measures = measure_regions(study, labels, unreliable=unreliable)
    assert measures.region(1).unreliable_percent == pytest.approx(100 * 10 / 30)  # all count in "a"
    only_b = measure_regions(study_of(b=study.maps["b"]), labels, unreliable=unreliable)
    assert only_b.region(1).unreliable_percent == 0  # the unreliable ones are outside its mask
    assert math.isnan(only_b.region(2).unreliable_percent)
    assert measures.region(1).unreliable
    assert "33 % of its voxels are unreliable" in measures.region(1).warnings()[1]
    share = measures.region(3).unreliable_percent
    assert 0 < share < UNRELIABLE_PERCENT
    assert not measures.region(3).unreliable
    assert measure_regions(study, labels).region(1).unreliable_percent is None


def test_what_cannot_be_measured_is_refused():
    study = study_of(chi=random_map(5))
    with pytest.raises(InputError, match=r"regions are \(7, 6, 4\) voxels, but the maps are \(7, 6, 5\)"):
        measure_regions(study, np.ones((7, 6, 4), int))
    with pytest.raises(InputError, match="regions are float32 numbers; they must be labels"):
        measure_regions(study, np.ones(SHAPE, np.float32))
    with pytest.raises(InputError, match=r"unreliable voxels are \(2,\) voxels"):
        measure_regions(study, np.ones(SHAPE, int), unreliable=np.ones(2))
    with pytest.raises(InputError, match="unit is 'ppt'; it must be one of ppm, ppb"):
        measure_regions(study, np.ones(SHAPE, int)).wide_table(unit="ppt")


# ----------------------------------------------------------------------------- names and tables
def test_names_can_change_without_measuring():
    study, labels = halved()
    measures = measure_regions(study, labels, {1: "left pallidum", 2: ""})
    assert [r.name for r in measures][:3] == ["left pallidum", "region 2", "region 3"]
    renamed = measures.named({3: "red nucleus"})
    assert [r.name for r in renamed][:3] == ["region 1", "region 2", "red nucleus"]
    assert [r.maps for r in renamed] == [r.maps for r in measures]


def test_the_long_table_holds_every_figure_in_ppm():
    study, labels = halved()
    measures = measure_regions(study, labels, {1: "caudate, left"})
    rows = list(csv.DictReader(io.StringIO(measures.long_table().csv())))
    assert [(row["label"], row["map"]) for row in rows] == [(n, t) for n in "1234" for t in "ab"]
    first = rows[1]
    measure = measures.region(1).maps["b"]
    assert first["region"] == "caudate, left"
    assert (first["voxels"], first["counted_voxels"]) == ("30", "15")
    assert float(first["volume_mm3"]) == 90
    assert float(first["outside_mask_percent"]) == 50
    assert first["unreliable_percent"] == ""
    for figure in STATISTICS:
        if figure != "voxels":
            assert float(first[f"{figure}_ppm"]) == pytest.approx(getattr(measure, figure), rel=1e-5)
    assert rows[3]["mean_ppm"] == ""  # nothing of label 2 is in the mask of b


def test_the_wide_table_is_read_in_ppb():
    chi = np.full(SHAPE, 0.05, np.float32)
    chi[0] = 0.07
    labels = np.zeros(SHAPE, int)
    labels[:2] = 9
    table = measure_regions(study_of(TKD=chi), labels, {9: "putamen"}).wide_table(("spread", "p95"), "ppb")
    text = table.markdown()
    assert "| Region | Voxels | Volume mm³ | TKD, mean ± SD ppb | TKD, 95 % ppb |" in text
    assert "| putamen | 60 | 180.0 | 60.0 ± 10.1 | 70.0 |" in text
    assert table.note == ""


def test_the_wide_table_tells_below_what_misleads():
    study, labels = halved()
    note = measure_regions(study, labels).wide_table().note
    assert "region 1: 50 % of its voxels lie outside the mask of b and do not count." in note


# ----------------------------------------------------------------------------------- real labels
def test_freesurfers_numbers_are_named_and_measured_on_the_bundled_head():
    import nibabel as nib

    labels = np.asarray(nib.load(resource("samples/labels/head_labels.nii.gz")).dataobj)
    chi = np.zeros(labels.shape, np.float32)
    for number, tissue in TISSUES.items():
        chi[labels == number] = tissue.susceptibility
    study = Study(Geometry(labels.shape, (1, 1, 1)), {"true": chi})
    measures = measure_regions(study, labels, FREESURFER)
    left, right = (next(r for r in measures if r.name == f"{side} pallidum") for side in ("left", "right"))
    assert left.maps["true"].mean == pytest.approx(PALLIDUM.susceptibility)
    assert 500 < left.volume_mm3 < 3000  # of an adult's
    # In RAS the left one has the smaller first coordinate.
    assert left.centre[0] < right.centre[0]

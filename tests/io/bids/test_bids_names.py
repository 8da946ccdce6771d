"""Names of BIDS, taken apart and put together."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.names import ENTITIES, BidsName, as_label, entity_label, parse_name

LABELS = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8)
ENTITY_SETS = st.dictionaries(st.sampled_from(ENTITIES), LABELS)
NAMES = st.builds(BidsName, ENTITY_SETS, LABELS, st.sampled_from(["", ".json", ".nii", ".nii.gz", ".tsv"]))


@given(NAMES)
def test_a_name_that_is_written_is_read_as_it_was(name):
    assert parse_name(str(name)) == name


@given(NAMES, st.randoms())
def test_entities_are_put_into_the_standards_order(name, random):
    pairs = list(name.entities.items())
    random.shuffle(pairs)
    assert str(BidsName(dict(pairs), name.suffix, name.extension)) == str(name)
    order = [part.partition("-")[0] for part in entity_label(name.entities).split("_")] if pairs else []
    assert order == sorted(order, key=ENTITIES.index)


def test_the_order_is_that_of_the_standards_own_examples():
    name = parse_name("part-phase_echo-2_run-1_acq-qsm_ses-a_sub-01_MEGRE.nii.gz")
    assert str(name) == "sub-01_ses-a_acq-qsm_run-1_echo-2_part-phase_MEGRE.nii.gz"
    mask = {"desc": "brain", "label": "GM", "space": "orig", "rec": "x", "ce": "gd", "sub": "1"}
    assert entity_label(mask, "mask") == "sub-1_ce-gd_rec-x_space-orig_label-GM_desc-brain_mask"


def test_an_entity_that_the_standard_does_not_know_stands_behind_the_others():
    assert str(parse_name("zzz-1_sub-01_desc-a_T1w.nii")) == "sub-01_desc-a_zzz-1_T1w.nii"


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_sub-02_T1w.nii",
        "sub-01_.json",
        "sub-01__T1w.nii",
        "my scan.nii",
        "sub-a_b_c.nii",
        "",
        "sub-01_T1w..gz",
    ],
)
def test_what_is_no_name_of_bids_is_none(name):
    assert parse_name(name) is None


@given(st.text(max_size=40))
def test_no_text_is_too_strange_to_be_looked_at(text):
    name = parse_name(text)
    assert name is None or parse_name(str(name)) == name


@pytest.mark.parametrize(
    ("entities", "suffix", "extension"),
    [
        ({"sub": "a-b"}, "T1w", ""),
        ({"Sub": "a"}, "T1w", ""),
        ({"sub": ""}, "T1w", ""),
        ({}, "T1 w", ""),
        ({}, "x", "gz"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(entities, suffix, extension):
    with pytest.raises(InputError, match="BIDS"):
        BidsName(entities, suffix, extension)


@pytest.mark.parametrize(
    ("words", "label"),
    [("nonlinear_tv", "nonlinearTv"), ("tkd-2", "tkd2"), ("χ Tkd 0.2", "tkd02"), ("χ", ""), ("T1w", "t1w")],
)
def test_words_become_a_label(words, label):
    assert as_label(words) == label

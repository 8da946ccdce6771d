"""The paragraph of methods: every parameter of every step that ran, its papers, and nothing else."""

import dataclasses
import re

import numpy as np
import pytest

from napari_metaqsm.method import find_method, methods, parameter_infos
from napari_metaqsm.reading.study import Study
from napari_metaqsm.report.citations import dois_in, find_citation
from napari_metaqsm.report.consensus import DOI as CONSENSUS
from napari_metaqsm.report.methods_text import NAPARI, PYTORCH, SPOKEN, methods_of
from napari_metaqsm.report.steps import number_text
from napari_metaqsm.scan import Acquisition, Geometry

CHI = np.ones((4, 5, 6), np.float32)
GEOMETRY = Geometry(CHI.shape, (1, 1, 2))


def step_of(entry, **parameters):
    values = {info.name: info.default for info in parameter_infos(entry.parameters)}
    return {
        "stage": entry.stage, "method": entry.name, "title": entry.title, "reference": entry.reference,
        "parameters": {**values, **parameters},
    }  # fmt: skip


def study_of(*steps, records=None, **record):
    records = records or {"map": {"steps": list(steps), **record}}
    return Study(GEOMETRY, dict.fromkeys(records, CHI), Acquisition((0.01,), 3.0), records=records)


def cited(methods):
    return set(dois_in("\n".join(methods.references)))


@pytest.mark.parametrize("entry", methods(), ids=lambda m: m.name)
def test_every_method_is_told_with_all_its_parameters_and_its_papers(entry):
    told = methods_of(study_of(step_of(entry)))
    assert set(dois_in(entry.reference)) <= cited(told)
    for info in parameter_infos(entry.parameters):
        words = info.name.removesuffix(f"_{info.unit}").replace("_", " ")
        if info.file:
            continue
        value = number_text(info.default)
        if isinstance(info.default, bool):
            assert f"{words} {'on' if info.default else 'off'}" in told.paragraph
        elif info.name == "iterations":
            assert f"at most {value} iterations" in told.paragraph
        else:
            assert f"{words} {value}{f' {info.unit}' if info.unit else ''}" in told.paragraph


def test_methods_that_have_words_of_their_own_are_registered():
    assert set(SPOKEN) <= {(entry.stage, entry.name) for entry in methods()}


def test_exactly_what_ran_is_cited_and_has_an_entry():
    versions = {"napari-metaqsm": "9.9", "torch": "2.13", "python": "3.11"}
    tkd, resharp = find_method("inversion", "tkd"), find_method("background", "resharp")
    told = methods_of(study_of(step_of(tkd), step_of(resharp), software=versions))
    wanted = {"10.1002/mrm.22135", "10.1002/mrm.24765", CONSENSUS, NAPARI, PYTORCH}
    assert cited(told) == wanted
    assert set(dois_in(told.bibtex.replace("}", " "))) == wanted
    assert "napari-metaqsm 9.9" in told.paragraph
    # In the order of the stages, and of the text.
    assert told.paragraph.index("RESHARP") < told.paragraph.index("TKD")
    numbers = [int(n) for group in re.findall(r"\[([\d, ]+)\]", told.paragraph) for n in group.split(",")]
    assert numbers == sorted(numbers) == list(range(1, len(told.references) + 1))


@pytest.mark.parametrize(
    ("method", "parameters", "doi"),
    [
        ("nonlinear_fit", {"unwrapping": "quality-guided"}, "10.1002/mrm.28563"),
        ("nonlinear_fit", {"unwrapping": "laplacian"}, "10.1364/OL.28.001194"),
        ("nonlinear_fit", {"unwrapping": "scikit-image"}, "10.1364/AO.46.006623"),
        ("nonlinear_fit", {"offset": "smooth"}, "10.1002/mrm.26963"),
        ("tkd", {"psf_correction": True}, "10.1002/mrm.24405"),
        ("medi", {"merit": True}, "10.1002/mrm.24272"),
        ("medi", {"csf_weight": 100.0}, "10.1002/mrm.26946"),
    ],
)
def test_what_a_parameter_chose_is_cited_where_it_is_named(method, parameters, doi):
    entry = next(m for m in methods() if m.name == method)
    told = methods_of(study_of(step_of(entry, **parameters)))
    number = next(n for n, work in enumerate(told.references, 1) if doi in work)
    name = next(iter(parameters)).replace("_", " ")
    assert re.search(rf"{name}[^;)]*\[{number}\]", told.paragraph)
    assert find_citation(doi).fields


def test_what_was_not_chosen_is_not_cited():
    told = methods_of(study_of(step_of(find_method("inversion", "medi"), merit=False, csf_weight=0.0)))
    assert not cited(told) & {"10.1002/mrm.24272", "10.1002/mrm.26946"}


def test_a_method_that_nobody_knows_here_is_told_by_its_title_and_doi():
    step = {
        "stage": "inversion", "method": "brand_new", "title": "Brand-New", "reference": "doi:10.1234/new",
        "parameters": {"strength": 2.5, "robust": True},
    }  # fmt: skip
    told = methods_of(study_of(step))
    assert "by Brand-New [1] (strength 2.5; robust on)" in told.paragraph
    assert told.references[0] == "doi:10.1234/new"
    assert "doi = {10.1234/new}" in told.bibtex


def test_a_step_before_the_inversion_says_for_which_maps_it_was_where_they_differ():
    entries = [find_method("background", name) for name in ("resharp", "lbv")]
    tkd = step_of(find_method("inversion", "tkd"))
    records = {title: {"steps": [step_of(e), tkd]} for title, e in zip(("one", "two"), entries, strict=True)}
    told = methods_of(study_of(records=records))
    assert re.search(r"RESHARP\)[^)]*for one\)", told.paragraph)
    assert re.search(r"LBV\)[^)]*for two\)", told.paragraph)
    assert told.paragraph.count("(TKD)") == 1


def test_a_map_without_a_record_is_said_to_have_none():
    records = {"known": {"steps": [step_of(find_method("inversion", "tkd"))]}, "opened": {}}
    assert "How opened was made is not recorded." in methods_of(study_of(records=records)).paragraph


def test_what_the_chain_began_with_is_told():
    tkd = step_of(find_method("inversion", "tkd"))
    told = methods_of(study_of(tkd, inputs={"local_field": {}, "mask": {}, "magnitude": {}}))
    assert "The local field and the mask were given." in told.paragraph
    resharp = step_of(find_method("background", "resharp"))
    told = methods_of(study_of(resharp, tkd, inputs={"total_field": {}, "mask": {}, "local_field": {}}))
    assert "The total field and the mask were given." in told.paragraph


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"region": "brain"}, "zero is the mean of the whole brain mask"),
        ({"region": "whole brain"}, "zero is the mean of the whole brain mask"),
        ({"region": "csf"}, "zero is the mean of cerebrospinal fluid in the ventricles"),
        ({"region": "none"}, "zero is as the method gave it, not referenced"),
        ({"region": "offset", "mean_ppm": -0.02}, "zero is an offset of −0.02 ppm, taken off"),
        ({"region": "frontal white matter"}, "zero is the mean of the region 'frontal white matter'"),
        ({}, "zero is not known"),
    ],
)
def test_the_zero_is_told(about, words):
    assert words in methods_of(study_of(reference={"map": about} if about else {})).paragraph


def test_a_file_of_the_users_own_is_not_named():
    entry = find_method("inversion", "metaqsm")
    told = methods_of(study_of(step_of(entry, weights="/home/known/somebody.safetensors")))
    assert "weights of the user's own" in told.paragraph
    assert "somebody" not in told.text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (6.0, "6"),
        (0.2, "0.2"),
        (1e-6, "10⁻⁶"),
        (3.2e-7, "3.2 × 10⁻⁷"),
        (-0.5, "−0.5"),
        (200, "200"),
        ("x", "x"),
    ],
)
def test_numbers_as_they_are_printed(value, text):
    assert number_text(value) == text


def test_the_text_to_paste_ends_in_numbered_references(study):
    told = methods_of(study)
    lines = told.text.splitlines()
    assert lines[0] == told.paragraph
    assert [line.split("] ")[0] for line in lines[2:]] == [f"[{n + 1}" for n in range(len(told.references))]
    assert "Siemens" in told.paragraph
    assert "Somebody" not in told.text


def test_methods_can_be_told_without_any_record():
    told = methods_of(dataclasses.replace(study_of(), records={}))
    assert "How map was made is not recorded." in told.paragraph

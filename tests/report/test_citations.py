"""References: every method's paper is bundled, others are cited by their DOI, numbers follow the text."""

import re

import pytest

from napari_metaqsm.io.resources import resource
from napari_metaqsm.method import methods
from napari_metaqsm.report.citations import References, bibliography, dois_in, find_citation

ENTRIES = re.split(r"\n(?=@)", resource("references.bib").read_text(encoding="utf-8").strip())


@pytest.mark.parametrize("method", methods(), ids=lambda m: m.name)
def test_every_registered_method_names_papers_that_are_bundled(method):
    dois = dois_in(method.reference)
    assert dois
    for doi in dois:
        assert find_citation(doi).fields, f"{doi} of {method.name} has no entry in resources/references.bib"


def test_every_entry_is_read_whole():
    assert len(bibliography()) == len(ENTRIES)
    for entry in ENTRIES:
        assert entry.count("{") == entry.count("}")
        doi = re.search(r"doi = \{(.*)\}", entry)[1]
        work = find_citation(doi)
        assert work.bibtex == entry.strip()
        assert {"author", "title", "year", "doi"} <= set(work.fields)
        assert {"journal", "howpublished"} & set(work.fields)
    keys = [re.match(r"@\w+\{(\w+),", entry)[1] for entry in ENTRIES]
    assert len(set(keys)) == len(keys)


def test_a_reference_reads_as_a_paper_prints_it():
    assert find_citation("10.1002/MRM.24765").text == (
        "Sun H, Wilman AH. Background field removal using spherical mean value filtering and Tikhonov "
        "regularization. Magnetic Resonance in Medicine 2014 71:1151–1157. doi:10.1002/mrm.24765"
    )
    assert find_citation("10.1002/nbm.3064").text.startswith("Zhou D et al. Background field removal")


def test_a_paper_that_is_not_bundled_is_cited_by_its_doi():
    work = find_citation("10.1234/new-method.2031")
    assert work.text == "doi:10.1234/new-method.2031"
    assert work.bibtex == "@misc{doi101234newmethod2031,\n  doi = {10.1234/new-method.2031}\n}"


def test_numbers_follow_the_order_of_first_citing_and_entries_are_those_cited():
    works = References()
    assert works.cite(["10.1002/mrm.22135"]) == " [1]"
    assert works.cite(["10.1002/nbm.1670", "10.1002/mrm.22135"]) == " [1, 2]"
    assert works.cite(["10.1002/NBM.1670"]) == " [2]"
    assert works.cite([]) == ""
    keys = re.findall(r"^@\w+\{(\w+),", works.bibtex(), re.MULTILINE)
    assert keys == ["shmueli2009", "liu2011pdf"]


def test_dois_are_found_in_the_words_around_them():
    text = "doi:10.1002/mrm.1; https://doi.org/10.1016/S0140-6736(86)90837-8 (10.1002/mrm.2). 10.1002/mrm.1"
    assert dois_in(text) == ["10.1002/mrm.1", "10.1016/S0140-6736(86)90837-8", "10.1002/mrm.2"]

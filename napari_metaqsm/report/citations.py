"""Numbered references of a text, and their BibTeX entries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from napari_metaqsm.io.resources import resource

BIBLIOGRAPHY = "references.bib"
# Beyond so many authors, the first is named for all.
_MOST_AUTHORS = 3
_DOI = re.compile(r"10\.\d{4,9}/[^\s,;]+")
_ENTRY = re.compile(r"^@\w+\{.*?^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^  (\w+) = \{(.*)\},?$", re.MULTILINE)


@dataclass(frozen=True)
class Citation:
    """One work: its DOI, its BibTeX entry, and the fields of that.

    A work that the bundled bibliography does not hold has its DOI alone.
    """

    doi: str
    bibtex: str
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """As a list of references gives it."""
        known = self.fields
        place = known.get("journal") or known.get("howpublished", "")
        where = ":".join(filter(None, (known.get("volume"), known.get("pages"))))
        parts = [
            _authors(known.get("author", "")),
            _plain(known.get("title", "")),
            " ".join(filter(None, (place, known.get("year"), where))),
            f"doi:{self.doi}",
        ]
        return ". ".join(_plain(part).removesuffix(".") for part in parts if part)


def dois_in(text: str) -> list[str]:
    """The DOIs that a text names, as a method's ``reference``, each once."""
    return list(dict.fromkeys(doi.rstrip(".)") for doi in _DOI.findall(text)))


@cache
def bibliography() -> Mapping[str, Citation]:
    """The bundled works by their DOI in lower case, which is how DOIs are compared."""
    text = resource(BIBLIOGRAPHY).read_text(encoding="utf-8")
    works = {}
    for entry in _ENTRY.findall(text):
        fields = {name.lower(): value for name, value in _FIELD.findall(entry)}
        works[fields["doi"].lower()] = Citation(fields["doi"], entry, fields)
    return works


def find_citation(doi: str) -> Citation:
    """The work of a DOI; of one that is not bundled, the DOI alone."""
    found = bibliography().get(doi.lower())
    if found is not None:
        return found
    key = re.sub(r"[^a-z0-9]+", "", doi.lower())
    return Citation(doi, f"@misc{{doi{key},\n  doi = {{{doi}}}\n}}")


class References:
    """Works in the order in which a text cites them first."""

    def __init__(self) -> None:
        self.works: list[Citation] = []

    def cite(self, dois: Iterable[str]) -> str:
        """The numbers of these works, as " [2, 3]"; empty where there are none."""
        numbers = []
        for doi in dois:
            work = find_citation(doi)
            if work not in self.works:
                self.works.append(work)
            numbers.append(self.works.index(work) + 1)
        return f" [{', '.join(map(str, sorted(set(numbers))))}]" if numbers else ""

    def bibtex(self) -> str:
        """The entries of what was cited, in that order."""
        return "".join(f"{work.bibtex}\n\n" for work in self.works).rstrip("\n") + "\n" * bool(self.works)


def _authors(names: str) -> str:
    """Sun H, Wilman AH; the first alone of many."""
    people = names.split(" and ") if names else []
    spoken = []
    for person in people:
        last, _, first = person.partition(", ")
        initials = "".join(letter for letter in first if letter.isalpha())
        spoken.append(f"{last} {initials}".strip())
    if len(spoken) > _MOST_AUTHORS or "others" in spoken:
        return f"{spoken[0]} et al"
    return ", ".join(spoken)


def _plain(text: str) -> str:
    return text.replace("{", "").replace("}", "").replace("--", "–")

"""File names of BIDS: entities, suffix and extension, taken apart and put together in the standard's order.

Of the standard, see doi:10.1038/sdata.2016.44 and its chapters on quantitative MRI and on derivatives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from napari_metaqsm.errors import InputError

# The standard's entities, in the order in which a name has them.
ENTITIES = (
    "sub", "tpl", "ses", "cohort", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain",
    "rec", "dir", "run", "mod", "echo", "flip", "inv", "mt", "part", "proc", "hemi", "space", "split",
    "recording", "chunk", "atlas", "seg", "scale", "res", "den", "label", "desc",
)  # fmt: skip
# What a quantity is called: entities beside those of the scan, and suffix. BIDS has no suffix for a residual.
QUANTITIES: dict[str, tuple[dict[str, str], str]] = {
    "magnitude": ({"part": "mag"}, "MEGRE"),
    "phase": ({"part": "phase"}, "MEGRE"),
    "total_field": ({"desc": "total"}, "fieldmap"),
    "local_field": ({"desc": "local"}, "fieldmap"),
    "noise": ({"desc": "noise"}, "fieldmap"),
    "residual": ({"desc": "field"}, "residual"),
    "quality": ({"desc": "field"}, "quality"),
    "mask": ({"desc": "brain"}, "mask"),
    "eroded_mask": ({"desc": "eroded"}, "mask"),
}
SUSCEPTIBILITY = "Chimap"
_LABEL = re.compile(r"[A-Za-z0-9+]+")
_NAME = re.compile(
    r"(?P<entities>(?:[a-z]+-[A-Za-z0-9+]+_)*)(?P<suffix>[A-Za-z0-9]+)(?P<extension>(?:\.[A-Za-z0-9]+)*)"
)


@dataclass(frozen=True)
class BidsName:
    """A name in its parts.

    Parameters
    ----------
    entities : labels by the entities' short names, as ``{"sub": "01", "part": "phase"}``
    suffix : what the file is, as in ``MEGRE``
    extension : with its dot, as in ``.nii.gz``; "" where there is none

    Raises
    ------
    InputError
        When an entity, a label, the suffix or the extension is not of letters and digits.
    """

    entities: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""
    extension: str = ""

    def __post_init__(self) -> None:
        for entity, label in self.entities.items():
            if not re.fullmatch("[a-z]+", entity) or not _LABEL.fullmatch(label):
                raise InputError(f"{entity} is {label!r}; it must be letters and digits, as BIDS wants it")
        if not re.fullmatch(r"[A-Za-z0-9]+", self.suffix) or not re.fullmatch(
            r"(\.[A-Za-z0-9]+)*", self.extension
        ):
            raise InputError(f"the name ends in {self.suffix + self.extension!r}; BIDS has no such suffix")

    def __str__(self) -> str:
        return entity_label(self.entities, self.suffix) + self.extension


def entity_label(entities: Mapping[str, str], suffix: str = "") -> str:
    """``sub-01_run-1_suffix``: the entities in the standard's order, others behind them by name."""

    def place(entity: str) -> tuple[int, str]:
        return (ENTITIES.index(entity), "") if entity in ENTITIES else (len(ENTITIES), entity)

    parts = [f"{entity}-{entities[entity]}" for entity in sorted(entities, key=place)]
    return "_".join([*parts, *([suffix] if suffix else [])])


def parse_name(name: str) -> BidsName | None:
    """The parts of a file's name (without folders); None where it is none of BIDS.

    A name in another order of entities than the standard's is understood; one that has an entity twice
    is not.
    """
    found = _NAME.fullmatch(name)
    if not found:
        return None
    pairs = [part.partition("-")[::2] for part in found["entities"].split("_")[:-1]]
    entities = dict(pairs)
    return BidsName(entities, found["suffix"], found["extension"]) if len(entities) == len(pairs) else None


def as_label(words: str) -> str:
    """Words as a label of letters and digits: "nonlinear_tv" as "nonlinearTv"; "" where none are left."""
    first, *others = re.findall(r"[A-Za-z0-9]+", words) or [""]
    return first[:1].lower() + first[1:] + "".join(word[:1].upper() + word[1:] for word in others)

"""Who is compared: inversion methods with their parameters, written ``method:parameter=value``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import methods, parameter_infos
from napari_metaqsm.pipeline import Step, make_step

# The switch that makes a method leave out the magnitude: such a method is shown with and without it.
MAGNITUDE_SWITCH = "use_magnitude"
# Works at the voxel sizes of its weights alone, and is compared there.
MESA = "mesaqsm"


@dataclass(frozen=True)
class Contender:
    """An inversion step, and the name that stands for it in the tables."""

    step: Step
    label: str

    @property
    def learned(self) -> bool:
        """Whether its weights come from training."""
        return self.step.entry.kind == "learned"


def parse_contender(text: str) -> Contender:
    """The contender written as ``tkd`` or ``tkd:threshold=0.15:padding=2``.

    Raises
    ------
    InputError
        When it is not written so, or there is no such method, parameter or value.
    """
    # A colon that begins no "name=" belongs to a value, as in a path on Windows.
    name, *settings = re.split(r":(?=\w*(?:=|:|$))", text.strip())
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not (key and equals and value):
            raise InputError(f"methods has {text!r}; it must be method or method:parameter=value")
        if key in values:
            raise InputError(f"methods has {text!r}, with two values of {key}; it must have one")
        values[key] = value
    step = make_step("inversion", name, **values)
    shown = ", ".join(settings)
    return Contender(step, f"{step.entry.title} ({shown})" if shown else step.entry.title)


def parse_contenders(text: str) -> tuple[Contender, ...]:
    """Contenders with commas between them; each may stand once."""
    found = tuple(parse_contender(part) for part in text.split(","))
    labels = [c.label for c in found]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise InputError(f"methods has {twice} twice; each must stand once")
    return found


def every_contender() -> tuple[Contender, ...]:
    """Every inversion method that works at any voxel size, with its defaults.

    What can leave out the magnitude is there twice, with and without it.
    """
    texts: list[str] = []
    for entry in methods("inversion"):
        if entry.name == MESA:
            continue
        texts.append(entry.name)
        if any(info.name == MAGNITUDE_SWITCH for info in parameter_infos(entry.parameters)):
            texts.append(f"{entry.name}:{MAGNITUDE_SWITCH}=false")
    return tuple(map(parse_contender, texts))


def classical(contenders: Sequence[Contender]) -> tuple[str, ...]:
    """Labels of those that nothing was trained for."""
    return tuple(c.label for c in contenders if not c.learned)

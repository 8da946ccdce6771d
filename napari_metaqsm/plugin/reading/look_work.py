"""What is computed beside the window for looking: figures of differences, and venograms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from napari.layers import Layer

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.plugin.reading.latest import Latest
from napari_metaqsm.reading.agreement import Difference, difference
from napari_metaqsm.reading.study import Study
from napari_metaqsm.reading.swi import chi_weighted_swi

VENOGRAM = "swi"


class Differences:
    """Mean, spread and limits of all maps' differences from one of them, said in words.

    Parameters
    ----------
    say : called with the text
    """

    def __init__(self, desk: Desk, say: Callable[[str], None]) -> None:
        self._desk = desk
        self._say = say
        self._known: tuple[Any, str] | None = None
        self._latest = Latest(self._on_found, say)

    def renew(self, against: str) -> None:
        """Find and say them, unless they are known already."""
        try:
            study = self._desk.study()
        except InputError as error:
            self._say(str(error))
            return
        asked = (study, against)
        if self._known is not None and self._known[0][0] is study and self._known[0][1] == against:
            self._say(self._known[1])
            return
        if against not in study.maps:
            return
        self._known = (asked, "…")
        self._latest.ask(differences_from, study, against, stop=True)

    def release(self) -> None:
        """Stop what is running."""
        self._latest.release()

    def _on_found(self, found: Mapping[str, Difference]) -> None:
        asked, _ = self._known
        lines = [f"Minus {asked[1]}, in ppm: mean ± SD (95 % limits)"]
        lines += [f"{name}: {difference_text(each)}" for name, each in found.items()]
        self._known = (asked, "\n".join(lines))
        self._say(self._known[1])


def differences_from(study: Study, against: str) -> dict[str, Difference]:
    """Of every other map, where both are known."""
    known = study.inside(against)
    return {
        name: difference(values, study.maps[against], known & study.inside(name))
        for name, values in study.maps.items()
        if name != against
    }


def difference_text(found: Difference) -> str:
    """Mean, standard deviation and 95 % limits."""
    text = f"{found.mean:+.4f} ± {found.sd:.4f} ({found.low:+.3f} … {found.high:+.3f})"
    return text.replace("-", "−")


class Venogram:
    """χ-weighted SWI of the first map, as a layer of the desk.

    Parameters
    ----------
    made : called with the layer
    say : called with what went wrong
    """

    def __init__(self, desk: Desk, made: Callable[[Layer], None], say: Callable[[str], None]) -> None:
        self._desk = desk
        self._made = made
        self._say = say
        self._of: np.ndarray | None = None
        self._latest = Latest(self._on_made, self._failed)

    def renew(self) -> None:
        """Make it, unless it is that of the first map already."""
        try:
            study = self._desk.study()
        except InputError as error:
            self._say(str(error))
            return
        title = next(iter(study.maps))
        if self._of is study.maps[title] and self._desk.scan_layer(VENOGRAM) is not None:
            return
        self._of, self._title = study.maps[title], title
        self._latest.ask(chi_weighted_swi, study, title, stop=True)

    def stop(self) -> None:
        """It is not wanted any more."""
        if self._latest.is_busy:
            self._of = None
            self._latest.stop()

    def release(self) -> None:
        """Stop what is running."""
        self._latest.release()

    def _on_made(self, values: np.ndarray) -> None:
        self._made(self._desk.add(values, VENOGRAM, f"SWI of {self._title}", visible=False))

    def _failed(self, text: str) -> None:
        self._of = None
        self._say(text)

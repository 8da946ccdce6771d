"""Tables and plots of a reading as files beside its report."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from napari_metaqsm.evaluation.tables import Table
from napari_metaqsm.method import steps
from napari_metaqsm.reading.agreement import pair
from napari_metaqsm.reading.distribution import distribution
from napari_metaqsm.reading.plots import Look, draw_distribution, draw_pair, draw_profile, draw_regions
from napari_metaqsm.reading.profile import Profile
from napari_metaqsm.reading.regions import RegionMeasures
from napari_metaqsm.reading.study import Study

_INCHES, _DPI = (8.8, 3.0), 200
_FORMATS = ("svg", "png")


def write_measurements(
    folder: Path,
    study: Study,
    regions: RegionMeasures | None = None,
    tables: Sequence[Table] = (),
    profile: Profile | None = None,
) -> None:
    """Write what was measured into a folder that is there.

    ``regions.csv`` and every other table by its name; as SVG and PNG the histogram of all maps, the regions
    as boxes, the profile along a line, and every map over against the first.

    Parameters
    ----------
    regions, tables, profile : what there is of them
    """
    measured = regions is not None and len(regions) > 0
    for table in [*([regions.long_table()] if measured else []), *tables]:
        (folder / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8")
    draws: dict[str, Callable[[Figure, Look], None]] = {
        "histogram": lambda figure, look: draw_distribution(figure, distribution(study), look)
    }
    if measured:
        draws["regions"] = lambda figure, look: draw_regions(figure, regions, look)
    if profile is not None:
        draws["profile"] = lambda figure, look: draw_profile(figure, profile, look)
    first, *others = study.maps
    for number, other in enumerate(others, 2):
        name = f"map-{number}-{_plain(other)}-against-{_plain(first)}"
        draws[name] = partial(_draw_pair, study, other, first)
    look = Look(titles=tuple(study.maps))
    for _, name in zip(steps(len(draws), "plots"), draws, strict=True):
        figure = Figure(_INCHES)
        draws[name](figure, look)
        for ending in _FORMATS:
            figure.savefig(folder / f"{name}.{ending}", dpi=_DPI)


def _draw_pair(study: Study, a: str, b: str, figure: Figure, look: Look) -> None:
    draw_pair(figure, pair(study, a, b), look)


def _plain(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "", title).lower() or "map"

"""The pictures of a report: slices of all maps at one window, and the regions as boxes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from napari_metaqsm.errors import InputError
from napari_metaqsm.evaluation.picture import central_voxel, comparison_picture
from napari_metaqsm.reading.plots import Look, draw_regions
from napari_metaqsm.reading.regions import RegionMeasures
from napari_metaqsm.reading.study import Study
from napari_metaqsm.scan import Geometry, turn

# Up to so many images stand below each other, planes across; more stand side by side.
_MOST_BELOW = 2
# More in one row are too small to be read on paper.
_MOST_ACROSS = 5
# Of the longest side of a slice: 300 to the inch where three of them share the width of a page.
_PIXELS = 640
_PLOT_INCHES = (7.1, 2.6)
_PLOT_DPI = 200
# Of each plane: its axis among (right, anterior, superior), and from where its slices are counted.
_PLANES = {"axial": (2, "the feet"), "sagittal": (0, "the left"), "coronal": (1, "the back")}


@dataclass(frozen=True)
class Picture:
    """A PNG, what it shows in words, and its size in pixels.

    ``of_width`` is the part of the page's width that it should take.
    """

    png: bytes
    caption: str
    size: tuple[int, int]
    of_width: float = 1.0


def map_pictures(
    study: Study,
    window_ppm: tuple[float, float],
    voxels: Sequence[tuple[int, int, int]] = (),
) -> Iterator[Picture]:
    """Slices of every map through each voxel, the magnitude first where there is one.

    Parameters
    ----------
    voxels : (i, j, k) in the study's axes; none is the middle of the maps

    Raises
    ------
    InputError
        When a voxel lies outside the maps.
    """
    for voxel in voxels:
        if any(not 0 <= index < count for index, count in zip(voxel, study.geometry.shape, strict=True)):
            raise InputError(f"the voxel is {tuple(voxel)}; it must lie in maps of {study.geometry.shape}")
    return _map_pictures(study, window_ppm, voxels or [central_voxel(study.maps, study.geometry)])


def _map_pictures(
    study: Study, window_ppm: tuple[float, float], voxels: Sequence[tuple[int, int, int]]
) -> Iterator[Picture]:
    beside = _magnitude(study)
    titles = list(study.maps)
    across = _MOST_ACROSS - len(beside)
    groups = -(-len(titles) // across)
    size = -(-len(titles) // groups)
    for voxel in voxels:
        for start in range(0, len(titles), size):
            maps = {title: study.maps[title] for title in titles[start : start + size]}
            count = len(maps) + len(beside)
            picture = comparison_picture(
                maps,
                study.geometry,
                window_ppm=window_ppm,
                voxel=voxel,
                beside=beside,
                across="planes" if count <= _MOST_BELOW else "maps",
                tallest_pixels=_PIXELS,
                key=True,
            )
            yield Picture(_png(picture), _caption(study.geometry, voxel, window_ppm), picture.size)


def _magnitude(study: Study) -> Mapping[str, np.ndarray]:
    if study.magnitude is None:
        return {}
    last = np.nan_to_num(np.asarray(study.magnitude[-1], np.float32))
    return {"Magnitude, last echo" if len(study.magnitude) > 1 else "Magnitude": last}


def _caption(geometry: Geometry, voxel: Sequence[int], window_ppm: tuple[float, float]) -> str:
    low, high = (f"{value:+g}".replace("-", "−") for value in window_ppm)
    slices = ", ".join(
        f"{plane} {number} of {count} from {start}"
        for plane, (number, count, start) in slice_numbers(geometry, voxel).items()
    )
    return f"Every map from {low} (black) to {high} ppm (white). Slices: {slices}."


def slice_numbers(geometry: Geometry, voxel: Sequence[int]) -> dict[str, tuple[int, int, str]]:
    """Of each plane through a voxel: its number from 1, how many there are, and where the counting begins."""
    order, flipped = turn(geometry.orientation, "RAS")
    numbers = {}
    for plane, (axis, start) in _PLANES.items():
        count = geometry.shape[order[axis]]
        index = int(voxel[order[axis]])
        numbers[plane] = ((count - index if axis in flipped else index + 1), count, start)
    return numbers


def region_plot(measures: RegionMeasures) -> Picture | None:
    """Boxes for every region and map; None where no map holds any of them."""
    if not any(measure.voxels for region in measures for measure in region.maps.values()):
        return None
    figure = Figure(figsize=_PLOT_INCHES, dpi=_PLOT_DPI, layout="constrained")
    draw_regions(figure, measures, Look(titles=measures.titles, points=7.5))
    file = io.BytesIO()
    figure.savefig(file, format="png")
    plot = Image.open(file).convert("RGB")  # paper is not transparent
    return Picture(_png(plot), "Susceptibility in every region and map.", plot.size)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()

"""What is written and drawn over the cells of a comparison by napari itself: letters, place, key, bars."""

from __future__ import annotations

from napari.components import ViewerModel
from napari.components.overlays import TextOverlay

from napari_metaqsm.plugin.layers import geometry_of
from napari_metaqsm.plugin.reading.planes import EDGES, Frame, edge_letters

SCALE_BARS_MM = (1, 2, 5, 10, 20, 50, 100)
SIGN_KEY = "bright: paramagnetic – veins, iron, blood   ·   dark: diamagnetic – calcium, myelin"
# Seen over gray without a box: every box, in every cell, costs as much time as a picture.
COLOUR = "#ffe08a"
_PLACE = "place"
_SMALL, _LARGE = 9, 12
# Of a canvas on which place and key stand in one line, in pixels.
_WIDE = 1000


def key_of(name: str) -> str:
    """The name of an overlay of ours among the viewer's."""
    return f"metaqsm_{name}"


def put(viewer: ViewerModel, frame: Frame) -> None:
    """Add the overlays; :func:`remove` takes them away again."""
    overlays = viewer.canvas.overlays
    # One for all cells, which have one magnification.
    overlays.scale_bar.visible = True
    overlays.scale_bar.gridded = False
    overlays.scale_bar.length = _scale_bar_mm(frame)
    overlays[key_of(_PLACE)] = TextOverlay(position="bottom_left", font_size=_SMALL, visible=True)
    for edge, position in EDGES.items():
        overlays[key_of(edge)] = TextOverlay(
            position=position, gridded=True, font_size=_LARGE, box=False, color=COLOUR
        )


def remove(viewer: ViewerModel) -> None:
    """Take the overlays away."""
    for name in (*EDGES, _PLACE):
        viewer.canvas.overlays.pop(key_of(name))


def write(viewer: ViewerModel, name: str, text: str) -> None:
    """Write a text where there is any; an overlay without is not seen."""
    overlay = viewer.canvas.overlays[key_of(name)]
    if overlay.text != text:
        overlay.text = text
    if overlay.visible != bool(text):
        overlay.visible = bool(text)


def write_letters(viewer: ViewerModel, frame: Frame, alone: bool) -> None:
    """The letters of the plane, where all cells show the same; none where it is not known."""
    letters = dict.fromkeys(EDGES, "")
    axes = frame.axes
    if alone and axes is not None and frame.orientation and viewer.dims.ndisplay == 2:
        letters = edge_letters(frame.orientation, axes, viewer.scene.camera.orientation2d)
        # Below the cell's name, and above the lines for all cells: an empty line would not be counted.
        lines = viewer.canvas.overlays[key_of(_PLACE)].text.count("\n") + 1
        letters |= {"top": "\n" + letters["top"], "bottom": letters["bottom"] + "\n\u00a0" * lines}
    for edge, letter in letters.items():
        write(viewer, edge, letter)


def write_place(viewer: ViewerModel, text: str, with_key: bool) -> None:
    """Where the slices stand, and how susceptibility is shown."""
    parts = [part for part in (text, SIGN_KEY if with_key else "") if part]
    lines = len(parts) if viewer.canvas.size[1] < _WIDE else 1
    write(viewer, _PLACE, ("\n" if lines > 1 else "      ").join(parts))


def _scale_bar_mm(frame: Frame) -> float:
    """The longest bar that is at most a third of the field of view."""
    geometry = geometry_of(frame.layer)
    longest = max(n * mm for n, mm in zip(geometry.shape, geometry.voxel_size_mm, strict=True))
    return max([mm for mm in SCALE_BARS_MM if mm <= longest / 3], default=SCALE_BARS_MM[0])

"""The mouse in the cells of a comparison: a click moves the cross hair, the right button changes the window.

napari's own drags stay: the left button pans, the wheel zooms, Control and the wheel go through the slices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

LEFT, RIGHT = 1, 2
# A press that moves no farther is a click.
_CLICK_PIXELS = 3
# So many pixels to the right make the window e times as wide.
_WIDER_PIXELS = 150.0
# So many pixels down move its level by its width.
_LEVEL_PIXELS = 300.0

Window = tuple[float, float]


def on_click(go_to: Callable[[tuple[int, int], tuple[float, ...]], None]) -> Callable[..., Iterator[None]]:
    """A drag callback of the viewer: a click with the left button calls ``go_to`` with cell and place.

    Only while the selected layer is not drawn on.
    """

    def click(viewer: Any, event: Any) -> Iterator[None]:
        active = viewer.layers.selection.active
        if event.button != LEFT or event.modifiers or (active is not None and active.mode != "pan_zoom"):
            return
        start, cell, place = tuple(event.pos), event.viewbox, tuple(event.position)
        yield
        while event.type == "mouse_move":
            if math.dist(start, event.pos) > _CLICK_PIXELS:
                return
            yield
        go_to(cell, place)

    return click


def on_window_drag(
    window_of: Callable[[tuple[int, int]], Window | None],
    take: Callable[[tuple[int, int], Window], None],
) -> Callable[..., Iterator[None]]:
    """A drag callback of the viewer: the right button changes the gray window of the cell it is pressed in.

    Parameters
    ----------
    window_of : the window of a cell, or None where there is nothing to change
    take : called with the cell and its new window, while the mouse moves
    """

    def drag(viewer: Any, event: Any) -> Iterator[None]:
        window = window_of(event.viewbox) if event.button == RIGHT else None
        if window is None:
            return
        start, cell = tuple(event.pos), event.viewbox
        event.handled = True  # else the camera would zoom
        yield
        while event.type == "mouse_move":
            right, down = (now - before for now, before in zip(event.pos, start, strict=True))
            take(cell, dragged(window, right, down))
            event.handled = True
            yield
        event.handled = True

    return drag


def dragged(window: Window, right: float, down: float) -> Window:
    """A window after the mouse went so many pixels: to the right wider, down darker (a higher level)."""
    low, high = window
    level = (low + high) / 2 + down / _LEVEL_PIXELS * (high - low)
    half = (high - low) / 2 * math.exp(right / _WIDER_PIXELS)
    return level - half, level + half

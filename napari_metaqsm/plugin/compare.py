"""Layers side by side: one gray window, one place, one camera; letters, bars, outlines and a cross hair.

:func:`compare` turns the viewer into the comparison and :meth:`Comparison.close` turns it back.
It uses napari's own grid, so that every map keeps its layer controls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer
from napari.utils.events import EmitterGroup

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.reading import overlays, viewer_state
from napari_metaqsm.plugin.reading.cells import Cell
from napari_metaqsm.plugin.reading.look_state import (
    DEFAULT_WINDOW_PPM,
    DIFFERENCES,
    IN_PLACE,
    SIDE_BY_SIDE,
    Look,
)
from napari_metaqsm.plugin.reading.mouse import Window, on_click, on_window_drag
from napari_metaqsm.plugin.reading.pictures import is_susceptibility
from napari_metaqsm.plugin.reading.planes import PLANES
from napari_metaqsm.plugin.reading.stage import Stage

__all__ = ["DEFAULT_WINDOW_PPM", "PLANES", "Comparison", "compare"]

# What makes other cells; the rest of a look changes in place.
_ARRANGING = ("layout", "pair", "against", "planes")
BLINK_KEY = "b"
# The comparisons on screen. napari's events alone would not keep one alive.
_open: list[Comparison] = []


def compare(
    viewer: ViewerModel,
    layers: Sequence[Image],
    window_ppm: float | None = None,
    on_closed: Callable[[], None] = lambda: None,
    *,
    look: Look | None = None,
    mask: Layer | None = None,
) -> Comparison:
    """Show ``layers`` side by side in the viewer's grid, in the order given, and nothing else.

    Parameters
    ----------
    layers : maps, magnitude, phase, fields …, on one grid; of several echoes, the viewer's is shown
    window_ppm : the maps are shown from minus this to this, whatever ``look`` says
    on_closed : called once when the comparison has ended, also when the last map was deleted
    look : how they are looked at
    mask : its outline is drawn in every cell; None takes that of the first map

    Raises
    ------
    InputError
        When there is no layer, they are not on one grid, or the look cannot be had with them.
    """
    look = look or Look()
    if window_ppm is not None:
        look = look.but(window_ppm=(-window_ppm, window_ppm))
    _check(layers, look)
    for earlier in [c for c in _open if c.viewer == viewer]:
        earlier.close()
    return Comparison(viewer, layers, look, mask, on_closed)


class Comparison:
    """A comparison that is on screen; ends with :meth:`close`. ``events.changed`` tells of another look."""

    def __init__(
        self,
        viewer: ViewerModel,
        layers: Sequence[Image],
        look: Look,
        mask: Layer | None,
        on_closed: Callable[[], None],
    ) -> None:
        self.viewer = viewer
        self.events = EmitterGroup(source=self, changed=None)
        self._on_closed = on_closed
        self._saved = viewer_state.save(viewer)
        self._stage = Stage(viewer, layers, look, mask, self._on_contrast)
        self._mouse = (on_click(self._on_click), on_window_drag(self._window_of, self._take_window))
        _open.append(self)
        viewer.dims.ndisplay = 2
        viewer.canvas.background_color_override = "black"  # as films are read, in a light window too
        overlays.put(viewer, self._stage.frame)
        self._stage.arrange()
        self._stage.go_to_the_brain()
        self._stage.fit()
        self._stage.tell()
        self._connect()

    # ------------------------------------------------------------------------ while it is open
    @property
    def is_open(self) -> bool:
        """Whether the viewer still shows the comparison."""
        return self in _open

    @property
    def layers(self) -> list[Image]:
        """What is looked at."""
        return self._stage.layers

    @property
    def cells(self) -> list[Cell]:
        """What is on screen, row by row."""
        return self._stage.cells

    @property
    def look(self) -> Look:
        """How the layers are looked at."""
        return self._stage.look

    def show(self, **changes: Any) -> None:
        """Look otherwise: ``changes`` are fields of :class:`Look`.

        Raises
        ------
        InputError
            When they cannot be had; then all stays as it was.
        """
        before, look = self.look, self.look.but(**changes)
        _check(self.layers, look)
        self._stage.look = look
        if any(getattr(before, name) != getattr(look, name) for name in _ARRANGING):
            self._stage.arrange()
            self._stage.fit()
            self._stage.tell()
        elif before != look:
            self._stage.apply()
        self.events.changed()

    @property
    def window_ppm(self) -> float:
        """Half width of the gray window that all maps share, in ppm; setting it puts zero in the middle."""
        low, high = self.look.window_ppm
        return (high - low) / 2

    @window_ppm.setter
    def window_ppm(self, value: float) -> None:
        self.show(window_ppm=(-value, value))

    @property
    def planes(self) -> tuple[str, ...]:
        """The planes that can be shown: none where the maps' orientation is unknown or oddly turned."""
        return tuple(PLANES) if self._stage.frame.orientation else ()

    def show_plane(self, plane: str) -> None:
        """Show all maps in the axial, sagittal or coronal plane, fitted to their cells."""
        self.show(planes=(plane,))
        self._stage.fit()

    def fit(self) -> None:
        """Show the brain as large as the cells allow."""
        self._stage.fit()

    @property
    def magnification(self) -> float:
        """Of the pictures; 1 where the brain fills the cells. Setting it leaves the middle where it is."""
        return self.viewer.scene.camera.zoom / self._stage.fitting_zoom

    @magnification.setter
    def magnification(self, value: float) -> None:
        self.viewer.scene.camera.zoom = value * self._stage.fitting_zoom

    def go_to(self, voxel: Sequence[float]) -> None:
        """Move the cross hair to a voxel of the maps."""
        self._stage.frame.go_to(voxel)

    def blink(self, swapped: bool) -> None:
        """Let the two maps of a pair change places, as while a key is held."""
        self._stage.swap(swapped)

    # --------------------------------------------------------------------- its state, its end
    def state(self) -> dict[str, Any]:
        """All that is looked at, for JSON: layers by name, look, place, camera, windows of other layers."""
        camera, stage = self.viewer.scene.camera, self._stage
        own = {c.of_layer: [float(v) for v in c.layer.contrast_limits] for c in self.cells if not c.is_shared}
        return {
            "layers": [layer.name for layer in self.layers],
            "look": self.look.as_dict(),
            "voxel": list(stage.frame.voxel),
            "zoom": float(camera.zoom),
            "center": [float(c) for c in camera.center],
            "windows": own,
        }

    def look_at(self, state: Mapping[str, Any]) -> None:
        """Take look, place, camera and windows from :meth:`state`; which layers are shown stays."""
        look = Look.from_dict(state.get("look", {}))
        self.show(**{field.name: getattr(look, field.name) for field in dataclasses.fields(look)})
        for cell in self.cells:
            if not cell.is_shared and cell.of_layer in state.get("windows", {}):
                cell.layer.contrast_limits = state["windows"][cell.of_layer]
        if "voxel" in state:
            self.go_to(state["voxel"])
        if "zoom" in state and "center" in state:
            camera = self.viewer.scene.camera
            camera.zoom, camera.center = state["zoom"], tuple(state["center"])

    def close(self) -> None:
        """Give the viewer back as it was: grid, order, overlays, visibility, contrast, planes, camera."""
        if not self.is_open:
            return
        _open.remove(self)
        self._disconnect()
        with self._stage.alone():
            self._stage.release()
            overlays.remove(self.viewer)
            viewer_state.restore(self.viewer, self._saved)
        self._on_closed()

    # ------------------------------------------------------------------------- what it hears of
    def _events(self) -> list[tuple[Any, Callable[..., None]]]:
        viewer = self.viewer
        return [
            (viewer.layers.events.removed, self._on_removed),
            (viewer.dims.events.point, self._on_place),
            (viewer.dims.events.order, self._on_order),
            (viewer.dims.events.ndisplay, self._on_place),
            (viewer.scene.camera.events.orientation, self._on_place),
            (viewer.canvas.events.size, self._on_place),
            (viewer.scene.camera.events.zoom, self._on_zoom),
            *((layer.events.data, self._on_values) for layer in self.layers),
        ]

    def _connect(self) -> None:
        for emitter, heard in self._events():
            emitter.connect(heard)
        self.viewer.mouse_drag_callbacks.extend(self._mouse)
        self.viewer.bind_key(BLINK_KEY, self._on_blink_key, overwrite=True)

    def _disconnect(self) -> None:
        for emitter, heard in self._events():
            emitter.disconnect(heard)
        for callback in self._mouse:
            self.viewer.mouse_drag_callbacks.remove(callback)
        self.viewer.bind_key(BLINK_KEY, None)

    def _on_blink_key(self, viewer: ViewerModel) -> Iterator[None]:
        """Hold to see the other map of the pair"""
        self.blink(True)
        yield
        self.blink(False)

    def _on_place(self, event: Any = None) -> None:
        if not self._stage.is_busy:
            self._stage.tell()

    def _on_zoom(self, event: Any = None) -> None:
        self._stage.renew_marks()

    def _on_values(self, event: Any = None) -> None:
        self._stage.renew_values()

    def _on_order(self, event: Any = None) -> None:
        """The viewer was turned by its own buttons: the cells follow, all in that plane."""
        stage = self._stage
        axes = stage.frame.axes
        if stage.is_busy or axes is None or axes == stage.rows[0].axes:
            return
        planes = (stage.frame.plane_of(axes) or self.look.planes[0],)
        stage.look = self.look.but(planes=planes)
        stage.arrange(axes)
        stage.tell()
        self.events.changed()

    def _on_contrast(self) -> None:
        maps, differences = self._stage.groups()
        changes: dict[str, Any] = {}
        if maps:
            changes["window_ppm"] = tuple(float(v) for v in maps[0].contrast_limits)
        if differences:
            changes["difference_ppm"] = float(np.abs(differences[0].contrast_limits).max())
        self._stage.look = self.look.but(**changes)
        self.events.changed()

    def _on_removed(self, event: Any) -> None:
        layer, stage = event.value, self._stage
        if stage.is_busy:
            return
        if any(layer == cell.marks or (layer == cell.layer and cell.is_own) for cell in self.cells):
            self.close()
        elif layer in self.layers:
            layer.events.data.disconnect(self._on_values)
            stage.drop(layer)
            if not self.cells:
                self.close()
            elif layer.name in (*(self.look.pair or ()), self.look.against):
                stage.look = self.look.but(layout=SIDE_BY_SIDE, pair=None, against=None)
                self.events.changed()

    # ------------------------------------------------------------------------------- its mouse
    def _on_click(self, place: tuple[int, int], position: tuple[float, ...]) -> None:
        cell = self._stage.cell_at(place)
        if cell is not None and self.viewer.dims.ndisplay == 2:
            self.go_to(self._stage.voxel_at(cell, position))

    def _window_of(self, place: tuple[int, int]) -> Window | None:
        cell = self._stage.cell_at(place)
        return None if cell is None else tuple(cell.layer.contrast_limits)

    def _take_window(self, place: tuple[int, int], window: Window) -> None:
        cell = self._stage.cell_at(place)
        if cell is None:
            return
        if cell.is_map:
            self.show(window_ppm=window)
        elif cell.is_shared:
            self.show(difference_ppm=(window[1] - window[0]) / 2)
        else:
            low, high = cell.layer.contrast_limits_range
            cell.layer.contrast_limits_range = (min(low, window[0]), max(high, window[1]))
            cell.layer.contrast_limits = window


def _check(layers: Sequence[Image], look: Look) -> None:
    if not layers:
        raise InputError("no map is chosen; choose at least one to look at")
    first = layers[0]
    for layer in layers[1:]:
        if layer.data.shape[-3:] != first.data.shape[-3:]:
            raise InputError(
                f"{layer.name} is {layer.data.shape} voxels, but {first.name} is {first.data.shape}; "
                "what is compared must lie on one grid"
            )
    maps = [layer.name for layer in layers if is_susceptibility(layer)]
    if look.layout == IN_PLACE and (not look.pair or set(look.pair) - set(maps) or len(set(look.pair)) < 2):
        raise InputError("two maps in one place need two; choose two different maps")
    if look.layout == DIFFERENCES and (look.against not in maps or len(maps) < 2):
        raise InputError("a difference needs two maps; choose another map, and the one to take off")

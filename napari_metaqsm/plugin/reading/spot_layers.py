"""Probed spots in the viewer: their numbers, and the outlines of their regions, coloured by their sign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Labels, Layer, Points
from napari.utils.colormaps import DirectLabelColormap

from napari_metaqsm.plugin.layers import metadata_of, result_layer
from napari_metaqsm.plugin.reading.cells import VIEW
from napari_metaqsm.plugin.reading.desk import Desk
from napari_metaqsm.reading.spots import UNTOLD, Spot

QUANTITY = "spots"
REGIONS, NUMBERS = "spots", "spot numbers"
# Told apart by the colour-blind, and on black, gray and white.
COLOURS = {1: (0.90, 0.38, 0.0, 1.0), -1: (0.34, 0.71, 0.91, 1.0), 0: (0.94, 0.89, 0.26, 1.0)}
_RING_MM = 14.0


class SpotLayers:
    """The two layers of the spots on a desk; made when there is a spot, taken away when there is none.

    Beside a comparison they stay hidden, for every layer that is seen there has a cell of its own.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._regions: Labels | None = None
        self._numbers: Points | None = None
        self._drawn: list[np.ndarray] = []
        self._hidden = False
        for event in self._events():
            event.connect(self._on_layers)
        self._on_layers()

    def made(self, layer: Layer) -> bool:
        """Whether a layer is one of the two."""
        return layer in (self._regions, self._numbers)

    def show(self, spots: Sequence[Spot]) -> None:
        """Show these and no others, numbered from 1."""
        layers = self._desk.viewer.layers
        chosen, active = set(layers.selection), layers.selection.active
        if not spots or not self._desk.maps:
            self.remove()
            return
        self._show_regions(spots)
        self._show_numbers(spots)
        layers.selection = chosen  # what was painted in stays chosen
        layers.selection.active = active
        self._on_layers()

    def remove(self) -> None:
        """Take both layers away."""
        for layer in (self._regions, self._numbers):
            if layer is not None and layer in self._desk.viewer.layers:
                self._desk.viewer.layers.remove(layer)
        self._regions = self._numbers = None
        self._drawn = []

    def release(self) -> None:
        """Take both layers away and let go of the viewer."""
        for event in self._events():
            event.disconnect(self._on_layers)
        self.remove()

    def _events(self) -> tuple[Any, Any]:
        events = self._desk.viewer.layers.events
        return events.inserted, events.removed

    # ----------------------------------------------------------------------------- its layers
    def _show_regions(self, spots: Sequence[Spot]) -> None:
        viewer, like = self._desk.viewer, self._desk.maps[0]
        if self._regions not in viewer.layers or self._regions.data.shape != like.data.shape:
            if self._regions is not None and self._regions in viewer.layers:
                viewer.layers.remove(self._regions)
            values = np.zeros(like.data.shape, np.uint8)
            _, settings, _ = result_layer(values, like, QUANTITY, REGIONS, labels=True, unit="")
            self._regions = Labels(values, **{**settings, "opacity": 0.5, "visible": not self._hidden})
            self._regions.contour = 1
            self._drawn = []
            viewer.add_layer(self._regions)
        values = self._regions.data
        for region in self._drawn:
            values[tuple(region.T)] = 0
        self._drawn = [spot.region for spot in spots]
        for number, region in enumerate(self._drawn, 1):
            values[tuple(region.T)] = min(number, 255)
        colours: dict[int | None, Any] = {n: COLOURS[_sign(spot)] for n, spot in enumerate(spots, 1)}
        colours[None] = (0, 0, 0, 0)
        self._regions.colormap = DirectLabelColormap(color_dict=colours)
        self._regions.refresh()

    def _show_numbers(self, spots: Sequence[Spot]) -> None:
        viewer, like = self._desk.viewer, self._desk.maps[0]
        # The same along all axes, so that the rings are round on voxels of any shape; no finer than the maps,
        # for the viewer's sliders step as the finest layer does.
        origin = np.asarray(like.data_to_world((0, 0, 0)))
        step = max(float(np.linalg.norm(like.data_to_world(e) - origin)) for e in np.eye(3))
        places = np.array([like.data_to_world(spot.peak) for spot in spots]) / step
        size = _RING_MM / step
        if self._numbers is None or self._numbers not in viewer.layers:
            self._numbers = Points(
                ndim=3,
                name=NUMBERS,
                visible=not self._hidden,
                size=size,
                scale=(step,) * 3,
                symbol="disc",
                face_color=[0, 0, 0, 0],
                border_width=0.08,
                units=tuple(str(u) for u in like.units),
                axis_labels=like.axis_labels,
                metadata={"metaqsm": {"quantity": QUANTITY}},
            )
            viewer.add_layer(self._numbers)
        layer, colours = self._numbers, np.array([COLOURS[_sign(spot)] for spot in spots])
        layer.selected_data = set()
        layer.data = places
        layer.features = {"number": np.arange(1, len(spots) + 1)}
        layer.face_color = np.zeros((len(spots), 4))
        layer.border_color = colours
        layer.size = size
        # To the right of the ring.
        away = (0, 0, 0.75 * size)
        layer.text = {"string": "{number}", "color": colours, "size": 12, "translation": away}

    def _on_layers(self, event: Any = None) -> None:
        compared = any(metadata_of(x).get("quantity") == VIEW for x in self._desk.viewer.layers)
        for layer in (self._regions, self._numbers):
            if layer is not None and layer in self._desk.viewer.layers and compared != self._hidden:
                layer.visible = not compared
        self._hidden = compared


def _sign(spot: Spot) -> int:
    return 0 if spot.confidence == UNTOLD else spot.sign

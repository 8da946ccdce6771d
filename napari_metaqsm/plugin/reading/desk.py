"""What lies on the desk of the reading room: the maps that are read, and the layers of their scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from qtpy.QtCore import QObject, QTimer, Signal

from napari_metaqsm.errors import InputError
from napari_metaqsm.plugin.layers import geometry_of, metadata_of, result_layer
from napari_metaqsm.plugin.reading.cells import VIEW
from napari_metaqsm.plugin.reading.latest import Latest
from napari_metaqsm.plugin.zero import Referenced, Zero, original_of, put, referenced
from napari_metaqsm.reading.study import SERIES, VOLUMES, Study
from napari_metaqsm.scan import Acquisition


class Desk(QObject):
    """The maps that are read together, and the study that they make.

    Maps lie on one grid, that of the first; layers of other grids are none of theirs. A map that appears in
    the viewer is put on the desk by itself; what the user took off stays off.
    """

    # What the study is made of is another: other maps or names of them, other arrays of their scan, other
    # values in them, as by a new zero. Once for many at a time.
    changed = Signal()
    # Only other layers have come or gone, or are called otherwise. Lists of layers follow both.
    relisted = Signal()
    # A zero could not be taken; why, in words.
    failed = Signal(str)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = viewer
        self.maps: list[Image] = []
        self._study: Study | None = None
        self._parts: tuple[Any, ...] = ()
        self._is_other = False
        self._followed: list[Layer] = []
        self._latest = Latest(self._put, self.failed.emit)
        self._released = False
        # Changes come in bursts (values, then their record): they are told when the burst is over.
        self._told = QTimer(self)
        self._told.setSingleShot(True)
        self._told.setInterval(0)
        self._told.timeout.connect(self._tell)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.renamed.connect(self._on_layers)
        self.choose([layer for layer in viewer.layers if _is_map(layer)])

    # ------------------------------------------------------------------------------ its maps
    def candidates(self) -> list[Image]:
        """The layers that can be read as maps, in the order of the viewer."""
        return [layer for layer in self.viewer.layers if could_be_map(layer)]

    def choose(self, layers: Sequence[Image]) -> None:
        """Read these maps; those that do not lie on the grid of the first are left out."""
        self.maps = []
        for layer in layers:
            if not self.maps or same_grid(layer, self.maps[0]):
                self.maps.append(layer)
        self._on_layers()

    def layer(self, title: str) -> Image:
        """The map that is called so.

        Raises
        ------
        InputError
            When no map on the desk has this name.
        """
        for layer in self.maps:
            if layer.name == title:
                return layer
        raise InputError(f"there is no map {title!r} on the desk")

    def scan_layer(self, quantity: str) -> Layer | None:
        """The newest layer of a quantity ("magnitude", "mask" …) on the maps' grid, or None."""
        for layer in reversed(self.viewer.layers):
            if metadata_of(layer).get("quantity") == quantity and self.is_here(layer):
                return layer
        return None

    def region_layers(self) -> list[Labels]:
        """Labels layers on the maps' grid."""
        return [layer for layer in self.viewer.layers if isinstance(layer, Labels) and self.is_here(layer)]

    def study(self) -> Study:
        """The maps with everything known beside them, along the layers' own axes (z, y, x).

        Raises
        ------
        InputError
            When no map is chosen or something on the desk cannot be read.
        """
        if self._study is None:
            if not self.maps:
                raise InputError("no map is chosen; make or open a susceptibility map first")
            found = {n: self.scan_layer(n) for n in (*VOLUMES, *SERIES)}
            arrays = {n: np.asarray(layer.data) for n, layer in found.items() if layer is not None}
            known = [metadata_of(layer) for layer in (*self.maps, *filter(None, found.values()))]
            acquisition = next((k["acquisition"] for k in known if k.get("acquisition")), Acquisition())
            layers = {**{m.name: m for m in self.maps}, **{n: x for n, x in found.items() if x is not None}}
            self._study = Study(
                geometry_of(self.maps[0]),
                {layer.name: np.asarray(layer.data) for layer in self.maps},
                acquisition,
                **arrays,
                records={layer.name: metadata_of(layer).get("record") or {} for layer in self.maps},
                files={name: str(x.source.path) for name, x in layers.items() if x.source.path},
            )
        return self._study

    def add(self, values: np.ndarray, quantity: str, name: str, **settings: Any) -> Layer:
        """Put what was made from the maps into the viewer, in place of an earlier one of that name.

        Parameters
        ----------
        values : (..., i, j, k) on the maps' grid
        settings : of the layer, where they are not those of its quantity
        """
        if not self.maps:
            raise InputError("no map is chosen; make or open a susceptibility map first")
        for layer in self.viewer.layers:
            if layer.name == name and metadata_of(layer).get("quantity") == quantity:
                layer.data = values
                return layer
        values, own, kind = result_layer(values, self.maps[0], quantity, name)
        return self.viewer.add_layer(Layer.create(values, {**own, **settings}, kind))

    # ------------------------------------------------------------------------------ its zero
    @property
    def is_referring(self) -> bool:
        """Whether the maps are about to get another zero."""
        return self._latest.is_busy

    def refer(self, zero: Zero) -> None:
        """Give all maps another zero, in a worker; of several asked for at once the last is taken."""
        layers = list(self.maps)
        originals = [original_of(layer) for layer in layers]
        self._latest.ask(lambda: (layers, zero, referenced(originals, zero)), stop=True)

    def _put(self, done: tuple[list[Image], Zero, Referenced]) -> None:
        layers, zero, found = done
        for layer, each in zip(layers, found, strict=True):
            # A map computed anew meanwhile is not to be overwritten by the old one.
            if layer in self.maps and original_of(layer) is each[0]:
                put(layer, zero, *each)

    # ----------------------------------------------------------------------------- its place
    @property
    def voxel(self) -> tuple[int, int, int]:
        """Where the viewer's slices stand, in voxels of the maps."""
        layer = self._first()
        place = layer.world_to_data(self.viewer.dims.point)[-3:]
        return tuple(int(np.clip(round(p), 0, n - 1)) for p, n in zip(place, layer.data.shape, strict=True))

    def go_to(self, voxel: Sequence[float]) -> None:
        """Move the slices to a voxel of the maps."""
        dims = self.viewer.dims
        for axis, place in enumerate(self._first().data_to_world(voxel), start=dims.ndim - 3):
            dims.set_point(axis, place)

    def _first(self) -> Image:
        if not self.maps:
            raise InputError("no map is chosen; make or open a susceptibility map first")
        return self.maps[0]

    # ------------------------------------------------------------------------------ its life
    def release(self) -> None:
        """Let go of the viewer and its layers."""
        if self._released:
            return
        self._released = True
        self._told.stop()
        self._latest.release()
        self.viewer.layers.events.inserted.disconnect(self._on_inserted)
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self.viewer.layers.events.renamed.disconnect(self._on_layers)
        self.maps, self._study, self._parts = [], None, ()
        self._follow([])

    def is_here(self, layer: Layer) -> bool:
        """Whether a layer lies on the maps' grid."""
        return bool(self.maps) and same_grid(layer, self.maps[0])

    def _on_inserted(self, event: Any) -> None:
        layer = event.value
        if metadata_of(layer).get("quantity") == VIEW:
            return  # a comparison has been opened
        if _is_map(layer) and (not self.maps or same_grid(layer, self.maps[0])):
            self.maps.append(layer)
        self._on_layers()

    def _on_removed(self, event: Any) -> None:
        if metadata_of(event.value).get("quantity") == VIEW:
            return
        self.maps = [layer for layer in self.maps if layer != event.value]
        self._on_layers()

    def _on_layers(self, event: Any = None) -> None:
        found = [self.scan_layer(quantity) for quantity in (*VOLUMES, *SERIES)]
        parts = (*((layer, layer.name) for layer in self.maps), *found)
        if parts != self._parts:
            self._parts = parts
            self._follow([*self.maps, *(layer for layer in found if layer is not None)])
            self._on_values()
        self._told.start()

    def _tell(self) -> None:
        is_other, self._is_other = self._is_other, False
        (self.changed if is_other else self.relisted).emit()

    def _follow(self, layers: list[Layer]) -> None:
        """Hear of new values of these layers, and of no others."""
        for layer in self._followed:
            if layer not in layers:
                layer.events.data.disconnect(self._on_values)
        for layer in layers:
            if layer not in self._followed:
                layer.events.data.connect(self._on_values)
        self._followed = layers

    def _on_values(self, event: Any = None) -> None:
        self._study, self._is_other = None, True
        self._told.start()


def could_be_map(layer: Layer) -> bool:
    """Whether a layer can be read as a susceptibility map: one volume, and nothing known against it."""
    if not isinstance(layer, Image) or layer.rgb or layer.multiscale or layer.ndim != 3:
        return False
    return _is_map(layer) or metadata_of(layer).get("quantity") in (None, "image")


def same_grid(layer: Layer, other: Layer) -> bool:
    """Whether the last three axes of two layers are the same voxels, at the same place."""
    if getattr(layer, "multiscale", False) or not hasattr(layer.data, "shape"):
        return False
    if not isinstance(layer, (Image, Labels)) or layer.data.shape[-3:] != other.data.shape[-3:]:
        return False
    corners = np.array([(0, 0, 0), np.subtract(other.data.shape[-3:], 1)], float)

    def in_world(of: Layer) -> np.ndarray:
        echoes = np.zeros((2, of.ndim - 3))
        return np.array([of.data_to_world(c)[-3:] for c in np.hstack([echoes, corners])])

    apart = np.abs(in_world(layer) - in_world(other)).max()
    return bool(apart < 0.01 * min(geometry_of(other).voxel_size_mm))


def _is_map(layer: Layer) -> bool:
    return (
        isinstance(layer, Image)
        and layer.ndim == 3
        and str(metadata_of(layer).get("quantity") or "").startswith("susceptibility")
    )

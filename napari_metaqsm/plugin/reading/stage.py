"""The cells of a comparison on the viewer's grid: made, laid out, given their window, written on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer

from napari_metaqsm.plugin.reading import fitting, overlays, viewer_state
from napari_metaqsm.plugin.reading.cells import DIVERGING, Cell, PlaneMarks, make_cells, make_filler, placed
from napari_metaqsm.plugin.reading.drawn_over import DrawnOver
from napari_metaqsm.plugin.reading.look_state import DIFFERENCES, IN_PLACE, Look
from napari_metaqsm.plugin.reading.pictures import (
    MAXIMUM,
    MINIMUM,
    DifferencePicture,
    MapPicture,
    PairPicture,
    Picture,
    Slab,
    is_susceptibility,
)
from napari_metaqsm.plugin.reading.planes import Axes, Frame, box_of

# Narrow and short: it lies over the map.
COLOUR_BAR_PIXELS = (10, 60)
# Of the cells' names, on the mean.
CHARACTER_PIXELS = 9.8
# The longest slider of a window, in its own widths.
_SLIDER = 10
_LINKED = ("contrast_limits", "gamma", "colormap")
_MODES = {"": "none", MINIMUM: "min", MAXIMUM: "max"}


class Stage:
    """The cells of one comparison, between :meth:`arrange` and :meth:`clear`.

    Parameters
    ----------
    layers : what is shown, of the user's
    look : how; a new one is given to :meth:`arrange` or :meth:`apply`
    mask : its outline is drawn; None takes that of the first map
    contrast_changed : called when a window was changed by the layers' own controls
    """

    def __init__(
        self,
        viewer: ViewerModel,
        layers: Sequence[Image],
        look: Look,
        mask: Layer | None,
        contrast_changed: Callable[[], None],
    ) -> None:
        self.viewer = viewer
        self.layers = list(layers)
        self.look = look
        self.cells: list[Cell] = []
        # One in each cell but the first, beside the layer that is drawn in.
        self._fillers: list[Image] = []
        # At which the brain fills the cells, as they were laid out.
        self.fitting_zoom = 1.0
        # Whether the stage is changing the viewer itself.
        self.is_busy = False
        self.frame = Frame(viewer, next(filter(is_susceptibility, self.layers), self.layers[0]))
        volume = self.frame.layer.data if self.frame.layer.ndim == 3 else np.ones(self.frame.shape)
        self.box = box_of(volume)
        self.rows: list[PlaneMarks] = []
        self._mask = mask
        self._slab = Slab()
        self._thickness: list[float] = []
        self._contrast_changed = contrast_changed
        with self.alone():
            self._over = DrawnOver(*(viewer, self.frame, self._on_drawn, self._on_pen, lambda: self.is_busy))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Say that what happens to the viewer is our own doing."""
        before, self.is_busy = self.is_busy, True
        try:
            yield
        finally:
            self.is_busy = before

    # -------------------------------------------------------------------------------- its cells
    def arrange(self, axes: Axes | None = None) -> None:
        """Make the cells anew; ``axes`` are those of the viewer where it was turned to no plane."""
        viewer, frame = self.viewer, self.frame
        selected, point = set(viewer.layers.selection), viewer.dims.point
        with self.alone():
            self.clear()
            planes = [frame.axes_of(plane) for plane in self.look.planes] if frame.orientation else []
            planes = [axes or (planes or [frame.axes or Axes(0, 1, 2)])[0], *planes[1:]]
            frame.show(planes[0])
            pictures = self._pictures()
            pair = next((p for p in pictures if isinstance(p, PairPicture)), None)
            several = len(planes) > 1
            self.rows = [
                PlaneMarks(
                    *(frame, each, lambda: self.look, self._outlined, self._over, pair),
                    self.box if several else None,
                )
                for each in planes
            ]
            self.cells = make_cells(frame, pictures, self.rows, self.box, self._slab)
            self._put_in_place()
            self._on_drawn(True)  # the first pictures met colours before there were cells
            viewer_state.select(viewer, selected)
            self._lay_out()
            self._decorate()
            # Other layers have other ranges, into which napari moves the place.
            if len(point) == viewer.dims.ndim:
                viewer.dims.point = point
        self.apply()

    def _put_in_place(self) -> None:
        """Show the layers of the cells, cell by cell, and the one that is drawn in; hide all others."""
        viewer, pen = self.viewer, self._over.pen
        wanted = len(self.cells) - 1 if pen is not None else 0
        unused, self._fillers = self._fillers[wanted:], self._fillers[:wanted]
        self._fillers += [make_filler(self.frame) for _ in range(wanted - len(self._fillers))]
        beside = [pen, *self._fillers] if pen is not None else []
        shown: list[Layer] = []
        for number, cell in enumerate(self.cells):
            shown += [cell.layer, *beside[number : number + 1], cell.marks]
        with viewer.layers.batched_update():
            for layer in unused:
                viewer.layers.remove(layer)
            for layer in shown:
                if layer not in viewer.layers:
                    viewer.add_layer(layer)
            for layer in viewer.layers:
                visible = layer in shown and layer not in self._fillers
                if layer.visible != visible:
                    layer.visible = visible
            viewer_state.put_in_order(viewer, shown)
        viewer.canvas.grid.stride = 3 if beside else 2

    def _on_pen(self) -> None:
        """Another layer is drawn in: it stands in the first cell."""
        if not self.cells:
            return
        active = self.viewer.layers.selection.active
        with self.alone():
            self._put_in_place()
            viewer_state.select(self.viewer, {active} if active is not None else set())

    def _pictures(self) -> list[Picture]:
        look, named = self.look, {layer.name: layer for layer in self.layers}
        if look.layout == IN_PLACE:
            first, second = (named[name] for name in look.pair)
            return [PairPicture(first, second, self.box, look.wipe)]
        if look.layout == DIFFERENCES:
            against = named[look.against]
            others = [layer for layer in self.layers if layer != against and is_susceptibility(layer)]
            return [MapPicture(against), *(DifferencePicture(layer, against) for layer in others)]
        return [MapPicture(layer) for layer in self.layers]

    def drop(self, layer: Image) -> None:
        """Take away the cells of a layer that is not there any more."""
        self.layers.remove(layer)
        lost = [cell for cell in self.cells if layer in cell.picture.layers]
        kept = [cell for cell in self.cells if cell not in lost]
        with self.alone():
            self._link(False)
            self.cells = lost
            self.clear()
            self.cells = kept
            self._link(True)
            if kept:
                self._lay_out()

    def clear(self) -> None:
        """Take the cells away, down to the layers of the user."""
        self._link(False)
        cells, self.cells = self.cells, []
        # In a grid napari looks for what is written over cells that are not there yet, or not any more.
        self.viewer.canvas.grid.enabled = False
        with self.viewer.layers.batched_update():
            for cell in cells:
                for layer in (cell.marks, *((cell.layer,) if cell.is_own else ())):
                    if layer in self.viewer.layers:
                        self.viewer.layers.remove(layer)
            for layer in self._fillers:
                if layer in self.viewer.layers:
                    self.viewer.layers.remove(layer)
        self._fillers = []

    def release(self) -> None:
        """Take the cells away, and give back what is drawn over them."""
        self.clear()
        self._over.release()

    def _on_drawn(self, recoloured: bool) -> None:
        """Something over the cells is another."""
        if recoloured:
            palette = self._over.palette
            for cell in self.cells:
                cell.marks.colormap = palette
        for row in self.rows:
            row.version += 1
        for cell in self.cells:
            cell.marks.refresh(thumbnail=False, highlight=False, extent=False)

    def _lay_out(self) -> None:
        grid, count = self.viewer.canvas.grid, len(self.cells) // len(self.rows)
        planes = [row.axes for row in self.rows]
        if len(planes) == 1:
            count = fitting.columns(self.viewer, count, fitting.size_mm(self.frame, planes, self.box))
        # Rows stay automatic, so that a layer made visible meanwhile gets a cell of its own.
        grid.shape = (-1, count)
        grid.spacing = 4
        grid.enabled = True
        self.fitting_zoom = fitting.fitting_zoom(self.frame, planes, self.box)

    def _decorate(self) -> None:
        for cell in self.cells:
            if cell.is_map:
                cell.layer.colormap = "gray"
                cell.layer.gamma = 1.0
            elif isinstance(cell.picture, DifferencePicture):
                cell.layer.colormap = DIVERGING
            cell.layer.colorbar.size = COLOUR_BAR_PIXELS
            cell.layer.colorbar.position = "top_left"
            cell.layer.colorbar.box = False
            cell.layer.name_overlay.visible = False
            name = cell.marks.name_overlay
            name.position, name.box, name.color, name.visible = "top_left", False, overlays.COLOUR, True
        # One bar for all cells of one window.
        barred = {group[0] for group in self.groups() if group}
        for cell in self.cells:
            cell.layer.colorbar.visible = cell.layer in barred or (not cell.is_shared and cell.is_first)

    def groups(self) -> tuple[list[Image], list[Image]]:
        """The layers that share a window: those of maps, and those of differences."""
        maps = [cell.layer for cell in self.cells if cell.is_map]
        return maps, [c.layer for c in self.cells if isinstance(c.picture, DifferencePicture)]

    def _link(self, linked: bool) -> None:
        layers = self.viewer.layers
        for group in filter(None, self.groups()):
            contrast = group[0].events.contrast_limits
            if linked:
                layers.link_layers(group, _LINKED)
                contrast.connect(self._on_contrast)
            else:
                contrast.disconnect(self._on_contrast)
                layers.unlink_layers(group, _LINKED)

    def _on_contrast(self, event: Any = None) -> None:
        if not self.is_busy:
            self._contrast_changed()

    def apply(self) -> None:
        """Give the cells window, slab, wipe, outline and cross hair of the look."""
        look = self.look
        half = look.difference_ppm
        with self.alone():
            self._link(False)
            for group, window in zip(self.groups(), (look.window_ppm, (-half, half)), strict=True):
                reach = _SLIDER * max(map(abs, window))
                for layer in group:
                    layer.contrast_limits_range = (-reach, reach)
                    layer.contrast_limits = window
            self._link(True)
            self._apply_slab()
            for cell in self.cells:
                if isinstance(cell.picture, PairPicture):
                    cell.picture.wipe = look.wipe
        self.refresh()

    def _apply_slab(self) -> None:
        dims, look, frame = self.viewer.dims, self.look, self.frame
        self._slab.projection, self._slab.thickness_mm = look.projection, look.slab_mm
        axis = self.rows[0].axes.through
        step = abs(float(frame.steps[axis]))
        margins = np.zeros((2, dims.ndim))
        margins[:, frame.first + axis] = np.multiply(self._slab.reach(step), step)
        for name, values in zip(("margin_left", "margin_right"), margins, strict=True):
            if tuple(values) != getattr(dims, name):
                setattr(dims, name, tuple(float(v) for v in values))
        for cell in self.cells:
            if not cell.is_own:
                cell.layer.projection_mode = _MODES[look.projection]

    def refresh(self) -> None:
        """Show all that is drawn by ourselves anew."""
        for cell in self.cells:
            for layer in (cell.marks, *((cell.layer,) if cell.is_own else ())):
                layer.refresh(thumbnail=False, highlight=False, extent=False)
        self.tell()

    def swap(self, swapped: bool) -> None:
        """Let the two maps of a pair change places."""
        pairs = [c for c in self.cells if isinstance(c.picture, PairPicture) and c.picture.swapped != swapped]
        for cell in pairs:
            cell.picture.swapped = swapped
        for cell in pairs:
            cell.layer.refresh(thumbnail=False, highlight=False, extent=False)
        if pairs:
            self.tell()

    def renew_marks(self) -> None:
        """Draw the marks anew where the magnification asks for other lines."""
        thick = [row.thickness for row in self.rows]
        if thick != self._thickness:
            self._thickness = thick
            for cell in self.cells:
                cell.marks.refresh(thumbnail=False, highlight=False, extent=False)

    def renew_values(self) -> None:
        """A layer has got other values."""
        for row in self.rows:
            row.version += 1
        self.refresh()

    def tell(self) -> None:
        """Write titles, values, place, letters and unit."""
        viewer, frame = self.viewer, self.frame
        width = int((viewer.canvas.viewbox_size(viewer.layers)[1] - 20) / CHARACTER_PIXELS)
        # Names change with every step of the cross hair; nobody needs to look for other layers then.
        with viewer.layers.events.renamed.blocker():
            for cell in self.cells:
                text = cell.text(frame, width)
                if cell.marks.name != text:
                    cell.marks.name = text
        alone, axes = len(self.rows) == 1, frame.axes
        place = "" if axes is None or not alone else f"{frame.plane_of(axes)}  {frame.position(axes)}"
        if self._slab.projection:
            place = f"{place}  {self._slab.projection} over {self._slab.thickness_mm:g} mm"
        overlays.write_place(viewer, place.strip(), with_key=any(cell.is_map for cell in self.cells))
        overlays.write_letters(viewer, frame, alone)

    def _outlined(self) -> np.ndarray | None:
        """(i, j, k), zero outside of what is outlined."""
        source = self._mask if self._mask is not None and self._mask in self.viewer.layers else None
        source = source or (self.frame.layer if is_susceptibility(self.frame.layer) else None)
        return None if source is None else source.data

    # -------------------------------------------------------------------------------- its place
    def cell_at(self, place: tuple[int, int] | None) -> Cell | None:
        """The cell in a row and column of the grid."""
        if place is None or not self.viewer.canvas.grid.enabled:
            return None
        for index in self.viewer.canvas.grid.contents_at(tuple(place), self.viewer.layers):
            for cell in self.cells:
                if self.viewer.layers[index] in (cell.layer, cell.marks):
                    return cell
        return None

    def voxel_at(self, cell: Cell, position: Sequence[float]) -> tuple[int, int, int]:
        """The voxel that a cell shows at a place of the viewer."""
        host = self.rows[0].axes
        steps, start = placed(self.frame, cell.axes, host, self.box)
        there = (np.asarray(position[-3:]) - start) / steps
        voxel = list(self.frame.voxel)
        voxel[cell.axes.down], voxel[cell.axes.right] = there[host.down], there[host.right]
        return self.frame.clipped(voxel)

    def go_to_the_brain(self) -> None:
        """Stay at the point that was looked at, unless it is outside the maps."""
        dims, frame = self.viewer.dims, self.frame
        ends = [frame.place(corner) for corner in (self.box[0] - 0.5, self.box[1] + 0.5)]
        here = np.asarray(dims.point[-3:])
        inside = (here >= np.minimum(*ends)) & (here <= np.maximum(*ends))
        if not inside.all():
            there = np.where(inside, here, np.mean(ends, axis=0))
            dims.point = (*dims.point[: frame.first], *(float(p) for p in there))

    def fit(self) -> None:
        """Let the brain fill the cells."""
        fitting.fit(self.frame, [row.axes for row in self.rows], self.box)
        self.renew_marks()

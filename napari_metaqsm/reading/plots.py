"""Plots of a reading: regions, two maps over against each other, a profile, the distribution.

Each function draws into a ``matplotlib.figure.Figure`` in place of what it held, in the colours of a
:class:`Look`. A map has one colour, and its place in every legend, wherever it is drawn.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from napari_metaqsm.reading.agreement import Density, Pair, Points
from napari_metaqsm.reading.distribution import Distribution
from napari_metaqsm.reading.profile import Profile
from napari_metaqsm.reading.regions import RegionMeasures

# One hue a map, on a light and on a dark background. Anyone can tell the first five apart, as the test of
# these plots measures; of more, nobody could remember all.
_HUES = (
    ("#005aa3", "#97c3f5"),
    ("#e27000", "#f07c39"),
    ("#299c77", "#4ee2b3"),
    ("#822361", "#c374a9"),
    ("#675400", "#f4e84e"),
    ("#5c5c5c", "#c4c4c4"),
    ("#332288", "#a99cf0"),
    ("#7a1f2b", "#f08a8a"),
)
# Of the maps beyond the last hue, which take the hues again.
_STYLES = ("-", "--", ":")
# More regions than these cannot be told apart in one plot.
MOST_REGIONS = 40
_LONGEST_TITLE, _LONGEST_NAME = 30, 22


@dataclass(frozen=True)
class Look:
    """Colours of a plot, as the window's theme or the paper has them.

    Parameters
    ----------
    titles : the maps that there are, drawn or not: the place of each gives its colour
    points : size of the text
    """

    foreground: str = "#000000"
    background: str = "#ffffff"
    titles: Sequence[str] = ()
    points: float = 9.0

    def colour(self, title: str) -> str:
        """The colour of a map."""
        dark = np.dot(to_rgb(self.background), (0.2126, 0.7152, 0.0722)) < 0.4
        return _HUES[self._place(title) % len(_HUES)][int(dark)]

    def style(self, title: str) -> str:
        """How the line of a map is drawn; others than the first eight are broken."""
        return _STYLES[self._place(title) // len(_HUES) % len(_STYLES)]

    def between(self, share: float) -> tuple[float, float, float]:
        """A colour from the background (0) to the foreground (1)."""
        back, front = np.array(to_rgb(self.background)), np.array(to_rgb(self.foreground))
        return tuple(back + share * (front - back))

    def _place(self, title: str) -> int:
        return self.titles.index(title) if title in self.titles else 0


# ------------------------------------------------------------------------------------- regions
def draw_regions(figure: Figure, measures: RegionMeasures, look: Look) -> None:
    """A box for each region and map: median, quartiles, whiskers from 5 to 95 %, the mean as a dot.

    Beyond the first ``MOST_REGIONS`` regions, none is drawn, and the plot says so.
    """
    axes = _axes(figure, look)
    shown = measures.regions[:MOST_REGIONS]
    width = 0.8 / len(measures.titles)
    for place, title in enumerate(measures.titles):
        offset = (place - (len(measures.titles) - 1) / 2) * width
        boxes, positions = [], []
        for x, region in enumerate(shown):
            measure = region.maps[title]
            if measure.voxels:
                boxes.append(
                    {
                        **{"med": measure.median, "q1": measure.p25, "q3": measure.p75},
                        **{"whislo": measure.p5, "whishi": measure.p95, "mean": measure.mean},
                    }
                )
                positions.append(x + offset)
        _draw_boxes(axes, boxes, positions, 0.8 * width, look.colour(title), look)
    axes.axhline(0, color=look.between(0.35), linewidth=0.8, zorder=0)
    axes.set_xlim(-0.6, len(shown) - 0.4)
    for x in range(1, len(shown)):
        axes.axvline(x - 0.5, color=look.between(0.12), linewidth=0.8, zorder=0)
    # Of 72 points to the inch, the legend takes a quarter; a letter is about half as wide as it is high.
    letters = max(int(0.75 * 72 * figure.get_figwidth() / max(len(shown), 1) / (0.55 * look.points)), 1)
    wrapped = [textwrap.wrap(region.name, letters, break_long_words=False) for region in shown]
    fits = all(len(name) <= 3 and max(map(len, name)) <= letters for name in wrapped)
    axes.set_xticks(
        range(len(shown)),
        ["\n".join(name) for name in wrapped]
        if fits
        else [_short(region.name, _LONGEST_NAME) for region in shown],
    )
    if not fits:
        for label in axes.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("susceptibility (ppm)")
    if len(measures) > len(shown):
        axes.set_title(f"the first {len(shown)} of {len(measures)} regions", fontsize=look.points, loc="left")
    _legend(figure, axes, measures.titles, look, note="box: quartiles\nwhiskers: 5 and 95 %\ndot: mean")


def _draw_boxes(
    axes: Axes,
    boxes: Sequence[Mapping[str, float]],
    positions: Sequence[float],
    width: float,
    colour: str,
    look: Look,
) -> None:
    fill = np.add(np.multiply(0.45, to_rgb(colour)), np.multiply(0.55, to_rgb(look.background)))
    line = {"color": colour, "linewidth": 1.2}
    axes.bxp(
        boxes,
        positions=positions,
        widths=width,
        manage_ticks=False,
        showfliers=False,
        showmeans=True,
        showcaps=False,
        patch_artist=True,
        boxprops={"facecolor": fill, "edgecolor": colour, "linewidth": 1.2},
        medianprops={"color": look.foreground, "linewidth": 1.4},
        whiskerprops=line,
        meanprops={"marker": "o", "markersize": 3, "markerfacecolor": look.foreground, "markeredgewidth": 0},
    )


# ------------------------------------------------------------------------------------ two maps
def draw_pair(figure: Figure, pair: Pair, look: Look) -> None:
    """Left one map over the other with the fitted line; right their difference over their mean.

    The line of equal values is dotted; the mean of the difference is drawn through, its 95 % limits
    dashed. The shade of a cell grows with the logarithm of its number of voxels.
    """
    left, right, told = _three_axes(figure, look)
    found = pair.difference
    _draw_cloud(left, pair.scatter, look)
    low, high = _ends(pair.scatter)
    left.plot((low, high), (low, high), color=look.foreground, linewidth=1, linestyle=":")
    ends = np.array((low, high))
    left.plot(ends, found.intercept + found.slope * ends, color=look.colour(pair.a), linewidth=1.8)
    left.set(xlim=(low, high), ylim=(low, high), box_aspect=1)
    left.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    left.set_xlabel(f"{_short(pair.b)} (ppm)")
    left.set_ylabel(f"{_short(pair.a)} (ppm)")
    _draw_cloud(right, pair.bland_altman, look)
    right.axhline(0, color=look.foreground, linewidth=1, linestyle=":")
    for value, style in ((found.mean, "-"), (found.low, "--"), (found.high, "--")):
        right.axhline(value, color=look.colour(pair.a), linewidth=1.6, linestyle=style)
    right.set_ylim(*_with_room(right.get_ylim(), (found.low, found.high)))
    if isinstance(pair.bland_altman, Points):
        right.margins(x=0.1)
        _name_points(right, pair.bland_altman, look)
    right.set_xlabel("mean of the two (ppm)")
    right.set_ylabel("difference (ppm)")
    told.text(0, 1, "\n".join(pair_text(pair)), color=look.foreground, fontsize=look.points, va="top")


def pair_text(pair: Pair) -> list[str]:
    """The figures of a pair, a line each."""
    found = pair.difference
    counted = "voxels" if isinstance(pair.scatter, Density) else "regions"
    lines = [
        f"{_short(pair.a)}",
        f"− {_short(pair.b)}",
        f"mean {_signed(found.mean)} ppm",
        f"SD {found.sd:.4f} ppm",
        "95 % limits (ppm)",
        f"{_signed(found.low)} … {_signed(found.high)}",
        "",
        f"slope {_signed(found.slope, 3)}",
        f"intercept {_signed(found.intercept)} ppm",
        f"r {_signed(found.correlation, 3)}",
        f"{found.voxels:,} {counted}".replace(",", "\u2009"),
    ]
    if isinstance(pair.scatter, Density):
        beyond = max(pair.scatter.beyond, pair.bland_altman.beyond)
        lines += [f"{100 * beyond:.1g} % beyond the axes"] if beyond else []
    return lines


def _draw_cloud(axes: Axes, cloud: Density | Points, look: Look) -> None:
    if isinstance(cloud, Points):
        axes.plot(cloud.x, cloud.y, "o", color=look.between(0.75), markersize=4.5, markeredgewidth=0)
        return
    shades = LinearSegmentedColormap.from_list("cloud", [look.between(0.12), look.between(0.8)])
    counts = np.ma.masked_equal(cloud.counts.T, 0)
    axes.imshow(
        counts,
        origin="lower",
        extent=(*cloud.x_edges[[0, -1]], *cloud.y_edges[[0, -1]]),
        aspect="auto",
        interpolation="nearest",
        cmap=shades,
        norm=LogNorm(1, max(2, cloud.counts.max())),
    )


def _name_points(axes: Axes, cloud: Points, look: Look) -> None:
    """Names beside the points, as many as find a place without lying over another, from left to right."""
    width, height = (inches * 72 for inches in axes.figure.get_size_inches())
    # What the axes have of the figure, roughly: names need no more.
    scale = np.array([0.45 * width, 0.65 * height]) / np.array(
        [np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())]
    )
    size = look.points - 1.5
    points = np.column_stack(cloud[:2]) * scale
    taken = [(*(p - 2), *(p + 2)) for p in points]
    for index in np.argsort(cloud.x):
        name = _short(cloud.names[index], _LONGEST_NAME)
        wide, half = 0.6 * size * len(name), 0.6 * size
        for side, up in ((1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            x, y = points[index] + (5 * side, 9 * up)
            box = (min(x, x + side * wide), y - half, max(x, x + side * wide), y + half)
            if not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
                axes.annotate(
                    name,
                    (cloud.x[index], cloud.y[index]),
                    (5 * side, 9 * up),
                    textcoords="offset points",
                    ha="left" if side > 0 else "right",
                    va="center",
                    color=look.between(0.8),
                    fontsize=size,
                )
                taken.append(box)
                break


def _ends(cloud: Density | Points) -> tuple[float, float]:
    """One range for both axes that holds the whole cloud."""
    if isinstance(cloud, Density):
        return float(cloud.x_edges[0]), float(cloud.x_edges[-1])
    values = np.concatenate(cloud[:2])
    spare = 0.15 * float(np.ptp(values)) or 1e-3
    return float(values.min()) - spare, float(values.max()) + spare


def _with_room(limits: tuple[float, float], values: tuple[float, float]) -> tuple[float, float]:
    low, high = min(limits[0], *values), max(limits[1], *values)
    spare = 0.04 * (high - low)
    return low - spare * (low in values), high + spare * (high in values)


# --------------------------------------------------------------------- profile and distribution
def draw_profile(figure: Figure, profile: Profile, look: Look) -> None:
    """The maps along the line; where a map is not known, its curve is broken."""
    axes = _axes(figure, look)
    for corner in profile.corners_mm:
        axes.axvline(corner, color=look.between(0.25), linewidth=0.8, zorder=0)
    axes.axhline(0, color=look.between(0.35), linewidth=0.8, zorder=0)
    for title, values in profile.values.items():
        _plot(axes.plot, profile.distances_mm, values, title, look)
    axes.set_xlim(0, profile.distances_mm[-1])
    axes.set_xlabel("distance along the line (mm), from {} to {}".format(*profile.course))
    axes.set_ylabel("susceptibility (ppm)")
    _legend(figure, axes, tuple(profile.values), look)


def draw_distribution(figure: Figure, distribution: Distribution, look: Look) -> None:
    """The histograms of all maps."""
    axes = _axes(figure, look)
    middles = (distribution.edges_ppm[:-1] + distribution.edges_ppm[1:]) / 2
    axes.axvline(0, color=look.between(0.35), linewidth=0.8, zorder=0)
    for title, percent in distribution.percent.items():
        _plot(axes.plot, middles, percent, title, look)
    axes.set_xlim(*distribution.edges_ppm[[0, -1]])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("susceptibility (ppm)")
    axes.set_ylabel("voxels (% per 0.01 ppm)")
    _legend(figure, axes, tuple(distribution.percent), look)


def _plot(plot: Callable[..., object], x: np.ndarray, y: np.ndarray, title: str, look: Look) -> None:
    plot(x, y, color=look.colour(title), linestyle=look.style(title), linewidth=1.5)


# ------------------------------------------------------------------------------------- parts
def say(figure: Figure, text: str, look: Look) -> None:
    """Words in place of a plot."""
    _clear(figure, look)
    figure.text(0.5, 0.5, text, color=look.between(0.75), fontsize=look.points + 1, ha="center", va="center")


def _clear(figure: Figure, look: Look) -> None:
    figure.clear()
    figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.05)
    figure.set_facecolor(look.background)


def _axes(figure: Figure, look: Look) -> Axes:
    _clear(figure, look)
    axes = figure.add_subplot()
    _dress(axes, look)
    return axes


def _three_axes(figure: Figure, look: Look) -> tuple[Axes, Axes, Axes]:
    _clear(figure, look)
    left, right, told = figure.subplots(1, 3, width_ratios=(1, 1.9, 0.6))
    for axes in (left, right):
        _dress(axes, look)
    told.set_axis_off()
    return left, right, told


def _dress(axes: Axes, look: Look) -> None:
    """The look's colours and sizes, whatever the user's own settings of matplotlib are."""
    axes.set_facecolor(look.background)
    axes.tick_params(colors=look.foreground, labelsize=look.points - 0.5, length=3, width=0.8, which="both")
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=look.between(0.6), linewidth=0.8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=look.foreground, fontsize=look.points)
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axes.title.set_color(look.foreground)
    axes.grid(False)


def _legend(figure: Figure, axes: Axes, titles: Sequence[str], look: Look, note: str = "") -> None:
    """Right of the plot, where it takes no height, in the order of the maps."""
    lines = [Line2D([], [], color=look.colour(t), linestyle=look.style(t), linewidth=2.5) for t in titles]
    texts = [_short(t) for t in titles]
    if note:
        lines += [Line2D([], [], linestyle="none")] * (note.count("\n") + 1)
        texts += note.split("\n")
    legend = figure.legend(
        lines,
        texts,
        loc="outside right upper",
        frameon=False,
        fontsize=look.points,
        labelcolor=look.foreground,
        handlelength=1.4,
        borderaxespad=0.2,
        labelspacing=0.35,
    )
    for text in itertools.islice(legend.get_texts(), len(titles), None):
        text.set(color=look.between(0.7), fontsize=look.points - 1)


def _short(text: str, longest: int = _LONGEST_TITLE) -> str:
    """``text`` without its middle where it is long; its end often tells maps apart."""
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - end - 1].rstrip()}…{text[-end:].lstrip()}"


def _signed(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}f}".replace("-", "−")

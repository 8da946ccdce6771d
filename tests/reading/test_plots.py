"""Plots show the numbers that they were given, in colours that everyone can tell apart."""

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from skimage.color import rgb2lab

from napari_metaqsm.reading.agreement import pair, pair_of_regions
from napari_metaqsm.reading.distribution import distribution
from napari_metaqsm.reading.plots import (
    MOST_REGIONS,
    Look,
    draw_distribution,
    draw_pair,
    draw_profile,
    draw_regions,
    pair_text,
    say,
)
from napari_metaqsm.reading.profile import profile
from napari_metaqsm.reading.regions import measure_regions
from napari_metaqsm.reading.study import Study
from napari_metaqsm.scan import Geometry

SHAPE = (12, 20, 10)
RNG = np.random.default_rng(4)
BASE = RNG.normal(0, 0.05, SHAPE)
STUDY = Study(
    Geometry(SHAPE, (1, 1, 2)),
    {"χ one": BASE, "χ two": 0.8 * BASE + 0.02 + RNG.normal(0, 0.01, SHAPE), "χ three": BASE + 0.05},
)
LABELS = np.zeros(SHAPE, int)
LABELS[:, 2:6], LABELS[:, 8:12], LABELS[:, 14:] = 1, 2, 3
NAMES = {1: "globus pallidus", 2: "red nucleus", 3: "substantia nigra"}
PAPER = Look(titles=tuple(STUDY.maps))
DARK = Look("#f0f1f2", "#262930", titles=tuple(STUDY.maps))
# Linear RGB as those without one kind of cone see it (Machado et al. 2009, doi:10.1109/TVCG.2009.113).
SEEN = {
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.1523, 1.0526, -0.2049), (0.1145, 0.7863, 0.0992), (-0.0039, -0.0481, 1.052)),
    "deutan": ((0.3673, 0.8606, -0.228), (0.2801, 0.6725, 0.0474), (-0.0118, 0.0429, 0.9689)),
    "tritan": ((1.2555, -0.0767, -0.1788), (-0.0784, 0.9308, 0.1476), (0.0047, 0.6914, 0.3039)),
}


@pytest.fixture
def figure():
    """As large as the dock lets a plot be, with a canvas that draws."""
    figure = Figure((8.8, 2.3), dpi=100)
    FigureCanvasAgg(figure)
    return figure


def linear(colour):
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def as_seen(colour, matrix):
    rgb = np.clip(np.asarray(matrix) @ linear(colour), 0, 1)
    return rgb2lab(np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055))


# -------------------------------------------------------------------------------------- colours
@pytest.mark.parametrize("look", [PAPER, DARK], ids=["paper", "dark"])
def test_every_colour_stands_out_from_its_background(look):
    titles = [str(n) for n in range(8)]
    many = Look(look.foreground, look.background, titles)
    luminance = (0.2126, 0.7152, 0.0722)
    back = linear(look.background) @ luminance
    for title in titles:
        front = linear(many.colour(title)) @ luminance
        contrast = (max(front, back) + 0.05) / (min(front, back) + 0.05)
        assert contrast > 3, title  # of graphics, as WCAG asks


@pytest.mark.parametrize("sight", SEEN)
@pytest.mark.parametrize("look", [PAPER, DARK], ids=["paper", "dark"])
def test_the_first_five_maps_are_told_apart_by_everyone(look, sight):
    titles = [str(n) for n in range(5)]
    seen = [as_seen(Look(look.foreground, look.background, titles).colour(t), SEEN[sight]) for t in titles]
    nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
    assert nearest > 20  # of ΔE*ab, where 2 is just seen


def test_maps_beyond_the_eighth_have_broken_lines():
    look = Look(titles=[str(n) for n in range(17)])
    assert (look.colour("0"), look.style("0")) == (look.colour("8"), "-")
    assert [look.style(t) for t in ("7", "8", "16")] == ["-", "--", ":"]


# --------------------------------------------------------------------------- what the plots show
def test_a_map_has_its_colour_in_every_plot_whichever_others_are_drawn(figure):
    line = np.array([(0, 0, 0), (11, 19, 9)])
    some = Study(STUDY.geometry, {t: STUDY.maps[t] for t in ("χ one", "χ three")})
    drawn = []
    for draw, data in (
        (draw_profile, profile(some, line)),
        (draw_distribution, distribution(some)),
        (draw_regions, measure_regions(some, LABELS, NAMES)),
    ):
        draw(figure, data, PAPER)
        legend = figure.legends[0]
        texts = [text.get_text() for text in legend.get_texts()][:2]
        assert texts == ["χ one", "χ three"]
        drawn.append([to_hex(handle.get_color()) for handle in legend.legend_handles[:2]])
    assert drawn == [[PAPER.colour("χ one"), PAPER.colour("χ three")]] * 3


def test_boxes_hold_the_quartiles_of_the_voxels_region_by_region(figure):
    draw_regions(figure, measure_regions(STUDY, LABELS, NAMES), PAPER)
    axes = figure.axes[0]
    assert len(axes.patches) == 9
    for place, title in enumerate(STUDY.maps):
        for x, label in enumerate((1, 2, 3)):
            values = STUDY.maps[title][label == LABELS]
            box = axes.patches[3 * place + x].get_path().get_extents()
            assert (box.y0, box.y1) == pytest.approx(tuple(np.percentile(values, (25, 75))))
            assert round((box.x0 + box.x1) / 2) == x
    assert [t.get_text() for t in axes.get_xticklabels()] == list(NAMES.values())
    assert "(ppm)" in axes.get_ylabel()


def test_long_names_of_many_regions_are_wrapped_or_turned_and_never_touch(figure):
    for count in (9, 24):
        labels = np.arange(BASE.size).reshape(SHAPE) * count // BASE.size + 1
        names = {n: f"left substantia nigra {n}" for n in range(1, count + 1)}
        draw_regions(figure, measure_regions(STUDY, labels, names), PAPER)
        figure.canvas.draw()
        labels = figure.axes[0].get_xticklabels()
        turned = labels[0].get_rotation() > 0
        assert turned == (count == 24)
        if not turned:
            for a, b in itertools.pairwise(label.get_window_extent() for label in labels):
                assert not a.overlaps(b)


def test_a_region_that_a_map_does_not_know_has_no_box_of_it(figure):
    cut = STUDY.maps["χ two"] * (LABELS != 2)
    draw_regions(figure, measure_regions(Study(STUDY.geometry, {"χ one": BASE, "χ two": cut}), LABELS), PAPER)
    assert len(figure.axes[0].patches) == 5


def test_of_very_many_regions_the_first_are_drawn_and_the_plot_says_so(figure):
    labels = np.arange(BASE.size).reshape(SHAPE) // 30  # 79 regions
    draw_regions(figure, measure_regions(STUDY, labels), PAPER)
    assert len(figure.axes[0].patches) == 3 * MOST_REGIONS
    assert figure.axes[0].get_title(loc="left") == f"the first {MOST_REGIONS} of 79 regions"


def test_a_pair_shows_its_fit_its_limits_and_says_them(figure):
    found = pair(STUDY, "χ two", "χ one")
    draw_pair(figure, found, PAPER)
    left, right, told = figure.axes
    x, y = left.lines[1].get_data()
    assert np.polyfit(x, y, 1) == pytest.approx((found.difference.slope, found.difference.intercept))
    heights = [line.get_ydata()[0] for line in right.lines]
    assert heights == pytest.approx([0, found.difference.mean, found.difference.low, found.difference.high])
    low, high = right.get_ylim()
    assert low < found.difference.low < found.difference.high < high
    np.testing.assert_array_equal(left.images[0].get_array().filled(0), found.scatter.counts.T)
    assert left.images[0].get_extent() == pytest.approx(
        [*found.scatter.x_edges[[0, -1]], *found.scatter.y_edges[[0, -1]]]
    )
    assert told.texts[0].get_text() == "\n".join(pair_text(found))
    assert (left.get_xlabel(), left.get_ylabel()) == ("χ one (ppm)", "χ two (ppm)")


def test_the_figures_of_a_pair_are_told_with_true_minus_signs():
    found = pair(Study(STUDY.geometry, {"a": BASE - 0.0123, "b": BASE}), "a", "b")
    assert pair_text(found)[:6] == [
        "a",
        "− b",
        "mean −0.0123 ppm",
        "SD 0.0000 ppm",
        "95 % limits (ppm)",
        "−0.0123 … −0.0123",
    ]


def test_regions_of_a_pair_are_named_and_no_name_lies_over_another(figure):
    labels = np.arange(BASE.size).reshape(SHAPE) // 100 + 1
    names = {n: f"nucleus number {n}" for n in range(1, 25)}
    draw_pair(figure, pair_of_regions(STUDY, "χ two", "χ one", labels, names), PAPER)
    figure.canvas.draw()
    texts = figure.axes[1].texts
    assert len(texts) >= 5
    assert {t.get_text() for t in texts} <= set(names.values())
    for a, b in itertools.combinations([t.get_window_extent() for t in texts], 2):
        assert not a.overlaps(b)


def test_a_profile_shows_every_map_and_breaks_where_it_is_not_known(figure):
    cut = BASE.copy()
    cut[:, 10:14] = 0
    found = profile(Study(STUDY.geometry, {"χ one": BASE, "χ two": cut}), np.array([(5, 0, 5), (5, 19, 5)]))
    draw_profile(figure, found, PAPER)
    axes = figure.axes[0]
    curves = [line for line in axes.lines if len(line.get_xdata()) > 2]
    np.testing.assert_array_equal(curves[0].get_ydata(), found.values["χ one"])
    assert np.isnan(curves[1].get_ydata()).any()
    assert axes.get_xlim() == (0, 19)
    assert "(mm)" in axes.get_xlabel()


@pytest.mark.parametrize("look", [PAPER, DARK], ids=["paper", "dark"])
def test_everything_written_is_in_the_looks_colours_whatever_the_users_settings_are(figure, look):
    with mpl.rc_context({"text.color": "red", "axes.labelcolor": "red", "xtick.color": "red"}):
        for draw, data in (
            (draw_pair, pair(STUDY, "χ two", "χ one")),
            (draw_regions, measure_regions(STUDY, LABELS, NAMES)),
            (draw_distribution, distribution(STUDY)),
            (say, "choose a map"),
        ):
            draw(figure, data, look)
            figure.canvas.draw()
            assert to_hex(figure.get_facecolor()) == look.background
            pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
            assert not ((pixels[..., 0] > 200) & (pixels[..., 1:].max(axis=-1) < 60)).any()


def test_svg_and_png_are_written(figure, tmp_path):
    draw_distribution(figure, distribution(STUDY), PAPER)
    for ending, begins in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        file = tmp_path / f"plot.{ending}"
        figure.savefig(file)
        assert file.read_bytes().startswith(begins)

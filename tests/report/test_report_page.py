"""A report as a page and as PDF: one content in both, whole in itself, and nothing that crashes it."""

import base64
import dataclasses
import io
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_metaqsm.reading.findings import Finding, Severity, find_in
from napari_metaqsm.reading.regions import measure_regions
from napari_metaqsm.reading.spots import probe
from napari_metaqsm.reading.study import Study
from napari_metaqsm.report.content import PARTS, Facts, Items, Rows, Text, Wishes, make_report
from napari_metaqsm.report.page import html
from napari_metaqsm.report.paper import pdf
from napari_metaqsm.report.pictures import Picture
from napari_metaqsm.scan import Geometry

TITLE = 'Head & neck <b>"1"</b>'
NO_PICTURES = tuple(part for part in PARTS if part != "pictures")


@pytest.fixture(scope="module")
def labels(study):
    labels = np.zeros(study.geometry.shape, int)
    labels[7:9, 8:11, 6:8], labels[5, 7:9, 6] = 1, 2
    return labels


@pytest.fixture(scope="module")
def report(study, labels):
    return make_report(
        study,
        Wishes(TITLE, "First line\nsecond line"),
        regions=measure_regions(study, labels, {1: "nucleus <1>"}),
        spots=[probe(study, (8, 9, 7))],
        findings=find_in(study),
        notes=["something was left out"],
    )


class Page(HTMLParser):
    """What a browser reads: texts, tags and what they point to; tags must close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.sources, self.links, self.tags = [], [], [], [], set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        known = dict(attributes)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.sources += [known[name] for name in ("src", "srcset", "data", "poster") if name in known]
        self.links += [known["href"]] if "href" in known else []
        assert not [name for name in known if name.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self):
        return squeezed(" ".join(self.texts))


def squeezed(text):
    """Letters alone: where lines break is the renderer's."""
    return re.sub(r"\s+", "", text)


def pdf_text(data):
    """The letters of a PDF of reportlab's, in the order in which they are drawn."""
    objects = dict(re.findall(rb"\n(\d+) 0 obj\n(.*?)endobj", data, re.DOTALL))
    streams = {number: _stream(body) for number, body in objects.items() if b"stream\n" in body}
    fonts = {}
    for body in objects.values():
        for name, number in re.findall(rb"/(F\d+\+\d+) (\d+) 0 R", body):
            letters = re.search(rb"/ToUnicode (\d+) 0 R", objects[number])[1]
            pairs = re.findall(rb"<(\w\w)> <(\w{4})>", streams[letters])
            fonts[name] = {int(code, 16): chr(int(letter, 16)) for code, letter in pairs}
    text = ""
    for number in sorted(streams, key=int):
        font = {}
        for name, drawn in re.findall(rb"/(F\d+\+\d+) [\d.]+ Tf|\(((?:\\.|[^\\)])*)\) Tj", streams[number]):
            font = fonts[name] if name else font
            text += "".join(font[code] for code in _unescaped(drawn))
    return squeezed(text)


def _stream(body):
    data = re.search(rb"stream\n(.*)endstream", body, re.DOTALL)[1].strip()
    if b"ASCII85" in body:
        data = base64.a85decode(data, adobe=data.startswith(b"<~")) if data.startswith(b"<~") else (
            base64.a85decode(data.removesuffix(b"~>"))
        )  # fmt: skip
    return zlib.decompress(data) if b"FlateDecode" in body else data


def _unescaped(drawn):
    def byte(match):
        what = match[1]
        return (
            bytes([int(what, 8)])
            if what.isdigit()
            else {b"n": b"\n", b"r": b"\r", b"t": b"\t"}.get(what, what)
        )

    return re.sub(rb"\\(\d{3}|.)", byte, drawn, flags=re.DOTALL)


def texts_of(report):
    """All that the content says."""
    yield from (report.title, report.summary, report.made_on, report.comment, report.footer)
    for section in report.sections:
        yield section.title
        for block in section.blocks:
            if isinstance(block, Text):
                yield block.text
            elif isinstance(block, Items):
                yield from (text for item in block.items for text in item)
            elif isinstance(block, Facts):
                yield from (text for fact in block.facts for text in (fact.name, fact.value))
            elif isinstance(block, Rows):
                yield from (*block.columns, *(cell for row in block.rows for cell in row), block.note)
            else:
                yield block.caption


def pictures_of(report):
    return [b for section in report.sections for b in section.blocks if isinstance(b, Picture)]


def blocks(report, name):
    return next(section.blocks for section in report.sections if section.title == PARTS[name])


# ---------------------------------------------------------------------------------- renderers
def test_the_page_says_all_of_the_content_and_holds_all_of_its_pictures(report):
    page = Page(html(report))
    for text in texts_of(report):
        assert squeezed(text) in page.text
    data = [base64.b64decode(s.removeprefix("data:image/png;base64,")) for s in page.sources]
    assert data == [picture.png for picture in pictures_of(report)]
    assert len(data) == 2


def test_the_page_loads_and_runs_nothing(report):
    text = html(report)
    page = Page(text)
    assert not page.tags & {"script", "link", "iframe", "object", "embed"}
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert all(link.startswith("https://doi.org/10.") for link in page.links)
    style = re.search(r"<style>(.*)</style>", text, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_the_pdf_says_what_the_page_says(report):
    data = pdf(report)
    text = pdf_text(data)
    for said in texts_of(report):
        for word in said.split():  # a cell may break over pages, its words may not
            assert word in text, word
    assert data.count(b"/Subtype /Image") == len(pictures_of(report))
    assert data.startswith(b"%PDF-")
    assert b"595.27" in data  # A4


def test_only_what_was_typed_can_name_somebody(report):
    said = Page(html(report)).text + pdf_text(pdf(report)) + squeezed(report.methods.text)
    for private in ("Somebody", "0815", "hospital", "2024-05", "part-mag", ".nii"):
        assert private not in said


# ------------------------------------------------------------------------------------ content
def test_parts_that_are_not_wanted_or_not_there_are_left_out(study, report):
    assert [section.title for section in report.sections] == list(PARTS.values())
    bare = make_report(study, Wishes(parts=("regions", "spots", "methods")))
    assert [section.title for section in bare.sections] == [PARTS["methods"]]
    assert bare.title == "Quantitative susceptibility mapping"


def test_the_figures_of_the_regions_are_those_of_numpy(report, study, labels):
    table = blocks(report, "regions")[0]
    values = study.maps["TKD"][labels == 1].astype(float)
    row = next(row for row in table.rows if row[0] == "nucleus <1>")
    shown = f"{values.mean():.4f} ± {values.std(ddof=1):.4f}".replace("-", "−")
    assert shown in row
    assert row[1] == "12"


def test_the_zero_of_every_map_is_told_with_what_the_consensus_asks(report, study):
    table = next(b for b in blocks(report, "pipeline") if isinstance(b, Rows) and b.columns[0] == "Map")
    assert [row[0] for row in table.rows] == list(study.maps)
    for row in table.rows:
        values = study.maps[row[0]][study.inside(row[0])]
        assert row[1] == "the mean of the whole brain mask"
        assert row[2] == f"0.0000 ± {values.std():.4f}"
        assert row[4] == str(values.size)


def test_a_region_as_zero_is_given_relative_to_the_brain(study):
    chi = study.maps["TKD"]
    shifted = np.where(chi != 0, chi + 0.03, 0).astype(np.float32)
    record = {"reference": {"map": {"region": "csf", "mean_ppm": 0.1, "sd_ppm": 0.012, "voxels": 40}}}
    of = Study(study.geometry, {"map": shifted}, records={"map": record})
    table = next(b for b in blocks(make_report(of, Wishes(parts=["pipeline"])), "pipeline")
                 if isinstance(b, Rows))  # fmt: skip
    assert table.rows[0][2].startswith("+0.0300 ±")
    assert table.rows[0][3:] == ("−0.0300 ± 0.0120", "40")


def test_every_parameter_of_every_step_stands_in_the_pipeline(report, study):
    table = blocks(report, "pipeline")[0]
    said = {row[1].split(" [")[0]: row[2] for row in table.rows}
    assert list(said) == [
        "Weighted mean of echoes",
        "Magnitude threshold",
        "V-SHARP",
        "TKD",
        "Closed-form L2",
    ]
    assert "unwrapping laplacian" in said["Weighted mean of echoes"]
    assert "radius 4 mm" in said["V-SHARP"]
    assert "radii 6" in said["V-SHARP"]
    assert "threshold 0.15; psf correction off; padding 1" in said["TKD"]


def test_findings_come_by_severity_with_the_warnings_of_the_maps(study, report):
    findings = [
        Finding("a", Severity.CARE, "take care"),
        Finding("b", Severity.IN_ORDER, "fine"),
        Finding("c", Severity.WRONG, "wrong", "it matters", "do this"),
        Finding("d", Severity.NOT_CHECKED, "Not checked: needs the phase"),
    ]
    items, text = blocks(make_report(study, Wishes(parts=["findings"]), findings=findings), "findings")
    assert items.items[:2] == (("✗", "Wrong. It matters. Do this."), ("!", "Take care."))
    assert any("Laplacian unwrapping is not exact" in said for _, said in items.items)
    assert text.text == "1 of 4 checks found all in order. Not checked: d (needs the phase)."
    assert ("!", "Something was left out.") in blocks(report, "findings")[0].items


def test_how_the_data_were_read_is_told_without_a_warning(study):
    records = {t: {**r, "decisions": ["made by someone", "3 T"]} for t, r in study.records.items()}
    told = make_report(dataclasses.replace(study, records=records), findings=[])
    assert blocks(told, "acquisition")[1].text == "How the data were read. Made by someone. 3 T."
    assert "someone" not in repr(blocks(told, "findings"))
    silent = dataclasses.replace(study, records={t: {**r, "decisions": []} for t, r in study.records.items()})
    assert len(blocks(make_report(silent), "acquisition")) == 1


# --------------------------------------------------------------------------------- robustness
CHI = np.zeros((5, 6, 7), np.float32)
CHI[1:-1, 1:-1, 1:-1] = 0.02
NAMES = st.text(max_size=6) | st.sampled_from(
    ["region", "sd_ppm", "voxels", "mean_ppm", "percent_of_mask", "depth_mm", "radius_mm", "iterations"]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(NAMES, values, max_size=4),
    max_leaves=10,
)
STEPS = st.fixed_dictionaries(
    {},
    optional={
        "stage": ANYTHING | st.sampled_from(["background", "inversion"]),
        "method": ANYTHING | st.sampled_from(["resharp", "tkd"]),
        **dict.fromkeys(("title", "reference", "parameters", "stand_ins", "convergence"), ANYTHING),
        **dict.fromkeys(("erosion", "device", "seconds", "warnings", "network"), ANYTHING),
    },
)
RECORDS = ANYTHING | st.fixed_dictionaries(
    {},
    optional={
        "steps": st.lists(STEPS, max_size=3),
        **dict.fromkeys(("software", "reference", "warnings", "inputs", "decisions"), ANYTHING),
    },
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(RECORDS, st.text(), st.text())
def test_whatever_a_record_holds_there_is_a_report(record, title, comment):
    study = Study(Geometry(CHI.shape, (1, 1, 2)), {"map": CHI}, records={"map": record})
    report = make_report(study, Wishes(title, comment, NO_PICTURES))
    Page(html(report))
    assert pdf(report).startswith(b"%PDF-")


def test_texts_longer_than_a_page_are_broken_over_pages(study):
    steps = [{"stage": "inversion", "title": "long", "network": {"list": ["word " * 4000]}}]
    long = dataclasses.replace(study, records={"TKD": {"steps": steps}})
    data = pdf(make_report(long, Wishes("t", "word " * 4000, NO_PICTURES)))
    assert len(re.findall(rb"/Type /Page\b(?!s)", data)) > 4


def test_letters_that_no_page_may_hold_are_left_out(study):
    report = make_report(study, Wishes("a\x00b\ud800c", parts=["methods"]))
    html(report).encode("utf-8")
    assert "abc" in pdf_text(pdf(report))
    assert io.BytesIO(pdf(report)).read(5) == b"%PDF-"

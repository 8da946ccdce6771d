"""The page and the tables of a cohort: what is in them, that nothing breaks out of them, and their cost."""

import csv
import json
import time
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path

import pytest

from napari_metaqsm.cohort.group import PAGE, QC, REGIONS, write_group
from napari_metaqsm.cohort.outcomes import DONE, FAILED, Outcome, write_outcome
from napari_metaqsm.cohort.summary import FORM, PICTURE, REPORT
from napari_metaqsm.errors import InputError

EMPTY_ELEMENTS = {"meta", "img", "br", "circle", "line", "rect", "path"}


class Page(HTMLParser):
    """Reads a page as a browser does; what is open must be closed in its order."""

    def __init__(self, text):
        super().__init__()
        self.opened, self.tags, self.texts = [], [], []
        self.feed(text)
        assert not self.opened

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in EMPTY_ELEMENTS:
            self.opened.append(tag)

    def handle_endtag(self, tag):
        assert self.opened.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, text):
        self.texts.append(text)

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def measures_of(label, caudate=0.05, **others):
    maps = {
        "mean_ppm": caudate,
        "sd_ppm": 0.01,
        "median_ppm": 0.049,
        "voxels": 90,
        "outside_mask_percent": 10.0,
    }
    whole = {"mean_ppm": 0.0, "sd_ppm": 0.04, "volume_ml": 1200.0}
    return {
        "form": FORM, "label": label,
        "acquisition": {"b0_tesla": 3.0, "echo_times_ms": [4.0, 8.0], "voxel_size_mm": [1.0, 1.0, 2.0],
                        "matrix": [8, 8, 8], "vendor": "Siemens", "model": "Prisma"},
        "mask_ml": 1300.0, "field_noise_ppm": 0.004, "unreliable_percent": 12.0,
        "maps": {"TKD": whole, "Closed-form L2": whole},
        "regions": [{"label": 11, "name": "Caudate", "voxels": 100, "volume_mm3": 200.0,
                     "unreliable_percent": None,
                     "maps": {"TKD": maps, "Closed-form L2": {**maps, "mean_ppm": None}}}],
        "findings": [], "seconds": {"TKD": 0.5}, "warnings": [], **others,
    }  # fmt: skip


def keep(out, label, measures=None, reason="", documents=True):
    status = FAILED if reason else DONE
    write_outcome(Outcome(label, status, reason, 12.5, "w", ("a warning",), measures or {}), out)
    if documents and not reason:
        subject, _, session = label.partition("_")[0], *label.partition("_ses-")[1:]
        place = f"{subject}/ses-{session}" if session else subject
        folder = Path(out) / place / "reports" / label
        folder.mkdir(parents=True)
        for name in (REPORT, PICTURE):
            (folder / name).write_bytes(b"here")


@pytest.fixture
def out(tmp_path):
    """Seven scans that agree about the caudate, one that does not, a failure, and a scan with a bad phase."""
    values = [0.04, 0.05, 0.05, 0.06, 0.05, 0.04, 0.06]
    for n, value in enumerate(values, 1):
        keep(tmp_path, f"sub-{n:02d}", measures_of(f"sub-{n:02d}", value))
    keep(tmp_path, "sub-08_ses-b", measures_of("sub-08_ses-b", 0.21))
    wrong = {"key": "Sign of the phase", "severity": "wrong", "what": "Veins are dark", "figure": ""}
    fine = {"key": "Voxel size", "severity": "in order", "what": "Voxels of 1 mm", "figure": ""}
    keep(tmp_path, "sub-09", measures_of("sub-09", findings=[wrong, fine]))
    keep(tmp_path, "sub-10", reason="the phase of echo 2 is missing")
    return tmp_path


def rows(file):
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_all_its_files_are_there(out):
    files = write_group(out)
    names = [PAGE, REGIONS, QC, "group_regions.json", "group_qc.json"]
    assert [file.name for file in files] == names
    assert all(file.is_file() for file in files)
    assert {p.name for p in out.iterdir()} == {*names, "logs", *(f"sub-{n:02d}" for n in range(1, 10))}


def test_the_page_tells_what_failed_what_is_wrong_and_what_stands_apart(out):
    write_group(out)
    page = Page((out / PAGE).read_text(encoding="utf-8"))
    text = " ".join(page.texts)
    assert "Susceptibility maps of 10 scans" in text
    counts = text[: text.index("Why it could not be done")]
    for told in ("9 done", "1 failed", "1 something wrong", "1 outlier", "0 with care", "7 in order"):
        assert told in counts
    assert "the phase of echo 2 is missing" in text
    # Nine scans: median 0.05; five of nine distances are 0.01 or less, so a robust SD is 0.014826.
    assert "0.210 ppm 0.050 ppm +10.8 9" in text
    assert (
        "sub-08_ses-b: Caudate 0.210 ppm by TKD, 10.8 robust SD above the cohort's median 0.050 (9 scans)"
        in text
    )
    assert "Sign of the phase 1 0 0 sub-09" in text


def test_pictures_stand_by_trouble_and_lead_to_the_reports(out):
    write_group(out)
    page = Page((out / PAGE).read_text(encoding="utf-8"))
    pictures = [image["src"] for image in page.of("img")]
    assert pictures[:3] == [
        "sub-09/reports/sub-09/picture.webp",
        "sub-08/ses-b/reports/sub-08_ses-b/picture.webp",
        "sub-01/reports/sub-01/picture.webp",
    ]
    assert len(pictures) == 9
    assert all(image["loading"] == "lazy" for image in page.of("img"))
    links = [a["href"] for a in page.of("a") if not a["href"].startswith("#")]
    assert all((out / link).is_file() for link in [*links, *pictures])


def test_the_page_needs_nothing_from_elsewhere(out):
    write_group(out)
    text = (out / PAGE).read_text(encoding="utf-8")
    assert not Page(text).of("script")
    assert not Page(text).of("link")
    assert "http" not in text
    assert "url(" not in text


def test_what_a_file_says_cannot_break_out_of_the_page_or_the_table(tmp_path):
    evil = '</td><script>alert("x")</script>\t\n&amp;'
    measures = measures_of("sub-01", warnings=[evil])
    measures["maps"] = {evil: measures["maps"]["TKD"]}
    measures["regions"][0] |= {"name": evil, "maps": {evil: measures["regions"][0]["maps"]["TKD"]}}
    measures["findings"] = [{"key": evil, "severity": "wrong", "what": evil, "figure": evil}]
    measures["acquisition"]["vendor"] = evil
    for n in range(8):
        changed = json.loads(json.dumps(measures))
        changed["regions"][0]["maps"][evil]["mean_ppm"] = 0.9 if n == 5 else 0.05
        keep(tmp_path, f"sub-{n:02d}", changed)
    keep(tmp_path, "sub-99", reason=evil)
    write_group(tmp_path)
    page = Page((tmp_path / PAGE).read_text(encoding="utf-8"))
    assert not page.of("script")
    assert 'alert("x")' in " ".join(page.texts)
    table = rows(tmp_path / QC)
    assert len(table) == 9
    assert {None} & set(table[0]) == set()
    assert len(rows(tmp_path / REGIONS)) == 8


def test_the_tables_hold_the_measures_and_say_what_they_are(out):
    write_group(out)
    regions, scans = rows(out / REGIONS), rows(out / QC)
    assert len(regions) == 9 * 2
    one = next(r for r in regions if r["scan"] == "sub-08_ses-b" and r["map"] == "TKD")
    assert one == {
        "participant_id": "sub-08", "session_id": "ses-b", "scan": "sub-08_ses-b", "index": "11",
        "region": "Caudate", "map": "TKD", "voxels": "100", "volume_mm3": "200", "counted_voxels": "90",
        "outside_mask_percent": "10", "unreliable_percent": "n/a", "mean_ppm": "0.21", "sd_ppm": "0.01",
        "median_ppm": "0.049",
    }  # fmt: skip
    known = {row["scan"]: row for row in scans}
    assert len(known) == 10
    assert known["sub-08_ses-b"]["outliers"] == "Caudate by TKD +10.8"
    assert known["sub-01"]["closed_form_l2_volume_ml"] == "1200"
    assert known["sub-01"]["echo_times_ms"] == "4, 8"
    assert known["sub-09"]["checks_wrong"] == "Sign of the phase"
    assert (known["sub-10"]["status"], known["sub-10"]["mask_ml"]) == (FAILED, "n/a")
    assert known["sub-10"]["reason"] == "the phase of echo 2 is missing"
    for name, table in ((REGIONS, regions), (QC, scans)):
        described = json.loads((out / name).with_suffix(".json").read_text())
        assert list(described) == list(table[0])
        assert all(about["Description"] for about in described.values())


def test_a_file_that_is_no_outcome_and_measures_of_another_form_stop_nothing(out):
    (out / "logs" / "broken.json").write_text("{")
    keep(out, "sub-20", {"form": FORM + 1})
    keep(out, "sub-21", measures_of("sub-21"), documents=False)
    write_group(out)
    assert len(rows(out / QC)) == 12
    text = " ".join(Page((out / PAGE).read_text(encoding="utf-8")).texts)
    assert "Nothing was measured" in text
    assert "no picture" in text


def test_without_outcomes_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match="holds no outcome of a scan"):
        write_group(tmp_path)
    assert not list(tmp_path.iterdir())


def test_it_is_written_whole_or_not_at_all(out, monkeypatch):
    write_group(out)
    before = {file.name: file.read_bytes() for file in out.glob("group*")}
    keep(out, "sub-30", measures_of("sub-30"))

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_metaqsm.cohort.group.group_page", full)
    with pytest.raises(OSError, match="No space left"):
        write_group(out)
    assert {file.name: file.read_bytes() for file in out.glob("group*")} == before
    assert not list(out.glob(".metaqsm*"))


def test_six_scans_alike_are_needed_to_look_for_outliers(tmp_path):
    for n in range(5):
        keep(tmp_path, f"sub-{n}", measures_of(f"sub-{n}", 0.9 if n == 0 else 0.05))
    keep(
        tmp_path,
        "sub-9",
        measures_of("sub-9", acquisition={**measures_of("")["acquisition"], "b0_tesla": 7.0}),
    )
    write_group(tmp_path)
    text = " ".join(Page((tmp_path / PAGE).read_text(encoding="utf-8")).texts)
    assert "Not looked for: no 6 scans were acquired alike." in text
    assert "1 scan acquired otherwise is not drawn." in text


def test_a_mean_that_is_the_zero_of_every_map_is_not_drawn(tmp_path):
    for n in range(3):
        measures = measures_of(f"sub-{n}")
        whole = {**measures["regions"][0]["maps"]["TKD"], "mean_ppm": 1e-11 * n}
        measures["regions"].append({**measures["regions"][0], "name": "Whole mask", "maps": {"TKD": whole}})
        keep(tmp_path, f"sub-{n}", measures)
    write_group(tmp_path)
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "<h4>Caudate</h4>" in page
    assert "<h4>SD of the map</h4>" in page
    assert "<h4>Whole mask</h4>" not in page


def test_cost_per_scan_is_flat(tmp_path):
    def cost(count):
        out = tmp_path / str(count)
        for n in range(count):
            measures = measures_of(f"sub-{n:04d}")
            measures["regions"] = [{**measures["regions"][0], "name": f"Region {k}"} for k in range(20)]
            keep(out, f"sub-{n:04d}", measures, documents=False)
        tracemalloc.start()
        started = time.process_time()
        write_group(out)
        used = time.process_time() - started, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    cost(5)
    few, many = cost(20), cost(80)
    assert many[0] < 7 * few[0]  # four times as many; clocks are coarse
    assert many[1] / 80 < 60_000

"""What is kept of one scan: measures that are known beforehand, a page and a picture that name nobody."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_metaqsm.cohort.summary import PICTURE, REPORT, summarise
from napari_metaqsm.errors import InputError
from napari_metaqsm.io.load import load
from napari_metaqsm.io.resources import resource
from napari_metaqsm.method import running
from napari_metaqsm.pipeline import Result, make_step, reconstruct
from napari_metaqsm.reading.undrawn import CSF, WHOLE
from napari_metaqsm.scan import Acquisition, Geometry, Scan

SHAPE, SIZE = (24, 26, 20), (2.0, 1.5, 3.0)
BOX = np.s_[4:20, 5:21, 4:16]  # 16·16·12 voxels of 9 mm³
CENTRE = np.s_[10:14, 11:15, 8:12]


@pytest.fixture
def result():
    """Two maps in a box, one with 0.2 ppm in a cube of 64 voxels, the other with half of that."""
    mask = np.zeros(SHAPE, bool)
    mask[BOX] = True
    one = np.where(mask, np.float32(-0.01), np.float32(0))
    one[CENTRE] = 0.2
    noise = np.where(mask, np.float32(0.004), np.float32(7.0))
    tes = np.array([0.005, 0.010, 0.015])
    decay = np.full(SHAPE, 25.0)
    decay[CENTRE] = 2.0  # as cerebrospinal fluid
    magnitude = (100 * mask * np.exp(-decay * tes[:, None, None, None])).astype(np.float32)
    scan = Scan(
        Geometry(SHAPE, SIZE), Acquisition(tes, 3.0), np.zeros((3, *SHAPE), np.float32), magnitude, mask=mask
    )
    zero = {"region": "none", "mean_ppm": 0.0, "sd_ppm": 0.0, "voxels": 0}
    steps = [
        {"stage": "field", "method": "nonlinear_fit", "title": "Nonlinear fit of echoes", "seconds": 2.5},
        {"stage": "inversion", "title": "TKD", "seconds": 0.25, "result": "susceptibility_tkd"},
        {"stage": "inversion", "title": "L2", "seconds": 0.25, "result": "susceptibility_l2"},
    ]
    maps = {"noise": noise, "local_field": one / 3, "susceptibility_tkd": one, "susceptibility_l2": one / 2}
    references = {"susceptibility_tkd": zero, "susceptibility_l2": zero}
    return Result(scan, maps, {"steps": steps, "reference": references, "warnings": ["the echoes are few"]})


def test_its_measures_are_those_of_the_arrays(result):
    measures = summarise(result, "sub-01").measures
    assert measures["label"] == "sub-01"
    assert measures["mask_ml"] == pytest.approx(16 * 16 * 12 * 9 / 1000)
    assert measures["field_noise_ppm"] == pytest.approx(0.004)  # what lies outside the maps does not count
    assert measures["acquisition"] == {
        "b0_tesla": 3.0, "echo_times_ms": [5.0, 10.0, 15.0], "voxel_size_mm": list(SIZE),
        "matrix": list(SHAPE), "vendor": None, "model": None,
    }  # fmt: skip
    share = 64 / (16 * 16 * 12)
    tkd, l2 = measures["maps"]["TKD"], measures["maps"]["L2"]
    assert tkd["mean_ppm"] == pytest.approx(0.21 * share - 0.01, abs=1e-6)
    assert tkd["sd_ppm"] == pytest.approx(0.21 * np.sqrt(share * (1 - share)), rel=1e-4)
    assert (tkd["p50_ppm"], tkd["p99_ppm"]) == pytest.approx((-0.01, 0.2))
    assert l2["mean_ppm"] == pytest.approx(tkd["mean_ppm"] / 2, rel=1e-4)
    assert tkd["reference"]["region"] == "none"
    assert measures["seconds"] == {"Nonlinear fit of echoes": 2.5, "TKD": 0.25, "L2": 0.25}
    assert measures["warnings"] == ["the echoes are few"]


def test_without_labels_the_whole_mask_and_the_ventricles_are_measured(result):
    whole, csf = summarise(result, "sub-01").measures["regions"]
    assert (whole["name"], csf["name"]) == (WHOLE, CSF)
    assert whole["voxels"] == 16 * 16 * 12
    assert (csf["voxels"], csf["volume_mm3"]) == (64, 64 * 9)
    assert csf["maps"]["TKD"]["mean_ppm"] == pytest.approx(0.2)
    assert csf["maps"]["L2"]["median_ppm"] == pytest.approx(0.1)


def test_labels_are_measured_under_their_names(result):
    labels = np.zeros(SHAPE, np.int16)
    labels[CENTRE] = 11
    labels[0:2, 0, 0] = 12  # outside the mask
    inside, outside = summarise(result, "sub-01", labels, {11: "Caudate"}).measures["regions"]
    assert (inside["label"], inside["name"]) == (11, "Caudate")
    assert inside["maps"]["TKD"]["mean_ppm"] == pytest.approx(0.2)
    assert outside["name"] == "region 12"
    assert outside["maps"]["TKD"] == {
        "mean_ppm": None, "sd_ppm": None, "median_ppm": None, "voxels": 0, "outside_mask_percent": 100.0,
    }  # fmt: skip


def test_measures_are_json_as_every_reader_takes_it(result):
    result.maps["susceptibility_tkd"][CENTRE] = np.nan
    measures = summarise(result, "sub-01").measures
    again = json.loads(json.dumps(measures, allow_nan=False))
    assert again == measures
    kinds = {finding["severity"] for finding in measures["findings"]}
    assert kinds <= {"wrong", "care", "in order", "not checked"}


def test_regions_on_another_grid_are_refused(result):
    with pytest.raises(InputError, match="must lie on one grid"):
        summarise(result, "sub-01", np.zeros((3, 4, 5), int))


def test_the_picture_is_small_and_shows_the_rim_of_the_mask(result):
    data = summarise(result, "sub-01").documents[PICTURE]
    assert len(data) < 30_000
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    orange = (picture[..., 0] > 150) & (picture[..., 2] < 90)
    assert 200 < orange.sum() < 0.1 * orange.size


def test_noise_is_still_a_small_picture(result):
    rng = np.random.default_rng(0)
    for name in ("susceptibility_tkd", "susceptibility_l2", "local_field"):
        result.maps[name] = rng.normal(0, 0.1, SHAPE).astype(np.float32)
    assert len(summarise(result, "sub-01").documents[PICTURE]) < 30_000


def test_the_report_is_titled_by_the_label_and_shows_the_mask_before_the_maps(result):
    page = summarise(result, "sub-01_ses-2").documents[REPORT].decode()
    assert "<h1>sub-01_ses-2</h1>" in page
    parts = ("Mask and local field", "Slices of all maps", "Acquisition", "Processing")
    assert sorted(parts, key=page.index) == list(parts)


def test_a_real_scan_is_summed_up_without_a_name(tmp_path):
    for file in Path(resource("samples/philips_2echo")).glob("*MEGRE*"):
        shutil.copy(file, tmp_path)
    for sidecar in tmp_path.glob("*.json"):
        names = {"PatientName": "Somebody^Known", "PatientID": "0815", "InstitutionName": "A hospital"}
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), **names}))
    chain = [
        make_step("field", "weighted_mean", unwrapping="laplacian"),
        make_step("mask", "threshold"),
        make_step("background", "vsharp", radius_mm=6.0),
        make_step("inversion", "tkd"),
    ]
    with running():
        result = reconstruct(load(tmp_path), chain, device="cpu")
    phase = str(next(tmp_path.glob("*echo-1_part-phase*.nii.gz")))
    summary = summarise(result, "sub-philips", files={"phase": phase})
    told = json.dumps(summary.measures).encode() + b"".join(summary.documents.values())
    assert not [name for name in (b"Somebody", b"0815", b"hospital", str(tmp_path).encode()) if name in told]
    assert b"Philips" in told
    measures = summary.measures
    assert measures["acquisition"]["vendor"] == "Philips"
    assert [region["name"] for region in measures["regions"]] == [WHOLE]  # two echoes tell no ventricles
    tkd = result.maps["susceptibility_tkd"]
    assert measures["maps"]["TKD"]["sd_ppm"] == pytest.approx(tkd[tkd != 0].std(), rel=1e-4)

"""What is written, as the parts go on, fail or are stopped; and the whole command on tiny scans."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from napari_metaqsm.benchmark.contenders import parse_contenders
from napari_metaqsm.benchmark.parts import Part, Volume, spread_table
from napari_metaqsm.benchmark.plan import plan
from napari_metaqsm.benchmark.report import evaluate
from napari_metaqsm.errors import Cancelled, InputError
from napari_metaqsm.evaluation.tables import Column
from napari_metaqsm.method import running
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.scan import Geometry
from napari_metaqsm.simulation.shapes import sphere

GEOMETRY = Geometry((24, 22, 18), (1.0, 1.0, 2.0))
CHI = 0.1 * sphere(GEOMETRY, 5.0)
MASK = (sphere(GEOMETRY, 10.0) > 0.5).numpy()
FIELD = (dipole_field(CHI, GEOMETRY) * torch.from_numpy(MASK)).numpy()


def make_part(contenders, fail=None, score=None):
    def make(index):
        if fail is not None and index == 1:
            raise fail
        data = {"local_field": FIELD * (index + 1), "mask": MASK}
        rated = score or (lambda found: {"mean": float(found[MASK].mean()), "largest": float(found.max())})
        return Volume(f"scan {index}", data, GEOMETRY, CHI.numpy(), rated, {"number": index})

    columns = {"mean": Column("mean"), "largest": Column("largest", 3)}
    return Part(
        "toy", "Toy", parse_contenders(contenders), 3, make,
        lambda outcomes: [spread_table("toy", "Toy", outcomes, columns, "")],
    )  # fmt: skip


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_method_that_fails_says_so_in_its_row_and_the_others_go_on(tmp_path):
    said = []
    files = evaluate(
        [make_part("tkd,metaqsm:weights=absent.safetensors,l2")], tmp_path / "out", 7, say=said.append
    )
    assert {f.name for f in files} == {
        "toy.csv", "toy_runs.csv", "toy.png", "evaluation.md", "evaluation.json"
    }  # fmt: skip
    tkd, failed, l2 = rows_of(tmp_path / "out/toy.csv")
    assert failed["volumes"] == "0"
    assert failed["note"].startswith("failed on 3 of 3: ")
    assert "absent.safetensors" in failed["note"]
    assert tkd["volumes"] == l2["volumes"] == "3"
    runs = rows_of(tmp_path / "out/toy_runs.csv")
    assert len(runs) == len(said) == 9
    largest = [float(r["largest"]) for r in runs if r["method"] == "TKD"]
    assert largest == pytest.approx([largest[0] * n for n in (1, 2, 3)], rel=1e-4)
    assert float(tkd["largest"]) == pytest.approx(2 * largest[0], rel=1e-4)
    record = json.loads((tmp_path / "out/evaluation.json").read_text(encoding="utf-8"))
    assert record["seed"] == 7
    assert record["methods"]["TKD"]["parameters"]["threshold"] == 0.2
    assert record["methods"]["TKD"]["device"] in ("cpu", "cuda")
    assert len(record["methods"]) == 2
    assert record["software"]["torch"]
    with Image.open(tmp_path / "out/toy.png") as picture:
        assert picture.size[0] > 100
    assert "| TKD |" in (tmp_path / "out/evaluation.md").read_text(encoding="utf-8")


def test_a_fault_of_the_program_is_not_taken_for_a_methods_failure(tmp_path, monkeypatch):
    def broken(*arguments, **settings):
        raise KeyError("no such thing")

    with pytest.raises(KeyError):
        evaluate([make_part("tkd", score=broken)], tmp_path / "out", 0)
    monkeypatch.setattr("napari_metaqsm.benchmark.parts.run_step", broken)
    with pytest.raises(KeyError):
        evaluate([make_part("tkd")], tmp_path / "out", 0)


def test_stopping_leaves_what_was_done(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        evaluate([make_part("tkd", fail=KeyboardInterrupt())], tmp_path / "out", 0)
    assert [r["volume"] for r in rows_of(tmp_path / "out/toy_runs.csv")] == ["scan 0"]
    assert {f.name for f in (tmp_path / "out").iterdir()} == {
        "toy.csv", "toy_runs.csv", "toy.png", "evaluation.md", "evaluation.json"
    }  # fmt: skip


def test_it_reports_how_far_it_is_and_can_be_cancelled(tmp_path):
    heard = []
    with running(lambda done, label: heard.append((done, label))):
        evaluate([make_part("tkd,l2")], tmp_path / "out", 0)
    fractions = [done for done, _ in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert any("2/3" in label and "Closed-form L2" in label for _, label in heard)
    with running(stopped=lambda: True), pytest.raises(Cancelled):
        evaluate([make_part("tkd")], tmp_path / "other", 0)


@pytest.fixture
def fixed(tmp_path):
    """The two fixed scans, tiny, as the command reads them: the truth and half of it are the references."""
    arrays = {"chi": CHI.numpy(), "field": FIELD, "mask": MASK, "mag": MASK + 0.5, "nstd": MASK + 0.1}
    case = tmp_path / "case"
    case.mkdir()
    (case / "case.json").write_text(json.dumps({"N": GEOMETRY.shape, "vox": GEOMETRY.voxel_size_mm}))
    for name, values in arrays.items():
        np.save(case / f"{name}.npy", values)
    challenge = tmp_path / "qsm2016"
    challenge.mkdir()
    files = {
        "phs_tissue": FIELD, "msk": MASK, "magn": MASK + 0.5, "chi_cosmos": CHI.numpy(),
        "chi_33": 0.5 * CHI.numpy(),
    }  # fmt: skip
    for name, values in files.items():
        image = nib.Nifti1Image(values.astype(np.float32), np.diag([*GEOMETRY.voxel_size_mm, 1.0]))
        nib.save(image, challenge / f"{name}.nii.gz")
    return case, challenge


def test_the_whole_command_on_tiny_scans(metaqsm, labels, fixed, tmp_path):
    case, challenge = fixed
    arguments = [
        "evaluate", "--methods", "tkd,tkd:threshold=0.15", "--volumes", 2, "--shape", "32,32,16",
        "--labels", labels, "--case", case, "--qsm2016", challenge, "--mesa", "mesaqsm",
    ]  # fmt: skip
    code, out, _ = metaqsm(*arguments, "--out", "out")
    assert code == 0
    assert "synthetic 001: TKD (threshold=0.15): rmse_ppm" in out
    folder = tmp_path / "out"
    tables = {f.stem: rows_of(f) for f in folder.glob("*.csv")}
    assert len(tables["synthetic"]) == 2
    assert len(tables["synthetic_runs"]) == 4
    assert {r["voxel along B0, mm"] for r in tables["synthetic_by_resolution"]}
    assert {r["level of mismatch"] for r in tables["synthetic_by_mismatch"]}
    assert len(tables["linearity_runs"]) == 2 * 12
    for name in ("mesa_0.5x0.5x2", "mesa_0.7639x0.7639x3"):
        (row,) = tables[name]
        assert (row["method"], row["volumes"], row["note"]) == ("Mesa-QSM", "2", "")
    assert len(tables["rotation_runs"]) == 2 * 4
    assert len(tables["voxel_size_runs"]) == 2 * 5
    assert len(tables["case"]) == 2
    references = [(r["reference"], r["method"]) for r in tables["qsm2016"]]
    assert references[::2] == [("COSMOS", "TKD"), ("chi_33", "TKD")]
    # TKD is far nearer to the truth than to half of it, and the case is the same scan.
    cosmos, half = (float(r["RMSE %"]) for r in tables["qsm2016"][::2])
    assert cosmos < 60 < half
    assert float(tables["case"][0]["RMSE %"]) == pytest.approx(cosmos, rel=1e-3)
    text = (folder / "evaluation.md").read_text(encoding="utf-8")
    assert text.startswith("# Evaluation\n\nSeed 0; ")
    for name in ("synthetic", "case", "qsm2016"):
        assert f"![{name}]({name}.png)" in text
    # Again, one scan alone: its rows are those of the longer run.
    code, out, _ = metaqsm(
        "evaluate", "--methods", "tkd", "--volumes", 1, "--shape", "32,32,16", "--labels", labels,
        "--out", "again", "--quiet",
    )  # fmt: skip
    assert (code, out) == (0, "")
    timeless = [
        {k: v for k, v in rows[0].items() if k != "seconds"}
        for rows in (tables["synthetic_runs"], rows_of(tmp_path / "again/synthetic_runs.csv"))
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to evaluate on"),
        (["--case", "nowhere"], "nowhere holds no case.json"),
        (["--qsm2016", "nowhere"], "nowhere holds no phs_tissue.nii.gz"),
        (["--labels", "nowhere"], "nowhere"),
        (["--labels", "{labels}", "--shape", "64,64"], "shape is (64.0, 64.0)"),
        (["--labels", "{labels}", "--shape", "64,64,8"], "at least 16"),
        (["--labels", "{labels}", "--shape", "64,64,20.5"], "three whole numbers"),
        (["--labels", "{labels}", "--shape", "big"], "--shape is 'big'"),
        (["--labels", "{labels}", "--volumes", "-1"], "volumes is -1"),
        (["--labels", "{labels}", "--methods", "magic"], "'magic'"),
        (["--labels", "{labels}", "--mesa", "magic"], "'magic'"),
        (["--labels", "{labels}", "--device", "abacus"], "device is 'abacus'"),
    ],
)
def test_bad_input_ends_with_one_line_and_nothing_written(metaqsm, labels, arguments, message, tmp_path):
    code, _, err = metaqsm("evaluate", *(a.format(labels=labels) for a in arguments), "--out", "out")
    assert code == 2
    assert err.startswith("metaqsm: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "out").exists()


def test_without_shipped_weights_there_is_no_comparison_with_mesa(labels, monkeypatch):
    monkeypatch.setattr("napari_metaqsm.benchmark.plan.shipped_weights", lambda pattern: [])
    names = [p.name for p in plan("tkd", volumes=1, labels=labels)]
    assert names == ["linearity", "rotation", "voxel_size", "synthetic"]
    names = [p.name for p in plan("tkd,metaqsm", volumes=1, labels=labels, mesa="mesaqsm")]
    assert names[4:] == ["mesa_0.5x0.5x2", "mesa_0.7639x0.7639x3"]
    with pytest.raises(InputError, match="shape"):
        plan("tkd", labels=labels, shape=(1, 2))
    assert [p.name for p in plan("tkd", volumes=0, labels=labels)] == names[:3]


def test_the_scan_of_2016_as_it_lies_in_its_files(shared):
    (part,) = plan("tkd", qsm2016=shared / "data/qsm2016")
    volume = part.make(0)
    assert volume.geometry.voxel_size_mm == pytest.approx((1.0625, 1.0625, 1.0714286), abs=1e-4)
    assert volume.geometry.b0_direction == pytest.approx((0, 0, 1), abs=1e-4)
    assert set(volume.data) == {"local_field", "mask", "magnitude"}
    field = nib.load(shared / "data/qsm2016/phs_tissue.nii.gz").get_fdata()
    np.testing.assert_allclose(volume.data["local_field"], field, atol=1e-6)
    assert volume.data["mask"].dtype == bool

"""The command line as a user types it: what it writes, and how it refuses."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_metaqsm.io.resources import resource
from napari_metaqsm.method import methods, parameter_infos
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.scan import Geometry

SHAPE = (17, 20, 13)
AFFINE = np.diag([-1.0, 0.8, 2.0, 1.0])
HEAD = str(resource("samples/philips_2echo"))


def write(path, array, affine=AFFINE):
    nib.save(nib.Nifti1Image(np.asarray(array, np.float32), affine), path)
    return path


@pytest.fixture
def local_field(tmp_path):
    return write(tmp_path / "local.nii.gz", np.random.default_rng(0).normal(0, 0.02, SHAPE))


@pytest.fixture
def mask(tmp_path):
    inside = np.zeros(SHAPE)
    inside[3:-3, 3:-3, 3:-3] = 1
    return write(tmp_path / "mask.nii.gz", inside)


@pytest.fixture
def phase(tmp_path):
    values = np.random.default_rng(1).uniform(-np.pi, np.pi, (*SHAPE, 3))
    return write(tmp_path / "phase.nii.gz", values)


def test_local_field_to_maps_with_their_record(metaqsm, local_field, mask, tmp_path):
    code, out, _ = metaqsm(
        "run", "--local-field", local_field, "--unit", "Hz", "--b0", 3, "--mask", mask,
        "--invert", "tkd", "--invert", "l2", "--set", "tkd.threshold=0.15", "--out", "maps",
    )  # fmt: skip
    assert code == 0
    assert sorted(p.name for p in (tmp_path / "maps").iterdir()) == [
        "record.json", "susceptibility_l2.nii.gz", "susceptibility_tkd.nii.gz",
    ]  # fmt: skip
    assert "susceptibility_tkd.nii.gz" in out
    record = json.loads((tmp_path / "maps/record.json").read_text())
    assert [s["parameters"].get("threshold") for s in record["steps"]] == [0.15, None]
    assert record["inputs"]["local_field"][0]["file"] == "local.nii.gz"
    image = nib.load(tmp_path / "maps/susceptibility_tkd.nii.gz")
    np.testing.assert_array_equal(image.affine, nib.load(local_field).affine)
    assert image.get_data_dtype() == np.float32


def test_hz_and_ppm_give_the_same_map(metaqsm, local_field, mask, tmp_path):
    in_ppm = write(tmp_path / "ppm.nii.gz", nib.load(local_field).get_fdata() / (42.577 * 3))
    for name, arguments in {
        "hz": ["--local-field", local_field, "--unit", "Hz", "--b0", 3],
        "ppm": ["--local-field", in_ppm, "--unit", "ppm"],
    }.items():
        assert metaqsm("run", *arguments, "--mask", mask, "--invert", "tkd", "--out", name)[0] == 0
    hz, ppm = (nib.load(tmp_path / n / "susceptibility_tkd.nii.gz").get_fdata() for n in ("hz", "ppm"))
    assert np.abs(hz).max() > 0
    np.testing.assert_allclose(hz, ppm, atol=1e-5 * np.abs(hz).max())


def test_total_field_and_whole_volume(metaqsm, local_field, tmp_path):
    arguments = ["--unit", "ppm", "--mask", "none", "--set", "resharp.radius_mm=4", "--invert", "tkd"]
    code, _, err = metaqsm("run", "--total-field", local_field, *arguments, "--out", "maps")
    assert code == 0
    eroded = nib.load(tmp_path / "maps/eroded_mask.nii.gz").get_fdata()
    assert 0 < eroded.sum() < eroded.size
    assert "note:" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to read"),
        (["--phase", "phase.nii.gz", "--b0", 3], "echo times"),
        (["--phase", "phase.nii.gz", "--b0", 3, "--echo-times", "4,8,12"], "milliseconds"),
        (["--phase", "phase.nii.gz", "--b0", 3, "--echo-times", "4e-6,8e-6,12e-6"], "check the unit"),
        (["--phase", "phase.nii.gz", "--b0", 3, "--echo-times", "0.004,0.008"], "2 echo times for 3"),
        (["--phase", "phase.nii.gz", "--b0", 3, "--echo-times", "0,0.004,0.008"], "greater than 0"),
        (["--phase", "phase.nii.gz", "--b0", 3, "--echo-times", "0.008,0.004,0.012"], "ascend"),
        (["--phase", "phase.nii.gz", "--b0", 3, "--echo-times", "one"], "--echo-times is 'one'"),
        (["--phase", "phase.nii.gz", "--b0", 0, "--echo-times", "0.004,0.008,0.012"], "b0_tesla is 0"),
        (["--phase", "phase.nii.gz", "--echo-times", "0.004,0.008,0.012"], "field strength"),
        (["--local-field", "local.nii.gz", "--mask", "empty.nii.gz"], "the mask is empty"),
        (["--local-field", "local.nii.gz", "--mask", "small.nii.gz"], "must match"),
        (["--local-field", "local.nii.gz", "--mask", "away.nii.gz"], "different places"),
        (["--local-field", "local.nii.gz", "--mask", "absent.nii.gz"], "absent.nii.gz"),
        (["--local-field", "rim.nii.gz", "--mask", "mask.nii.gz"], "the mask touches nothing"),
        (["--phase", "wide.nii.gz", "--b0", 3, "--echo-times", "0.004", "--mask", "none"], "from 0 to 999"),
        (["--local-field", "local.nii.gz", "--mask", "mask.nii.gz", "--out", "mask.nii.gz"], "written to"),
        (["--local-field", "local.nii.gz"], "needs the magnitude"),
        (["--local-field", "nan.nii.gz", "--mask", "mask.nii.gz"], "NaN or infinite"),
        (["--local-field", "flat.nii.gz", "--mask", "mask.nii.gz"], "has 2 axes"),
        (["--local-field", "slice.nii.gz", "--mask", "mask.nii.gz"], "slice"),
        (["--local-field", "cut.nii.gz", "--mask", "mask.nii.gz"], "cut.nii.gz"),
        (["--local-field", "local.nii.gz", "--mask", "mask.nii.gz", "--invert", "magic"], "'magic'"),
        (["--local-field", "local.nii.gz", "--mask", "mask.nii.gz", "--set", "tkd.threshold=2"], "lie in"),
        (["--local-field", "local.nii.gz", "--mask", "mask.nii.gz", "--set", "tkd.size=2"], "no parameter"),
        (["--local-field", "local.nii.gz", "--mask", "mask.nii.gz", "--set", "medi.x=2"], "the chain runs"),
        (["--local-field", "local.nii.gz", "--mask", "mask.nii.gz", "--device", "tpu"], "device is 'tpu'"),
        (["--local-field", "local.nii.gz", "--mask", "mask.nii.gz", "--reference", "x"], "reference is 'x'"),
    ],
)  # fmt: skip
def test_bad_input_ends_with_code_2_and_one_line(
    metaqsm, phase, local_field, mask, tmp_path, arguments, message
):
    field = nib.load(local_field).get_fdata()
    write(tmp_path / "empty.nii.gz", np.zeros(SHAPE))
    write(tmp_path / "small.nii.gz", np.ones((5, 5, 5)))
    write(tmp_path / "away.nii.gz", np.ones(SHAPE), AFFINE @ np.diag([1, 1, 1.2, 1]))
    write(tmp_path / "nan.nii.gz", np.full(SHAPE, np.nan))
    write(tmp_path / "flat.nii.gz", field[..., 0])
    write(tmp_path / "rim.nii.gz", field * (np.arange(SHAPE[2]) == 0))
    write(tmp_path / "wide.nii.gz", np.arange(np.prod(SHAPE)).reshape(SHAPE) % 1000)
    write(tmp_path / "slice.nii.gz", field[..., :1])
    (tmp_path / "cut.nii.gz").write_bytes(local_field.read_bytes()[:400])
    before = sorted(tmp_path.rglob("*"))
    code, out, err = metaqsm("run", "--quiet", "--out", "maps", *arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert len(err.strip().splitlines()) == 1, err
    assert sorted(tmp_path.rglob("*")) == before


FIELDS = [f"field{number}.nii.gz" for number in (1, 2, 3)]
DIRECTIONS = ((0, 0, 1), (0.5, 0, 1), (0, -0.5, 1))


@pytest.fixture
def turned_fields(tmp_path, mask):
    """Three fields of one ball of 0.1 ppm, the second in a head turned otherwise, and so on."""
    mask_array = nib.load(mask).get_fdata()
    chi = np.zeros(SHAPE, np.float32)
    chi[6:10, 8:12, 5:8] = 0.1
    for name, direction in zip(FIELDS, DIRECTIONS, strict=True):
        geometry = Geometry(SHAPE, (1.0, 0.8, 2.0), direction)
        field = dipole_field(torch.from_numpy(chi), geometry).numpy() * mask_array
        write(tmp_path / name, field * 42.577 * 3)
    return chi


def directions(*vectors):
    return [word for v in vectors for word in ("--b0-direction", ",".join(map(str, v)))]


def test_cosmos_takes_several_files(metaqsm, turned_fields, mask, tmp_path):
    chi = turned_fields
    noise = write(tmp_path / "noise.nii.gz", np.full(SHAPE, 0.1))
    code, out, err = metaqsm(
        "cosmos", *FIELDS, *directions(*DIRECTIONS), "--mask", mask, *["--noise", noise] * 3,
        "--unit", "Hz", "--b0", 3, "--out", "maps", "--set", "cosmos.tolerance=1e-4", "--reference", "none",
    )  # fmt: skip
    assert code == 0, err
    assert "susceptibility_cosmos.nii.gz" in out
    image = nib.load(tmp_path / "maps/susceptibility_cosmos.nii.gz")
    np.testing.assert_array_equal(image.affine, nib.load(tmp_path / FIELDS[0]).affine)
    inside = nib.load(mask).get_fdata() != 0
    assert np.linalg.norm((image.get_fdata() - chi)[inside]) < 0.1 * np.linalg.norm(chi)
    record = json.loads((tmp_path / "maps/record.json").read_text())
    assert [record["inputs"][f"local_field_{n}"][0]["file"] for n in (1, 2, 3)] == FIELDS
    assert len({record["inputs"][f"local_field_{n}"][0]["sha256"] for n in (1, 2, 3)}) == 3
    (step,) = record["steps"]
    for given, kept in zip(DIRECTIONS, step["b0_directions"], strict=True):
        np.testing.assert_allclose(kept, np.array(given) / np.linalg.norm(given), atol=1e-5)
    assert step["parameters"]["tolerance"] == 1e-4


def test_cosmos_takes_directions_from_the_sidecars_and_masks_for_each_field(
    metaqsm, turned_fields, mask, tmp_path
):
    for number, direction in enumerate(DIRECTIONS[1:], 2):
        about = {"B0_dir": direction, "Units": "Hz", "MagneticFieldStrength": 3}
        (tmp_path / f"field{number}.json").write_text(json.dumps(about))
    cut = nib.load(mask).get_fdata()
    cut[:5] = 0
    smaller = write(tmp_path / "smaller.nii.gz", cut)
    code, _, err = metaqsm(
        "cosmos", *FIELDS, "--mask", mask, "--mask", smaller, "--mask", mask, "--unit", "Hz", "--b0", 3
    )
    assert code == 0, err
    assert "is left out" in err
    folder = tmp_path / "metaqsm-cosmos"
    np.testing.assert_array_equal(nib.load(folder / "eroded_mask.nii.gz").get_fdata(), cut)
    record = json.loads((folder / "record.json").read_text())
    assert np.round(record["steps"][0]["b0_directions"], 3).tolist()[1:] == [
        [0.447, 0, 0.894], [0, -0.447, 0.894]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*FIELDS[:2], *directions(*DIRECTIONS[:2])], "needs 3 or more"),
        (FIELDS, "share one affine"),
        ([*FIELDS, *directions((0, 0, 1))], "1 B0 directions for 3"),
        ([*FIELDS, *directions((0, 0, 1), (0, 0, -1), (0, 1, 1))], "fields 1 and 2 are 0.0 degrees apart"),
        ([*FIELDS[:2], "away.nii.gz", *directions(*DIRECTIONS)], "different places"),
        ([*FIELDS[:2], "nan.nii.gz", *directions(*DIRECTIONS)], "orientation 3: the local field"),
        ([*FIELDS, *directions(*DIRECTIONS), "--set", "tkd.x=1"], "only cosmos runs"),
        ([*FIELDS, *directions(*DIRECTIONS), "--noise", "mask.nii.gz"], "1 noise maps for 3"),
    ],
)
def test_cosmos_refuses_in_one_line(metaqsm, turned_fields, mask, tmp_path, arguments, message):
    write(tmp_path / "away.nii.gz", np.ones(SHAPE), AFFINE @ np.diag([1, 1, 1.2, 1]))
    write(tmp_path / "nan.nii.gz", np.full(SHAPE, np.nan))
    code, out, err = metaqsm("cosmos", *arguments, "--unit", "Hz", "--b0", 3, "--mask", mask, "--out", "maps")
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1, err
    assert not (tmp_path / "maps").exists()


def test_methods_lists_every_parameter(metaqsm):
    code, out, _ = metaqsm("methods")
    assert code == 0
    for entry in methods():
        assert f"{entry.stage} {entry.name}: {entry.title} (doi:" in out
        for info in parameter_infos(entry.parameters):
            assert f"{entry.name}.{info.name}={info.default}" in out
    headings = [line for line in out.splitlines() if line.startswith("# ")]
    assert headings[:4] == ["# field", "# mask", "# background", "# inversion, direct"]
    for entry in methods("inversion"):
        before = out[: out.index(f"inversion {entry.name}: ")]
        assert before[before.rindex("# ") :].startswith(f"# inversion, {entry.kind}\n")


def test_demo_without_a_window_writes_maps_picture_and_record(metaqsm, tmp_path):
    code, out, _ = metaqsm("demo", "--no-window", "--out", "demo")
    assert code == 0
    written = {p.name for p in (tmp_path / "demo").iterdir()}
    assert {"record.json", "comparison.png", "susceptibility_tkd.nii.gz", "mask.nii.gz"} <= written
    assert "comparison.png" in out
    chi = nib.load(tmp_path / "demo/susceptibility_tkd.nii.gz")
    source = nib.load(f"{HEAD}/sub-philips_echo-1_part-phase_MEGRE.nii.gz")
    np.testing.assert_array_equal(chi.affine, source.affine)
    record = json.loads((tmp_path / "demo/record.json").read_text())
    assert [s["stage"] for s in record["steps"]] == ["field", "mask", "background", "inversion", "inversion"]
    assert record["acquisition"]["echo_times_s"] == [0.0023, 0.0046]
    assert len(record["inputs"]["phase"]) == 2

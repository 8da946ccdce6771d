"""Meta-QSM against what it must give for weights that are known, and what it tells of itself."""

import dataclasses
import json
import shutil
from functools import partial

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_metaqsm import cli
from napari_metaqsm.errors import InputError
from napari_metaqsm.inversion.l2 import L2Parameters, l2
from napari_metaqsm.inversion.metaqsm import MetaQSMParameters, metaqsm
from napari_metaqsm.method import parameter_infos, running
from napari_metaqsm.network import inference
from napari_metaqsm.network.checkpoint import shipped_weights, write_weights
from napari_metaqsm.network.conditions import Level
from napari_metaqsm.network.inference import consistent_with_field
from napari_metaqsm.network.model import penalty_weight
from napari_metaqsm.network.unet import Architecture, UNet
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.pipeline import default_chain, make_step, reconstruct, run_step
from napari_metaqsm.scan import Geometry, Scan
from napari_metaqsm.simulation.shapes import sphere

GEOMETRY = Geometry((27, 34, 19), (1.0, 0.8, 2.0), (0.2, -0.1, 1.0))
MASK = sphere(GEOMETRY, 12.0) > 0.5
SOURCE = 0.2 * sphere(GEOMETRY, 4.0, (2, -3, 1)) - 0.1 * sphere(GEOMETRY, 3.0, (-4, 4, 3))
FIELD = dipole_field(SOURCE, GEOMETRY) * MASK
MAGNITUDE = torch.stack([MASK * (2.0 + FIELD.cos()), MASK * (1.0 + FIELD)]).abs()


def write_network(path, head=1.0, **architecture):
    """Weights of a small network, never trained, whose last convolution is multiplied by ``head``."""
    torch.manual_seed(6)
    network = UNet(Architecture(**{"width": 4, "levels": 3, "kernels": 3, **architecture}))
    with torch.no_grad():
        for values in network.head.parameters():
            values.mul_(10 * head)
    write_weights(path, network, {"recipe": "none", "steps": 0})
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_network(tmp_path_factory.mktemp("weights") / "small.safetensors")


def invert(field=FIELD, mask=MASK, geometry=GEOMETRY, magnitude=None, **parameters):
    with running() as run:
        chi = metaqsm(field, mask, geometry, MetaQSMParameters(**parameters), magnitude)
    return chi, run


@pytest.mark.parametrize("calm", [-0.9, 0.0])
def test_a_network_that_adds_nothing_leaves_the_closed_form_map_of_the_level(tmp_path, calm):
    path = write_network(tmp_path / "w.safetensors", head=0.0)
    # A cube of 20 voxels, which with the margin fills a grid of 32, a multiple of the stride of 4.
    grid = Geometry((32, 32, 28), (1.0, 1.0, 1.0), (0.1, 0.2, 1.0))
    field = torch.zeros(40, 41, 42)
    mask = torch.zeros(field.shape, dtype=torch.bool)
    mask[7:29, 5:29, 20:40] = True
    field[mask] = torch.randn(int(mask.sum()), generator=torch.Generator().manual_seed(0))
    chi, run = invert(
        field, mask, dataclasses.replace(grid, shape=field.shape), weights=path, calm=calm, data_weight=0
    )
    told = Level(**run.remarks["network"]["level_used"])
    alone, inside = torch.zeros(grid.shape), torch.zeros(grid.shape, dtype=torch.bool)
    there = (slice(5, 27), slice(4, 28), slice(4, 24))
    alone[there], inside[there] = field[7:29, 5:29, 20:40], True
    expected = torch.zeros_like(field)
    parameters = L2Parameters(penalty_weight=penalty_weight(told))
    expected[7:29, 5:29, 20:40] = l2(alone, inside, grid, parameters)[there]
    torch.testing.assert_close(chi, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("factor", [0.01, 3.0])
def test_a_field_twice_as_strong_has_a_map_twice_as_strong(weights, factor):
    chi, _ = invert(weights=weights)
    scaled, _ = invert(factor * FIELD, weights=weights)
    torch.testing.assert_close(scaled, factor * chi, rtol=0, atol=1e-5 * factor * float(chi.abs().max()))


def test_no_field_has_no_map(weights):
    chi, _ = invert(torch.zeros_like(FIELD), weights=weights)
    assert float(chi.abs().max()) == 0


def test_flipped_axes_give_the_flipped_map(weights):
    chi, _ = invert(magnitude=MAGNITUDE, weights=weights)
    for axes in ((0,), (2,), (0, 1, 2)):
        b0 = tuple(-b if a in axes else b for a, b in enumerate(GEOMETRY.b0_direction))
        found, _ = invert(
            FIELD.flip(axes),
            MASK.flip(axes),
            dataclasses.replace(GEOMETRY, b0_direction=b0),
            MAGNITUDE.flip([a + 1 for a in axes]),
            weights=weights,
        )
        assert torch.equal(found, chi.flip(axes))


@pytest.mark.parametrize("shape", [(2, 3, 2), (5, 40, 3), (31, 17, 23)])
def test_any_matrix_size_will_do(weights, shape):
    field = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    geometry = Geometry(shape, GEOMETRY.voxel_size_mm, GEOMETRY.b0_direction)
    chi, _ = invert(field, torch.ones(shape, dtype=torch.bool), geometry, weights=weights)
    assert chi.shape == shape
    assert chi.isfinite().all()
    assert chi.is_contiguous()


def test_blocks_give_the_map_of_the_whole(weights, monkeypatch):
    shape = (90, 88, 20)
    field = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(shape, dtype=torch.bool)
    geometry = Geometry(shape, GEOMETRY.voxel_size_mm, GEOMETRY.b0_direction)
    whole, run = invert(field, mask, geometry, weights=weights)
    assert run.remarks["network"]["blocks"] == 1
    monkeypatch.setattr(inference, "CPU_BYTES", 1e7)
    blocks, run = invert(field, mask, geometry, weights=weights)
    assert run.remarks["network"]["blocks"] > 1
    torch.testing.assert_close(blocks, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))


# ------------------------------------------------------------------------------------ magnitude
def test_magnitude_counts_by_its_echoes_together_in_any_unit_and_can_be_left_out(weights):
    without, _ = invert(weights=weights)
    chi, _ = invert(magnitude=MAGNITUDE, weights=weights)
    largest = float(chi.abs().max())
    assert float((chi - without).abs().max()) > 1e-3 * largest
    left_out, _ = invert(magnitude=MAGNITUDE, weights=weights, use_magnitude=False)
    assert torch.equal(left_out, without)
    combined = (MAGNITUDE[0] ** 2 + MAGNITUDE[1] ** 2).sqrt()
    for same in (combined, 1000 * MAGNITUDE, MAGNITUDE.flip(0)):
        found, _ = invert(magnitude=same, weights=weights)
        torch.testing.assert_close(found, chi, rtol=0, atol=1e-5 * largest)


# ----------------------------------------------------------------------- calm, data consistency
def test_calm_changes_the_level_that_the_network_is_told_and_so_the_map(weights):
    found = {calm: invert(weights=weights, calm=calm) for calm in (-1, 0, 1)}
    told = {calm: run.remarks["network"] for calm, (_, run) in found.items()}
    measured = told[0]["level_measured"]
    assert 0 < measured["mismatch"] < 1
    assert told[0]["level_used"] == measured
    assert told[-1]["level_used"] == {"mismatch": 0, "noise": 0}
    assert told[1]["level_used"] == {"mismatch": 1, "noise": 1}
    assert all(network["level_measured"] == measured for network in told.values())
    assert float((found[-1][0] - found[1][0]).abs().max()) > 1e-4 * float(found[0][0].abs().max())


def test_the_more_the_data_weigh_the_better_the_map_explains_the_field(weights):
    def misfit(chi):
        return float(((dipole_field(chi, GEOMETRY) - FIELD) * MASK).norm())

    maps = [invert(weights=weights, data_weight=weight)[0] for weight in (0.0, 0.1, 0.4, 1.0)]
    misfits = [misfit(chi) for chi in maps]
    assert sorted(misfits, reverse=True) == misfits
    assert misfits[-1] < 0.4 * misfits[0]
    torch.testing.assert_close(maps[-1], invert(weights=weights)[0], rtol=0, atol=0)


def test_the_data_weigh_less_in_a_field_of_high_level(weights, monkeypatch):
    given = []
    monkeypatch.setattr(inference, "consistent_with_field", lambda chi, *_: given.append(_[-1]) or chi)
    for calm in (0, 0.5, -1):
        _, run = invert(weights=weights, calm=calm, data_weight=2.0)
        mismatch = max(run.remarks["network"]["level_used"]["mismatch"], 0.1)
        assert given[-1] == pytest.approx(2.0 / mismatch**2)


def test_a_map_that_explains_the_field_is_left_alone():
    chi = SOURCE * MASK
    field = dipole_field(chi, GEOMETRY)
    found = consistent_with_field(chi, field, MASK.float(), GEOMETRY, 10.0)
    torch.testing.assert_close(found, chi, rtol=0, atol=1e-6)


def test_data_consistency_is_the_minimum_of_its_objective(monkeypatch):
    """Where all is mask and nothing is padded, in k-space: ``(w D² + 1) chi = w D f + chi_net``."""
    geometry = Geometry((5, 7, 9), GEOMETRY.voxel_size_mm, GEOMETRY.b0_direction)
    network, field = np.random.default_rng(2).standard_normal((2, *geometry.shape))
    k = np.meshgrid(
        *(np.fft.fftfreq(n, v) for n, v in zip(geometry.shape, geometry.voxel_size_mm, strict=True)),
        indexing="ij",
    )
    squared = sum(q**2 for q in k)
    squared[0, 0, 0] = 1
    dipole = 1 / 3 - sum(q * b for q, b in zip(k, geometry.b0_direction, strict=True)) ** 2 / squared
    dipole[0, 0, 0] = 0
    spectrum = 5.0 * dipole * np.fft.fftn(field) + np.fft.fftn(network)
    expected = np.fft.ifftn(spectrum / (5.0 * dipole**2 + 1)).real
    monkeypatch.setattr(inference, "dipole_field", partial(dipole_field, padding=1.0))
    given = map(torch.from_numpy, (network, field, np.ones(geometry.shape)))
    found = consistent_with_field(*given, geometry, 5.0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-10)


# ---------------------------------------------------------------------- what it tells and refuses
def test_slider_comes_first_and_names_its_ends():
    first, *others = parameter_infos(MetaQSMParameters)
    assert (first.name, first.slider, first.low, first.high, first.default) == (
        "calm",
        ("sharp", "calm"),
        -1,
        1,
        0,
    )
    assert [info.name for info in others] == ["use_magnitude", "data_weight", "precision", "weights"]
    assert others[-1].file == "*.safetensors"


def test_record_says_which_weights_which_level_and_how_it_was_computed(weights):
    step = make_step("inversion", "metaqsm", weights=weights, calm=0.5, precision="bfloat16")
    arrays = {"local_field": FIELD.numpy(), "mask": MASK.numpy()}
    network = run_step(step, arrays, GEOMETRY).record["network"]
    assert network["weights"] == "small.safetensors"
    assert len(network["sha256"]) == 64
    assert (network["steps"], network["precision"], network["blocks"]) == (0, "bfloat16", 1)
    half = [(1 + level) / 2 for level in network["level_measured"].values()]
    assert list(network["level_used"].values()) == pytest.approx(half)
    assert json.loads(json.dumps(network)) == network


def test_bfloat16_moves_the_map_little_and_auto_is_float32_on_a_cpu(weights):
    exact, run = invert(weights=weights)
    assert run.remarks["network"]["precision"] == "float32"
    fast, _ = invert(weights=weights, precision="bfloat16")
    assert 0 < float((fast - exact).abs().max()) < 0.03 * float(exact.abs().max())


def test_a_scan_outside_the_trained_range_is_told_the_nearest_edge(weights):
    _, run = invert(weights=weights)
    assert run.notices == []
    thick = Geometry(GEOMETRY.shape, (1.0, 0.8, 6.0), GEOMETRY.b0_direction)
    _, run = invert(geometry=thick, weights=weights)
    assert run.notices == [
        "outside the range that Meta-QSM was trained for: voxels of 6 mm along B0 (nearest trained: 4 mm)"
    ]


def test_weights_of_a_fixed_resolution_network_are_refused(tmp_path):
    path = write_network(tmp_path / "mesa.safetensors", conditions=())
    with pytest.raises(InputError, match="are of a network for one voxel size; choose Mesa-QSM"):
        invert(weights=path)


def test_unusable_weights_are_refused_before_the_chain_begins():
    scan = Scan(GEOMETRY, total_field=FIELD.numpy(), mask=MASK.numpy())
    chain = default_chain(
        scan, inversion=["metaqsm"], parameters={"metaqsm": {"weights": "none.safetensors"}}
    )
    heard = []
    with (
        running(report=lambda *said: heard.append(said)),
        pytest.raises(InputError, match=r"weights is 'none\.safetensors'; there is no such file"),
    ):
        reconstruct(scan, chain)
    assert heard == []


def test_a_users_own_weights_on_the_command_line(tmp_path, monkeypatch, capsys, weights):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["metaqsm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, capsys.readouterr().err

    field, mask = tmp_path / "field.nii.gz", tmp_path / "mask.nii.gz"
    affine = np.diag([-1.0, 0.8, 2.0, 1.0])
    nib.save(nib.Nifti1Image(FIELD.numpy(), affine), field)
    nib.save(nib.Nifti1Image(MASK.numpy().astype(np.uint8), affine), mask)
    own = tmp_path / "my own.safetensors"
    shutil.copy(weights, own)
    given = ("run", "--local-field", field, "--unit", "ppm", "--mask", mask, "--invert", "metaqsm", "--quiet")
    assert run(*given, "--set", f"metaqsm.weights={own}", "--out", tmp_path / "out") == (0, "")
    record = json.loads((tmp_path / "out/record.json").read_text())
    assert record["steps"][0]["network"]["weights"] == "my own.safetensors"
    assert record["steps"][0]["parameters"]["weights"] == str(own)
    assert (tmp_path / "out/susceptibility_metaqsm.nii.gz").exists()
    own.write_bytes(own.read_bytes()[:1000])
    code, said = run(*given, "--set", f"metaqsm.weights={own}", "--out", tmp_path / "none")
    assert code == 2
    assert "the file is damaged" in said
    assert not (tmp_path / "none").exists()


def test_the_shipped_weights_are_those_taken_by_default():
    _, run = invert()
    (path,) = shipped_weights("metaqsm.safetensors")
    assert run.remarks["network"]["weights"] == path.name

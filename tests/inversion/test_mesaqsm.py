"""Mesa-QSM: which weights it takes for a scan, and that a specialised Meta-QSM is one."""

import pytest
import torch

from napari_metaqsm.errors import InputError
from napari_metaqsm.inversion.mesaqsm import MesaQSMParameters, mesaqsm
from napari_metaqsm.inversion.metaqsm import MetaQSMParameters, metaqsm
from napari_metaqsm.method import running
from napari_metaqsm.network.checkpoint import read_weights, write_weights
from napari_metaqsm.network.conditions import Level, encode, turned
from napari_metaqsm.network.unet import Architecture, UNet
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.pipeline import make_step, reconstruct
from napari_metaqsm.scan import Geometry, Scan
from napari_metaqsm.simulation.shapes import sphere

SHAPE = (26, 24, 17)
# Stored along another axis than the weights were trained: the scan is turned first.
SAGITTAL = Geometry(SHAPE, (3.0, 1.0, 1.0), (1.0, 0.0, 0.05))
FLAT = Geometry(SHAPE, (1.0, 1.0, 1.0))
MASK = torch.ones(SHAPE, dtype=torch.bool)
FIELD = dipole_field(0.1 * sphere(FLAT, 4.0), FLAT)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Two networks, never trained, in place of those shipped."""
    paths = []
    for number, size in enumerate([(1.0, 1.0, 3.0), (0.5, 0.5, 2.0)]):
        torch.manual_seed(number)
        network = UNet(Architecture(conditions=(), width=4, levels=2))
        paths.append(tmp_path / f"mesaqsm_{number}.safetensors")
        write_weights(paths[-1], network, {"voxel_size_mm": size, "tilt_degrees": 10.0})
    monkeypatch.setattr("napari_metaqsm.inversion.mesaqsm.shipped_weights", lambda pattern: paths)
    return paths


def invert(geometry, **parameters):
    with running() as run:
        chi = mesaqsm(FIELD, MASK, geometry, MesaQSMParameters(**parameters))
    return chi, run


def test_it_takes_the_weights_of_the_scans_voxels_however_the_scan_is_stored(shipped):
    _, run = invert(SAGITTAL)
    assert run.remarks["network"]["weights"] == "mesaqsm_0.safetensors"
    _, run = invert(Geometry(SHAPE, (0.51, 0.49, 2.06), (0.0, 0.2, -1.0)))
    assert run.remarks["network"]["weights"] == "mesaqsm_1.safetensors"
    assert run.notices == []


@pytest.mark.parametrize(
    ("size", "b0", "said"),
    [
        ((1.0, 1.0, 1.0), (0, 0, 1), "1×1×1 mm with B0 0 degrees"),
        ((1.0, 1.0, 3.3), (0, 0, 1), "1×1×3.3 mm with B0 0 degrees"),
        ((1.0, 1.0, 3.0), (0, 0.4, 1), "1×1×3 mm with B0 22 degrees"),
    ],
)
def test_other_voxels_and_tilts_are_refused_with_those_there_are(shipped, size, b0, said):
    known = r"1×1×3 mm \(B0 up to 10 degrees\), 0\.5×0\.5×2 mm \(B0 up to 10 degrees\)"
    with pytest.raises(InputError, match=f"no Mesa-QSM weights fit {said}.*there are {known}. Choose"):
        invert(Geometry(SHAPE, size, b0))


def test_a_refused_scan_is_refused_before_the_chain_begins(shipped):
    scan = Scan(FLAT, total_field=FIELD.numpy(), mask=MASK.numpy())
    chain = [make_step("background", "resharp"), make_step("inversion", "mesaqsm")]
    heard = []
    with running(report=lambda *said: heard.append(said)), pytest.raises(InputError, match="no Mesa-QSM"):
        reconstruct(scan, chain)
    assert heard == []


def test_where_none_are_shipped_it_says_so(monkeypatch):
    monkeypatch.setattr("napari_metaqsm.inversion.mesaqsm.shipped_weights", lambda pattern: [])
    with pytest.raises(InputError, match="there are none"):
        invert(FLAT)


def test_a_users_own_weights_are_taken_and_what_does_not_fit_is_said(shipped):
    _, run = invert(FLAT, weights=str(shipped[1]))
    assert run.remarks["network"]["weights"] == "mesaqsm_1.safetensors"
    assert run.notices == [
        "outside what the network was trained for: the weights are for 0.5×0.5×2 mm (B0 up to 10 degrees), "
        "the scan has 1×1×1 mm with B0 0 degrees off the last axis"
    ]


def test_weights_for_every_voxel_size_are_refused(tmp_path):
    path = tmp_path / "meta.safetensors"
    write_weights(path, UNet(Architecture(width=4, levels=2, kernels=2)), {})
    with pytest.raises(InputError, match="are not of a network for one voxel size; choose Meta-QSM"):
        invert(FLAT, weights=str(path))


def test_meta_qsm_specialised_to_a_scan_is_a_mesa_qsm(tmp_path):
    torch.manual_seed(0)
    conditions = ("voxel_size", "b0_direction")
    meta = tmp_path / "meta.safetensors"
    write_weights(meta, UNet(Architecture(conditions=conditions, width=4, levels=2, kernels=3)), {})
    _, after = turned(SAGITTAL)
    plain = read_weights(meta).network.specialise(encode(after, Level(0, 0), conditions))
    mesa = tmp_path / "mesa.safetensors"
    write_weights(mesa, plain, {"voxel_size_mm": after.voxel_size_mm, "tilt_degrees": 10.0})
    found, _ = invert(SAGITTAL, weights=str(mesa))
    with running():
        expected = metaqsm(FIELD, MASK, SAGITTAL, MetaQSMParameters(weights=str(meta)))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3 * float(expected.abs().max()))

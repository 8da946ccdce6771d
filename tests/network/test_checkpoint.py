"""Weights written and read again, and files that cannot be used."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_metaqsm.errors import InputError
from napari_metaqsm.network import checkpoint
from napari_metaqsm.network.checkpoint import read_weights, shipped_weights, write_weights
from napari_metaqsm.network.unet import Architecture, UNet

ARCHITECTURE = Architecture(inputs=("field", "l2"), conditions=("voxel_size",), width=4, levels=2, kernels=3)
PROVENANCE = {"recipe": "none", "steps": 7, "voxel_size_mm": [1.0, 1.0, 2.0]}


@pytest.fixture
def network():
    torch.manual_seed(4)
    return UNet(ARCHITECTURE)


@pytest.fixture
def path(tmp_path, network):
    path = tmp_path / "some.safetensors"
    write_weights(path, network, PROVENANCE)
    return path


def contents(path):
    with checkpoint.safe_open(path, framework="pt") as file:
        return load_file(path), dict(file.metadata())


def test_weights_come_back_to_half_precision(path, network):
    weights = read_weights(str(path))
    assert weights.network.architecture == ARCHITECTURE
    assert weights.provenance == PROVENANCE
    assert weights.name == "some.safetensors"
    found, expected = weights.network.state_dict(), network.state_dict()
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], values.half().float()), name
    assert not any(values.requires_grad for values in weights.network.parameters())
    assert path.stat().st_size < 2 * sum(v.numel() for v in expected.values()) + 6000


def test_a_file_is_read_once_until_it_changes(path, network):
    first = read_weights(path)
    assert read_weights(path) is first
    with torch.no_grad():
        network.head.weight.fill_(0.5)
    write_weights(path, network, PROVENANCE)
    os.utime(path, ns=(0, 0))  # a clock coarser than this test would not tell
    second = read_weights(path)
    assert second.sha256 != first.sha256
    assert (second.network.head.weight == 0.5).all()


def test_who_reads_while_weights_are_written_reads_the_old_ones_whole(path, network):
    before = path.read_bytes()
    with torch.no_grad():
        network.head.weight.fill_(0.5)
    with path.open("rb") as reader:
        write_weights(path, network, PROVENANCE)
        assert reader.read() == before
    assert path.read_bytes() != before


def test_weights_are_written_whole_or_not_at_all(path, network, monkeypatch):
    before = path.read_bytes()
    with torch.no_grad():
        network.head.weight[0, 0] = 1e9
    with pytest.raises(ValueError, match=r"head\.weight is not finite in half precision"):
        write_weights(path, network, PROVENANCE)

    def full(self, data):
        raise OSError("no space left")

    network.head.weight.data[0, 0] = 0
    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        write_weights(path, network, PROVENANCE)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_a_cut_file_is_refused(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"some\.safetensors cannot be read .*; the file is damaged"):
        read_weights(path)


def test_what_is_no_safetensors_file_is_refused_and_never_unpickled(path, tmp_path):
    with pytest.raises(InputError, match=r"weights is '.*nowhere\.pt'; there is no such file"):
        read_weights(tmp_path / "nowhere.pt")
    with pytest.raises(InputError, match="cannot be read"):
        read_weights(tmp_path)

    class Trap:
        def __reduce__(self):
            return os.remove, (str(path),)

    torch.save({"weights": Trap()}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="cannot be read"):
        read_weights(tmp_path / "weights.pt")
    assert path.exists()


def described(**values):
    plain = {"inputs": ["field"], "residual": True, "conditions": [], "width": 4, "levels": 2, "kernels": 3}
    return json.dumps({**plain, **values})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metaqsm_format": None}, "are not of Meta-QSM or Mesa-QSM: they name no architecture"),
        ({"metaqsm_format": "2"}, "have format 2, this version reads 1; update napari-metaqsm"),
        ({"architecture": "{"}, "are damaged: what they say of themselves is"),
        ({"provenance": "7"}, "are damaged: what they say of themselves is"),
        ({"architecture": described(heads=3)}, "are damaged: what they say of themselves is .*heads"),
        ({"architecture": described(levels=1000)}, "are of another architecture, unknown to this version"),
        ({"architecture": described(width=4.5)}, "are of another architecture, unknown to this version"),
        ({"architecture": described(inputs=["phase"])}, "are of another architecture, unknown"),
        ({"architecture": described(inputs=[])}, "are of another architecture, unknown"),
        ({"architecture": described()}, r"not those of the architecture that they name: .*, and \d+ more"),
    ],
)
def test_a_file_that_describes_something_else_is_refused(path, change, message):
    tensors, metadata = contents(path)
    changed = {name: text for name, text in {**metadata, **change}.items() if text is not None}
    save_file(tensors, path, changed)
    with pytest.raises(InputError, match=message):
        read_weights(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("head.bias"), r"head\.bias is absent and must be 1$"),
        (lambda t: t.update(tail=torch.zeros(3)), r"tail is 3 and must be absent$"),
        (lambda t: t.update({"head.bias": torch.zeros(2, 2)}), r"head\.bias is 2×2 and must be 1$"),
        (lambda t: t["head.bias"].fill_(torch.nan), r"are damaged: head\.bias is not finite"),
    ],
)
def test_a_file_with_other_weights_is_refused(path, change, message):
    tensors, metadata = contents(path)
    change(tensors)
    save_file(tensors, path, metadata)
    with pytest.raises(InputError, match=message):
        read_weights(path)


def test_shipped_weights_can_be_read_and_are_small():
    (path,) = shipped_weights("metaqsm.safetensors")
    weights = read_weights(path)
    assert weights.network.architecture.conditions
    assert len(weights.sha256) == 64
    assert sum(file.stat().st_size for file in shipped_weights("*.safetensors")) <= 32e6
    assert shipped_weights("nothing_*") == []

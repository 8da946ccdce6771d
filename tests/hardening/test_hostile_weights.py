"""Weights from anywhere: read by safetensors alone, and nothing in them is ever run."""

import json
import pickle
import struct

import pytest
import torch
from hostile import FUZZ, child, outcome
from hypothesis import given
from hypothesis import strategies as st

from napari_metaqsm.network.checkpoint import Weights, read_weights, write_weights
from napari_metaqsm.network.unet import Architecture, UNet
from napari_metaqsm.training.config import configuration_from
from napari_metaqsm.training.fit import train

ARCHITECTURE = Architecture(inputs=("field",), conditions=(), width=2, levels=1, kernels=3)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "good.safetensors"
    write_weights(path, UNet(ARCHITECTURE), {})
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def packed(header, data, length=None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


anything = st.one_of(
    st.none(), st.integers(-(2**64), 2**64), st.floats(), st.text(max_size=10),
    st.lists(st.integers(-1, 2**63), max_size=4), st.dictionaries(st.text(max_size=5), st.integers()),
)  # fmt: skip


@FUZZ
@given(st.data())
def test_any_header_of_weights_is_refused_or_fits(tmp_path, good, data):
    header, values = json.loads(json.dumps(good[0])), good[1]
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from([*header]))
        if name == "__metadata__":
            key = data.draw(st.sampled_from(["architecture", "provenance", "metaqsm_format"]))
            part = data.draw(st.sampled_from(["inputs", "conditions", "width", "levels", "kernels"]))
            value = data.draw(anything)
            described = json.loads(good[0]["__metadata__"]["architecture"])
            texts = (str(value), json.dumps(value), json.dumps({**described, part: value}))
            header[name][key] = data.draw(st.sampled_from(texts))
        else:
            kinds = ["F16", "F32", "F64", "BF16", "I8", "I64", "BOOL", "U8", "F8_E4M3", "F8_E5M2", "C64", "X"]
            change = data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
            value = st.sampled_from(kinds) if change == "dtype" else anything
            header[name][change] = data.draw(value)
    length = data.draw(st.one_of(st.none(), st.sampled_from([0, 1, 2**20, 2**40, 2**63, 2**64 - 1])))
    (tmp_path / "x.safetensors").write_bytes(packed(header, values, length))
    found = outcome(read_weights, tmp_path / "x.safetensors")
    assert isinstance(found, (str, Weights))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"inputs": ' * 50_000, "9" * 5000])
@pytest.mark.parametrize("key", ["architecture", "provenance"])
def test_metadata_that_nest_without_end_are_refused(tmp_path, good, key, text):
    header = {**good[0], "__metadata__": {**good[0]["__metadata__"], key: text}}
    (tmp_path / "x.safetensors").write_bytes(packed(header, good[1]))
    assert "are damaged" in outcome(read_weights, tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"width": 3}, "are not those of the architecture that they name"),
        ({"width": 10**6}, "are of another architecture"),
        ({"inputs": 5}, "are damaged"),
    ],
)
def test_an_architecture_that_is_none_is_refused_before_it_is_built(tmp_path, good, said, words):
    about = good[0]["__metadata__"]
    described = json.dumps({**json.loads(about["architecture"]), **said})
    header = {**good[0], "__metadata__": {**about, "architecture": described}}
    (tmp_path / "x.safetensors").write_bytes(packed(header, good[1]))
    assert words in outcome(read_weights, tmp_path / "x.safetensors")


def test_weights_that_are_not_numbers_are_refused(tmp_path, good):
    (tmp_path / "x.safetensors").write_bytes(packed(good[0], b"\xff" * len(good[1])))
    assert "is not finite" in outcome(read_weights, tmp_path / "x.safetensors")


class Trap:
    """What runs a command where it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


WATCHED = """
unpickled = []
sys.addaudithook(lambda event, what: unpickled.append(str(what)) if event == "pickle.find_class" else None)
import pickle
class Harmless: pass
pickle.loads(pickle.dumps(Harmless()))
assert unpickled, "the hook hears of it"
import torch
from napari_metaqsm.errors import InputError
from napari_metaqsm.network.checkpoint import read_weights, shipped_weights
unpickled.clear()
refused = 0
for path in sys.argv[1:]:
    try:
        read_weights(path)
    except InputError as error:
        refused += 1
for path in shipped_weights("*.safetensors"):
    read_weights(path)
print(json.dumps([unpickled, refused, len(shipped_weights("*.safetensors"))]))
"""


def test_nothing_is_unpickled_where_weights_are_read(tmp_path):
    """Watched by Python's own audit hook, on those that are shipped and on pickles called safetensors."""
    (tmp_path / "a.safetensors").write_bytes(pickle.dumps(Trap()))
    torch.save({"weights": Trap()}, tmp_path / "b.safetensors")
    torch.save({"weights": Trap()}, tmp_path / "c.safetensors", _use_new_zipfile_serialization=False)
    ended = child(WATCHED, *sorted(tmp_path.iterdir()))
    assert ended.code == 0, ended.err
    unpickled, refused, shipped = ended.value
    assert unpickled == []
    assert refused == 3
    assert shipped > 0


@pytest.mark.parametrize("content", [None, b"", b"no pickle", pickle.dumps(Trap())])
def test_a_checkpoint_to_go_on_training_from_runs_nothing_either(tmp_path, content):
    """Lightning's ``last.ckpt`` is a pickle, and the one that is read; of tensors and numbers alone."""
    settings = configuration_from({"optimisation": {"steps": 1}})
    if content is None:
        torch.save({"state_dict": {}, "trap": Trap()}, tmp_path / "last.ckpt")
    else:
        (tmp_path / "last.ckpt").write_bytes(content)
    told = outcome(train, settings, tmp_path / "run", resume=str(tmp_path))
    assert "was not written by metaqsm train" in told
    assert not (tmp_path / "run").exists()

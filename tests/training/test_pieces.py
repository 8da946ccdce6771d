"""Checkpoints in pieces: put together again exactly, or nearly, and never from a damaged part."""

import json

import pytest
import torch

from napari_metaqsm.errors import InputError
from napari_metaqsm.training import pieces
from napari_metaqsm.training.pieces import find_pieces, read_pieces, write_pieces


@pytest.fixture
def checkpoint():
    """As Lightning makes it, of two tensors and their AdamW state."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"a.weight": (40, 30), "b.bias": (50,)}
    weights = {n: torch.randn(s, generator=generator) for n, s in shapes.items()}
    state = {
        i: {
            "step": torch.tensor(9.0),
            "exp_avg": torch.randn(s, generator=generator),
            "exp_avg_sq": torch.randn(s, generator=generator) ** 4 * 1e-6,
        }
        for i, s in enumerate(shapes.values())
    }
    state[1]["exp_avg_sq"][3] = 0
    return {
        "global_step": 9,
        "minutes": 1.5,
        "state_dict": {f"network.{n}": w + 1e-3 * torch.randn(w.shape) for n, w in weights.items()}
        | {f"average.{n}": w for n, w in weights.items()},
        "optimizer_states": [{"state": state, "param_groups": [{"lr": 0.1, "params": [0, 1]}]}],
    }


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "LARGEST_BYTES", 3000)


def test_exact_pieces_give_back_every_number(checkpoint, tmp_path):
    folder = write_pieces(checkpoint, tmp_path, 9, compact=False)
    sizes = [path.stat().st_size for path in folder.glob("state.*")]
    assert len(sizes) > 5
    assert max(sizes) <= 3000
    again, kind = read_pieces(folder)
    assert kind == "exact"
    assert again["minutes"] == 1.5
    for name, values in checkpoint["state_dict"].items():
        assert torch.equal(again["state_dict"][name], values)
    for number, state in checkpoint["optimizer_states"][0]["state"].items():
        for name, values in state.items():
            assert torch.equal(again["optimizer_states"][0]["state"][number][name], values)


def test_compact_pieces_are_a_quarter_and_nearly_the_same(checkpoint, tmp_path):
    exact = write_pieces(checkpoint, tmp_path / "exact", 9, compact=False)
    compact = write_pieces(checkpoint, tmp_path / "compact", 9, compact=True)
    size = {f: sum(p.stat().st_size for p in f.glob("state.*")) for f in (exact, compact)}
    overhead = 2500  # of the container, which weights of a real size do not notice
    assert size[compact] < size[exact] / 4 + overhead
    again, kind = read_pieces(compact)
    assert kind == "compact"
    assert again["global_step"] == 9
    for name in ("a.weight", "b.bias"):
        average, network = (
            checkpoint["state_dict"][f"average.{name}"],
            checkpoint["state_dict"][f"network.{name}"],
        )
        torch.testing.assert_close(again["state_dict"][f"average.{name}"], average, rtol=5e-4, atol=1e-7)
        # Within half a step of 1/127 of the largest difference from the average
        off = (again["state_dict"][f"network.{name}"] - network).abs().max()
        assert off <= (network - average.half().float()).abs().max() / 127 / 2 * 1.01
    for number, state in checkpoint["optimizer_states"][0]["state"].items():
        found = again["optimizer_states"][0]["state"][number]
        assert found["step"] == 9
        assert found["exp_avg"].shape == state["exp_avg"].shape
        assert not found["exp_avg"].any()
        large = state["exp_avg_sq"] > state["exp_avg_sq"].max() * 2.0**-31
        torch.testing.assert_close(found["exp_avg_sq"][large], state["exp_avg_sq"][large], rtol=0.045, atol=0)
        assert torch.equal(found["exp_avg_sq"] == 0, state["exp_avg_sq"] == 0)


def test_a_piece_that_is_missing_or_damaged_is_named(checkpoint, tmp_path):
    folder = write_pieces(checkpoint, tmp_path, 9, compact=False)
    piece = folder / "state.02"
    whole = piece.read_bytes()
    piece.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"state\.02 is damaged"):
        read_pieces(folder)
    piece.unlink()
    with pytest.raises(InputError, match=r"state\.02 is missing"):
        read_pieces(folder)


def test_what_was_not_finished_is_passed_over_and_older_sets_go_only_afterwards(
    checkpoint, tmp_path, monkeypatch
):
    first = write_pieces(checkpoint, tmp_path, 9, compact=False)
    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", lambda *a, **k: 1 / 0)  # the power fails before the manifest
        with pytest.raises(ZeroDivisionError):
            write_pieces(checkpoint, tmp_path, 12, compact=False)
    assert find_pieces(tmp_path) == first
    assert read_pieces(first)[0]["global_step"] == 9
    second = write_pieces(checkpoint, tmp_path, 12, compact=False)
    assert find_pieces(tmp_path) == second
    assert not first.exists()
    assert find_pieces(second) == second
    assert find_pieces(tmp_path / "nowhere") is None

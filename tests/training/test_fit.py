"""A run: it learns, is interrupted, goes on, and leaves whole files behind."""

import csv
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_metaqsm.errors import InputError, MetaQSMWarning
from napari_metaqsm.method import running
from napari_metaqsm.network.checkpoint import read_weights
from napari_metaqsm.network.conditions import encode
from napari_metaqsm.scan import Geometry
from napari_metaqsm.training.config import Optimisation
from napari_metaqsm.training.fit import train
from napari_metaqsm.training.module import TYPICAL, TrainingModule, autocast_type, learning_rate

# Lightning's own call, deprecated in the newest torch
pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")


def checkpoint(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)


def weights(folder):
    return checkpoint(folder)["state_dict"]


def logged(folder):
    (log,) = folder.glob("logs/*/metrics.csv")
    return list(csv.DictReader(log.read_text().splitlines()))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.equal(found[name], values), name


def at_step(step, action):
    """A listener that acts when the log has come to ``step``."""

    def report(share, text):
        if text.startswith(f"step {step},"):
            action()

    return report


def fail():
    raise RuntimeError("the power failed")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny):
    """A run of six steps that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(tiny(), folder)


def test_a_run_leaves_weights_checkpoint_logs_and_pictures(whole):
    folder, report = whole
    assert (report.steps, report.finished) == (6, True)
    assert f"finished at step 6: {folder / 'weights.safetensors'}" in str(report)
    read = read_weights(folder / "weights.safetensors")
    assert read.provenance["steps"] == 6
    assert read.provenance["configuration"] == json.loads((folder / "configuration.json").read_text())
    assert read.provenance["software"]["torch"] == torch.__version__
    for name, values in read.network.state_dict().items():
        torch.testing.assert_close(values, weights(folder)[f"average.{name}"], rtol=1e-3, atol=1e-6)
    rows = logged(folder)
    assert [row["step"] for row in rows if row["loss"]] == list("123456")
    assert float(rows[-1]["nrmse/1x1x1"]) > 0
    assert list(folder.glob("logs/*/events.out.tfevents.*"))
    assert [path.name for path in folder.glob("pictures/*")] == ["0000006_1x1x1.png"]
    assert not list(folder.glob("*.part"))


def test_a_run_that_was_stopped_goes_on_exactly(whole, tiny, tmp_path):
    with running(report=at_step(2, lambda: signal.raise_signal(signal.SIGTERM))):
        report = train(tiny(), tmp_path)
    assert 2 <= report.steps < 6
    assert not report.finished
    assert train(tiny(), tmp_path, resume="auto").finished
    assert_same(weights(tmp_path), weights(whole[0]))


def test_a_run_that_broke_off_goes_on_from_its_last_checkpoint_exactly(whole, tiny, tmp_path):
    often = tiny(run={"checkpoint_minutes": 0})
    with running(report=at_step(4, fail)), pytest.raises(RuntimeError, match="power"):
        train(often, tmp_path)
    assert checkpoint(tmp_path)["global_step"] == 3
    assert train(often, tmp_path, resume="auto").steps == 6
    assert_same(weights(tmp_path), weights(whole[0]))


def test_a_checkpoint_broken_off_while_it_is_written_leaves_the_last_one(tiny, tmp_path, monkeypatch):
    from lightning.pytorch import Trainer

    real = Trainer.save_checkpoint

    def half(self, path, *given):
        real(self, path, *given)
        if self.global_step == 2:
            Path(path).write_bytes(Path(path).read_bytes()[:1000])
            fail()

    monkeypatch.setattr(Trainer, "save_checkpoint", half)
    with pytest.raises(RuntimeError, match="power"):
        train(tiny(run={"checkpoint_minutes": 0}), tmp_path)
    assert checkpoint(tmp_path)["global_step"] == 1


@pytest.mark.parametrize("kind", ["exact", "compact"])
def test_a_run_goes_on_from_pieces(kind, tiny, tmp_path, whole):
    chosen = tiny(run={"pieces": kind})
    with running(report=at_step(3, lambda: signal.raise_signal(signal.SIGINT))):
        stopped = train(chosen, tmp_path / "first")
    (tmp_path / "first/last.ckpt").unlink()
    if kind == "exact":
        train(chosen, tmp_path / "second", resume=str(tmp_path / "first"))
        assert_same(weights(tmp_path / "second"), weights(whole[0]))
        return
    with pytest.warns(MetaQSMWarning, match="about where it was"):
        again = train(chosen, tmp_path / "second", resume=str(tmp_path / "first"), limit_minutes=0)
    # Not a step further: validated and written as it came.
    assert again.steps == stopped.steps
    assert again.scores["nrmse"] == pytest.approx(stopped.scores["nrmse"], abs=0.01)
    first, second = (read_weights(tmp_path / n / "weights.safetensors").network for n in ("first", "second"))
    assert_same(second.state_dict(), first.state_dict())


def test_minutes_are_counted_over_resumptions(tiny, tmp_path, whole):
    before = checkpoint(whole[0])["minutes"]
    train(tiny(), tmp_path, resume=str(whole[0]), limit_minutes=0)
    assert before <= checkpoint(tmp_path)["minutes"] < before + 0.5


def test_the_average_follows_the_weights(tiny, tmp_path):
    chosen = tiny(optimisation={"steps": 1})
    first = TrainingModule(chosen).network.state_dict()
    train(chosen, tmp_path)
    found = weights(tmp_path)
    for name, values in first.items():
        # A tenth of where it began: (1 + 0) / (10 + 0)
        expected = 0.1 * values + 0.9 * found[f"network.{name}"]
        torch.testing.assert_close(found[f"average.{name}"], expected, rtol=0, atol=1e-6)


def test_time_ends_a_run(tiny, tmp_path):
    report = train(tiny(optimisation={"steps": 0, "minutes": 1e-4}), tmp_path)
    assert report.finished
    assert report.steps < 6


def test_a_folder_in_use_a_missing_checkpoint_and_another_network_are_refused(whole, tiny, tmp_path):
    folder, _ = whole
    with pytest.raises(InputError, match="holds a run; go on with it"):
        train(tiny(), folder)
    with pytest.raises(InputError, match="there is no checkpoint in"):
        train(tiny(), tmp_path, resume=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"architecture\.width is 4, but the checkpoint's is 2"):
        train(tiny(architecture={"width": 4}), tmp_path, resume=str(folder))


def test_initial_weights_are_taken_or_refused(whole, tiny, tmp_path):
    folder, _ = whole
    chosen = tiny(optimisation={"initial_weights": str(folder / "weights.safetensors")})
    expected = read_weights(folder / "weights.safetensors").network.state_dict()
    assert_same(dict(TrainingModule(chosen).network.state_dict()), dict(expected))
    train(chosen, tmp_path / "again", limit_minutes=0)
    said = read_weights(tmp_path / "again/weights.safetensors").provenance["configuration"]
    assert said["optimisation"]["initial_weights"] == "weights.safetensors"  # not where it lay
    with pytest.raises(InputError, match="are of another architecture"):
        TrainingModule(tiny(**{**vars_of(chosen), "architecture": {"width": 4}}))
    (tmp_path / "damaged.safetensors").write_bytes(b"nothing")
    for name, words in (("damaged", "cannot be read"), ("none", "no such file")):
        path = str(tmp_path / f"{name}.safetensors")
        with pytest.raises(InputError, match=words):
            TrainingModule(tiny(optimisation={"initial_weights": path}))


def test_a_fixed_resolution_network_begins_as_the_other_is_at_its_voxel_size(whole, tiny):
    folder, _ = whole
    path = folder / "weights.safetensors"
    size = (0.8, 0.8, 2.0)
    chosen = tiny(
        architecture={"conditions": []},
        recipe={"voxel_size_mm": list(size)},
        optimisation={"initial_weights": str(path)},
    )
    network = read_weights(path).network
    code = encode(Geometry((8, 8, 8), size), TYPICAL, network.architecture.conditions)
    assert_same(
        dict(TrainingModule(chosen).network.state_dict()), dict(network.specialise(code).state_dict())
    )


def vars_of(chosen):
    return {"optimisation": {"initial_weights": chosen.optimisation.initial_weights}}


def test_learning_rates():
    cosine = Optimisation(steps=100, learning_rate=1.0, warmup_steps=4)
    assert learning_rate(cosine, 0, 0.0) == pytest.approx(0.2)
    assert learning_rate(cosine, 50, 0.0) == pytest.approx(0.5)
    assert learning_rate(cosine, 100, 0.0) == pytest.approx(0.0)
    timed = Optimisation(minutes=10.0, learning_rate=1.0, warmup_steps=0)
    assert learning_rate(timed, 7, 5.0) == pytest.approx(0.5)
    stepped = Optimisation(
        steps=10**6, learning_rate=1.0, warmup_steps=0, schedule="exponential", decay=0.5, decay_steps=200
    )
    assert [learning_rate(stepped, step, 0.0) for step in (0, 199, 200, 600)] == [1.0, 1.0, 0.5, 0.125]


def test_precision_is_as_asked_for():
    cpu = torch.device("cpu")
    assert autocast_type("float32", cpu) is None
    assert autocast_type("bfloat16", cpu) is torch.bfloat16


def test_training_brings_the_loss_down(tiny, tmp_path):
    chosen = tiny(
        data={"samples_per_step": 1, "acquisitions_per_subject": 64},
        recipe={"no_mismatch": 1.0, "no_noise": 1.0},
        optimisation={"steps": 60, "learning_rate": 0.01, "average_decay": 0.0},
    )
    train(chosen, tmp_path)
    losses = [float(row["loss"]) for row in logged(tmp_path) if row["loss"]]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])

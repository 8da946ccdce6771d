"""Several processes train one network."""

import subprocess
import sys
import textwrap
from pathlib import Path

import torch


def test_two_processes_end_with_the_same_weights_from_different_examples(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, torch
            from pathlib import Path
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from conftest import TINY
            from napari_metaqsm.training.config import configuration_from
            from napari_metaqsm.training.fit import train
            from napari_metaqsm.training.module import TrainingModule

            folder = Path({str(tmp_path)!r})
            loss = TrainingModule.loss
            def seen(self, sample):
                self.__dict__.setdefault("seen", []).append(float(sample.example.local_field.abs().sum()))
                return loss(self, sample)
            TrainingModule.loss = seen
            def on_train_end(self):
                found = {{"weights": self.network.state_dict(), "seen": self.seen}}
                torch.save(found, folder / f"rank{{self.global_rank}}.pt")
            TrainingModule.on_train_end = on_train_end
            tables = {{**TINY, "run": {{**TINY["run"], "devices": 2}},
                       "optimisation": {{**TINY["optimisation"], "steps": 2}}}}
            train(configuration_from(tables), folder / "run")
            """
        )
    )
    subprocess.run([sys.executable, str(script)], check=True, capture_output=True, timeout=300)
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    for name, values in first["weights"].items():
        assert torch.equal(second["weights"][name], values), name
    assert len(first["seen"]) == len(second["seen"]) == 4
    assert not set(first["seen"]) & set(second["seen"])

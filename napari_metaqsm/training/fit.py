"""One training run from its configuration to weights, on one device or many."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import pickle
import tempfile
import time
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import notice
from napari_metaqsm.provenance import software_versions
from napari_metaqsm.training.config import Configuration
from napari_metaqsm.training.milestones import CHECKPOINT, WEIGHTS, Milestones
from napari_metaqsm.training.module import TrainingModule, share_done
from napari_metaqsm.training.pieces import find_pieces, read_pieces


@dataclass(frozen=True)
class Report:
    """How a run went.

    Parameters
    ----------
    steps : taken in all
    finished : whether the configured steps or minutes are used up
    samples_per_s : learned from, over all devices, milestones left out
    shares : of the time of a step, by part: "data" (examples), "network" (forward and backward), "step"
    in_steps : share of the time since the start that was spent in steps
    scores : of the last validation
    """

    weights: Path
    steps: int
    finished: bool
    startup_s: float
    samples_per_s: float
    shares: dict[str, float]
    in_steps: float
    scores: dict[str, float]

    def __str__(self) -> str:
        """In a few lines."""
        lines = [
            f"{'finished' if self.finished else 'stopped'} at step {self.steps}: {self.weights}",
            f"{self.startup_s:.0f} s to the first step, then {self.samples_per_s:.2f} samples/s; "
            f"{self.in_steps:.0%} of the time in steps",
            "of a step: " + ", ".join(f"{part} {share:.0%}" for part, share in self.shares.items()),
            "NRMSE of the validation scans (closed-form L2): "
            + ", ".join(
                f"{self.scores[f'nrmse/{name}']:.1f} % ({self.scores[f'nrmse_l2/{name}']:.1f} %) at {name} mm"
                for name in (key.removeprefix("nrmse/") for key in self.scores if key.startswith("nrmse/"))
            ),
        ]
        return "\n".join(line for line in lines if not line.endswith(": "))


def train(
    configuration: Configuration,
    folder: Path,
    *,
    resume: str | None = None,
    limit_minutes: float | None = None,
) -> Report | None:
    """Train, or go on training.

    Parameters
    ----------
    folder : of the run; gets ``weights.safetensors``, ``last.ckpt``, ``pictures/`` and ``logs/``
    resume : folder of a run or of a checkpoint in pieces to go on from; "auto" for ``folder`` itself, if
        there is a run in it
    limit_minutes : after which to stop and save; with 0 the state is validated and saved as it is

    Returns
    -------
    None in every process but the first

    Raises
    ------
    InputError
        When the configuration does not fit the data, the machine or the checkpoint, or ``folder`` holds
        another run.
    """
    begun = time.perf_counter()
    folder = Path(folder)
    source = _checkpoint(folder, resume)
    if source is None and (folder / CHECKPOINT).exists():
        raise InputError(f"{folder} holds a run; go on with it (--resume auto), or choose another folder")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    module = TrainingModule(configuration)
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.dumps(dataclasses.asdict(configuration), indent=1)
    provenance = {"software": software_versions(), "configuration": _without_folders(json.loads(settings))}
    fixed = configuration.recipe.voxel_size_mm
    if fixed is not None and not configuration.architecture.conditions:
        provenance |= {"voxel_size_mm": fixed, "tilt_degrees": configuration.recipe.tilt_degrees}
    milestones = Milestones(folder, provenance, begun, limit_minutes)
    trainer = _trainer(configuration, folder, milestones)
    with ExitStack() as stack:
        if source is not None and source.is_dir():
            source = _assembled(source, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        if trainer.is_global_zero:
            (folder / "configuration.json").write_text(settings, encoding="utf-8")
        trainer.fit(module, train_dataloaders=itertools.repeat(0), ckpt_path=source)
    if not trainer.is_global_zero:
        return None
    spent = time.perf_counter() - begun
    in_steps = spent - milestones.startup_s - milestones.milestones_s
    return Report(
        weights=folder / WEIGHTS,
        steps=milestones.step,
        finished=share_done(configuration.optimisation, milestones.step, module.minutes) >= 1,
        startup_s=milestones.startup_s,
        samples_per_s=milestones.samples / in_steps,
        shares=module.stopwatch.shares(),
        in_steps=in_steps / spent,
        scores=milestones.scores,
    )


def _without_folders(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with names alone for paths: weights go to other machines."""
    data, optimisation = settings["data"], settings["optimisation"]
    data["labels"], data["maps"] = Path(data["labels"]).name, [Path(p).name for p in data["maps"]]
    optimisation["initial_weights"] = Path(optimisation["initial_weights"]).name
    return settings


def _checkpoint(folder: Path, resume: str | None) -> Path | None:
    """Where to go on from: a file of Lightning's, or a folder of pieces."""
    if resume is None:
        return None
    place = folder if resume == "auto" else Path(resume)
    found = place / CHECKPOINT if (place / CHECKPOINT).is_file() else find_pieces(place)
    if found is None and resume != "auto":
        raise InputError(f"there is no checkpoint in {place} to go on from")
    if found is not None and found.is_file():
        _check_plain(found)
    return found


def _check_plain(checkpoint: Path) -> None:
    """Refuse a checkpoint of more than tensors and plain values: Lightning may unpickle what it is given."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it is about to refuse
            torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, LookupError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"the checkpoint {checkpoint} cannot be read, or was not written by metaqsm train ({reason})"
        ) from error


def _assembled(pieces: Path, folder: Path) -> Path:
    checkpoint, kind = read_pieces(pieces)
    if kind == "compact":
        notice(f"{pieces} is a compact checkpoint: the run goes on from about where it was")
    path = folder / CHECKPOINT
    torch.save(checkpoint, path)
    return path


def _trainer(configuration: Configuration, folder: Path, milestones: Milestones) -> Trainer:
    run = configuration.run
    on_gpu = run.device == "cuda" or (run.device == "auto" and torch.cuda.is_available())
    if on_gpu and not torch.cuda.is_available():
        raise InputError("run.device is 'cuda', but this machine has none; use cpu or auto")
    logs = folder / "logs"
    count = len(list(logs.glob("*"))) if logs.is_dir() else 0
    place = {"save_dir": logs, "name": "", "version": f"{count:03d}"}
    return Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=run.devices or ("auto" if on_gpu else 1),
        num_nodes=_machines(),
        logger=[CSVLogger(**place), TensorBoardLogger(**place)],
        callbacks=[milestones],
        # The milestones end the run: by steps, by time or by a signal.
        max_epochs=-1,
        accumulate_grad_batches=configuration.data.samples_per_step,
        gradient_clip_val=configuration.optimisation.clip_norm or None,
        benchmark=on_gpu,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


def _machines() -> int:
    """How many take part, as torchrun and SLURM say it."""
    environment: Any = os.environ
    if "GROUP_WORLD_SIZE" in environment:
        return int(environment["GROUP_WORLD_SIZE"])
    return int(environment.get("SLURM_NNODES", 1))

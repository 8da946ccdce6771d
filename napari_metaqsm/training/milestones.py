"""What happens between the steps: the clock, the log, validation, checkpoints, weights, the end."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from napari_metaqsm.method import announce
from napari_metaqsm.network.checkpoint import write_weights
from napari_metaqsm.training.module import TrainingModule, share_done, validation_sources
from napari_metaqsm.training.pieces import write_pieces
from napari_metaqsm.training.validation import Validation

CHECKPOINT = "last.ckpt"
WEIGHTS = "weights.safetensors"
# One interrupt ends a run after its step; a second one ends it at once.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Milestones(Callback):
    """Everything that one process decides for all: when to log, to validate and save, and to stop.

    Parameters
    ----------
    folder : of the run
    provenance : of the weights, written with them
    begun : ``time.perf_counter()`` when the run was started
    limit_minutes : after which it stops, to be resumed; None for none
    """

    def __init__(
        self,
        folder: Path,
        provenance: dict[str, Any],
        begun: float,
        limit_minutes: float | None,
    ) -> None:
        self.folder, self.provenance = folder, provenance
        self.begun, self.limit_minutes = begun, limit_minutes
        self.samples = 0
        self.step = 0
        self.startup_s = self.milestones_s = 0.0
        self.scores: dict[str, float] = {}
        self._stopping = threading.Event()
        self._handlers: dict[int, Any] = {}
        self._validation: Validation | None = None

    # ------------------------------------------------------------------------------- the hooks
    def on_train_start(self, trainer: Trainer, module: TrainingModule) -> None:
        """Start the clock, and take over the signals from Lightning."""
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._stop) for number in SIGNALS}
        self.step = trainer.global_step
        self._earlier = module.minutes
        self._start = self._saved = self._logged = time.perf_counter()
        self._logged_samples = 0
        self.startup_s = self._start - self.begun
        self._decide(trainer, module)

    def on_train_batch_end(
        self, trainer: Trainer, module: TrainingModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After each example; everything here is done after whole steps."""
        self.samples += trainer.world_size
        if trainer.global_step == self.step:
            return
        self.step = trainer.global_step
        due = self._decide(trainer, module)
        module.stopwatch.lap("step")
        if self.step % module.configuration.run.log_every == 0 or trainer.should_stop:
            self._log(trainer, module)
        if due and not trainer.should_stop:
            self._milestone(trainer, module)

    def on_train_end(self, trainer: Trainer, module: TrainingModule) -> None:
        """The last milestone."""
        self._milestone(trainer, module)
        self._restore_signals()

    def on_exception(self, trainer: Trainer, module: TrainingModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._restore_signals()

    # ------------------------------------------------------------------------------ what is done
    def _decide(self, trainer: Trainer, module: TrainingModule) -> bool:
        """Set the clock of all processes by that of the first, and stop them; whether to save."""
        now = time.perf_counter()
        chosen = module.configuration
        minutes = self._earlier + (now - self._start) / 60
        over = self.limit_minutes is not None and now - self.begun >= 60 * self.limit_minutes
        over = over or share_done(chosen.optimisation, self.step, minutes) >= 1 or self._stopping.is_set()
        due = now - self._saved >= 60 * chosen.run.checkpoint_minutes
        module.minutes, over, due = trainer.strategy.broadcast((minutes, over, due))
        trainer.should_stop = over
        return due

    def _log(self, trainer: Trainer, module: TrainingModule) -> None:
        now, loss = time.perf_counter(), module.mean_loss()
        rate = (self.samples - self._logged_samples) / max(now - self._logged, 1e-9)
        self._logged, self._logged_samples = now, self.samples
        optimiser = trainer.optimizers[0]
        values = {
            "loss": loss,
            "learning_rate": optimiser.param_groups[0]["lr"],
            "samples_per_s": rate,
            **{f"time/{part}": share for part, share in module.stopwatch.shares().items()},
        }
        _write(trainer, values, self.step)
        text = f"step {self.step}, loss {loss:.4f}, {rate:.2f} samples/s"
        if self.scores:
            text += f", NRMSE {self.scores['nrmse']:.1f} %"
        if trainer.is_global_zero:
            announce(text, share_done(module.configuration.optimisation, self.step, module.minutes))

    def _milestone(self, trainer: Trainer, module: TrainingModule) -> None:
        """Validate; write weights, checkpoint and pieces, each whole."""
        start = time.perf_counter()
        if trainer.is_global_zero:
            self._validation = self._validation or _validation(module)
            self.scores = self._validation.run(
                module.average, module.autocast, self.folder / "pictures", self.step
            )
            _write(trainer, self.scores, self.step)
            # Refuses weights that are not finite, before the checkpoint takes the place of a better one.
            reached = {
                "steps": self.step,
                "minutes": round(module.minutes, 1),
                "hardware": f"{trainer.world_size} × {_hardware(module.device)}",
                "validation": self.scores,
            }
            write_weights(self.folder / WEIGHTS, module.average, {**self.provenance, **reached})
        self._save(trainer, module)
        now = time.perf_counter()
        self.milestones_s += now - start
        self._saved = now
        self._logged += now - start

    def _save(self, trainer: Trainer, module: TrainingModule) -> None:
        # Lightning itself writes to the system's temporary folder first, and a file is not moved
        # from one disk to another in one go.
        partial = self.folder / f"{CHECKPOINT}.part"
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            pieces = module.configuration.run.pieces
            if pieces != "none":
                checkpoint = torch.load(partial, map_location="cpu", weights_only=True)
                write_pieces(checkpoint, self.folder, self.step, compact=pieces == "compact")
            partial.replace(self.folder / CHECKPOINT)
        trainer.strategy.barrier()

    def _stop(self, number: int, frame: Any) -> None:
        self._stopping.set()
        self._restore_signals()

    def _restore_signals(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def _validation(module: TrainingModule) -> Validation:
    chosen = module.configuration
    return Validation(
        validation_sources(chosen, module.device),
        chosen.recipe,
        chosen.architecture,
        module.device,
        chosen.validation_voxels_mm,
        chosen.data.seed,
    )


def _write(trainer: Trainer, values: dict[str, float], step: int) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(values, step)
        logger.save()

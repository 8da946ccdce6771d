"""What Lightning trains: a network, the moving average of its weights, its loss and its steps."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from napari_metaqsm.errors import InputError
from napari_metaqsm.network.checkpoint import read_weights
from napari_metaqsm.network.conditions import Level, encode
from napari_metaqsm.network.unet import UNet
from napari_metaqsm.scan import Geometry
from napari_metaqsm.training.config import Configuration, Optimisation
from napari_metaqsm.training.losses import absolute_error, gradient_error, model_error, weight_penalty
from napari_metaqsm.training.sources import Sources, load_sources, numbered_maps
from napari_metaqsm.training.stopwatch import Stopwatch
from napari_metaqsm.training.stream import Sample, Stream

# Of a scan, for the Mesa-QSM that begins as a Meta-QSM of one voxel size.
TYPICAL = Level(mismatch=0.35, noise=0.45)
# As in Keras, which the paper's network was trained with.
RMSPROP = {"alpha": 0.9, "eps": 1e-7}


class TrainingModule(LightningModule):
    """One network in training; a batch of Lightning's is one example, made here on the device.

    Attributes
    ----------
    network, average : the network, and the moving average of its weights
    minutes : of training so far, over every resumption
    """

    def __init__(self, configuration: Configuration) -> None:
        super().__init__()
        self.configuration = configuration
        self.network = _initial_network(configuration)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.minutes = 0.0
        self.stopwatch = Stopwatch()
        self._stream: Stream | None = None
        self._slot = 0
        self._losses: list[Tensor] = []

    @property
    def autocast(self) -> torch.dtype | None:
        """What convolutions compute in; None where that is float32."""
        return autocast_type(self.configuration.optimisation.precision, self.device)

    def on_fit_start(self) -> None:
        """Read the sources on to the device."""
        data = self.configuration.data
        self._stream = Stream(
            training_sources(self.configuration, self.device),
            self.configuration.recipe,
            self.device,
            data.seed,
            self.global_rank,
            data.samples_per_step,
            data.acquisitions_per_subject,
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW or RMSprop; its learning rate is set before each step."""
        chosen = self.configuration.optimisation
        if chosen.optimiser == "rmsprop":
            return torch.optim.RMSprop(self.network.parameters(), lr=chosen.learning_rate, **RMSPROP)
        return torch.optim.AdamW(
            self.network.parameters(), lr=chosen.learning_rate, weight_decay=chosen.weight_decay
        )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Loss of the next example."""
        if self._slot == 0:
            self.stopwatch.begin_step(self.global_step, self.device)
        chosen = self.configuration
        sample = self._stream.sample(self.global_step, self._slot, chosen.architecture, chosen.data.window)
        self._slot += 1
        self.stopwatch.lap("data")
        loss = self.loss(sample)
        self._losses.append(loss.detach())
        return loss

    def loss(self, sample: Sample) -> Tensor:
        """The whole loss of one sample."""
        weights, example = self.configuration.loss, sample.example
        channels, start, scale = sample.prepared
        channels = channels.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            output = self.network(channels, sample.code)
        scale = scale.clamp_min(1e-12)  # of a field that is zero everywhere
        found = start + output[0, 0].float()
        error = found - example.susceptibility / scale
        loss = absolute_error(error, example.mask)
        if weights.gradient_weight:
            loss = loss + weights.gradient_weight * gradient_error(error, example.mask)
        if weights.model_weight:
            field = example.local_field / scale
            loss = loss + weights.model_weight * model_error(found, field, example.mask, example.geometry)
        if weights.weight_penalty:
            loss = loss + weights.weight_penalty * weight_penalty(self.network)
        return loss

    def on_after_backward(self) -> None:
        """Every example."""
        self.stopwatch.lap("network")

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any) -> None:
        """One step: of the weights, and of their average."""
        rate = learning_rate(self.configuration.optimisation, self.global_step, self.minutes)
        for group in optimizer.param_groups:
            group["lr"] = rate
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        # Short memory at first: the average would otherwise hold on to the weights it began with.
        step = self.global_step
        decay = min(self.configuration.optimisation.average_decay, (1 + step) / (10 + step))
        for average, values in zip(self.average.parameters(), self.network.parameters(), strict=True):
            average.lerp_(values.detach(), 1 - decay)
        self._slot = 0
        self.stopwatch.lap("step")

    def mean_loss(self) -> float:
        """Of the examples since this was last asked, on this device."""
        losses, self._losses = self._losses, []
        return float(torch.stack(losses).mean()) if losses else math.nan

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What the weights and the optimiser do not say."""
        checkpoint["minutes"] = self.minutes
        checkpoint["kind"] = self._kind()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse what is of another network or optimiser."""
        for name, value in self._kind().items():
            if checkpoint["kind"][name] != value:
                raise InputError(
                    f"{name} is {value}, but the checkpoint's is {checkpoint['kind'][name]}; "
                    "go on with the configuration it was made with"
                )
        self.minutes = checkpoint["minutes"]

    def _kind(self) -> dict[str, Any]:
        chosen = self.configuration
        kind = {f"architecture.{k}": v for k, v in dataclasses.asdict(chosen.architecture).items()}
        return {**kind, "optimisation.optimiser": chosen.optimisation.optimiser}


def _initial_network(configuration: Configuration) -> UNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(configuration.data.seed)
        network = UNet(configuration.architecture)
    path = configuration.optimisation.initial_weights
    if path:
        given = read_weights(path).network
        fixed = configuration.recipe.voxel_size_mm
        if given.architecture.conditions and not configuration.architecture.conditions and fixed is not None:
            geometry = Geometry(configuration.recipe.shape, fixed)
            given = given.specialise(encode(geometry, TYPICAL, given.architecture.conditions))
        if given.architecture != configuration.architecture:
            raise InputError(
                f"the initial weights {path} are of another architecture: {given.architecture}, not "
                f"{configuration.architecture}"
            )
        network.load_state_dict(given.state_dict())
    return network.to(memory_format=torch.channels_last_3d)


def training_sources(configuration: Configuration, device: torch.device) -> Sources:
    """All sources but the heads held out."""
    data = configuration.data
    maps = [Path(path) for path in data.maps]
    if not data.labels:
        return load_sources(maps=maps, device=device)
    kept = sorted(set(numbered_maps(Path(data.labels))) - set(data.validation))
    if not kept:
        raise InputError(f"data.validation holds out every label map of {data.labels}; leave one to train on")
    return load_sources(Path(data.labels), kept, maps, device)


def validation_sources(configuration: Configuration, device: torch.device) -> Sources:
    """The heads held out; where there are none, other draws from the sources of training."""
    data = configuration.data
    if data.labels and data.validation:
        return load_sources(Path(data.labels), data.validation, device=device)
    return training_sources(configuration, device)


def share_done(chosen: Optimisation, step: int, minutes: float) -> float:
    """How much of the run is behind, from 0 to 1: of its steps or its minutes, whichever is more."""
    by_steps = step / chosen.steps if chosen.steps else 0.0
    by_time = minutes / chosen.minutes if chosen.minutes else 0.0
    return min(max(by_steps, by_time), 1.0)


def learning_rate(chosen: Optimisation, step: int, minutes: float) -> float:
    """Of the step after ``step`` steps and ``minutes``: a linear rise, then what the schedule says."""
    rise = min((step + 1) / (chosen.warmup_steps + 1), 1.0)
    if chosen.schedule == "cosine":
        fall = (1 + math.cos(math.pi * share_done(chosen, step, minutes))) / 2
    else:
        fall = chosen.decay ** (step // chosen.decay_steps)
    return chosen.learning_rate * rise * fall


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """bfloat16 where it is asked for, or where "auto" finds that the device computes it itself."""
    if precision == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            able = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions of torch
            fast = able.get("avx512_bf16", False) or able.get("amx_bf16", False)
        precision = "bfloat16" if fast else "float32"
    return torch.bfloat16 if precision == "bfloat16" else None

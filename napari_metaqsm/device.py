"""Which device computes, and what happens when its memory is full."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import notice

DEVICES = ("auto", "cpu", "cuda", "mps")
T = TypeVar("T")


def choose_device(name: str = "auto") -> torch.device:
    """The device called ``name``; "auto" takes CUDA where there is one, else the CPU.

    Apple's mps is used only where it is asked for: it has no double precision and few FFTs.

    Raises
    ------
    InputError
        When the name is unknown or this machine has no such device.
    """
    kind = name.split(":", 1)[0]
    if kind not in DEVICES:
        raise InputError(f"device is {name!r}; it must be one of {', '.join(DEVICES)}")
    if kind == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there[kind]:
        raise InputError(f"device is {name!r}, but this machine has none; use --device cpu or auto")
    return torch.device(name)


def usable_devices() -> dict[str, str]:
    """What :func:`choose_device` takes on this machine, and how each is written for users."""
    devices = {"auto": "auto", "cpu": "CPU"}
    if torch.cuda.is_available():
        devices["cuda"] = "CUDA"
    if torch.backends.mps.is_available():
        devices["mps"] = "MPS"
    return devices


def with_fallback(compute: Callable[[torch.device], T], device: torch.device) -> tuple[T, torch.device]:
    """``compute(device)``, again on the CPU when the device ran out of memory, and where it ran."""
    try:
        return compute(device), device
    except torch.OutOfMemoryError:
        if device.type == "cpu":
            raise
    # Outside the except block: the exception holds the frames whose tensors fill the memory.
    torch.cuda.empty_cache()
    notice(f"{device} ran out of memory; computed on the CPU instead")
    cpu = torch.device("cpu")
    return compute(cpu), cpu

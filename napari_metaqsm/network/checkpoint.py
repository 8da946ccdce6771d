"""Weights in a file: safetensors in half precision, with the architecture and where they are from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.resources import resource
from napari_metaqsm.network.conditions import CONDITIONS
from napari_metaqsm.network.unet import INPUTS, Architecture, UNet

FORMAT = 1
# Beyond what a network here can be: a file that says so is damaged.
LARGEST = {"width": 512, "levels": 8, "kernels": 256}


class Weights(NamedTuple):
    """A network as read from a file; shared between its users, who do not write to it.

    ``provenance`` is what training wrote of itself: version, recipe, seed, steps and, of a fixed-resolution
    network, ``voxel_size_mm`` (of turned scans) and ``tilt_degrees`` (the largest).
    """

    network: UNet
    provenance: Mapping[str, Any]
    name: str
    sha256: str


def write_weights(path: Path, network: UNet, provenance: Mapping[str, Any]) -> None:
    """Write a network's weights, whole or not at all.

    Parameters
    ----------
    provenance : JSON values, see :class:`Weights`

    Raises
    ------
    ValueError
        When a weight is not finite in half precision; nothing is written then.
    """
    tensors = {}
    for name, values in network.state_dict().items():
        tensors[name] = values.detach().cpu().to(torch.float16).contiguous()
        if not tensors[name].isfinite().all():
            raise ValueError(f"{name} is not finite in half precision; the weights were not written")
    metadata = {
        "metaqsm_format": str(FORMAT),
        "architecture": json.dumps(dataclasses.asdict(network.architecture)),
        "provenance": json.dumps(dict(provenance)),
    }
    with _replacing(path) as partial:
        partial.write_bytes(save(tensors, metadata))


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place at the end, unless something goes wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_weights(path: str | Path) -> Weights:
    """The network in a file, in single precision on the CPU; read once as long as the file is the same.

    Raises
    ------
    InputError
        When there is no such file, it is damaged or of another kind, or its weights are not those of the
        architecture that it names.
    """
    path = Path(path).expanduser()
    try:
        stat = path.stat()
    except OSError:
        raise InputError(f"weights is {str(path)!r}; there is no such file") from None
    if not S_ISREG(stat.st_mode):  # a pipe would be waited for without end
        raise InputError(f"the weights {path} cannot be read; that is no file")
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, changed: int, size: int) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            architecture, provenance = _described(path, metadata)
            network = _empty(path, architecture, file)
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, TypeError, MemoryError) as error:
        raise InputError(
            f"the weights {path} cannot be read ({error}); the file is damaged, or not of safetensors"
        ) from error
    for name, values in tensors.items():
        if not values.isfinite().all():
            raise InputError(f"the weights {path} are damaged: {name} is not finite")
    network.load_state_dict(tensors, assign=True)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Weights(network.requires_grad_(False).eval(), provenance, path.name, sha256)


def _described(path: Path, metadata: Mapping[str, str]) -> tuple[Architecture, dict[str, Any]]:
    found = metadata.get("metaqsm_format")
    if found is None:
        raise InputError(f"the weights {path} are not of Meta-QSM or Mesa-QSM: they name no architecture")
    if found != str(FORMAT):
        raise InputError(
            f"the weights {path} have format {found}, this version reads {FORMAT}; update napari-metaqsm"
        )
    try:
        described = json.loads(metadata["architecture"])
        for name in ("inputs", "conditions"):
            described[name] = tuple(described[name])
        architecture = Architecture(**described)
        provenance = dict(json.loads(metadata["provenance"]))
        usable = (
            set(architecture.inputs) <= set(INPUTS)
            and set(architecture.conditions) <= set(CONDITIONS)
            and type(architecture.residual) is type(architecture.adapted) is bool
            and all(
                type(getattr(architecture, n)) is int and 1 <= getattr(architecture, n) <= most
                for n, most in LARGEST.items()
            )
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"the weights {path} are damaged: what they say of themselves is {error}") from error
    if not (usable and architecture.inputs):
        raise InputError(
            f"the weights {path} are of another architecture, unknown to this version: "
            f"{metadata['architecture']}"
        )
    return architecture, provenance


def _empty(path: Path, architecture: Architecture, file: Any) -> UNet:
    """The network without values, once it is known that those of ``file`` fit it."""
    with torch.device("meta"):
        network = UNet(architecture)
    wanted = {name: tuple(values.shape) for name, values in network.state_dict().items()}
    found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    wrong = [
        f"{name} is {_by(found.get(name))} and must be {_by(wanted.get(name))}"
        for name in sorted({*wanted, *found})
        if found.get(name) != wanted.get(name)
    ]
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise InputError(
            f"the weights {path} are not those of the architecture that they name: {wrong[0]}{more}"
        )
    return network


def _by(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "×".join(map(str, shape))


def shipped_weights(pattern: str) -> list[Path]:
    """The bundled weights whose file name matches, sorted by name; none where none are bundled."""
    try:
        return sorted(resource("weights").glob(pattern))
    except FileNotFoundError:
        return []

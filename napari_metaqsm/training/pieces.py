"""Checkpoints in small files: cut into pieces with their hashes, and made compact.

A compact checkpoint takes 4 bytes a parameter instead of 16. It holds the averaged weights in half
precision, the weights as their difference from those in 8 bits, and the optimiser's mean square of the
gradient in 8 bits of its logarithm; the mean gradient, which a few steps bring back, is left out. A run
that goes on from it goes on approximately, one that goes on from an exact checkpoint exactly.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_metaqsm.errors import InputError

LARGEST_BYTES = 16_000_000
MANIFEST = "manifest.json"
# Steps of the logarithm: half of one is 4.4 % of the mean square, 2.2 % of the length of a step.
PER_OCTAVE = 8


# ------------------------------------------------------------------------------------- pieces
def write_pieces(checkpoint: Mapping[str, Any], folder: Path, step: int, *, compact: bool) -> Path:
    """Write a checkpoint of Lightning's in pieces to a new folder in ``folder``; older ones go after that.

    The manifest is written last: a folder without one was not finished.
    """
    buffer = io.BytesIO()
    torch.save(_compressed(checkpoint) if compact else checkpoint, buffer)
    data = buffer.getvalue()
    target = folder / f"pieces-{step:07d}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    files = []
    for number, start in enumerate(range(0, len(data), LARGEST_BYTES)):
        piece = data[start : start + LARGEST_BYTES]
        name = f"state.{number:02d}"
        (target / name).write_bytes(piece)
        files.append({"name": name, "bytes": len(piece), "sha256": hashlib.sha256(piece).hexdigest()})
    manifest = {"kind": "compact" if compact else "exact", "step": step, "files": files}
    partial = target / f"{MANIFEST}.part"
    partial.write_text(json.dumps(manifest, indent=1))
    partial.replace(target / MANIFEST)
    for older in folder.glob("pieces-*"):
        if older != target:
            shutil.rmtree(older)
    return target


def find_pieces(folder: Path) -> Path | None:
    """The newest whole set of pieces that ``folder`` is or holds."""
    sets = [folder, *sorted(folder.glob("pieces-*"), reverse=True)]
    return next((path for path in sets if (path / MANIFEST).is_file()), None)


def read_pieces(folder: Path) -> tuple[dict[str, Any], str]:
    """The checkpoint in pieces, and whether it is "exact" or "compact".

    Raises
    ------
    InputError
        When a piece is missing or is not the one that was written.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        kind, files = manifest["kind"], [(f["name"], f["sha256"]) for f in manifest["files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / MANIFEST} cannot be read: {error}") from error
    data = b""
    for name, digest in files:
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path} is missing; all {len(files)} pieces are needed")
        piece = path.read_bytes()
        if hashlib.sha256(piece).hexdigest() != digest:
            raise InputError(f"{path} is damaged: it is not what was written; fetch it again")
        data += piece
    checkpoint = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return (_expanded(checkpoint) if kind == "compact" else checkpoint), kind


# ------------------------------------------------------------------------------------ compact
def _compressed(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    weights = {}
    for name, values in checkpoint["state_dict"].items():
        part, _, rest = name.partition(".")
        if part == "average":
            average = values.cpu().half()
            weights[rest] = (
                average,
                *_in_eight_bits(checkpoint["state_dict"][f"network.{rest}"].cpu() - average.float()),
            )
    optimisers = [
        {**o, "state": {i: {k: _small(k, v) for k, v in s.items()} for i, s in o["state"].items()}}
        for o in checkpoint["optimizer_states"]
    ]
    return {**checkpoint, "state_dict": weights, "optimizer_states": optimisers}


def _expanded(compact: Mapping[str, Any]) -> dict[str, Any]:
    weights = {}
    for name, (average, steps, size) in compact["state_dict"].items():
        weights[f"average.{name}"] = average.float()
        weights[f"network.{name}"] = average.float() + steps.float() * size
    optimisers = [
        {**o, "state": {i: {k: _large(k, v) for k, v in s.items()} for i, s in o["state"].items()}}
        for o in compact["optimizer_states"]
    ]
    return {**compact, "state_dict": weights, "optimizer_states": optimisers}


def _in_eight_bits(values: Tensor) -> tuple[Tensor, float]:
    """Whole steps (int8), and the size of one."""
    size = float(values.abs().max()) / 127 or 1.0
    return (values / size).round().to(torch.int8), size


def _small(name: str, values: Any) -> Any:
    """An entry of the optimiser's state: means of squares by their logarithm, means of gradients by shape."""
    if name in ("exp_avg_sq", "square_avg"):
        logarithm = values.cpu().log2()
        top = float(logarithm.max())
        code = (255 + PER_OCTAVE * (logarithm - top)).round().clamp(1, 255)
        return torch.where(values.cpu() > 0, code, 0).to(torch.uint8), top
    return tuple(values.shape) if name == "exp_avg" else values


def _large(name: str, small: Any) -> Any:
    if name in ("exp_avg_sq", "square_avg"):
        code, top = small
        values = torch.exp2((code.float() - 255) / PER_OCTAVE + top)
        return torch.where(code > 0, values, 0)
    return torch.zeros(small) if name == "exp_avg" else small

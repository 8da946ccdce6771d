"""Which parts the benchmark has, from what is there to measure on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_metaqsm.benchmark.contenders import (
    MESA,
    Contender,
    every_contender,
    parse_contender,
    parse_contenders,
)
from napari_metaqsm.benchmark.parts import Part
from napari_metaqsm.benchmark.references import case_part, challenge_part
from napari_metaqsm.benchmark.response import linearity_part, rotation_part, voxel_size_part
from napari_metaqsm.benchmark.synthetic import SHAPE, mesa_parts, synthetic_part, validation_heads
from napari_metaqsm.errors import InputError
from napari_metaqsm.network.checkpoint import shipped_weights


def plan(
    methods: str | None = None,
    *,
    volumes: int = 100,
    shape: Sequence[float] = SHAPE,
    seed: int = 0,
    labels: Path | None = None,
    qsm2016: Path | None = None,
    case: Path | None = None,
    mesa: str | None = None,
) -> list[Part]:
    """The parts of the benchmark.

    Parameters
    ----------
    methods : contenders with commas between them; None is all there are
    volumes : of each set of synthetic scans; 0 leaves them out
    shape : voxels of a synthetic scan
    labels : folder of the label maps, of which the validation heads are used
    qsm2016, case : folders of the two fixed scans
    mesa : contenders of one voxel size each; None is Mesa-QSM with the weights that are shipped, if any

    Raises
    ------
    InputError
        When there is nothing to measure on, or a name, a number or a folder is none.
    """
    contenders = every_contender() if methods is None else parse_contenders(methods)
    if not (labels or qsm2016 or case):
        raise InputError("there is nothing to evaluate on; give --labels, --qsm2016 or --case")
    if volumes < 0:
        raise InputError(f"volumes is {volumes}; it must be at least 0")
    if len(shape) != 3 or any(n < 16 or n != int(n) for n in shape):
        raise InputError(f"shape is {tuple(shape)}; it must be three whole numbers, each at least 16")
    shape = [int(n) for n in shape]
    parts: list[Part] = []
    if case:
        parts.append(case_part(case, contenders))
    if qsm2016:
        parts.append(challenge_part(qsm2016, contenders))
    if labels:
        heads = validation_heads(labels)
        for make in (linearity_part, rotation_part, voxel_size_part):
            parts.append(make(heads, contenders, shape, seed))
        if volumes:
            parts.append(synthetic_part(heads, contenders, volumes, shape, seed))
            rivals = _of_one_size(contenders, mesa)
            if rivals:
                parts += mesa_parts(heads, rivals, volumes, shape, seed)
    return parts


def _of_one_size(contenders: Sequence[Contender], mesa: str | None) -> list[Contender]:
    """The learned contenders and those of one voxel size; nobody where there is none of the latter."""
    if mesa is None and not shipped_weights("mesaqsm_*.safetensors"):
        return []
    single = (parse_contender(MESA),) if mesa is None else parse_contenders(mesa)
    labels = {c.label for c in single}
    return [*(c for c in contenders if c.learned and c.label not in labels), *single]

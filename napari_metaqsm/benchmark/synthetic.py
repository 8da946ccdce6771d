"""Synthetic scans of heads that no training has seen: all methods, and Meta-QSM against Mesa-QSM.

They are made as the examples of training are, but at full size, from the label maps that stay out of
training, never of inverted sign, and all with a magnitude. Each comes from a generator of its own, on the
CPU: the n-th scan of a seed is the same wherever and however many are asked for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from napari_metaqsm.benchmark.contenders import Contender, classical
from napari_metaqsm.benchmark.parts import (
    Outcome,
    Part,
    Volume,
    by_contender,
    failures,
    spread_table,
    spreads,
)
from napari_metaqsm.evaluation.scores import AGREEMENT, AGREEMENT_NOTE, agreement
from napari_metaqsm.evaluation.tables import Column, Spread, Table
from napari_metaqsm.network.conditions import measure_level
from napari_metaqsm.scan import Triple
from napari_metaqsm.training.examples import Example, Recipe, acquire, make_subject
from napari_metaqsm.training.sources import Sources, load_sources

# Numbers of the label maps that stay out of training.
VALIDATION_HEADS = (19, 20)
SHAPE = (256, 256, 64)
MESA_SIZES_MM: tuple[Triple, ...] = ((0.5, 0.5, 2.0), (0.7639, 0.7639, 3.0))

# Upper ends of the groups of scans; the last group has none.
THICKNESS_MM = (1.0, 2.0, 3.0, math.inf)
MISMATCH = (0.25, 0.35, 0.5, math.inf)


def validation_heads(labels: Path) -> Sources:
    """The heads of a folder of label maps that stay out of training."""
    return load_sources(labels, VALIDATION_HEADS)


def generator(seed: int, *which: int) -> torch.Generator:
    """The generator of one scan of a seed, independent of all others."""
    state = int(np.random.SeedSequence((seed, *which)).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)


def make_example(
    sources: Sources, shape: Sequence[int], seed: int, index: int, size_mm: Triple | None = None
) -> Example:
    """The scan number ``index`` of a seed.

    Parameters
    ----------
    size_mm : voxel size of a scan with B0 along its last axis; None is a random one, of random tilt
    """
    recipe = dataclasses.replace(Recipe(), shape=tuple(shape), no_magnitude=0.0, negative=0.0)
    which: tuple[int, ...] = (index,)
    if size_mm is not None:
        recipe = dataclasses.replace(recipe, voxel_size_mm=size_mm, tilt_degrees=0.0)
        which = (index, *(round(1e4 * size) for size in size_mm))
    draws = generator(seed, *which)
    return acquire(make_subject(sources, recipe, draws), recipe, draws)


def as_volume(name: str, example: Example) -> Volume:
    """The scan as a user would give it to a method, scored by the agreement with its truth."""
    mask, truth = example.mask.numpy(), example.susceptibility.numpy()
    level = measure_level(example.local_field, example.mask, example.geometry)
    tilt = math.degrees(math.acos(min(example.geometry.b0_direction[2], 1.0)))
    return Volume(
        name,
        {
            "local_field": example.local_field.numpy(),
            "mask": mask,
            "magnitude": None if example.magnitude is None else example.magnitude.numpy(),
        },
        example.geometry,
        truth,
        lambda found: agreement(found, truth, mask),
        {
            **dict(zip(("mm i", "mm j", "mm k"), example.geometry.voxel_size_mm, strict=True)),
            "tilt": tilt,
            "mismatch": level.mismatch,
            "noise": level.noise,
        },
    )


def synthetic_part(
    sources: Sources, contenders: Sequence[Contender], volumes: int, shape: Sequence[int], seed: int
) -> Part:
    """Scans at random voxel size and tilt of B0."""
    baseline = classical(contenders)

    def tables(outcomes: Sequence[Outcome]) -> list[Table]:
        return [
            summary(outcomes, baseline),
            grouped(outcomes, baseline, "mm k", THICKNESS_MM, "voxel along B0, mm", "by_resolution"),
            grouped(outcomes, baseline, "mismatch", MISMATCH, "level of mismatch", "by_mismatch"),
        ]

    return Part(
        "synthetic",
        "Synthetic scans",
        contenders,
        volumes,
        lambda index: as_volume(f"{index:03d}", make_example(sources, shape, seed, index)),
        tables,
    )


def mesa_parts(
    sources: Sources, contenders: Sequence[Contender], volumes: int, shape: Sequence[int], seed: int
) -> list[Part]:
    """Scans at each of the two voxel sizes that the paper compares Meta-QSM and Mesa-QSM at."""

    def part(size_mm: Triple) -> Part:
        text = "×".join(f"{size:g}" for size in size_mm)
        name = f"mesa_{text.replace('×', 'x')}"
        title = f"Meta-QSM and Mesa-QSM at {text} mm"

        def make(index: int) -> Volume:
            return as_volume(f"{index:03d}", make_example(sources, shape, seed, index, size_mm))

        def tables(outcomes: Sequence[Outcome]) -> list[Table]:
            return [spread_table(name, title, outcomes, AGREEMENT, AGREEMENT_NOTE)]

        return Part(name, title, contenders, volumes, make, tables)

    return [part(size_mm) for size_mm in MESA_SIZES_MM]


# -------------------------------------------------------------------------------------- tables
RATIO_NOTE = (
    "Ratio: mean RMSE ppm over that of the best classical method on the same scans. "
    "Worst: the largest such ratio of a single scan."
)


def summary(outcomes: Sequence[Outcome], baseline: Sequence[str]) -> Table:
    """One row a method, with its ratio to the best classical one."""
    columns = ["method", *AGREEMENT.values(), Column("ratio", 2), Column("worst", 2), "volumes"]
    table = Table(
        "synthetic",
        "Synthetic scans at random voxel size",
        [*columns, Column("s", 2), "note"],
        note=f"{AGREEMENT_NOTE} {RATIO_NOTE}",
    )
    for label, own in by_contender(outcomes).items():
        scored = [o for o in own if not o.failed]
        table.rows.append(
            (
                label,
                *spreads(own, list(AGREEMENT)),
                *ratios(label, outcomes, baseline),
                len(scored),
                Spread.of(o.seconds for o in scored),
                failures(own),
            )
        )
    return table


def grouped(
    outcomes: Sequence[Outcome],
    baseline: Sequence[str],
    fact: str,
    ends: Sequence[float],
    title: str,
    name: str,
) -> Table:
    """One row a method in each group of scans, grouped by one of their facts."""
    shown = {n: AGREEMENT[n] for n in ("rmse_ppm", "nrmse", "hfen", "xsim")}
    table = Table(
        f"synthetic_{name}",
        f"Synthetic scans by {title}",
        [title, "volumes", "method", *shown.values(), Column("ratio", 2), Column("worst", 2)],
        note=RATIO_NOTE,
    )
    low = 0.0
    for high in ends:
        inside = [o for o in outcomes if low <= o.facts[fact] < high]
        text = f"{low:g} to {high:g}" if high < math.inf else f"from {low:g}"
        for label, own in by_contender(inside).items():
            count = sum(not o.failed for o in own)
            table.rows.append(
                (text, count, label, *spreads(own, list(shown)), *ratios(label, inside, baseline))
            )
        low = high
    return table


def ratios(label: str, outcomes: Sequence[Outcome], baseline: Sequence[str]) -> tuple[float, float]:
    """Mean RMSE over that of the best of ``baseline`` on the scans of both, and the largest of one scan."""
    rmse: dict[str, dict[str, float]] = {}
    for o in outcomes:
        if not o.failed:
            rmse.setdefault(o.contender, {})[o.volume] = o.figures["rmse_ppm"]
    own = rmse.get(label, {})
    rivals = [rmse[b] for b in baseline if b in rmse and own.keys() & rmse[b].keys()]
    if not rivals:
        return math.nan, math.nan

    def against(rival: dict[str, float]) -> float:
        both = own.keys() & rival.keys()
        return sum(own[v] for v in both) / sum(rival[v] for v in both)

    worst = max(own[v] / min(r[v] for r in rivals if v in r) for v in own if any(v in r for r in rivals))
    return max(map(against, rivals)), worst

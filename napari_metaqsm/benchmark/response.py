"""Whether a method answers in proportion, and the same at any tilt of B0 and any voxel size.

All scans are of one head without texture, veins and lesions, fields with 1 ppb of noise and no mismatch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from napari_metaqsm.benchmark.contenders import Contender
from napari_metaqsm.benchmark.parts import Outcome, Part, Volume, by_contender, failures
from napari_metaqsm.benchmark.synthetic import generator
from napari_metaqsm.errors import InputError
from napari_metaqsm.evaluation.tables import Cell, Column, Table
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.scan import Geometry, Triple
from napari_metaqsm.simulation.shapes import sphere
from napari_metaqsm.training.examples import Example, Recipe, acquire, make_subject
from napari_metaqsm.training.sources import Sources

STILL = Recipe(
    turn_degrees=0.0,
    any_turn=0.0,
    scale=(1.0, 1.0),
    warp_mm=0.0,
    other_contrast=0.0,
    texture_ppm=(0.0, 0.0),
    vein_count=(0, 0),
    nucleus_count=(0, 0),
    lesion=0.0,
    complex_mean=0.0,
    erosion_mm=(0.0, 0.0),
    holes=0.0,
    clean_background=1.0,
    no_mismatch=1.0,
    no_noise=0.0,
    noise_ppm=(0.001, 0.001),
    background_ppm=0.0,
    no_magnitude=0.0,
    negative=0.0,
)
SPHERES_PPM = (-1.0, -0.75, -0.5, -0.25, -0.1, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
RADIUS_MM = 5.0
# Surroundings of a sphere, in its radii.
SHELL = (1.3, 2.0)
SIZE_MM = (1.0, 1.0, 2.0)
TILTS_DEGREES = (0.0, 10.0, 20.0, 30.0)
SIZES_MM: tuple[Triple, ...] = (
    (1.0, 1.0, 1.0),
    (1.0, 1.0, 2.0),
    (0.5, 0.5, 2.0),
    (0.7639, 0.7639, 3.0),
    (1.25, 1.25, 4.0),
)
# Deep gray matter, left and right, against white matter, by FreeSurfer's numbers.
REGIONS = {"thalamus": (10, 49), "caudate": (11, 50), "putamen": (12, 51), "pallidum": (13, 52)}
WHITE = (2, 41)
# What stands out less from white matter has no share that could be told.
SMALLEST_CONTRAST_PPM = 0.03


def linearity_part(
    sources: Sources, contenders: Sequence[Contender], shape: Sequence[int], seed: int
) -> Part:
    """A sphere of known susceptibility in the head, from -1 to +1.5 ppm."""

    @cache
    def head() -> tuple[Example, Tensor, Tensor]:
        example, _ = still_head(sources, Geometry(shape, SIZE_MM), seed)
        return example, *_place_for_sphere(example, generator(seed, 1))

    def make(index: int) -> Volume:
        example, inside, shell = head()
        value = SPHERES_PPM[index]
        change = (value - example.susceptibility) * inside
        truth = (example.susceptibility + change).numpy()
        field = (example.local_field + dipole_field(change, example.geometry)) * example.mask
        # A strong source also darkens the magnitude, whatever its sign.
        data = {
            "local_field": field.numpy(),
            "mask": example.mask.numpy(),
            "magnitude": (example.magnitude * (1 - 0.5 * inside)).numpy(),
        }
        full = (inside > 0.999).numpy()

        def contrast(found: np.ndarray) -> float:
            return float(found[full].mean() - found[shell].mean())

        return Volume(
            f"{value:+g} ppm",
            data,
            example.geometry,
            truth,
            lambda found: {"found": contrast(found)},
            {"true": contrast(truth)},
        )

    return Part(
        "linearity", "Linearity", contenders, len(SPHERES_PPM), make, _linearity_tables, pictured=None
    )


def _place_for_sphere(example: Example, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """How far a sphere with its surroundings in the mask fills each voxel, and those surroundings."""
    geometry, mask = example.geometry, example.mask
    candidates = torch.nonzero(mask)
    middle = (torch.tensor(geometry.shape) - 1) / 2
    extent = torch.tensor(geometry.shape) * torch.tensor(geometry.voxel_size_mm) / 2
    outer_mm = SHELL[1] * RADIUS_MM
    for chosen in torch.randint(len(candidates), (200,), generator=draws):
        centre = (candidates[chosen] - middle) * torch.tensor(geometry.voxel_size_mm)
        if bool((centre.abs() + outer_mm > extent).any()):
            continue
        place = tuple(centre.tolist())
        outer = sphere(geometry, outer_mm, place) > 0.999
        if not bool((outer & ~mask).any()):
            near = sphere(geometry, SHELL[0] * RADIUS_MM, place) > 0
            return sphere(geometry, RADIUS_MM, place), (outer & ~near).numpy()
    raise InputError(
        f"shape is {geometry.shape}; the scan must hold a ball of {outer_mm:g} mm radius in the brain"
    )


def _linearity_tables(outcomes: Sequence[Outcome]) -> list[Table]:
    table = Table(
        "linearity",
        f"Linearity: spheres of {RADIUS_MM:g} mm from {SPHERES_PPM[0]:g} to {SPHERES_PPM[-1]:+g} ppm",
        ["method", Column("slope", 3), Column("offset ppm", 4), Column("R²", 5), "spheres", "note"],
        note=f"Mean inside less mean of the surroundings ({SHELL[0]:g} to {SHELL[1]:g} radii), found against "
        f"true; voxels of {_by(SIZE_MM)} mm.",
    )
    for label, own in by_contender(outcomes).items():
        pairs = [(o.facts["true"], o.figures["found"]) for o in own if not o.failed]
        table.rows.append((label, *line_through(pairs), len(pairs), failures(own)))
    return [table]


def line_through(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Slope, offset and R² of the straight line through points; not numbers for fewer than three."""
    if len(pairs) < 3:
        return math.nan, math.nan, math.nan
    true, found = np.array(pairs).T
    slope, offset = np.polyfit(true, found, 1)
    left = found - (slope * true + offset)
    return float(slope), float(offset), float(1 - left.var() / found.var())


# ------------------------------------------------------------------------- the same head again
def still_head(sources: Sources, geometry: Geometry, seed: int) -> tuple[Example, Tensor]:
    """The head of a seed at some voxel size and tilt of B0, and its labels on that grid."""
    recipe = dataclasses.replace(STILL, shape=geometry.shape)
    draws = generator(seed)
    subject = make_subject(sources, recipe, draws, geometry)
    return acquire(subject, recipe, draws), subject.regions


def rotation_part(sources: Sources, contenders: Sequence[Contender], shape: Sequence[int], seed: int) -> Part:
    """The head scanned in slabs tilted against B0."""
    geometries = {}
    for degrees in TILTS_DEGREES:
        angle = math.radians(degrees)
        geometries[f"{degrees:g}°"] = Geometry(
            _shape(shape, SIZE_MM), SIZE_MM, (math.sin(angle), 0.0, math.cos(angle))
        )
    return _same_head_part("rotation", "The head tilted against B0", sources, contenders, geometries, seed)


def voxel_size_part(
    sources: Sources, contenders: Sequence[Contender], shape: Sequence[int], seed: int
) -> Part:
    """The head at five voxel sizes."""
    geometries = {f"{_by(size)} mm": Geometry(_shape(shape, size), size) for size in SIZES_MM}
    return _same_head_part(
        "voxel_size", "The head at five voxel sizes", sources, contenders, geometries, seed
    )


def _shape(shape: Sequence[int], size_mm: Triple) -> tuple[int, ...]:
    """Voxels of the part of a scan that holds the head: 192×192×128 mm of one of 256×256×64 voxels."""
    part = (0.75, 0.75, 1.0)
    return tuple(
        2 * round(p * n * usual / size / 2)
        for p, n, usual, size in zip(part, shape, SIZE_MM, size_mm, strict=True)
    )


def _by(size_mm: Triple) -> str:
    return "×".join(f"{size:g}" for size in size_mm)


def _same_head_part(
    name: str,
    title: str,
    sources: Sources,
    contenders: Sequence[Contender],
    geometries: dict[str, Geometry],
    seed: int,
) -> Part:
    def make(index: int) -> Volume:
        label, geometry = list(geometries.items())[index]
        example, regions = still_head(sources, geometry, seed)
        truth, mask, labels = (x.numpy() for x in (example.susceptibility, example.mask, regions))
        true = contrasts(truth, mask, labels)

        def shares(found: np.ndarray) -> dict[str, float]:
            reached = contrasts(found, mask, labels)
            return {region: reached[region] / true[region] for region in reached}

        data = {
            "local_field": example.local_field.numpy(),
            "mask": mask,
            "magnitude": example.magnitude.numpy(),
        }
        facts: dict[str, Cell] = {f"true {region}": value for region, value in true.items()}
        return Volume(label, data, geometry, truth, shares, facts)

    def tables(outcomes: Sequence[Outcome]) -> list[Table]:
        return [share_table(name, title, outcomes)]

    return Part(name, title, contenders, len(geometries), make, tables, pictured=None)


def contrasts(chi: np.ndarray, mask: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean of each region less that of white matter, in ppm, of the regions that are in the mask."""
    white = mask & np.isin(labels, WHITE)
    found = {region: mask & np.isin(labels, numbers) for region, numbers in REGIONS.items()}
    level = chi[white].mean() if white.any() else math.nan
    return {region: float(chi[inside].mean() - level) for region, inside in found.items() if inside.any()}


def share_table(name: str, title: str, outcomes: Sequence[Outcome]) -> Table:
    """One row a method and region: the share of the true contrast that was found, on each scan."""
    scans = list(dict.fromkeys(o.volume for o in outcomes))
    table = Table(
        name,
        f"{title}: share of the true contrast",
        ["method", "region", *(Column(scan, 3) for scan in scans), Column("largest deviation %", 1), "note"],
        note="Mean of the region less that of white matter, found over true; the deviation is from the mean "
        f"of the row. Regions that stand out by less than {SMALLEST_CONTRAST_PPM:g} ppm are left out.",
    )
    for label, own in by_contender(outcomes).items():
        told = [
            region
            for region in REGIONS
            if any(abs(o.facts.get(f"true {region}", 0.0)) >= SMALLEST_CONTRAST_PPM for o in own)
        ]
        for region in told:
            shares = {o.volume: o.figures.get(region, math.nan) for o in own}
            known = [share for share in shares.values() if math.isfinite(share)]
            mean = sum(known) / len(known) if known else math.nan
            worst = max((100 * abs(share / mean - 1) for share in known), default=math.nan)
            row = [shares.get(scan, math.nan) for scan in scans]
            table.rows.append((label, region, *row, worst, failures(own)))
    return table

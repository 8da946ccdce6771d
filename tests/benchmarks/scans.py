"""The scans that the benchmarks run on, with the inputs of each stage and how its results are scored."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_metaqsm.benchmark.references import REFERENCES, challenge_part
from napari_metaqsm.evaluation.scores import agreement
from napari_metaqsm.pipeline import make_step, run_step
from napari_metaqsm.scan import Acquisition, Geometry, Triple
from napari_metaqsm.simulation.head import synthetic_head
from napari_metaqsm.units import hz_per_ppm

Arrays = Mapping[str, np.ndarray]
Figures = dict[str, float]
# Voxels of the synthetic heads, and how B0 is tilted against them: degrees, and towards which azimuth.
HEADS = {
    "1×1×1": ((1.0, 1.0, 1.0), 0.0, 0.0),
    "0.5×0.5×2": ((0.5, 0.5, 2.0), 0.0, 0.0),
    "0.7639×0.7639×3": ((0.7639, 0.7639, 3.0), 0.0, 0.0),
    "0.8×0.8×2 oblique": ((0.8, 0.8, 2.0), 24.0, 35.0),
}


@dataclass(frozen=True)
class Inputs:
    """What a stage begins with."""

    arrays: Arrays
    acquisition: Acquisition | None = None


@dataclass(frozen=True)
class BenchmarkScan:
    """One scan.

    ``inputs`` are those of each stage that can be run on it. ``score`` takes a stage and what a method gave,
    and returns figures by the name under which their goals are kept.
    """

    geometry: Geometry
    inputs: Mapping[str, Inputs]
    score: Callable[[str, Arrays], dict[str, Figures]]


def case(folder: Path) -> BenchmarkScan:
    """The project's benchmark case: 256×256×64 voxels of 0.75×0.75×3 mm, all stages."""
    description = json.loads((folder / "case.json").read_text())

    def array(name: str) -> np.ndarray:
        return np.load(folder / f"{name}.npy")

    def echoes(name: str) -> np.ndarray:
        return np.ascontiguousarray(np.moveaxis(array(name), -1, 0))

    mask, noise = array("mask") != 0, array("nstd")
    five = Acquisition(tuple(array("TE")), description["B0"])
    one = Acquisition((description["TE"],), description["B0"])
    background = {"total_field": array("total"), "mask": mask, "noise": noise}
    inversion = {"local_field": array("field"), "mask": mask, "magnitude": array("mag")[None], "noise": noise}
    inputs = {
        "field": Inputs({"phase": echoes("phase5"), "magnitude": echoes("mag5")}, five),
        "mask": Inputs({"magnitude": array("head")[None]}),
        "background": Inputs(background, one),
        "inversion": Inputs(inversion, one),
    }

    def score(stage: str, outputs: Arrays) -> dict[str, Figures]:
        if stage == "field":
            found = outputs["total_field"] * hz_per_ppm(description["B0"])
            error = np.abs(found - array("b0_hz_true"))[mask]
            figures = {"RMSE Hz": np.sqrt(np.mean(error**2)), "median Hz": np.median(error)}
        elif stage == "mask":
            found = outputs["mask"]
            figures = {"Dice": 2 * (found & mask).sum() / (found.sum() + mask.sum())}
        elif stage == "background":
            figures = background_figures(outputs, array("local_clean"), mask)
        else:
            figures = map_figures(outputs["susceptibility"], array("chi"), mask)
        return {"case": figures}

    return BenchmarkScan(Geometry(description["N"], description["vox"]), inputs, score)


def qsm2016(folder: Path) -> BenchmarkScan:
    """The scan in vivo of the challenge of 2016, against both of its references."""
    volume = challenge_part(folder, ()).make(0)

    def score(stage: str, outputs: Arrays) -> dict[str, Figures]:
        figures = volume.score(outputs["susceptibility"])
        names = {"rmse": "RMSE %", "nrmse": "NRMSE %", "hfen": "HFEN %", "ssim": "SSIM", "xsim": "XSIM"}
        return {
            f"qsm2016 {title}": {name: figures[f"{reference} {key}"] for key, name in names.items()}
            for reference, title in REFERENCES.items()
        }

    return BenchmarkScan(volume.geometry, {"inversion": Inputs(volume.data)}, score)


def head(size_mm: Triple, tilt_degrees: float, azimuth_degrees: float, name: str) -> BenchmarkScan:
    """The bundled synthetic head, its field with the noise that a fit of its echoes leaves."""
    tilt, azimuth = math.radians(tilt_degrees), math.radians(azimuth_degrees)
    along = (
        math.sin(tilt) * math.cos(azimuth),
        math.sin(tilt) * math.sin(azimuth),
        math.cos(tilt),
    )
    scan, truth = synthetic_head(voxel_size_mm=size_mm, b0_direction=along)
    echoes = {"phase": scan.phase, "magnitude": scan.magnitude}
    fit = run_step(make_step("field", "nonlinear_fit"), echoes, scan.geometry, scan.acquisition).outputs
    mask = truth["mask"]
    error = fit["total_field"] - truth["total_field"]
    # Where phase was lost, at air, the fit is wrong by turns, and no background method is to blame for it.
    mask = mask & (np.abs(error) < 0.1)
    common = {"mask": mask, "noise": fit["noise"]}
    local = {"local_field": truth["local_field"] + error, "magnitude": scan.magnitude, **common}
    inputs = {
        "background": Inputs({"total_field": fit["total_field"], **common}, scan.acquisition),
        "inversion": Inputs(local, scan.acquisition),
    }

    def score(stage: str, outputs: Arrays) -> dict[str, Figures]:
        if stage == "background":
            return {name: background_figures(outputs, truth["local_field"], mask)}
        return {name: map_figures(outputs["susceptibility"], truth["susceptibility"], mask)}

    return BenchmarkScan(scan.geometry, inputs, score)


def background_figures(outputs: Arrays, truth: np.ndarray, mask: np.ndarray) -> Figures:
    """Against the true local field, in the mask that the method left."""
    left = outputs["eroded_mask"]
    return {**map_figures(outputs["local_field"], truth, left), "kept %": 100 * left.sum() / mask.sum()}


def map_figures(found: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> Figures:
    """Both demeaned in the mask first, as the figures of the other tools were made."""
    figures = agreement(found, truth, mask)
    names = {"nrmse": "NRMSE %", "hfen": "HFEN %", "ssim": "SSIM", "xsim": "XSIM"}
    return {name: figures[key] for key, name in names.items()}

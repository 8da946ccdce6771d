"""Where a map is to be trusted: from the noise, the misfit, the edge, and whether methods agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from napari_metaqsm.reading.study import Study

# Where each part's score is a half; see ``reliability`` for what was measured beyond these.
NOISE_TIMES_MEDIAN = 1.5
RESIDUAL_TIMES_MEDIAN = 3.0
EDGE_MM = 3.0
DISAGREEMENT_TIMES_MEDIAN = 4.0
# Methods that differ by less than this agree for any reader, however small the median.
LEAST_DISAGREEMENT_PPM = 0.01
# A voxel whose worst part scores less is unreliable.
UNRELIABLE_BELOW = 0.5


@dataclass(frozen=True)
class Part:
    """One of the things that a voxel's reliability is told from.

    Parameters
    ----------
    threshold : of the quantity, where the score is a half
    unit : of the threshold
    share : of the voxels, unreliable by this part, from 0 to 1
    words : what the part is and where it starts to count
    """

    threshold: float
    unit: str
    share: float
    words: str


@dataclass(frozen=True)
class Reliability:
    """How far each voxel of a study's maps can be trusted.

    Parameters
    ----------
    score : (i, j, k) float32 from 0 to 1, that of the worst part; 0 where no map is known
    unreliable : (i, j, k) bool, the score below a half; False where no map is known
    parts : by name, what was used
    worst : (i, j, k) uint8, which part decided the score, counted from 1 in the order of ``parts``; 0
        where no map is known
    missing : what could not be used, in words
    """

    score: np.ndarray
    unreliable: np.ndarray
    parts: Mapping[str, Part]
    worst: np.ndarray
    missing: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Of the voxels where a map is known, how many are unreliable, from 0 to 1."""
        return float(self.unreliable.sum() / max(np.count_nonzero(self.worst), 1))


def reliability(study: Study) -> Reliability:
    """A score per voxel, of the worst of up to four parts; parts without data are named, not invented.

    Parameters
    ----------
    study : ``noise``, ``residual``, ``mask`` and a second map each add what they tell

    Notes
    -----
    Each part's score is ``1 / (1 + x^2)``, a half at x = 1, where x is

    - noise: the field's standard deviation over 1.5 times its median in the maps
    - misfit: the residual of the field fit over 3 times its median
    - edge: 3 mm over the distance to the edge of the brain's mask, or of the maps' own without it
    - agreement: the standard deviation between the methods, each less its mean over the voxels that all
      know, over 4 times its median and at least 0.01 ppm

    On a synthetic head (1.5×1.5×3 mm, SNR 60) the mean error of TKD, TV and MetaQSM is 2.5 to 5 times its
    mean where the noise is above its threshold, 3.5 to 4 times where the misfit is, and within 3 mm of the
    brain's edge 1.4 times after V-SHARP, 1.5 to 2.7 times after PDF and 2 times after LBV; RESHARP
    leaves no voxel there. Agreement finds the voxels where TKD fails (2 times); what two methods get
    wrong alike it cannot find. A high score is therefore no proof.
    """
    inside = np.logical_or.reduce([study.inside(title) for title in study.maps])
    where = np.nonzero(inside)
    found: dict[str, tuple[np.ndarray, Part]] = {}
    missing = []
    for name, array, times in (
        ("noise", study.noise, NOISE_TIMES_MEDIAN),
        ("misfit", study.residual, RESIDUAL_TIMES_MEDIAN),
    ):
        told = None if array is None else _relative(name, array[where], times)
        if told is None:
            missing.append(_MISSING[name])
        else:
            found[name] = told
    found["edge"] = _edge(study, inside, where)
    if len(study.maps) > 1:
        found["agreement"] = _agreement(study, where)
    else:
        missing.append(_MISSING["agreement"])

    # The worst part is the one with the largest x.
    largest, which = np.zeros(len(where[0]), np.float32), np.ones(len(where[0]), np.uint8)
    for number, (x, _) in enumerate(found.values(), start=1):
        above = x > largest
        which[above] = number
        np.maximum(largest, x, out=largest)
    score, worst = np.zeros(inside.shape, np.float32), np.zeros(inside.shape, np.uint8)
    score[where] = 1 / (1 + largest**2)
    worst[where] = which
    parts = {name: part for name, (_, part) in found.items()}
    return Reliability(score, inside & (score < UNRELIABLE_BELOW), parts, worst, tuple(missing))


_MISSING = {
    "noise": "there is no noise map: how noisy the field is does not count",
    "misfit": "there is no residual of the field fit: whether the echoes agree does not count",
    "agreement": "there is one map only: whether methods agree does not count",
}
_WORDS = {
    "noise": "noise of the field above {:g} times its median",
    "misfit": "residual of the field fit above {:g} times its median",
}


def _relative(name: str, values: np.ndarray, times: float) -> tuple[np.ndarray, Part] | None:
    """x of ``values`` (voxel,) over so many times their median; None where they say nothing."""
    known = np.isfinite(values) & (values > 0)
    if not known.any():
        return None
    threshold = times * float(np.median(values[known]))
    x = np.where(np.isfinite(values), values, np.inf).astype(np.float32) / np.float32(threshold)
    return x, _part(x, threshold, "ppm" if name == "noise" else "", _WORDS[name].format(times))


def _edge(study: Study, inside: np.ndarray, where: tuple[np.ndarray, ...]) -> tuple[np.ndarray, Part]:
    """3 mm over the distance to the edge: there the background field is taken away least well."""
    brain = inside if study.mask is None else (study.mask != 0) | inside
    box = scipy.ndimage.find_objects(brain.view(np.uint8))
    distance = np.zeros(inside.shape, np.float32)
    if box:
        padded = np.pad(brain[box[0]], 1)  # beyond the image is outside
        inner = scipy.ndimage.distance_transform_edt(padded, sampling=study.geometry.voxel_size_mm)
        distance[box[0]] = inner[1:-1, 1:-1, 1:-1]
    of = "the map, for the brain's own is not known" if study.mask is None else "the brain's mask"
    x = np.float32(EDGE_MM) / distance[where]
    return x, _part(x, EDGE_MM, "mm", f"less than {EDGE_MM:g} mm from the edge of {of}")


def _agreement(study: Study, where: tuple[np.ndarray, ...]) -> tuple[np.ndarray, Part]:
    """The standard deviation between the maps, all at one reference."""
    maps = np.stack([np.asarray(m)[where].astype(np.float32) for m in study.maps.values()])
    common = (maps != 0).all(axis=0)
    spread = np.zeros(maps.shape[1], np.float32)
    threshold = LEAST_DISAGREEMENT_PPM
    if common.any():
        known = maps[:, common]
        known -= known.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
        spread[common] = known.std(axis=0, ddof=1)
        threshold = max(threshold, DISAGREEMENT_TIMES_MEDIAN * float(np.median(spread[common])))
    x = spread / np.float32(threshold)
    words = f"methods differ by a standard deviation above {threshold:.3f} ppm"
    return x, _part(x, threshold, "ppm", words)


def _part(x: np.ndarray, threshold: float, unit: str, words: str) -> Part:
    return Part(threshold, unit, float((x > 1).mean()) if x.size else 0.0, words)

"""The two fixed scans: the one in vivo of the challenge of 2016, and the benchmark case of the project."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from napari_metaqsm.benchmark.contenders import Contender
from napari_metaqsm.benchmark.parts import Outcome, Part, Volume, by_contender, failures, spread_table
from napari_metaqsm.errors import InputError
from napari_metaqsm.evaluation.scores import (
    AGREEMENT,
    AGREEMENT_NOTE,
    CHALLENGE,
    CHALLENGE_NOTE,
    agreement,
    challenge,
)
from napari_metaqsm.evaluation.tables import Column, Table
from napari_metaqsm.io.nifti import read
from napari_metaqsm.scan import Geometry

# Files of the challenge of 2016 by what they hold, and its two references by their names there.
CHALLENGE_FILES = {"local_field": "phs_tissue", "mask": "msk", "magnitude": "magn"}
REFERENCES = {"chi_cosmos": "COSMOS", "chi_33": "chi_33"}
CASE_FILES = {"local_field": "field", "mask": "mask", "magnitude": "mag", "noise": "nstd"}


def challenge_part(folder: Path, contenders: Sequence[Contender]) -> Part:
    """The scan of the challenge of 2016, against both of its references.

    Raises
    ------
    InputError
        When the folder does not hold it.
    """
    _check_there(folder, [f"{name}.nii.gz" for name in (*CHALLENGE_FILES.values(), *REFERENCES)])

    def make(_: int) -> Volume:
        maps = {name: read(folder / f"{name}.nii.gz") for name in (*CHALLENGE_FILES.values(), *REFERENCES)}
        data = {name: maps[file][0] for name, file in CHALLENGE_FILES.items()}
        mask = data["mask"] = data["mask"] != 0
        truths = {name: maps[name][0] * mask for name in REFERENCES}

        def score(found: np.ndarray) -> dict[str, float]:
            return {
                f"{reference} {figure}": value
                for reference, truth in truths.items()
                for figure, value in challenge(found, truth, mask).items()
            }

        geometry = maps["phs_tissue"][1].geometry()
        return Volume("qsm2016", data, geometry, truths["chi_cosmos"], score)

    return Part("qsm2016", "The challenge of 2016", contenders, 1, make, _challenge_tables)


def _challenge_tables(outcomes: Sequence[Outcome]) -> list[Table]:
    table = Table(
        "qsm2016",
        "The reconstruction challenge of 2016, in vivo",
        ["reference", "method", *CHALLENGE.values(), Column("s", 2), "note"],
        note=CHALLENGE_NOTE,
    )
    for reference, title in REFERENCES.items():
        for label, (outcome,) in by_contender(outcomes).items():
            figures = [outcome.figures.get(f"{reference} {name}", float("nan")) for name in CHALLENGE]
            table.rows.append((title, label, *figures, outcome.seconds, failures([outcome])))
    return [table]


def case_part(folder: Path, contenders: Sequence[Contender]) -> Part:
    """The benchmark case, a folder of arrays.

    Raises
    ------
    InputError
        When the folder does not hold it.
    """
    _check_there(folder, ["case.json", "chi.npy", *(f"{name}.npy" for name in CASE_FILES.values())])

    def make(_: int) -> Volume:
        description: Mapping = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        data = {name: np.load(folder / f"{file}.npy") for name, file in CASE_FILES.items()}
        mask = data["mask"] = data["mask"] != 0
        truth = np.load(folder / "chi.npy")
        geometry = Geometry(description["N"], description["vox"])
        return Volume("case", data, geometry, truth * mask, lambda found: agreement(found, truth, mask))

    def tables(outcomes: Sequence[Outcome]) -> list[Table]:
        return [spread_table("case", "The benchmark case", outcomes, AGREEMENT, AGREEMENT_NOTE)]

    return Part("case", "The benchmark case", contenders, 1, make, tables)


def _check_there(folder: Path, files: Sequence[str]) -> None:
    missing = next((name for name in files if not (folder / name).is_file()), None)
    if missing:
        raise InputError(f"{folder} holds no {missing}; name the folder that the scan was written to")

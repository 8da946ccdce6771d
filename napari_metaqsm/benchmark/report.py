"""Running the parts of the benchmark, and writing what they found: tables, pictures and a record."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from napari_metaqsm.benchmark.parts import Maps, Outcome, Part, Volume, run_part, runs_table
from napari_metaqsm.device import choose_device
from napari_metaqsm.evaluation.metrics import demeaned
from napari_metaqsm.evaluation.picture import comparison_picture
from napari_metaqsm.evaluation.tables import Table
from napari_metaqsm.io.nifti import check_writable, staged
from napari_metaqsm.method import announce, part
from napari_metaqsm.provenance import software_versions

REPORT = "evaluation.md"
RECORD = "evaluation.json"
# What the record of a step, and of the network in it, says of every run alike.
_OF_STEP = ("method", "title", "reference", "parameters", "device")
_OF_NETWORK = ("weights", "sha256", "provenance", "precision")


@dataclass
class Report:
    """What has been found so far, and the files it is written to.

    Parameters
    ----------
    seed : of the scans, for the record
    """

    seed: int
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    tables: dict[str, list[Table]] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)
    software: dict[str, str] = field(default_factory=software_versions)
    started: float = field(default_factory=time.perf_counter)

    def write(self, out: Path, name: str, picture: Image.Image | None = None) -> set[Path]:
        """The tables of one part as CSV, its picture if there is a new one, the report and the record.

        Each file is whole at any moment.
        """
        if picture is not None:
            self.pictures.append(name)
        record = self.record()
        with staged(out) as folder:
            for table in self.tables[name]:
                (folder / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8")
            if picture is not None:
                picture.save(folder / f"{name}.png")
            (folder / REPORT).write_text(self.markdown(record), encoding="utf-8")
            (folder / RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
            written = {out / file.name for file in folder.iterdir()}
        return written

    def record(self) -> dict[str, Any]:
        """How the tables were made, as plain JSON values."""
        methods: dict[str, dict[str, Any]] = {}
        for outcome in (o for outcomes in self.outcomes.values() for o in outcomes if not o.failed):
            step, network = outcome.record, outcome.record.get("network", {})
            methods.setdefault(
                outcome.contender,
                {n: r[n] for r, names in ((step, _OF_STEP), (network, _OF_NETWORK)) for n in names if n in r},
            )
        return {
            "seed": self.seed,
            "software": self.software,
            "threads": torch.get_num_threads(),
            "seconds": round(time.perf_counter() - self.started, 1),
            "runs": {name: len(outcomes) for name, outcomes in self.outcomes.items()},
            "methods": methods,
        }

    def markdown(self, record: dict[str, Any]) -> str:
        """The tables, but for those of every single run, under what they were made with."""
        versions = ", ".join(f"{name} {version}" for name, version in record["software"].items())
        methods = [
            f"- {label}: `{same['method']}` on {same['device']}, "
            + ", ".join(f"{name} {value}" for name, value in same["parameters"].items() if value != "")
            + (f"; weights {same['weights']}, SHA-256 {same['sha256'][:12]}…" if "weights" in same else "")
            for label, same in record["methods"].items()
        ]
        head = [
            "# Evaluation",
            "",
            f"Seed {record['seed']}; {record['threads']} threads; {record['seconds']:.0f} s; {versions}.",
            "",
            *methods,
            "",
        ]
        shown = [t.markdown() for tables in self.tables.values() for t in tables if not _is_runs(t)]
        pictures = [f"![{name}]({name}.png)\n" for name in self.pictures]
        return "\n".join([*head, *shown, *pictures])


def _is_runs(table: Table) -> bool:
    return table.name.endswith("_runs")


def evaluate(
    parts: Sequence[Part],
    out: Path,
    seed: int,
    device: str = "auto",
    say: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Run the parts; after every scan all that is known is written, so that stopping loses nothing.

    Parameters
    ----------
    out : folder of the files
    device : that the methods compute on
    say : called with one line for each map that is done

    Raises
    ------
    InputError
        When the device is not there, the folder cannot be written to, or a scan cannot be made.
    """
    choose_device(device)
    check_writable(out)
    report = Report(seed)
    files: set[Path] = set()
    for index, this in enumerate(parts):
        with part(index, len(parts), this.title):
            for number, (volume, outcomes, maps) in enumerate(run_part(this, device)):
                for outcome in outcomes:
                    say(str(outcome))
                so_far = report.outcomes.setdefault(this.name, [])
                so_far += outcomes
                report.tables[this.name] = [*this.tables(so_far), runs_table(this, so_far)]
                picture = _picture(volume, maps) if number == this.pictured else None
                files |= report.write(out, this.name, picture)
    announce("Done", 1.0)
    return sorted(files)


def _picture(volume: Volume, maps: Maps) -> Image.Image:
    """The truth and the maps beside it, all with the same reference."""
    mask = volume.data["mask"]
    shown: dict[str, np.ndarray] = {"truth": volume.truth, **maps}
    return comparison_picture({n: demeaned(m, mask) for n, m in shown.items()}, volume.geometry)

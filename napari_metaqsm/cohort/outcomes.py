"""What came of each scan of a cohort, kept in the folder ``logs`` of its derivatives.

A scan has one file there, ``logs/<label>.json``, written when its maps are whole or when it has failed;
``logs/cohort.tsv`` is all of them as a table.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_metaqsm.io.bids.contents import record_path
from napari_metaqsm.io.bids.dataset import BidsScan
from napari_metaqsm.io.bids.names import parse_name
from napari_metaqsm.io.nifti import staged

FOLDER = "logs"
TABLE = "cohort.tsv"
DONE, FAILED = "done", "failed"
_COLUMNS = ("scan", "status", "reason", "seconds", "worker", "warnings")


@dataclass(frozen=True)
class Outcome:
    """What came of one scan.

    Parameters
    ----------
    label : of the scan, as in "sub-01_ses-1_run-1"
    status : ``DONE`` or ``FAILED``
    reason : of a failure, in words
    seconds : that its computing took, waiting left out
    worker : where it was computed
    warnings : of the reader and of the steps
    measures : JSON values for the group, see ``cohort.summary.Summary``
    """

    label: str
    status: str
    reason: str = ""
    seconds: float = 0.0
    worker: str = ""
    warnings: tuple[str, ...] = ()
    measures: Mapping[str, Any] = field(default_factory=dict)


def outcome_file(label: str, out: Path) -> Path:
    """Where the outcome of that scan is kept."""
    return Path(out) / FOLDER / f"{label}.json"


def write_outcome(outcome: Outcome, out: Path) -> Path:
    """Keep an outcome in place of the one before it, whole or not at all."""
    text = json.dumps(dataclasses.asdict(outcome), indent=1, ensure_ascii=False)
    file = outcome_file(outcome.label, out)
    with staged(file.parent) as folder:
        (folder / file.name).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    return file


def read_outcome(file: Path) -> Outcome | None:
    """The outcome in a file; None where there is none, or what is there is no outcome."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        known = {f.name for f in dataclasses.fields(Outcome)}
        outcome = Outcome(**{name: value for name, value in values.items() if name in known})
        return dataclasses.replace(outcome, warnings=tuple(outcome.warnings))
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def read_outcomes(out: Path) -> tuple[Outcome, ...]:
    """All outcomes kept in ``out``, by label."""
    files = sorted((Path(out) / FOLDER).glob("*.json"))
    return tuple(outcome for outcome in map(read_outcome, files) if outcome is not None)


def scan_named(label: str, dataset: Path) -> BidsScan | None:
    """The scan of a dataset that has this label; None where it is no label of a scan."""
    name = parse_name(f"{label}_scan")
    entities = dict(name.entities) if name else {}
    return BidsScan(dataset, entities["sub"], entities.get("ses"), entities) if "sub" in entities else None


def forgotten(labels: Collection[str], out: Path) -> tuple[str, ...]:
    """Labels other than ``labels`` of which ``out`` keeps an outcome, but no maps (any more)."""
    kept = sorted(file.stem for file in (Path(out) / FOLDER).glob("*.json") if file.stem not in labels)
    scans = {label: scan_named(label, out) for label in kept}
    return tuple(
        label for label, scan in scans.items() if scan is None or not (out / record_path(scan)).is_file()
    )


def write_table(outcomes: Iterable[Outcome], out: Path) -> Path:
    """The outcomes as a table with tabs, one row each."""
    rows = [_COLUMNS]
    for o in outcomes:
        rows.append((o.label, o.status, o.reason, f"{o.seconds:.1f}", o.worker, "; ".join(o.warnings)))
    text = "\n".join("\t".join(" ".join(cell.split()) or "n/a" for cell in row) for row in rows)
    with staged(Path(out) / FOLDER) as folder:
        (folder / TABLE).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    return Path(out) / FOLDER / TABLE

"""What is to be done with each scan of a dataset, and what has been done already.

A scan is done when its record says that it was made from files of the same content by the same settings.
The content is told by its hash. A file whose size and time of change are those of the record is not read
again for that, unless it had changed so shortly before it was read that its time may not tell the change
(a clock of a network folder ticks in whole seconds); this is what git does to know which files to look at.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from napari_metaqsm.cohort.outcomes import DONE, outcome_file, read_outcome
from napari_metaqsm.device import DEVICES
from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.companions import find_companion
from napari_metaqsm.io.bids.dataset import BidsScan, find_scans
from napari_metaqsm.io.bids.derivatives import record_of
from napari_metaqsm.io.load import describe_file
from napari_metaqsm.io.resources import resource
from napari_metaqsm.io.sidecar import all_content
from napari_metaqsm.method import DEFAULT_INVERSIONS, parameter_infos
from napari_metaqsm.pipeline import Step, default_chain
from napari_metaqsm.provenance import software_versions
from napari_metaqsm.scan import Geometry, Scan

# Where the record of a scan keeps what it was made from.
STAMP = "cohort"
REFERENCES = ("brain", "csf", "none")
# A file that changed less than this before it was read may change again within one tick of its clock.
_TICK_NS = 3 * 10**9


@dataclass(frozen=True)
class Settings:
    """What is done with every scan.

    Parameters
    ----------
    field, mask, background : methods by name; ``mask`` may be "none"
    inversion : one or several, each of which gives a map
    parameters : values by method and parameter, where they are not the defaults
    reference : "brain", "csf" or "none"
    device : of the inversions; "auto" takes a worker's card where it has one
    masks, regions : folders of derivatives, with a ``_mask`` or a ``_dseg`` for every scan

    Raises
    ------
    InputError
        When a method, a parameter or a value is unknown, or a folder is not there.
    """

    field: str = "nonlinear_fit"
    mask: str = "brain"
    background: str = "resharp"
    inversion: tuple[str, ...] = DEFAULT_INVERSIONS
    parameters: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    reference: str = "brain"
    device: str = "auto"
    masks: Path | None = None
    regions: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "inversion", tuple(self.inversion))
        for name in ("masks", "regions"):
            folder = getattr(self, name)
            if folder is not None:
                object.__setattr__(self, name, Path(folder).absolute())
                if not Path(folder).is_dir():
                    raise InputError(f"{name} is {str(folder)!r}; it must be a folder of derivatives")
        if self.reference not in REFERENCES:
            raise InputError(f"reference is {self.reference!r}; it must be one of {', '.join(REFERENCES)}")
        if self.device.split(":", 1)[0] not in DEVICES:
            raise InputError(f"device is {self.device!r}; it must be one of {', '.join(DEVICES)}")
        if not self.inversion:
            raise InputError("there is no inversion; name at least one")
        _ = self.chain

    @property
    def masked_by_method(self) -> bool:
        """Whether a step makes the mask."""
        return self.masks is None and self.mask != "none"

    @cached_property
    def chain(self) -> tuple[Step, ...]:
        """The steps: the same for every scan, since each starts from phase."""
        any_phase = np.ones((1, 2, 2, 2), np.float32)
        mask = None if self.masked_by_method else any_phase[0]
        return default_chain(
            Scan(Geometry((2, 2, 2), (1, 1, 1)), phase=any_phase, mask=mask),
            field=self.field,
            mask=self.mask,
            background=self.background,
            inversion=self.inversion,
            parameters=self.parameters,
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that decides about the maps: steps, parameters, reference, version and weights."""
        steps = [[s.stage, s.method, dataclasses.asdict(s.parameters), _files(s)] for s in self.chain]
        mask = self.mask if self.masks is None else "of a file"
        return _hash([steps, mask, self.reference, own_version()])


@functools.cache
def own_version() -> str:
    """The version of this package, where this runs."""
    return software_versions()["napari-metaqsm"]


def _files(step: Step) -> list[str]:
    """Hashes of the files that a step reads: weights that are named, or those that come with the package."""
    named = [getattr(step.parameters, i.name) for i in parameter_infos(step.parameters) if i.file]
    files = [Path(name).expanduser() for name in named if name]
    if step.entry.kind == "learned" and not files:
        files = sorted(resource("weights").glob("*.safetensors"))
    for file in files:
        if not file.is_file():
            raise InputError(f"{step.method}: {str(file)!r} does not exist; give a file of weights")
    return [describe_file(file)["sha256"] for file in files]


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


# ------------------------------------------------------------------------------------- the scans
@dataclass(frozen=True)
class Item:
    """One scan with the files that belong to it.

    Parameters
    ----------
    names : the table of the regions' names
    trouble : in words why it cannot be used
    """

    scan: BidsScan
    mask: Path | None = None
    regions: Path | None = None
    names: Path | None = None
    trouble: str = ""

    @property
    def label(self) -> str:
        return self.scan.label

    def files(self) -> dict[str, Path]:
        """Every file that is read, sidecars apart, by the name it has in records."""
        images = [file for files in self.scan.files.values() for file in files]
        named = {file.relative_to(self.scan.dataset).as_posix(): file for file in images}
        others = {"mask": self.mask, "regions": self.regions, "names": self.names}
        return {**named, **{f"{name}: {f.name}": f for name, f in others.items() if f is not None}}


def find_items(
    dataset: Path, settings: Settings, participants: Sequence[str] = (), sessions: Sequence[str] = ()
) -> tuple[Item, ...]:
    """The scans of a dataset, each with its mask and its regions.

    Raises
    ------
    InputError
        When there is no dataset, or no such participant or session.
    """
    scans = find_scans(Path(dataset).absolute(), participants, sessions)
    return tuple(_item(scan, settings) for scan in scans)


def _item(scan: BidsScan, settings: Settings) -> Item:
    if scan.trouble and not (scan.needs_mask and not settings.masked_by_method):
        return Item(scan, trouble=scan.trouble)
    try:
        mask = None if settings.masks is None else _beside(settings.masks, scan, "mask")
        regions = None if settings.regions is None else _beside(settings.regions, scan, "dseg")
    except InputError as error:
        return Item(scan, trouble=str(error))
    return Item(scan, mask, regions, None if regions is None else _names_of(regions))


def _beside(folder: Path, scan: BidsScan, suffix: str) -> Path:
    found = find_companion(scan, folder, suffix)
    if found is None:
        raise InputError(f"there is no {scan.folder}/anat/*_{suffix}.nii.gz for it in {folder}")
    return found


def _names_of(regions: Path) -> Path | None:
    table = regions.with_name(regions.name.split(".")[0] + ".tsv")
    return table if table.is_file() else None


# -------------------------------------------------------------------------------- what is done
def look_at(item: Item) -> dict[str, Any]:
    """What can be told of a scan's files without reading an image: sizes, times, all that sidecars say."""
    files, now = item.files(), time.time_ns()
    stats = {name: file.stat() for name, file in files.items()}
    return {
        "looked_ns": now,
        "sidecars": _hash({name: all_content(file) for name, file in files.items()}),
        "files": {name: {"bytes": s.st_size, "changed_ns": s.st_mtime_ns} for name, s in stats.items()},
    }


def stamp_of(item: Item, settings: Settings, seen: Mapping[str, Any], hashes: Mapping[str, str]) -> dict:
    """What a record keeps: ``seen`` from before the files were read, and the hash of each.

    Parameters
    ----------
    hashes : sha256 by the names of ``item.files()``
    """
    settled = seen["looked_ns"] - _TICK_NS
    files = {
        name: {
            "sha256": hashes[name],
            "bytes": facts["bytes"],
            "changed_ns": facts["changed_ns"] if facts["changed_ns"] < settled else None,
        }
        for name, facts in seen["files"].items()
    }
    return {"settings": settings.fingerprint, "sidecars": seen["sidecars"], "files": files}


def known_stamp(item: Item, settings: Settings, out: Path, seen: Mapping[str, Any]) -> dict | None:
    """The stamp of a finished scan, as far as nothing has been seen to differ; else None.

    Raises nothing: a record that cannot be read is none.
    """
    outcome = read_outcome(outcome_file(item.label, out))
    record = record_of(item.scan, out) if outcome is not None and outcome.status == DONE else None
    stamp = (record or {}).get(STAMP)
    if not isinstance(stamp, dict) or not isinstance(stamp.get("files"), dict):
        return None
    same = stamp.get("settings") == settings.fingerprint and stamp.get("sidecars") == seen["sidecars"]
    sizes = [{n: f.get("bytes") for n, f in files.items()} for files in (stamp["files"], seen["files"])]
    return stamp if same and sizes[0] == sizes[1] else None


def unchanged(stamp: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """Whether times of change alone tell that every file is as it was."""
    return all(
        facts["changed_ns"] == stamp["files"][name].get("changed_ns") for name, facts in seen["files"].items()
    )


def same_content(stamp: Mapping[str, Any], item: Item) -> bool:
    """Whether every file has the hash that the stamp names; reads them until one has not."""
    return all(
        describe_file(file)["sha256"] == stamp["files"][name].get("sha256")
        for name, file in item.files().items()
    )

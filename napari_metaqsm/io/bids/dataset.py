"""Scans of a BIDS dataset: which files are one scan, and in words why one cannot be used.

No image is opened to find them: names and sidecars tell. What is left out of a dataset is its
``derivatives/`` and ``sourcedata/``, and whatever its ``.bidsignore`` names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.ignored import Ignored
from napari_metaqsm.io.bids.names import BidsName, entity_label, parse_name
from napari_metaqsm.io.bids.trouble import NO_MAGNITUDE, trouble_of
from napari_metaqsm.io.load import load
from napari_metaqsm.io.nifti import is_nifti
from napari_metaqsm.io.sidecar import DATASET, sidecar_content
from napari_metaqsm.scan import Scan

# Gradient echoes: by the standard, by its older versions, and (GRE, in swi/) by what preceded MEGRE.
GRADIENT_ECHOES = ("MEGRE", "T2starw", "GRE", "FLASH", "T2star")
# Acquired for their phase; the others are taken for contrast as well, and then have none.
_FOR_PHASE = ("MEGRE", "GRE")
_PARTS = {"": "magnitude", "mag": "magnitude", "phase": "phase", "real": "real", "imag": "imaginary"}
_FIELD_MAPS = {
    "phasediff": ("phase_difference", 1),
    "phase1": ("phase", 1),
    "phase2": ("phase", 2),
    "magnitude1": ("magnitude", 1),
    "magnitude2": ("magnitude", 2),
}
_FOLDERS = ("anat", "swi", "fmap")
_MOST_NAMED = 20


@dataclass(frozen=True)
class BidsScan:
    """One scan of a dataset: all echoes of one acquisition.

    Parameters
    ----------
    subject, session : labels, without ``sub-`` and ``ses-``
    entities : what the names of its files have in common
    suffix : as in ``MEGRE``; "phase" of a field map; "" where there is no scan
    files : by role (phase, magnitude, phase_difference, real, imaginary), in the order of the echoes
    trouble : in words why it cannot be used; "" where it can
    """

    dataset: Path
    subject: str
    session: str | None
    entities: Mapping[str, str]
    suffix: str = ""
    files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    trouble: str = ""

    @property
    def label(self) -> str:
        """ "sub-01_ses-1_acq-qsm_run-1"; no two usable scans of a dataset have the same."""
        return entity_label(self.entities)

    @property
    def folder(self) -> str:
        """ "sub-01/ses-1", relative to the dataset, with slashes."""
        return f"sub-{self.subject}" + (f"/ses-{self.session}" if self.session else "")

    @property
    def needs_mask(self) -> bool:
        """Whether all it lacks is the magnitude, so that a mask makes it usable."""
        return self.trouble == NO_MAGNITUDE


def find_scans(
    dataset: str | os.PathLike, participants: Sequence[str] = (), sessions: Sequence[str] = ()
) -> tuple[BidsScan, ...]:
    """The gradient-echo scans of a dataset, by subject, session and name.

    A field map of two echoes (``fmap/``) stands for a scan only where the session has no other: it is
    coarse, and taken to undistort other images.

    Parameters
    ----------
    participants, sessions : labels, with or without ``sub-`` and ``ses-``; none means all

    Returns
    -------
    one entry per scan; a subject or a session without any, or whose files are of no use, gives one with
    ``trouble``

    Raises
    ------
    InputError
        When ``dataset`` is none, or has no such participant or session.
    """
    root = Path(dataset)
    check_dataset(root)
    subjects = _folders(root, "sub-")
    if not subjects:
        raise InputError(f"{root} holds no subject; a BIDS dataset has folders named sub-<label>")
    chosen = _chosen("participant", participants, subjects, "sub-")
    ignored = Ignored(root)
    found: list[BidsScan] = []
    seen: set[str] = set()
    wanted = {label.removeprefix("ses-") for label in sessions}
    for subject in chosen:
        try:
            within = _folders(root / f"sub-{subject}", "ses-")
            seen.update(within)
            places = [label for label in within if not wanted or label in wanted]
            if not wanted and (not within or _has_images(root / f"sub-{subject}")):
                places.insert(0, None)
            for session in places:
                found += _scans_of(root, subject, session, ignored)
        except OSError as error:
            trouble = f"its folder cannot be read ({error.strerror})"
            found.append(BidsScan(root, subject, None, {"sub": subject}, trouble=trouble))
    _chosen("session", sessions, sorted(seen), "ses-")
    return tuple(found)


def load_scan(scan: BidsScan, **as_load: Any) -> Scan:
    """Read a scan that :func:`find_scans` found.

    Parameters
    ----------
    as_load : goes to :func:`~napari_metaqsm.io.load.load`, as ``mask=``

    Raises
    ------
    InputError
        When the scan has trouble, or its files do.
    """
    if scan.trouble and not scan.needs_mask:
        raise InputError(f"{scan.label}: {scan.trouble}")
    files = dict(scan.files)
    if "real" in files:
        return load([path for paths in files.values() for path in paths], **as_load)
    if "phase_difference" in files:
        files["phase"] = files.pop("phase_difference")
    return load(**{**files, **as_load})


def check_dataset(root: Path) -> dict[str, Any]:
    """The content of ``dataset_description.json``; raises `InputError` where the folder is no dataset."""
    if not root.is_dir():
        raise InputError(f"{root} is no folder; give a BIDS dataset")
    if not (root / DATASET).is_file():
        raise InputError(f"{root} has no {DATASET}; a BIDS dataset has one, with Name and BIDSVersion")
    return sidecar_content(root / DATASET)


def _folders(folder: Path, prefix: str) -> list[str]:
    """Labels of the folders whose names start with ``prefix``, in order."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.startswith(prefix) and os.path.isdir(e.path)]
    return sorted(name.removeprefix(prefix) for name in names if parse_name(f"{name}_x") is not None)


def _has_images(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in _FOLDERS)


def _chosen(what: str, labels: Iterable[str], there: Sequence[str], prefix: str) -> list[str]:
    wanted = list(dict.fromkeys(label.removeprefix(prefix) for label in labels))
    for label in wanted:
        if label not in there:
            named = ", ".join(there[:_MOST_NAMED]) + (", …" if len(there) > _MOST_NAMED else "")
            raise InputError(
                f"{what} is {label!r}; it must be one of the dataset's: {named or 'it has none'}"
            )
    return wanted or list(there)


# ------------------------------------------------------------------------------------ one session
@dataclass
class _Group:
    """Files that are one scan: by role, each with the number of its echo."""

    entities: dict[str, str]
    suffix: str
    files: dict[str, list[tuple[int, Path]]] = field(default_factory=dict)

    def add(self, role: str, echo: int, path: Path) -> None:
        self.files.setdefault(role, []).append((echo, path))

    def settle(self) -> None:
        """Where phase is there, the real and imaginary parts tell nothing new."""
        if "phase" in self.files:
            self.files = {r: paths for r, paths in self.files.items() if r in ("phase", "magnitude")}

    def in_order(self) -> dict[str, tuple[Path, ...]]:
        return {role: tuple(path for _, path in sorted(files)) for role, files in self.files.items()}


def _scans_of(root: Path, subject: str, session: str | None, ignored: Ignored) -> list[BidsScan]:
    start = {"sub": subject, **({"ses": session} if session else {})}
    empty = BidsScan(root, subject, session, start)
    groups = _groups(root, empty, ignored)
    with_phase = [g for g in groups if g.files.keys() - {"magnitude"}]
    if any(g.suffix != "phase" for g in with_phase):
        with_phase = [g for g in with_phase if g.suffix != "phase"]
    kept = [g for g in groups if g in with_phase or g.suffix in _FOR_PHASE]
    kept = kept or [g for g in groups if g.suffix != "phase"]
    if not kept:
        trouble = "there is no gradient echo with magnitude and phase (anat/*_part-phase_*)"
        return [BidsScan(root, subject, session, start, trouble=trouble)]
    scans = [
        BidsScan(root, subject, session, g.entities, g.suffix, g.in_order(), trouble_of(g.files))
        for g in kept
    ]
    return _told_apart(sorted(scans, key=lambda scan: (scan.label, scan.suffix)))


def _groups(root: Path, place: BidsScan, ignored: Ignored) -> list[_Group]:
    groups: dict[tuple, _Group] = {}
    for name in _FOLDERS:
        folder = root / place.folder / name
        if not folder.is_dir():
            continue
        for file in sorted(os.listdir(folder)):
            parts = parse_name(file) if is_nifti(file) else None
            if parts is None or ignored(f"{place.folder}/{name}/{file}"):
                continue
            told = _role(name, parts)
            if told is None:
                continue
            suffix = "phase" if name == "fmap" else parts.suffix
            role, echo = told
            entities = {e: label for e, label in parts.entities.items() if e not in ("part", "echo")}
            key = (suffix, entity_label(entities))
            groups.setdefault(key, _Group(entities, suffix)).add(role, echo, folder / file)
    for group in groups.values():
        group.settle()
    return list(groups.values())


def _role(folder: str, name: BidsName) -> tuple[str, int] | None:
    """What a file is and of which echo; None where it is of no scan."""
    if folder == "fmap":
        return _FIELD_MAPS.get(name.suffix)
    role = _PARTS.get(name.entities.get("part", ""))
    echo = name.entities.get("echo", "0")
    return (role, int(echo)) if name.suffix in GRADIENT_ECHOES and role and echo.isdecimal() else None


def _told_apart(scans: list[BidsScan]) -> list[BidsScan]:
    """Of scans that differ in the suffix alone, only the first can have maps under its name."""
    first: dict[str, BidsScan] = {}
    out = []
    for scan in scans:
        other = first.setdefault(scan.label, scan)
        if other is not scan:
            trouble = (
                f"but for {scan.suffix} it is named as a {other.suffix} is; give one of them an acq- label"
            )
            scan = BidsScan(
                scan.dataset, scan.subject, scan.session, scan.entities, scan.suffix, scan.files, trouble
            )
        out.append(scan)
    return out

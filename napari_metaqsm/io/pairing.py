"""Which file is what: role, echo and run of each NIfTI file, by its name and its sidecar.

BIDS names (``part-phase``, ``echo-2``, ``_phasediff``, ``_magnitude1``), those of dcm2niix (``_e2_ph``)
and ordinary ones (``_mag``, ``Phase.nii``) are understood. What is left of a name when role and echo
are taken out names the run, so that several runs in one folder stay apart.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.dicom.files import is_dicom
from napari_metaqsm.io.nifti import check_file, is_nifti
from napari_metaqsm.io.sidecar import Sidecar, read_sidecar

# The first pattern that fits decides: "mag_mask" is a mask, "phase_diff" no phase. Each stands
# between separators, so that "Field_Mapping" is no field map.
_ROLES = {
    "phase": r"part-phase",
    "magnitude": r"part-mag",
    "real": r"part-real",
    "imaginary": r"part-imag(?:inary)?",
    "phase_difference": r"phasediff|phase_diff(?:erence)?|ph_?diff|dphase",
    "mask": r"mask|msk|brain_?mask",
    "local_field": r"local_?field(?:_?map)?|lfs|rdf|tissue_(?:phase|field)|(?:phs|phase)_tissue",
    "total_field": r"total_?field(?:_?map)?|tfs|field_?map|b0_?map|freq(?:uency)?_?map",
    "noise": r"noise|nstd|n_std|(?:noise|field)_sd",
    "r2star": r"r2star|r2s|r2_star|r2starmap",
    "susceptibility": r"chi(?:_?map)?|susceptibility(?:_[a-z0-9]+)?|chimap",
    "magnitude ": r"mag(?:n|nitude)?(?P<echo>\d{1,3})?",
    "phase ": r"(?:ph|pha|phs|phase)(?P<echo>\d{1,3})?",
    "real ": r"real(?P<echo>\d{1,3})?",
    "imaginary ": r"imag(?:inary)?(?P<echo>\d{1,3})?",
}
# Philips calls magnitudes REAL too, and dcm2niix their files "_real": the sidecar knows better.
_NO_REAL = ("magnitude", "phase", "phase_difference")
_PATTERNS = [(role.strip(), re.compile(rf"(?<=_)(?:{text})(?=_)")) for role, text in _ROLES.items()]
_ECHO = re.compile(r"(?<=_)(?:e|echo|te)-?0*(?P<echo>\d{1,3})(?=_)")
# What stands for a scan, and what only accompanies one. Real and imaginary parts stand for one together.
_MEASURED = ("phase", "phase_difference", "total_field", "local_field")
COMPLEX = ("real", "imaginary")
_ATTACHED = ("magnitude", "mask", "noise", "r2star", "susceptibility")
ROLES = (*_MEASURED, *COMPLEX, *_ATTACHED)
UNNAMED = "scan"


@dataclass(frozen=True)
class Guess:
    """What one file seems to be; ``role`` None where nothing tells, ``run`` what is left of its name."""

    path: Path
    role: str | None
    echo: int | None
    run: str
    sidecar: Sidecar


@dataclass(frozen=True)
class Run:
    """The files of one scan: paths by role, in the order of the echoes."""

    name: str
    files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether it holds what a susceptibility map can be made from."""
        return _is_measured(self.files)


def _is_measured(roles: Collection[str | None]) -> bool:
    return any(role in roles for role in _MEASURED) or all(role in roles for role in COMPLEX)


def guess(path: str | Path) -> Guess:
    """Role, echo and run of one file; raises `InputError` when its sidecar is unusable."""
    path = Path(path)
    sidecar = read_sidecar(path)
    stem = re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    name = "_" + re.sub(r"[\s_.]+|-(?![a-z0-9]+(?:_|$))", "_", stem).strip("_") + "_"
    lower = name.lower()
    echo = None
    found = _ECHO.search(lower)
    if found:
        echo = int(found["echo"])
        name, lower = _without(name, found), _without(lower, found)
    role = None
    for candidate, pattern in _PATTERNS:
        hits = list(pattern.finditer(lower))
        doubtful = candidate in COMPLEX and sidecar.role in _NO_REAL
        if hits and not (doubtful and "part-" not in hits[-1].group()):
            role, hit = candidate, hits[-1]
            echo = int(hit["echo"]) if hit.groupdict().get("echo") else echo
            name = _without(name, hit)
            break
    if role in (None, "phase") and sidecar.role in ("phase", "phase_difference"):
        role = sidecar.role
    if role == "phase" and sidecar.difference_s is not None:
        role = "phase_difference"
    role = role or sidecar.role
    return Guess(path, role, echo or sidecar.echo_number, name.strip("_"), sidecar)


def told_difference(found: bool, given: bool | None) -> tuple[str, ...]:
    """What is said of a phase where it is the difference of two echoes, or is given not to be.

    Parameters
    ----------
    found : whether names and headers say so
    given : what goes before that
    """
    if given is None or given == found:
        return ("the phase is the difference of two echoes (--no-phase-difference overrides)",) * found
    if given:
        return ("the phase is taken for the difference of two echoes, as was given; no header says so",)
    return ("the phase is taken for that of one echo, as was given; it would be read as a difference of two",)


def _without(name: str, hit: re.Match) -> str:
    return re.sub("_+", "_", name[: hit.start()] + name[hit.end() :])


def nifti_files(folder: str | Path) -> list[Path]:
    """The NIfTI files in a folder, by name; hidden files are left out."""
    try:
        files = list(Path(folder).iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}); choose another folder") from error
    return sorted(f for f in files if os.path.isfile(f) and is_nifti(f) and not f.name.startswith("."))


def check_nifti(path: Path) -> None:
    """Raise `InputError`, which says what else it is, unless ``path`` is a file with the name of NIfTI."""
    if not is_nifti(path) and is_dicom(path):
        raise InputError(_no_nifti(path))
    check_file(path)
    if not is_nifti(path):
        raise InputError(_no_nifti(path))


def _no_nifti(path: Path) -> str:
    """What is said of a file or a folder without NIfTI where NIfTI is meant."""
    if is_dicom(path):
        return (
            f"{path} is DICOM, which is read whole: give the folder of its series without a role, and beside "
            "it only NIfTI files with theirs"
        )
    if os.path.isdir(path):
        return (
            f"{path} holds neither NIfTI files (.nii or .nii.gz) nor, five folders deep, DICOM; "
            "choose another folder"
        )
    return (
        f"{path} is neither NIfTI, whose names end in .nii or .nii.gz, nor DICOM by its first bytes; give "
        "NIfTI files or the folder of a DICOM series"
    )


def find_runs(paths: Iterable[str | Path]) -> tuple[list[Run], list[Path]]:
    """Runs among the files (folders stand for the files in them), and the files that fit in none.

    Raises
    ------
    InputError
        When a folder holds no NIfTI file, a file is missing or no NIfTI file, or two files claim to be the
        same echo.
    """
    guesses = _resolved([guess(p) for p in _files(paths)])
    unknown = [g.path for g in guesses if g.role is None]
    named: dict[str, list[Guess]] = {}
    for g in guesses:
        if g.role is not None:
            named.setdefault(g.run, []).append(g)
    _join_series(named)
    unknown += _attach(named)
    return [_run(name, members) for name, members in sorted(named.items())], unknown


def _files(paths: Iterable[str | Path]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        if os.path.isdir(path):
            inside = nifti_files(path)
            if not inside:
                raise InputError(_no_nifti(path))
            files += inside
        else:
            check_nifti(path)
            files.append(path)
    return list(dict.fromkeys(files))


def _resolved(guesses: list[Guess]) -> list[Guess]:
    """A file without a role is the magnitude where its run has the phase: so dcm2niix names them."""
    with_phase = {g.run for g in guesses if g.role in ("phase", "phase_difference", *COMPLEX)}
    return [
        dataclasses.replace(g, role="magnitude")
        if g.role is None and g.echo is not None and g.run in with_phase
        else g
        for g in guesses
    ]


def _join_series(named: dict[str, list[Guess]]) -> None:
    """Join magnitude, phase, real and imaginary parts stored as series of their own, "8_gre" and "9_gre"."""

    def only(run: str, roles: tuple[str, ...]) -> bool:
        return run in named and {g.role for g in named[run]} <= set(roles)

    for run in sorted(named, key=_numbers):
        if only(run, ("real",)):
            after = [r for r in _twins(run, named) if only(r, ("imaginary",)) and _numbers(r) > _numbers(run)]
            if after:
                named[run] += named.pop(min(after, key=_numbers))
    for run in sorted(named, key=_numbers):
        if not (only(run, ("phase", "phase_difference")) or only(run, COMPLEX)):
            continue
        twins = [r for r in _twins(run, named) if only(r, ("magnitude",))]
        before = [r for r in twins if _numbers(r) < _numbers(run)]
        if twins:
            twin = max(before, key=_numbers) if before else min(twins, key=_numbers)
            named[run] += named.pop(twin)


def _twins(run: str, named: Iterable[str]) -> list[str]:
    """Runs whose names differ from that of ``run`` in numbers alone."""
    return [other for other in named if other != run and _letters(other) == _letters(run)]


def _letters(run: str) -> str:
    return re.sub(r"(^|_)\d+(?=_|$)", "_", run).strip("_")


def _numbers(run: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"(?:^|_)(\d+)(?=_|$)", run))


def _attach(named: dict[str, list[Guess]]) -> list[Path]:
    """Give files that only accompany a scan to the sole scan there is; return those left over.

    A plain name ("mask") goes before one that says more ("csf_mask"); of several that say more, none
    is taken, for which is meant is not ours to guess.
    """
    scans = [r for r, members in named.items() if _is_measured({g.role for g in members})]
    if len(scans) != 1:
        return []
    scan = named[scans[0]]
    others = [named.pop(run) for run in sorted(set(named) - set(scans))]
    others.sort(key=lambda members: members[0].run != "")
    left: list[Path] = []
    for members in others:
        roles = {g.role for g in members}
        rivals = [m for m in others if m is not members and roles & {g.role for g in m}]
        if roles & {g.role for g in scan} or (members[0].run and rivals):
            left += [g.path for g in members]
        else:
            scan += members
    return left


def _run(name: str, members: list[Guess]) -> Run:
    files: dict[str, tuple[Path, ...]] = {}
    for role in ROLES:
        found = [g for g in members if g.role == role]
        if found:
            ordered = in_echo_order(found)
            if ordered is None:
                names = ", ".join(g.path.name for g in found)
                raise InputError(
                    f"several files could be the {role.replace('_', ' ')}: {names}; name the one meant, "
                    "or the echoes in their order"
                )
            files[role] = tuple(g.path for g in ordered)
    return Run(name or UNNAMED, files)


def in_echo_order(guesses: list[Guess]) -> list[Guess] | None:
    """The files by echo time, or by echo number where a time is missing; None where neither tells."""
    if len(guesses) == 1:
        return guesses
    for keys in (
        [g.sidecar.echo_times_s[0] if len(g.sidecar.echo_times_s) == 1 else None for g in guesses],
        [g.echo for g in guesses],
    ):
        if None not in keys and len(set(keys)) == len(keys):
            return [g for _, g in sorted(zip(keys, guesses, strict=True), key=lambda pair: pair[0])]
    return None

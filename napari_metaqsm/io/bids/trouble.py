"""Why the files of a scan cannot be used, in words; images are not opened for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.sidecar import Sidecar, read_sidecar, sidecar_path

NO_MAGNITUDE = "there is phase, but no magnitude; it can be used with a mask only"

# By role, each file with the number of its echo, 0 where its name has none.
Files = Mapping[str, Sequence[tuple[int, Path]]]


def trouble_of(files: Files) -> str:
    """What is wrong with the files of one scan, the worst first; "" where nothing is."""
    try:
        words = _absent(files) or _unpaired(files) or _unsaid(files)
    except InputError as error:  # of a sidecar
        return str(error)
    return words or ("" if {"magnitude", "real"} & files.keys() else NO_MAGNITUDE)


def _absent(files: Files) -> str:
    gone = [path.name for of_role in files.values() for _, path in of_role if not path.exists()]
    if gone:
        return f"{gone[0]} is a link to a file that is not there; fetch it first"
    return "there is magnitude, but no phase" if set(files) == {"magnitude"} else ""


def _unpaired(files: Files) -> str:
    """Echoes that are there twice, or in one of two roles that belong together."""
    for role, of_role in files.items():
        numbers = [echo for echo, _ in of_role]
        twice = [path.name for echo, path in of_role if numbers.count(echo) > 1]
        if twice:
            return f"several files are one echo of the {_spoken(role)}: {', '.join(twice)}; keep one"
    for pair in (("phase", "magnitude"), ("real", "imaginary")):
        if "magnitude" in pair and not set(pair) <= files.keys():
            continue
        first, second = ({echo for echo, _ in files.get(role, ())} for role in pair)
        for role, lacking in zip(pair, (second - first, first - second), strict=True):
            if lacking:
                echoes = " and ".join(map(str, sorted(lacking - {0})))
                return f"there is no {role}" + (f" of echo {echoes}" if echoes else "")
    return ""


def _unsaid(files: Files) -> str:
    """What the sidecars leave open."""
    role = next(r for r in ("phase", "phase_difference", "real", "imaginary") if r in files)
    main = {path: read_sidecar(path) for _, path in files[role]}
    where = sidecar_path(next(iter(main))).name
    if not any(s.b0_tesla for s in main.values()) and not any(s.b0_tesla for s in _others(files, role)):
        return f"the field strength is missing; give MagneticFieldStrength in {where}"
    if role == "phase_difference":
        times = [t for s in _others(files, role) for t in s.echo_times_s]
        stated = main.popitem()[1].difference_s is not None or len(times) == 2
        return "" if stated else f"the echo times are missing; give EchoTime1 and EchoTime2 in {where}"
    silent = [path for path, sidecar in main.items() if not sidecar.echo_times_s]
    if not silent:
        return ""
    beside = _others(files, role)
    told = beside and all(s.echo_times_s for s in beside)
    return "" if told else f"the echo time is missing; give EchoTime in {sidecar_path(silent[0]).name}"


def _others(files: Files, role: str) -> list[Sidecar]:
    return [read_sidecar(path) for other in files if other != role for _, path in files[other]]


def _spoken(role: str) -> str:
    return role.replace("_", " ")

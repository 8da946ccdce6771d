"""The registered local fields of several head orientations, from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.load import check_same_place, load
from napari_metaqsm.io.sidecar import read_sidecar
from napari_metaqsm.scan import Scan


def load_orientations(
    local_fields: Sequence[Path],
    *,
    masks: Sequence[Path],
    b0_directions: Sequence[Sequence[float]] = (),
    noises: Sequence[Path] = (),
    unit: str | None = None,
    b0_tesla: float | None = None,
) -> tuple[Scan, ...]:
    """One scan for each field, in the order of the files, all on one grid.

    Parameters
    ----------
    local_fields : files registered to one another
    masks : one for all fields, which the first scan then has, or one for each
    b0_directions : one for each field, along the files' shared axes; else each from ``B0_dir`` of the
        file's sidecar. One field alone may leave it to the affine: that which the others are registered to.
    noises : none, or one for each field
    unit, b0_tesla : see :func:`napari_metaqsm.io.load.load`

    Raises
    ------
    InputError
        When a file cannot be used, the files lie in different places, or a direction is not known.
    """
    count = len(local_fields)
    for name, given, may in (
        ("masks", masks, (1, count)),
        ("B0 directions", b0_directions, (0, count)),
        ("noise maps", noises, (0, count)),
    ):
        if len(given) not in may:
            raise InputError(
                f"there are {len(given)} {name} for {count} fields; give {may[0] or 'none'}, or one for each "
                "in the order of the fields"
            )
    if not b0_directions:
        _check_directions_known(local_fields)
    scans = tuple(
        load(
            local_field=path,
            mask=masks[n] if n < len(masks) else None,
            noise=noises[n] if noises else None,
            unit=unit,
            b0_tesla=b0_tesla,
            b0_direction=b0_directions[n] if b0_directions else None,
        )
        for n, path in enumerate(local_fields)
    )
    for path, scan in zip(local_fields[1:], scans[1:], strict=True):
        check_same_place(scans[0].space, Path(local_fields[0]).name, scan.space, Path(path).name)
    return scans


def _check_directions_known(paths: Sequence[Path]) -> None:
    silent = [Path(path).name for path in paths if read_sidecar(path).b0_direction is None]
    if len(silent) > 1:
        raise InputError(
            f"the B0 directions of {', '.join(silent)} are not known: files registered to one another share "
            "one affine, which tells that of one alone; give --b0-direction for every field (B0 along the "
            "files' axes, as 0,0.34,0.94), or B0_dir in each JSON sidecar"
        )

"""A dataset of derivatives: maps, masks and fields of each scan under BIDS names, with a record of how.

What BIDS has a name for has it: susceptibility is a ``Chimap`` (ppm), fields are ``fieldmap`` in ``fmap/``,
in Hz and beside a magnitude, as the standard wants them. What it has no name for stands in ``.bidsignore``:
the fit's ``residual`` and ``quality``, reports, and the ``record`` that makes a scan finished.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.contents import FIELD_IN_PPM, RAW, RECORD, Made, images_of, record_path
from napari_metaqsm.io.bids.dataset import BidsScan, check_dataset
from napari_metaqsm.io.nifti import space_from, staged, write
from napari_metaqsm.io.sidecar import DATASET, sidecar_content, sidecar_path
from napari_metaqsm.io.staging import make_parents

PIPELINE = "napari-metaqsm"
BIDS_VERSION = "1.10.0"
REPORTS = "reports"
_IGNORED = (
    "# BIDS has no name for these: the record of a scan, how well the field fits, pages and their pictures",
    f"*_{RECORD}.json",
    "*_residual.*",
    "*_quality.*",
    f"*_{FIELD_IN_PPM}.*",
    REPORTS,
    "/group*",
    "/logs/",
)
_README = """# {name}

Susceptibility maps (`_Chimap`, ppm, paramagnetic positive) and what they were made from, by {pipeline}.

- `anat/*_Chimap`: susceptibility, one for each method (`desc-`), zero outside the mask
- `anat/*_mask`: the brain (`desc-brain`) and the part of it where the local field is known (`desc-eroded`)
- `fmap/*_fieldmap`: total field, local field and the field's standard deviation (`desc-noise`), in Hz
- `fmap/*_magnitude`: root sum of squares of the echoes
- `anat/*_{record}.json`: everything about how the maps of a scan were made; it is written last, so that a
  scan without it is not finished
"""


# ------------------------------------------------------------------------------------ the dataset
def dataset_description(name: str, software: Mapping[str, str], **others: Any) -> dict[str, Any]:
    """The content of ``dataset_description.json`` of what this package writes.

    Parameters
    ----------
    software : versions, as in ``provenance.software_versions()``
    """
    versions = ", ".join(f"{package} {version}" for package, version in software.items())
    generated = {"Name": PIPELINE, "Version": software[PIPELINE], "Description": versions}
    return {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [generated],
        **others,
    }


def write_dataset(out: str | os.PathLike, source: str | os.PathLike, software: Mapping[str, str]) -> None:
    """Make ``out`` a dataset of derivatives of the dataset ``source``, or see that it is one already.

    Parameters
    ----------
    software : versions, as in ``provenance.software_versions()``

    Raises
    ------
    InputError
        When ``out`` lies among the raw data, or holds what is not ours.
    """
    out, source = Path(out), Path(source)
    about = check_dataset(source)
    _check_place(out, source)
    _check_ours(out, source)
    name = f"Susceptibility maps of {about.get('Name') or source.resolve().name}"
    where = _uri(source, out)
    link = {"URL": where}
    if isinstance(about.get("DatasetDOI"), str):
        link["DOI"] = about["DatasetDOI"]
    content = dataset_description(name, software, DatasetLinks={RAW: where}, SourceDatasets=[link])
    ignored = out / ".bidsignore"
    lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.is_file() else []
    lines += [line for line in _IGNORED if line not in lines]
    with staged(out) as temporary:
        (temporary / ".bidsignore").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if not (out / "README.md").exists():
            text = _README.format(name=name, pipeline=PIPELINE, record=RECORD)
            (temporary / "README.md").write_text(text, encoding="utf-8", errors="backslashreplace")
        _write_json(temporary / DATASET, content)


def _check_place(out: Path, source: Path) -> None:
    within, whole = out.resolve(), source.resolve()
    if within == whole or whole in within.parents:
        parts = within.relative_to(whole).parts
        if len(parts) < 2 or parts[0] != "derivatives":
            raise InputError(
                f"{out} lies among the raw data; give a folder outside of it, or in its derivatives/"
            )
    if within in whole.parents and (out / DATASET).exists():
        raise InputError(f"{out} is a dataset that holds {source}; give another folder")


def _check_ours(out: Path, source: Path) -> None:
    if not (out / DATASET).is_file():
        if out.is_dir() and any(out.glob("sub-*")):
            raise InputError(f"{out} holds subjects, but no {DATASET} of ours; give another folder")
        return
    about = sidecar_content(out / DATASET)
    makers = about.get("GeneratedBy")
    makers = [m.get("Name") for m in makers if isinstance(m, dict)] if isinstance(makers, list) else []
    if makers != [PIPELINE]:
        by = ", ".join(map(str, makers)) or "nothing that it names"
        raise InputError(f"{out} is a dataset made by {by}; give another folder")
    links = about.get("DatasetLinks")
    link = links.get(RAW) if isinstance(links, dict) else None
    before = (out / link).resolve() if isinstance(link, str) and ":" not in link else None
    if before is not None and before != source.resolve() and (before / DATASET).is_file():
        raise InputError(f"{out} holds maps of the dataset {before}; give another folder")


def _uri(source: Path, out: Path) -> str:
    """Where the source lies, seen from ``out``; on another drive of Windows, from nowhere."""
    try:
        return Path(os.path.relpath(source.resolve(), out.resolve())).as_posix()
    except ValueError:
        return source.resolve().as_uri()


# ------------------------------------------------------------------------------------ one scan
def write_derivatives(
    result: Made, scan: BidsScan, out: str | os.PathLike, documents: Mapping[str, bytes] | None = None
) -> list[Path]:
    """Write all that came of one scan into the dataset ``out``: whole or not at all, the record last.

    What an earlier run wrote of the scan is replaced; what it wrote more is removed.

    Parameters
    ----------
    documents : pages and pictures by file name, for :func:`documents_folder`

    Returns
    -------
    the files, the record last
    """
    out = Path(out)
    space = result.scan.space or space_from(result.scan.geometry)
    beside = {f"{documents_folder(scan)}/{_plain(name)}": text for name, text in (documents or {}).items()}
    # The record's folder is the outer one: it moves when all else is in its place.
    with staged(out) as last, staged(out) as folder:
        for image in images_of(result, scan, space):
            write(make_parents(folder / image.path, folder), image.values, space)
            _write_json(sidecar_path(folder / image.path), image.about)
        for path, content in beside.items():
            make_parents(folder / path, folder).write_bytes(content)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        written = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
        _write_json(make_parents(last / record_path(scan), last), {**result.record, "files": written})
        _withdraw(scan, out, written)
    return [out / path for path in (*written, record_path(scan))]


def record_of(scan: BidsScan, out: str | os.PathLike) -> dict[str, Any] | None:
    """The record of a scan whose maps are all there; None where it is not finished."""
    out = Path(out)
    try:
        record = sidecar_content(out / record_path(scan))
        sizes = record["files"].items()
        whole = all((out / path).stat().st_size == size for path, size in sizes)
    except (InputError, OSError, LookupError, AttributeError, TypeError, ValueError):
        return None
    return record if whole else None


def documents_folder(scan: BidsScan) -> str:
    """Where the documents of a scan lie, relative to the dataset, with slashes."""
    return f"{scan.folder}/{REPORTS}/{scan.label}"


def _withdraw(scan: BidsScan, out: Path, written: Mapping[str, int]) -> None:
    """Remove the earlier record, so that it stands for nothing new, and what only it lists."""
    earlier = out / record_path(scan)
    if not earlier.is_file():
        return
    try:
        listed = list(sidecar_content(earlier)["files"])
    except (InputError, LookupError, TypeError):
        listed = []
    earlier.unlink()
    for path in listed:
        stale = out / str(path)
        if path not in written and (out / scan.folder).resolve() in stale.resolve().parents:
            stale.unlink(missing_ok=True)


def _plain(name: str) -> str:
    if Path(name).name != name:
        raise InputError(f"a document is named {name!r}; it must be a file's name, without folders")
    return name


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files need not be text

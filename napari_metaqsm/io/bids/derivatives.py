"""A dataset of derivatives: maps, masks and fields of each scan under BIDS names, with a record of how.

What BIDS has a name for has it: susceptibility is a ``Chimap`` (ppm), fields are ``fieldmap`` in ``fmap/``,
in Hz and beside a magnitude, as the standard wants them. What it has no name for stands in ``.bidsignore``:
the fit's ``residual`` and ``quality``, reports, and the ``record`` that makes a scan finished.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.bids.dataset import BidsScan, check_dataset
from napari_metaqsm.io.bids.names import as_label, entity_label
from napari_metaqsm.io.nifti import Space, space_from, staged, write
from napari_metaqsm.io.sidecar import DATASET, OWN, sidecar_content, sidecar_path
from napari_metaqsm.scan import Scan
from napari_metaqsm.units import hz_per_ppm

PIPELINE = "napari-metaqsm"
BIDS_VERSION = "1.10.0"
RECORD = "record"
REPORTS = "reports"
_RAW = "raw"
_IGNORED = (
    "# BIDS has no name for these: the record of a scan, how well the field fits, pages and their pictures",
    f"*_{RECORD}.json",
    "*_residual.*",
    "*_quality.*",
    "*_field.*",
    REPORTS,
    "/group*",
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
# Entities that the standard allows beside subject and session, by folder.
_ALLOWED = {
    "anat": ("sub", "ses", "task", "acq", "ce", "rec", "run", "chunk"),
    "fmap": ("sub", "ses", "acq", "run", "chunk"),
}


class Made(Protocol):
    """What is written of a result; ``pipeline.Result`` is one."""

    @property
    def scan(self) -> Scan: ...
    @property
    def maps(self) -> Mapping[str, np.ndarray]: ...
    @property
    def record(self) -> Mapping[str, Any]: ...


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
    content = dataset_description(name, software, DatasetLinks={_RAW: where}, SourceDatasets=[link])
    ignored = out / ".bidsignore"
    lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.is_file() else []
    lines += [line for line in _IGNORED if line not in lines]
    with staged(out) as temporary:
        (temporary / ".bidsignore").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if not (out / "README.md").exists():
            text = _README.format(name=name, pipeline=PIPELINE, record=RECORD)
            (temporary / "README.md").write_text(text, encoding="utf-8")
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
    link = links.get(_RAW) if isinstance(links, dict) else None
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
@dataclass(frozen=True)
class _File:
    """An image to be written: its place in the dataset, its values and its sidecar."""

    folder: str
    desc: str
    suffix: str
    values: np.ndarray
    about: dict[str, Any]

    def path(self, scan: BidsScan) -> str:
        """Relative to the dataset, with slashes."""
        return f"{scan.folder}/{self.folder}/{_name(scan, self.folder, self.desc, self.suffix)}.nii.gz"


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
    files = {file.path(scan): file for file in _files(result, scan, space)}
    texts = {f"{documents_folder(scan)}/{_plain(name)}": text for name, text in (documents or {}).items()}
    record_path = _record_path(scan)
    with staged(out) as record_folder, staged(out) as folder:
        for path, file in files.items():
            _made(folder / path)
            write(folder / path, file.values, space)
            _write_json(sidecar_path(folder / path), file.about)
        for path, text in texts.items():
            _made(folder / path).write_bytes(text)
        written = {p.relative_to(folder).as_posix(): p.stat().st_size for p in _all_files(folder)}
        record = {**result.record, "files": written}
        _write_json(_made(record_folder / record_path), record)
        _withdraw(scan, out, written)
    return [out / path for path in sorted(written)] + [out / record_path]


def record_of(scan: BidsScan, out: str | os.PathLike) -> dict[str, Any] | None:
    """The record of a scan whose maps are all there; None where it is not finished."""
    out = Path(out)
    try:
        record = sidecar_content(out / _record_path(scan))
        sizes = record["files"].items()
        whole = all((out / path).stat().st_size == size for path, size in sizes)
    except (InputError, OSError, LookupError, AttributeError, TypeError, ValueError):
        return None
    return record if whole else None


def documents_folder(scan: BidsScan) -> str:
    """Where the documents of a scan lie, relative to the dataset, with slashes."""
    return f"{scan.folder}/{REPORTS}/{scan.label}"


def _record_path(scan: BidsScan) -> str:
    return f"{scan.folder}/anat/{_name(scan, 'anat', '', RECORD)}.json"


def _withdraw(scan: BidsScan, out: Path, written: Mapping[str, int]) -> None:
    """Remove the earlier record, so that it stands for nothing new, and what only it lists."""
    earlier = out / _record_path(scan)
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


def _name(scan: BidsScan, folder: str, desc: str, suffix: str) -> str:
    """A file's name; an entity that the folder's names may not have becomes part of ``acq``."""
    allowed = _ALLOWED[folder]
    entities = {e: label for e, label in scan.entities.items() if e in allowed}
    others = [f"{e} {label}" for e, label in scan.entities.items() if e not in allowed]
    if others:
        entities["acq"] = as_label(" ".join([entities.get("acq", ""), *others]))
    return entity_label({**entities, **({"desc": desc} if desc else {})}, suffix)


def _files(result: Made, scan: BidsScan, space: Space) -> list[_File]:
    maps = dict(result.maps)
    if "mask" not in maps and result.scan.mask is not None:
        maps = {"mask": result.scan.mask != 0, **maps}
    b0_tesla, magnitude = result.scan.acquisition.b0_tesla, _magnitude(result.scan)
    inside = maps.get("mask")
    sources = [
        f"bids:{_RAW}:{p.relative_to(scan.dataset).as_posix()}" for ps in scan.files.values() for p in ps
    ]
    as_field_map = magnitude is not None and b0_tesla is not None
    files = []
    for name, values in maps.items():
        about: dict[str, Any] = {"Sources": sources}
        own = {"quantity": name.partition("-")[0], "record": f"bids::{_record_path(scan)}"}
        if name in _MASKS:
            desc, kind, words = _MASKS[name]
            about |= {"Description": words, "Type": kind, "SpatialReference": sources[0], OWN: own}
            files.append(_File("anat", desc, "mask", values, about))
            continue
        about["SkullStripped"] = inside is not None and not np.any(values[np.asarray(inside) == 0])
        if name.startswith("susceptibility"):
            about |= _about_map(result.record, name, own)
            files.append(_File("anat", as_label(name.partition("_")[2]), "Chimap", values, about))
        elif name in _FIELDS:
            desc, words = _FIELDS[name]
            hz = hz_per_ppm(b0_tesla) if as_field_map else 1
            about |= {"Description": words, "Units": "Hz" if as_field_map else "ppm"}
            about |= {"MagneticFieldStrength": b0_tesla} if b0_tesla else {}
            about |= {OWN: own}
            where = ("fmap", desc, "fieldmap") if as_field_map else ("anat", desc, "field")
            files.append(_File(*where, values * np.float32(hz), about))
        else:
            about |= {"Description": _OTHERS.get(name, name.replace("_", " ")), "Units": "1", OWN: own}
            files.append(_File("anat", "field", as_label(name), values, about))
    if as_field_map and any(f.folder == "fmap" for f in files):
        about = {
            "Description": "Root sum of squares of the echoes",
            "Sources": sources,
            "SkullStripped": False,
        }
        files.append(_File("fmap", "", "magnitude", magnitude, about))
    return files


_MASKS = {
    "mask": ("brain", "Brain", "Where susceptibility was sought"),
    "eroded_mask": ("eroded", "ROI", "Where the local field is known, and the maps are not zero"),
}
_FIELDS = {
    "total_field": ("total", "Field of all sources, relative to the centre frequency"),
    "local_field": ("local", "Field of the sources within the mask"),
    "noise": ("noise", "Standard deviation of the total field, as the signal lets expect it"),
}
_OTHERS = {
    "residual": "What the fit of the field left, relative to the signal",
    "quality": "How well the phase of the echoes agrees, from 0 to 1",
}


def _about_map(record: Mapping[str, Any], name: str, own: dict[str, Any]) -> dict[str, Any]:
    """What is said of a susceptibility map: unit, method, paper, reference."""
    step = next((s for s in record.get("steps", ()) if s.get("result") == name), {})
    about: dict[str, Any] = {
        "Description": "Magnetic susceptibility, paramagnetic positive, zero outside the mask",
        "Units": "ppm",
    }
    if step.get("title"):
        about["EstimationAlgorithm"] = step["title"]
    if step.get("reference"):
        about["EstimationReference"] = step["reference"]
    reference = (record.get("reference") or {}).get(name)
    return {**about, OWN: {**own, **({"reference": reference} if reference else {})}}


def _magnitude(scan: Scan) -> np.ndarray | None:
    if scan.magnitude is None:
        return None
    total = np.zeros(scan.geometry.shape, np.float32)
    for echo in np.asarray(scan.magnitude):
        total += np.square(echo, dtype=np.float32)
    return np.sqrt(total)


def _plain(name: str) -> str:
    if Path(name).name != name:
        raise InputError(f"a document is named {name!r}; it must be a file's name, without folders")
    return name


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _all_files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

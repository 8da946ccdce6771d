"""What is kept of one scan of a cohort beside its maps: a report, a small picture, and measures.

It is made in the worker, once for every scan, from what the chain gave; nothing is read again.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from napari_metaqsm.evaluation.picture import comparison_picture
from napari_metaqsm.pipeline import Result
from napari_metaqsm.reading.finding import Finding, Severity
from napari_metaqsm.reading.findings import find_in
from napari_metaqsm.reading.regions import Region, measure_regions
from napari_metaqsm.reading.reliability import reliability
from napari_metaqsm.reading.study import Study
from napari_metaqsm.reading.undrawn import measure_undrawn
from napari_metaqsm.report.consensus import read_scanner
from napari_metaqsm.report.content import PARTS, Report, Section, Wishes, make_report
from napari_metaqsm.report.folder import files_of
from napari_metaqsm.report.maps import study_of
from napari_metaqsm.report.pictures import Picture
from napari_metaqsm.report.steps import reference_of

REPORT, PICTURE = "report.html", "picture.webp"
# Of the measures' form, which the group page asks for.
FORM = 1
WINDOW_PPM = (-0.1, 0.1)
FIELD_WINDOW_PPM = (-0.05, 0.05)
PERCENTILES = (1, 5, 50, 95, 99)
# Of the longest side of a slice in the page of a subject, and in the group's.
_PIXELS, _SMALL_PIXELS = 300, 136
# So that the pictures of a thousand scans take less than 30 MB.
_MOST_BYTES = 28_000
_QUALITIES = (60, 45, 30, 20, 10)
_SEVERITIES = {
    Severity.WRONG: "wrong",
    Severity.CARE: "care",
    Severity.IN_ORDER: "in order",
    Severity.NOT_CHECKED: "not checked",
}


@dataclass(frozen=True)
class Summary:
    """What is written beside a scan's maps.

    Parameters
    ----------
    documents : files by name: ``report.html``, ``methods.txt``, ``references.bib`` and ``picture.webp``
    measures : JSON values, for the group
    """

    documents: Mapping[str, bytes]
    measures: Mapping[str, Any]


def summarise(
    result: Result,
    label: str,
    regions: np.ndarray | None = None,
    names: Mapping[int, str] | None = None,
    *,
    files: Mapping[str, str] | None = None,
) -> Summary:
    """The report, the picture and the measures of one scan.

    Parameters
    ----------
    label : of the scan, as in "sub-01_ses-1"; the title of its report, and all that names it
    regions : (i, j, k) int on the scan's grid, 0 outside; None measures the whole mask and, where there
        are three echoes or more, the cerebrospinal fluid of the ventricles
    names : of the regions
    files : where phase and magnitude were read from, by these names: their sidecars tell vendor and sequence

    Raises
    ------
    InputError
        When the chain made no map, or the regions do not lie on its grid.

    Notes
    -----
    With two or three maps of 128×128×64 voxels it takes 1.3 s and 17 volumes beyond the result, which
    is less than most chains need.
    """
    study = study_of(result, files)
    trust = reliability(study)
    measured = (
        measure_undrawn(study, trust.unreliable)
        if regions is None
        else measure_regions(study, regions, names, trust.unreliable)
    )
    findings = find_in(study)
    scanner = read_scanner(study.files)
    measures = {
        "form": FORM,
        "label": label,
        "acquisition": _acquisition(study, scanner),
        "mask_ml": None if study.mask is None else _ml(study.mask != 0, study),
        "field_noise_ppm": _field_noise(study),
        "unreliable_percent": 100 * trust.share,
        "maps": {title: _map(study, title) for title in study.maps},
        "regions": [_region(region) for region in measured],
        "findings": [_finding(finding) for finding in findings],
        "seconds": _seconds(result),
        "warnings": list(result.record.get("warnings", ())),
    }
    page = make_report(study, Wishes(label), regions=measured, findings=findings, scanner=scanner)
    documents = files_of(_with_mask(page, study), ("html",))
    documents[PICTURE] = _small(_picture(study, _SMALL_PIXELS))
    return Summary(documents, _plain(measures))


# ------------------------------------------------------------------------------------ measures
def _acquisition(study: Study, scanner: Mapping[str, Any]) -> dict[str, Any]:
    times = study.acquisition.echo_times_s
    return {
        "b0_tesla": study.acquisition.b0_tesla,
        "echo_times_ms": None if times is None else [round(1000 * time, 4) for time in times],
        "voxel_size_mm": [round(size, 4) for size in study.geometry.voxel_size_mm],
        "matrix": list(study.geometry.shape),
        "vendor": scanner.get("Manufacturer"),
        "model": scanner.get("ManufacturersModelName"),
    }


def _ml(inside: np.ndarray, study: Study) -> float:
    return np.count_nonzero(inside) * study.voxel_mm3 / 1000


def _field_noise(study: Study) -> float | None:
    """Median of the field's standard deviation where every map is known."""
    if study.noise is None:
        return None
    values = study.noise[study.inside_all()]
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else None


def _map(study: Study, title: str) -> dict[str, Any]:
    values = study.maps[title][study.inside(title)]
    values = values[np.isfinite(values)]
    told = dict.fromkeys(("mean_ppm", "sd_ppm", *(f"p{p}_ppm" for p in PERCENTILES)))
    if values.size:
        figures = (
            values.mean(dtype=np.float64),
            values.std(dtype=np.float64),
            *np.percentile(values, PERCENTILES),
        )
        told = dict(zip(told, figures, strict=True))
    zero = reference_of(study, title)
    return {
        "volume_ml": values.size * study.voxel_mm3 / 1000,
        **told,
        "reference": {key: zero.get(key) for key in ("region", "mean_ppm", "sd_ppm", "voxels")},
    }


def _region(region: Region) -> dict[str, Any]:
    return {
        "label": region.label,
        "name": region.name,
        "voxels": region.voxels,
        "volume_mm3": region.volume_mm3,
        "unreliable_percent": region.unreliable_percent,
        "maps": {
            title: {
                **{f"{figure}_ppm": getattr(measure, figure) for figure in ("mean", "sd", "median")},
                "voxels": measure.voxels,
                "outside_mask_percent": measure.outside_percent,
            }
            for title, measure in region.maps.items()
        },
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "key": finding.name,
        "severity": _SEVERITIES[finding.severity],
        "what": finding.what,
        "figure": finding.figure,
    }


def _seconds(result: Result) -> dict[str, float]:
    """Of every step by its title; of steps alike, together."""
    taken: dict[str, float] = {}
    for step in result.record.get("steps", ()):
        title = str(step.get("title") or step.get("method"))
        taken[title] = round(taken.get(title, 0.0) + float(step.get("seconds") or 0.0), 3)
    return taken


def _plain(value: Any) -> Any:
    """As JSON has it: what is no finite number is null, and six digits are enough."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


# ------------------------------------------------------------------------------------ pictures
def _picture(study: Study, pixels: int) -> Image.Image:
    """Three planes of the magnitude, the local field and every map, with the rim of the brain's mask."""
    beside = {}
    if study.magnitude is not None:
        beside["Magnitude"] = np.nan_to_num(np.asarray(study.magnitude[-1], np.float32))
    field = f"Field ±{FIELD_WINDOW_PPM[1]:g} ppm"
    if study.local_field is not None:
        beside[field] = np.asarray(study.local_field, np.float32)
    outline = np.logical_or.reduce([study.inside(title) for title in study.maps])
    return comparison_picture(
        study.maps,
        study.geometry,
        window_ppm=WINDOW_PPM,
        beside=beside,
        tallest_pixels=pixels,
        outline=outline if study.mask is None else study.mask,
        windows={field: FIELD_WINDOW_PPM} if field in beside else {},
    )


def _small(picture: Image.Image) -> bytes:
    """The picture in as good a quality as there is room for."""
    picture = picture.convert("RGB")
    for quality in _QUALITIES:
        file = io.BytesIO()
        picture.save(file, "WEBP", quality=quality)
        if file.tell() <= _MOST_BYTES:
            break
    return file.getvalue()


def _with_mask(page: Report, study: Study) -> Report:
    """The report, with the mask and the local field before the slices of the maps."""
    picture = _picture(study, _PIXELS)
    file = io.BytesIO()
    picture.save(file, "PNG")
    caption = (
        "The rim of the brain's mask (orange) on magnitude, local field and maps. What the maps lack of it "
        "was lost with the background field."
    )
    section = Section("Mask and local field", (Picture(file.getvalue(), caption, picture.size),))
    at = [each.title for each in page.sections].index(PARTS["pictures"])
    return dataclasses.replace(page, sections=(*page.sections[:at], section, *page.sections[at:]))

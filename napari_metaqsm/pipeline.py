"""The chain: field, mask, background, inversion, reference. In memory, no files.

:func:`run_step` runs one step on whatever arrays it is given; :func:`reconstruct` runs a chain on a
:class:`~napari_metaqsm.scan.Scan`, and :func:`go_on` further steps on what a chain gave so far.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from napari_metaqsm import checks
from napari_metaqsm.device import choose_device, with_fallback
from napari_metaqsm.errors import InputError
from napari_metaqsm.field.scaling import phase_in_radians
from napari_metaqsm.method import (
    DEFAULT_INVERSIONS,
    STAGES,
    Method,
    announce,
    find_method,
    notice,
    parameter_infos,
    part,
    remark,
    running,
)
from napari_metaqsm.operators.morphology import erosion
from napari_metaqsm.operators.ventricles import check_echoes
from napari_metaqsm.provenance import describe_array, make_record
from napari_metaqsm.referencing import csf
from napari_metaqsm.referencing import reference as reference_map
from napari_metaqsm.scan import Acquisition, Geometry, Scan


@dataclass(frozen=True)
class Step:
    """One step of a chain: a registered method and its parameters."""

    stage: str
    method: str
    parameters: Any

    @property
    def entry(self) -> Method:
        """The registered method."""
        return find_method(self.stage, self.method)


def make_step(stage: str, method: str, **parameters: Any) -> Step:
    """A step by names; unknown names and unusable values raise ``InputError``."""
    return Step(stage, method, find_method(stage, method).make_parameters(**parameters))


class StepResult(NamedTuple):
    """Arrays that a step gave, by name (those it has not are left out), and its record."""

    outputs: dict[str, np.ndarray]
    record: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """What a chain gave.

    ``maps`` holds (i, j, k) arrays by name: total_field, noise, residual, quality, mask, local_field,
    eroded_mask and one susceptibility_<method> per inversion. ``record`` says how they were made.
    """

    scan: Scan
    maps: dict[str, np.ndarray]
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def susceptibilities(self) -> dict[str, np.ndarray]:
        """The susceptibility maps alone, by name."""
        return {n: m for n, m in self.maps.items() if n.startswith("susceptibility")}


# ------------------------------------------------------------------------------------ one step
def run_step(
    step: Step,
    data: Mapping[str, np.ndarray | None],
    geometry: Geometry,
    acquisition: Acquisition | None = None,
    device: str = "auto",
) -> StepResult:
    """Run one step on the arrays it asks for, after checking them.

    Parameters
    ----------
    data : arrays by the names in the method's ``needs`` and ``takes``; None counts as missing. Phase
        is as stored, fields are in ppm, ``mask`` is the one the step works in.

    Raises
    ------
    InputError
        When an input is missing or cannot be used; nothing has been computed then.
    Cancelled
        When the caller's ``running`` block says so.
    """
    entry = step.entry
    acquisition = acquisition or Acquisition()
    chosen = {n: data[n] for n in (*entry.needs, *entry.takes) if data.get(n) is not None}
    missing = [n for n in entry.needs if n not in chosen]
    if missing:
        raise InputError(f"{entry.title} needs the {' and the '.join(map(checks.spoken, missing))}")
    with running() as run:
        started = time.perf_counter()
        arrays, decided = _checked(chosen, geometry, acquisition)
        announce(entry.title)
        outputs, used = with_fallback(
            lambda where: _call(entry, step.parameters, arrays, geometry, acquisition, where),
            choose_device(device),
        )
        if "eroded_mask" in outputs:
            masks = (torch.from_numpy(m) for m in (arrays["mask"], outputs["eroded_mask"]))
            remark("erosion", erosion(*masks, geometry.voxel_size_mm))
        record = {
            "stage": step.stage,
            "method": step.method,
            "title": entry.title,
            "reference": entry.reference,
            "parameters": {
                i.name: getattr(step.parameters, i.name) for i in parameter_infos(step.parameters)
            },
            "inputs": sorted(chosen),
            "stand_ins": {n: text for n, text in entry.takes.items() if n not in chosen},
            **decided,
            **run.remarks,
            **({"convergence": run.curves} if run.curves else {}),
            "device": str(used),
            "seconds": round(time.perf_counter() - started, 3),
            "warnings": list(run.notices),
        }
    for text in record["warnings"]:
        notice(text)
    return StepResult(outputs, record)


def _checked(
    chosen: Mapping[str, np.ndarray], geometry: Geometry, acquisition: Acquisition
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The inputs, checked and in engine units, and what was decided on the way."""
    scan = Scan(geometry, acquisition, **{n: a for n, a in chosen.items() if n in _SCAN_ARRAYS})
    arrays = {**scan.arrays(), **{n: a for n, a in chosen.items() if n not in _SCAN_ARRAYS}}
    decided: dict[str, Any] = {}
    mask = arrays.get("mask")
    if mask is not None:
        mask = arrays["mask"] = checks.check_mask(mask)
    for name in ("total_field", "local_field"):
        if name in arrays:
            arrays[name] = checks.check_field(name, arrays[name], mask)
    if "magnitude" in arrays:
        arrays["magnitude"] = checks.check_magnitude(arrays["magnitude"], mask)
    for name in ("noise", "initial_susceptibility"):
        if name in arrays:
            arrays[name] = checks.check_finite(name, arrays[name], mask)
    if "local_fields" in arrays:
        several = {n: np.asarray(arrays[n]) for n in _SEVERAL if n in arrays}
        arrays.update(checks.check_orientations(several, geometry.shape, mask))
    if "phase" in arrays:
        _check_acquisition(acquisition)
        arrays["phase"], scale = phase_in_radians(arrays["phase"], acquisition, mask)
        decided["phase_scaling"] = dataclasses.asdict(scale)
    return arrays, decided


# One for each orientation, in a method that takes several.
_SEVERAL = ("local_fields", "b0_directions", "noises", "masks")
_SCAN_ARRAYS = ("phase", "magnitude", "total_field", "local_field", "noise", "mask")


def _check_acquisition(acquisition: Acquisition) -> None:
    if acquisition.echo_times_s is None:
        raise InputError("the echo times are missing; give them in seconds, one per echo of phase")
    if acquisition.b0_tesla is None:
        raise InputError("the field strength is missing; give it in tesla")


def _call(
    entry: Method,
    parameters: Any,
    arrays: Mapping[str, np.ndarray],
    geometry: Geometry,
    acquisition: Acquisition,
    device: torch.device,
) -> dict[str, np.ndarray]:
    settings = {"geometry": geometry, "acquisition": acquisition, "parameters": parameters}
    tensors = {n: _tensor(a).to(device) for n, a in arrays.items()}
    given = entry.function(**tensors, **{n: settings[n] for n in entry.settings})
    values = given if isinstance(given, tuple) else (given,)
    named = zip(STAGES[entry.stage], values, strict=True)
    return {n: v.cpu().numpy() for n, v in named if v is not None}


def _tensor(array: np.ndarray) -> torch.Tensor:
    kind = bool if array.dtype == bool else np.float32
    # Byte order and strides of a file's array need not be what torch reads; nor may it be read-only.
    array = np.ascontiguousarray(array, dtype=kind)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


# ----------------------------------------------------------------------------------- the chain
def default_chain(
    scan: Scan,
    *,
    field: str = "nonlinear_fit",
    mask: str = "brain",
    background: str = "resharp",
    inversion: Sequence[str] = DEFAULT_INVERSIONS,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Step, ...]:
    """The steps from where the scan's data start to its maps.

    Parameters
    ----------
    field, mask, background, inversion : methods by name, of the stages that the scan still needs
    parameters : values by method and parameter, where they are not the defaults

    Raises
    ------
    InputError
        When a method or a parameter is unknown, or parameters are given for a method that does not run.
    """
    names = [("inversion", name) for name in inversion]
    if scan.local_field is None:
        names.insert(0, ("background", background))
    if scan.mask is None:
        names.insert(0, ("mask", mask))
    if scan.local_field is None and scan.total_field is None:
        names.insert(0, ("field", field))
    parameters = parameters or {}
    idle = set(parameters) - {name for _, name in names}
    if idle:
        raise InputError(
            f"there are parameters for {', '.join(sorted(idle))}, but the chain runs "
            f"{', '.join(name for _, name in names)}"
        )
    return tuple(make_step(stage, name, **parameters.get(name, {})) for stage, name in names)


def check_chain(scan: Scan, chain: Sequence[Step], made: Iterable[str] = ()) -> None:
    """Whether each step of ``chain`` finds what it needs; a stage other than inversion stands once.

    Parameters
    ----------
    made : names of what steps before these have given

    Raises
    ------
    InputError
        When a step's input is neither in the scan nor made before it, the scan has already what a step
        would make, or a step says that it cannot work on such a scan.
    """
    if not chain:
        raise InputError("the chain is empty; name at least one method")
    order = list(STAGES)
    for before, step in itertools.pairwise(chain):
        if order.index(step.stage) < order.index(before.stage):
            raise InputError(
                f"the chain has {step.stage} after {before.stage}; the order is {', '.join(order)}"
            )
        if step.stage == before.stage != "inversion":
            raise InputError(f"the chain has two {step.stage} methods; choose one")
    known = {*scan.arrays(), *made}
    for step in chain:
        gives = STAGES[step.stage][0]
        if gives in known:
            raise InputError(
                f"the scan has a {checks.spoken(gives)} already, and {step.entry.title} would replace it; "
                "leave out one of the two"
            )
        missing = [checks.spoken(n) for n in step.entry.needs if n not in known]
        if missing:
            raise InputError(f"{step.entry.title} needs the {' and the '.join(missing)}, which is not there")
        if step.entry.check is not None:
            step.entry.check(scan.geometry, step.parameters)
        if step.stage != "inversion":
            known.update(STAGES[step.stage])
        if step.stage == "field":
            _check_acquisition(scan.acquisition)


def reconstruct(
    scan: Scan,
    chain: Sequence[Step] | None = None,
    *,
    device: str = "auto",
    reference: str | np.ndarray = "brain",
) -> Result:
    """Run a chain of steps on a scan.

    Parameters
    ----------
    chain : from :func:`make_step`, in the order of the stages, several inversions at will; None is
        :func:`default_chain`
    device : "auto", "cpu", "cuda" or "mps"
    reference : "brain" (the whole mask), "csf" (the ventricles, found by their slow decay), "none", or a
        region (i, j, k), zero outside

    Raises
    ------
    InputError
        When the scan or the chain cannot be used.
    """
    chain = default_chain(scan) if chain is None else chain
    return go_on(Result(scan, {}), chain, device=device, reference=reference)


def go_on(
    result: Result,
    chain: Sequence[Step],
    *,
    device: str = "auto",
    reference: str | np.ndarray = "brain",
) -> Result:
    """Run further steps on what a chain gave so far, maybe in another process.

    Maps and record are those of one chain of all the steps, but for the times.

    Parameters
    ----------
    chain, device, reference : as in :func:`reconstruct`

    Raises
    ------
    InputError
        When the steps cannot go on from there.
    """
    scan, chain = result.scan, tuple(chain)
    check_chain(scan, chain, result.maps)
    region, region_name = _reference_region(reference, scan)
    choose_device(device)
    maps = dict(result.maps)
    data: dict[str, np.ndarray] = {**scan.arrays(), **maps}
    records = list(result.record.get("steps", ()))
    references = dict(result.record.get("reference", {}))
    for index, step in enumerate(chain):
        inputs = dict(data)
        if step.stage == "inversion":
            inputs["mask"] = data.get("eroded_mask", data.get("mask"))
        with part(index, len(chain), step.entry.title) as run:
            outputs, record = run_step(step, inputs, scan.geometry, scan.acquisition, device)
        for text in run.notices:
            notice(text)
        records.append(record)
        if step.stage == "inversion":
            name = _free_name(f"susceptibility_{step.method}", maps)
            inside = inputs["mask"].astype(bool)
            chi = outputs["susceptibility"]
            try:
                if region_name == "csf" and region is None:
                    region = csf(data["magnitude"], data["mask"], scan.geometry, scan.acquisition)
                where = None if region_name == "none" else inside if region is None else region
                maps[name], references[name] = reference_map(chi, where, inside, region_name)
            except InputError as error:  # only the eroded mask tells, and the map is not to be lost for it
                maps[name], references[name] = reference_map(chi, None, inside)
                record["warnings"].append(f"{error}; the map was left as the method gave it")
                notice(record["warnings"][-1])
            record["result"] = name
        else:
            data.update(outputs)
            maps.update(outputs)
    announce("Done", 1.0)
    sources = dict(result.record.get("inputs", ())) or {
        n: scan.sources.get(n) or describe_array(a) for n, a in scan.arrays().items()
    }
    if region_name == "region":
        sources["reference"] = describe_array(region)
    record = make_record(
        sources, scan.geometry, scan.acquisition, records, references, scan.notes, scan.decisions
    )
    return Result(scan, maps, record)


def reconstruct_orientations(
    scans: Sequence[Scan],
    step: Step | None = None,
    *,
    device: str = "auto",
    reference: str | np.ndarray = "brain",
) -> Result:
    """One map from the registered local fields of several head orientations.

    Parameters
    ----------
    scans : one for each orientation, on one grid, each with its local field, the B0 direction in its
        geometry, and its mask; one without a mask has that of the first. Noise maps: all or none.
    step : of the stage "orientations"; None is COSMOS with its defaults
    device : as in :func:`reconstruct`
    reference : "brain", "none", or a region (i, j, k), zero outside

    Raises
    ------
    InputError
        When the scans cannot be used together.
    """
    step = step or make_step("orientations", "cosmos")
    if step.stage != "orientations":
        raise InputError(f"{step.entry.title} takes one field; give a method of several orientations")
    data = _together(scans)
    first = scans[0]
    region, region_name = _reference_region(reference, first, ("brain", "none"))
    with part(0, 1, step.entry.title) as run:
        outputs, own = run_step(step, data, first.geometry, first.acquisition, device)
    for text in run.notices:
        notice(text)
    name = f"susceptibility_{step.method}"
    inside = outputs.get("eroded_mask", data["mask"] != 0)
    where = None if region_name == "none" else inside if region is None else region
    chi, about = reference_map(outputs["susceptibility"], where, inside, region_name)
    announce("Done", 1.0)
    sources = {
        f"{kind}_{n}": scan.sources.get(kind) or describe_array(array)
        for n, scan in enumerate(scans, 1)
        for kind, array in scan.arrays().items()
    }
    sources["b0_directions"] = describe_array(data["b0_directions"])  # themselves, they are in the step
    if region is not None:
        sources["reference"] = describe_array(region)
    notes = list(dict.fromkeys(text for scan in scans for text in scan.notes))
    decisions = list(dict.fromkeys(text for scan in scans for text in scan.decisions))
    own["result"] = name
    record = make_record(sources, first.geometry, first.acquisition, [own], {name: about}, notes, decisions)
    maps = {n: values for n, values in outputs.items() if n != "susceptibility"}
    return Result(first, {**maps, name: chi}, record)


def _together(scans: Sequence[Scan]) -> dict[str, np.ndarray | None]:
    """The inputs of a method of several orientations."""
    if any(scan.local_field is None for scan in scans):
        raise InputError("an orientation has no local field; remove its background first")
    if scans[0].mask is None:
        raise InputError("the mask is missing; give one for all fields, or one for each")
    sizes = [scan.geometry.voxel_size_mm for scan in scans]
    if not np.allclose(sizes, sizes[0], rtol=1e-3):  # headers are rounded
        raise InputError("the fields differ in voxel size; register them to one grid")
    noises = [scan.noise for scan in scans if scan.noise is not None]
    if noises and len(noises) < len(scans):
        raise InputError(
            f"there are noise maps for {len(noises)} of {len(scans)} fields; give all or none of them"
        )
    masks = [scan.mask for scan in scans if scan.mask is not None]
    several = len(masks) > 1
    if several:
        masks = [scans[0].mask if scan.mask is None else scan.mask for scan in scans]
    return {
        "local_fields": stacked([scan.local_field for scan in scans]),
        "b0_directions": np.array([scan.geometry.b0_direction for scan in scans], np.float32),
        "mask": np.any(stacked(masks), axis=0),
        "masks": stacked(masks) if several else None,
        "noises": stacked(noises) if noises else None,
    }


def stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """One array (orientation, i, j, k); not copied where it is one already.

    Raises
    ------
    InputError
        When the shapes differ.
    """
    if isinstance(arrays, np.ndarray):
        return arrays
    shapes = {np.shape(array) for array in arrays}
    if len(shapes) != 1:
        raise InputError(f"the orientations have the shapes {sorted(shapes)}; register them to one grid")
    return np.stack(list(arrays))


def _reference_region(
    reference: str | np.ndarray, scan: Scan, references: Sequence[str] = ("brain", "csf", "none")
) -> tuple[np.ndarray | None, str]:
    if isinstance(reference, str):
        if reference not in references:
            raise InputError(f"reference is {reference!r}; it must be {', '.join(references)} or a region")
        if reference == "csf":
            check_echoes(np.shape(scan.magnitude) or None, scan.acquisition)
        return None, reference
    if reference.shape != scan.geometry.shape:
        raise InputError(
            f"the reference region is {reference.shape} voxels, but the scan is {scan.geometry.shape}; "
            "they must match"
        )
    return reference, "region"


def _free_name(name: str, taken: Iterable[str]) -> str:
    """``name``, numbered where a method stands in the chain more than once."""
    number = sum(n == name or n.rpartition("-")[0] == name for n in taken)
    return f"{name}-{number + 1}" if number else name

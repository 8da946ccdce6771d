"""The paragraph of methods that a paper would hold, for exactly the steps run, with its references."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from napari_metaqsm.reading.study import Study
from napari_metaqsm.report.citations import References, dois_in
from napari_metaqsm.report.consensus import DOI as CONSENSUS
from napari_metaqsm.report.consensus import NOT_KNOWN, acquisition_facts, voxel_text
from napari_metaqsm.report.steps import (
    Run,
    inputs_of,
    number_text,
    parameter_text,
    reference_of,
    runs_of,
    software_of,
)

NAPARI, PYTORCH = "10.5281/zenodo.3555620", "10.48550/arXiv.1912.01703"
# How a sentence calls a method; one that is not here is called by its title.
SPOKEN = {
    ("field", "nonlinear_fit"): "a nonlinear fit of the complex signal of all echoes",
    ("field", "weighted_mean"): "a weighted mean of the unwrapped echoes",
    ("mask", "brain"): "a network for brain extraction (deepbet)",
    ("mask", "phase_quality"): "a threshold on the quality of the phase",
    ("mask", "threshold"): "a threshold on the magnitude",
    ("background", "lbv"): "the Laplacian boundary value method (LBV)",
    ("background", "pdf"): "projection onto dipole fields (PDF)",
    ("background", "resharp"): "regularised spherical mean filtering (RESHARP)",
    ("background", "vsharp"): "spherical mean filtering with several radii (V-SHARP)",
    ("inversion", "ilsqr"): "least squares with removal of streaks (iLSQR)",
    ("inversion", "l2"): "closed-form inversion with L2 regularisation",
    ("inversion", "medi"): "morphology enabled dipole inversion (MEDI)",
    ("inversion", "metaqsm"): "the network Meta-QSM",
    ("inversion", "mesaqsm"): "the network Mesa-QSM, of one voxel size,",
    ("inversion", "nonlinear_tv"): "nonlinear inversion with total variation",
    ("inversion", "tkd"): "truncated k-space division (TKD)",
    ("inversion", "tv"): "inversion with total variation (TV)",
    ("orientations", "cosmos"): "COSMOS",
}
# What further works a value of a parameter is from.
_ALSO: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("unwrapping", lambda v: v == "quality-guided", "10.1002/mrm.28563"),
    ("unwrapping", lambda v: v == "scikit-image", "10.1364/AO.46.006623"),
    ("unwrapping", lambda v: v == "laplacian", "10.1364/OL.28.001194"),
    ("offset", lambda v: v == "smooth", "10.1002/mrm.26963"),
    ("psf_correction", lambda v: v is True, "10.1002/mrm.24405"),
    ("merit", lambda v: v is True, "10.1002/mrm.24272"),
    ("csf_weight", lambda v: isinstance(v, (int, float)) and v > 0, "10.1002/mrm.26946"),
)
_SENTENCES = {
    "field": "The total field was estimated by",
    "mask": "The mask was made by",
    "background": "The background field was removed by",
    "inversion": "Susceptibility was computed from the local field by",
    "orientations": "Susceptibility was computed from the local fields of several head orientations by",
}
# Inputs that a chain may begin with, and the stage that makes them otherwise.
_GIVEN = (
    ("total_field", "the total field", "field"),
    ("local_field", "the local field", "background"),
    ("mask", "the mask", "mask"),
)
# Zero of a map, by the name that its record has for the region.
_ZERO = {
    "brain": "the mean of the whole brain mask",
    "whole brain": "the mean of the whole brain mask",
    "csf": "the mean of cerebrospinal fluid in the ventricles",
    "region": "the mean of a region that was given",
}
_TOLD_PACKAGES = ("python", "torch", "numpy", "scipy")
_PACKAGE_NAMES = {"python": "Python", "torch": "PyTorch", "numpy": "NumPy", "scipy": "SciPy"}


@dataclass(frozen=True)
class Methods:
    """What was done, in words.

    Parameters
    ----------
    paragraph : English sentences, with numbers of references in brackets
    references : the works, in the order of their numbers
    bibtex : their entries, in that order
    """

    paragraph: str
    references: tuple[str, ...]
    bibtex: str

    @property
    def text(self) -> str:
        """The paragraph and its references, to paste."""
        works = "\n".join(f"[{n}] {work}" for n, work in enumerate(self.references, 1))
        return f"{self.paragraph}\n\n{works}\n" if works else f"{self.paragraph}\n"


def methods_of(study: Study, scanner: Mapping[str, Any] | None = None) -> Methods:
    """The paragraph for the steps behind the maps of ``study``.

    Parameters
    ----------
    scanner : see :func:`consensus.acquisition_facts`
    """
    works = References()
    runs = runs_of(study)
    sentences = [_data_sentence(study, scanner), _given_sentence(study, runs)]
    stages = list(dict.fromkeys(run.stage for run in runs))
    for stage in stages:
        of = [run for run in runs if run.stage == stage]
        several = stage != "inversion" and len(of) > 1
        told = [_spoken_run(run, works, for_maps=several) for run in of]
        start = _SENTENCES.get(stage, f"The step {stage!r} was run by")
        sentences.append(f"{start} {_and(told)}.")
        sentences += [text for run in of if (text := _erosion_sentence(run))]
    known = {title for run in runs for title in run.maps}
    unknown = [title for title in study.maps if title not in known]
    if unknown:
        sentences.append(
            f"How {_and(unknown)} {'was' if len(unknown) == 1 else 'were'} made is not recorded."
        )
    sentences += _zero_sentences(study)
    sentences.append(_software_sentence(study, works))
    sentences.append(f"What is reported follows the consensus of the field{works.cite([CONSENSUS])}.")
    paragraph = " ".join(sentence for sentence in sentences if sentence)
    return Methods(paragraph, tuple(work.text for work in works.works), works.bibtex())


def cited(run: Run) -> list[str]:
    """The DOIs of a step: of its method, and of what its parameters chose."""
    entry = run.entry
    dois = dois_in(run.reference or (entry.reference if entry else ""))
    return list(dict.fromkeys([*dois, *(doi for name in run.parameters for doi in _also(run, name))]))


# ------------------------------------------------------------------------------------ sentences
def _also(run: Run, name: str) -> list[str]:
    value = run.parameters[name]
    return [doi for parameter, chosen, doi in _ALSO if parameter == name and chosen(value)]


def _spoken_run(run: Run, works: References, for_maps: bool = False) -> str:
    entry = run.entry
    name = SPOKEN.get((run.stage, run.method), run.title)
    cite = works.cite(dois_in(run.reference or (entry.reference if entry else "")))
    told = [
        parameter_text(run, parameter) + works.cite(_also(run, parameter))
        for parameter in run.parameters
        if parameter_text(run, parameter)
    ]
    told += [f"in place of the {_word(n)}: {text}" for n, text in run.stand_ins.items() if n in ("noise",)]
    if for_maps:
        told.append(f"for {_and(list(run.maps))}")
    return f"{name}{cite}" + (f" ({'; '.join(told)})" if told else "")


def _data_sentence(study: Study, scanner: Mapping[str, Any] | None) -> str:
    facts = {fact.name: fact.value for fact in acquisition_facts(study, scanner) if not fact.missing}
    field, maker = facts.get("Field strength"), facts.get("Vendor")
    where = (f" at {field}" if field else "") + (f" on a {maker} scanner" if maker else "")
    told = [facts[n] for n in ("Scanner model", "Sequence type") if n in facts]
    told += [f"TR {facts['Repetition time']}"] if "Repetition time" in facts else []
    times = [number_text(round(1000 * t, 4)) for t in study.acquisition.echo_times_s or ()]
    if times:
        told.append(f"{len(times)} echo{'es' if len(times) > 1 else ''}")
        told.append(f"TE {_and(times)} ms")
    told += [f"flip angle {facts['Flip angle']}"] if "Flip angle" in facts else []
    told += [f"bandwidth {facts['Pixel bandwidth']} per pixel"] if "Pixel bandwidth" in facts else []
    return f"Data were acquired{where} ({'; '.join([*told, f'voxels {voxel_text(study.geometry)}'])})."


def _given_sentence(study: Study, runs: list[Run]) -> str:
    """What the steps began with, where that is not the phase."""
    made = {run.stage for run in runs}
    given = [
        words
        for name, words, stage in _GIVEN
        if stage not in made and any(name in inputs_of(study, title) for title in study.maps)
    ]
    verb = "was" if len(given) == 1 else "were"
    return f"{_and(given).capitalize()} {verb} given." if given else ""


def _erosion_sentence(run: Run) -> str:
    if run.kept_percent is None or run.lost_mm is None:
        return ""
    return f"It left {run.kept_percent:.1f} % of the mask, {run.lost_mm:.1f} mm less at its rim."


def _zero_sentences(study: Study) -> list[str]:
    zeros: dict[str, list[str]] = {}
    for title in study.maps:
        about = reference_of(study, title)
        zeros.setdefault(zero_text(about), []).append(title)
    start = "Susceptibility is in ppm, positive where paramagnetic"
    if len(zeros) == 1:
        return [f"{start}; zero is {next(iter(zeros))}."]
    parts = [f"of {_and(titles)} {zero}" for zero, titles in zeros.items()]
    return [f"{start}; zero is {_and(parts)}."]


def zero_text(about: Mapping[str, Any]) -> str:
    """What susceptibility is zero, from the record of a map's reference."""
    region = str(about.get("region") or "")
    if not region:
        return NOT_KNOWN
    if region == "none":
        return "as the method gave it, not referenced"
    if region == "offset":
        return f"an offset of {number_text(about.get('mean_ppm', NOT_KNOWN))} ppm, taken off"
    return _ZERO.get(region, f"the mean of the region {region!r}")


def _software_sentence(study: Study, works: References) -> str:
    versions = software_of(study)
    own = versions.get("napari-metaqsm")
    if own is None:
        return ""
    napari = f"a plugin of napari{works.cite([NAPARI])}"
    told = [
        f"{_PACKAGE_NAMES[name]} {versions[name]}{works.cite([PYTORCH]) if name == 'torch' else ''}"
        for name in _TOLD_PACKAGES
        if name in versions
    ]
    return f"All was computed with napari-metaqsm {own}, {napari} ({', '.join(told)})."


def _word(name: str) -> str:
    return name.replace("_", " ")


def _and(parts: list[str]) -> str:
    if len(parts) < 2:
        return "".join(parts)
    # Parts that hold commas of their own are told apart by semicolons.
    comma = "; " if any(", " in part or "; " in part for part in parts) else ", "
    return f"{comma.join(parts[:-1])}{comma if comma == '; ' else ' '}and {parts[-1]}"

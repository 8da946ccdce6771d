"""What the images of a map say of themselves, whichever kind of object they are in."""

from __future__ import annotations

import datetime
import importlib.metadata
import re
import unicodedata
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from highdicom import ContributingEquipment
from highdicom.pm import RealWorldValueMapping
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from napari_metaqsm.io.dicom.grid import Grid
from napari_metaqsm.io.dicom.source import ImageReference

MANUFACTURER = "napari-metaqsm"
# DICOM's limits on LO, SH, CS and ST.
_LONG, _SHORT, _CODE, _TEXT = 64, 16, 16, 1024
# UCUM's own code; the standard's context group has it without brackets, which UCUM does not know.
_PPM = Code("[ppm]", "UCUM", "ppm")
# What the record calls the zero where nobody gave it another name.
_OWN_REGIONS = ("brain", "whole brain", "csf")
# Patient, and clinical trial with what was done to take the identity away.
_PATIENT_GROUPS = (0x0010, 0x0012)
# What highdicom's constructors ask for.
_ENTRUSTED = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
# Where the dates of the study were changed or removed, they say so.
_OF_DATES = "LongitudinalTemporalInformationModified"
_STUDY = ("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName")


@dataclass(frozen=True)
class Description:
    """One series to be written.

    Parameters
    ----------
    title : of the method
    derivation : how the map was made, in one paragraph
    window_ppm : black and white
    faceless : whether the map is known to be zero outside the brain
    made : when the series is said to have been made
    """

    title: str
    derivation: str
    number: int
    window_ppm: tuple[float, float]
    faceless: bool
    made: datetime.datetime
    series_uid: str = field(default_factory=lambda: generate_uid(prefix=None))

    def arguments(self, unit: str) -> dict[str, Any]:
        """What the constructors of both kinds of object are told of the series and of what made it."""
        return {
            "series_instance_uid": self.series_uid,
            "series_number": self.number,
            "series_description": self.named(unit),
            "sop_instance_uid": generate_uid(prefix=None),
            "instance_number": 1,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MANUFACTURER,
            "software_versions": version(),
            "transfer_syntax_uid": ExplicitVRLittleEndian,
            "content_date": self.made.date(),
            "content_time": self.made.time(),
            "series_date": self.made.date(),
            "series_time": self.made.time(),
        }

    @property
    def label(self) -> str:
        return re.sub(r"[^A-Z0-9_]+", "_", f"QSM {plain(self.title)}".upper())[:_CODE].strip("_")

    def named(self, unit: str) -> str:
        """Description of the series."""
        return f"QSM {plain(self.title)}"[: _LONG - len(unit) - 3].rstrip() + f" [{unit}]"


def describe(
    record: Mapping[str, Any], name: str, header: Dataset, deidentify: bool = False
) -> tuple[str, str, bool]:
    """What a record says of the map that it calls ``name``, or that its method's title calls so.

    Parameters
    ----------
    deidentify : leaves out the name of a region that someone typed; it may be that of a patient

    Returns
    -------
    title : of the method; empty where the record does not say
    derivation : the chain with its parameters, of at most 1024 ASCII characters; parameters that are
        text enough to hold a path are left out
    faceless : whether a mask of the brain was in the chain
    """
    steps = [s for s in record.get("steps") or () if isinstance(s, Mapping)]
    results = [s for s in steps if s.get("result") is not None]
    bare = re.sub(r" \(\d+\)$", "", name)  # of several maps of one method, titles are numbered
    named = [s for s in results if name in (s["result"], s.get("title")) or bare == s.get("title")]
    own = [s for s in steps if s.get("result") is None or s in named]
    last = named[-1] if named else {}
    title = plain(str(last.get("title") or ""))
    chain = "; ".join(_step(step) for step in own)
    references = record.get("reference")
    references = references if isinstance(references, Mapping) else {}
    about = references.get(last.get("result")) or references.get(name)
    made_by = (header.get("Manufacturer"), header.get("ManufacturerModelName"))
    scanner = " ".join(str(name) for name in made_by if name)
    text = f"Magnetic susceptibility, paramagnetic positive. {MANUFACTURER} {version()}"
    text += f" from images of {scanner}. " if scanner else ". "
    if any(s.get("stage") == "field" for s in own):
        text += _phase(record.get("acquisition"))
    text += f"{chain}." if chain else "What made it is not known."
    text += _zero(about, deidentify) if isinstance(about, Mapping) else ""
    faceless = any(s.get("stage") == "mask" and s.get("method") == "brain" for s in own)
    return title, plain(text)[:_TEXT], faceless


def _phase(acquisition: Any) -> str:
    """How the phase was read: a wrong sign or scale would turn or stretch the map, so it has to be seen."""
    known = acquisition if isinstance(acquisition, Mapping) else {}
    sign, tesla, times = known.get("phase_sign"), known.get("b0_tesla"), known.get("echo_times_s")
    said = []
    if isinstance(tesla, (int, float)):
        said.append(f"{tesla:g} T")
    if isinstance(times, Sequence) and times and all(isinstance(time, (int, float)) for time in times):
        plural = "s" if len(times) > 1 else ""
        said.append(f"echo time{plural} {', '.join(f'{1000 * time:.6g}' for time in times)} ms")
    if sign in (1, -1):
        said.append(f"phase read as {'growing' if sign == 1 else 'falling'} with the field")
    return f"{', '.join(said)}. " if said else ""


def _zero(about: Mapping[str, Any], deidentify: bool) -> str:
    region, mean = about.get("region"), about.get("mean_ppm")
    if region == "none":
        return " Not referenced."
    if region == "offset" and isinstance(mean, (int, float)):
        return f" {mean:g} ppm was subtracted."
    if not isinstance(region, str):
        return ""
    named = region in _OWN_REGIONS or (not deidentify and region != "region" and _is_word(region))
    return f" Zero is the mean of: {region if named else 'a region that was given'}."


def _step(step: Mapping[str, Any]) -> str:
    parameters = step.get("parameters")
    shown = [
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in (parameters.items() if isinstance(parameters, Mapping) else ())
        if isinstance(value, (bool, int, float)) or (isinstance(value, str) and _is_word(value))
    ]
    head = f"{step.get('stage')} {step.get('method')}"
    return f"{head} ({', '.join(shown)})" if shown else head


def _is_word(text: str) -> bool:
    """Whether it is one of a few choices, rather than a path, a name or an address."""
    return re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9 -]{0,30}", text) is not None


def plain(text: str) -> str:
    """ASCII, which every character set of a source can hold, without DICOM's separators."""
    text = unicodedata.normalize("NFKD", text)
    text = text.replace("χ", "chi").replace("−", "-").replace("\\", "/")
    text = text.encode("ascii", "ignore").decode("ascii")
    return " ".join(text.split())


def version() -> str:
    try:
        return importlib.metadata.version("napari-metaqsm")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


# -------------------------------------------------------------------------------- pieces of both
def acceptable(header: Dataset) -> Dataset:
    """The header as highdicom's constructors take it; :func:`restore` puts back what they refuse."""
    kept = deepcopy(header)
    for element in header:
        if element.VR == "SQ" and not element.value:  # optional sequences may be absent, but not empty
            del kept[element.tag]
    # Enhanced or not, patient and study are in the same modules.
    kept.SOPClassUID = MRImageStorage
    kept.pop("NumberOfFrames", None)
    for keyword in (*_ENTRUSTED, *_STUDY):
        if keyword not in kept:
            setattr(kept, keyword, "")
    kept.pop("SpecificCharacterSet", None)
    kept.PatientName = kept.ReferringPhysicianName = ""  # of one word it would be warned of
    if kept.PatientSex not in ("M", "F", "O", "", None):
        kept.PatientSex = ""
    for keyword in ("PatientBirthDate", "StudyDate"):
        if not re.fullmatch(r"\d{8}", str(kept[keyword].value or "")):
            setattr(kept, keyword, "")
    if not re.fullmatch(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?", str(kept.StudyTime or "")):
        kept.StudyTime = ""
    return kept


def restore(image: Dataset, header: Dataset) -> None:
    """Give ``image`` the patient and the study of the source as they stood there, right, wrong or retired."""
    for element in header:
        of_patient = element.tag.group in _PATIENT_GROUPS and not (element.VR == "SQ" and not element.value)
        if of_patient or element.keyword in (*_STUDY, _OF_DATES, "SpecificCharacterSet"):
            image.add(element)


def complete(image: Dataset, header: Dataset, derivation: str) -> None:
    """Add what both kinds of object say and no constructor is told: whose, of what, when, and how made."""
    restore(image, header)
    _add_body_part(image, header)
    image.PatientPosition = header.get("PatientPosition") or ""
    image.InstanceCreationDate, image.InstanceCreationTime = image.ContentDate, image.ContentTime
    image.ContributingEquipmentSequence = [this_software()]
    image.DerivationDescription = derivation[:_TEXT]
    image.DerivationCodeSequence = [derivation_code()]


def _add_body_part(image: Dataset, header: Dataset) -> None:
    """The body part of the source; where it is not known, neither is whether it has a side."""
    if header.get("BodyPartExamined"):
        image.add(header["BodyPartExamined"])
    side = header.get("Laterality")
    if side or not header.get("BodyPartExamined"):
        image.Laterality = side or ""


def add_compression(image: Dataset, header: Dataset) -> None:
    """Whether pixels were ever compressed with loss: what was made from such pixels says so for ever."""
    image.LossyImageCompression = "01" if header.get("LossyImageCompression") == "01" else "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if image.LossyImageCompression == "01" and header.get(keyword):
            image.add(header[keyword])


def thickness_of(header: Dataset, grid: Grid) -> float:
    """Of the slices, mm: that of the source where the map has its slices, else from one to the next."""
    spacing = round(grid.slice_spacing_mm, 5)
    try:
        return min(float(header.get("SliceThickness") or spacing), spacing)
    except (TypeError, ValueError):
        return spacing


def in_ppm(slope: float, lowest: float, highest: float) -> RealWorldValueMapping:
    """What a stored value is in ppm; the range is of floats for floats and of integers for integers."""
    return RealWorldValueMapping(
        lut_label="PPM",
        lut_explanation="Magnetic susceptibility in ppm, paramagnetic positive",
        unit=_PPM,
        value_range=(lowest, highest),
        slope=slope,
        intercept=0.0,
        quantity_definition=codes.DCM.MagneticSusceptibility,
    )


def this_software() -> ContributingEquipment:
    """The only equipment named: readers that take a maker wherever one stands would scale by his rules.

    dcm2niix does, and reads ppm where Philips stands in a sequence and ppb elsewhere; the derivation
    names the scanner instead.
    """
    return ContributingEquipment(
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=version(),
        purpose_of_reference=codes.DCM.ProcessingEquipment,
        contribution_description="Quantitative susceptibility mapping",
    )


def derived_from(image: ImageReference) -> Dataset:
    """An item of the source image sequence."""
    item = Dataset()
    item.ReferencedSOPClassUID = image.sop_class
    item.ReferencedSOPInstanceUID = image.sop_instance
    if image.frame is not None:
        item.ReferencedFrameNumber = image.frame
    item.PurposeOfReferenceCodeSequence = [coded(codes.DCM.SourceImageForImageProcessingOperation)]
    return item


def derivation_code() -> Dataset:
    return coded(codes.DCM.UnspecifiedMethodOfCalculation)


def coded(code: Any) -> Dataset:
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item

"""A source without its identity: only what is known to name nobody is kept.

An allow-list, after the Basic Application Level Confidentiality Profile (DICOM PS3.15, Annex E): whatever
is not in it, known or not, standard or private, does not reach the maps.
"""

from __future__ import annotations

import datetime
import secrets
from dataclasses import replace

import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from napari_metaqsm.io.dicom.derived import MANUFACTURER, coded, version
from napari_metaqsm.io.dicom.source import UIDS, Source

# How the image was made, by what kind of machine, and its size: codes and numbers, no free text.
_KEPT = (
    "SOPClassUID", "Modality", "Manufacturer", "ManufacturerModelName", "ImageType",
    "PatientPosition", "BodyPartExamined", "ScanningSequence", "SequenceVariant", "ScanOptions",
    "MRAcquisitionType", "EchoPulseSequence", "Spoiling", "RepetitionTime", "EchoTrainLength", "FlipAngle",
    "MagneticFieldStrength", "ImagingFrequency", "ImagedNucleus", "SliceThickness", "Rows", "Columns",
    "SeriesNumber", "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip
# A date is needed in places; that of the export would be near that of the scan.
NO_DATE = datetime.datetime(1900, 1, 1)


def deidentified(source: Source) -> Source:
    """The same images of nobody.

    The patient gets a random pseudonym, and each UID a random other, the same wherever it stood: the maps
    of one export belong together, and nothing leads back to the source. Sex, age, size and weight, dates,
    institution, equipment names and all text go.
    """
    pseudonym = f"QSM-{secrets.token_hex(4).upper()}"
    others: dict[str, str] = {}

    def other(uid: str) -> str:
        return others.setdefault(str(uid), generate_uid(prefix=None))

    originals = []
    for original in source.originals:
        images = tuple(replace(image, sop_instance=other(image.sop_instance)) for image in original.images)
        header = _header(original.header, pseudonym)
        for keyword in UIDS:
            if original.header.get(keyword):
                setattr(header, keyword, other(original.header[keyword].value))
        originals.append(replace(original, header=header, images=images))
    return Source(tuple(originals), source.series_numbers)


def _header(given: Dataset, pseudonym: str) -> Dataset:
    header = pydicom.Dataset()
    header.SpecificCharacterSet = "ISO_IR 100"
    for keyword in _KEPT:
        if keyword in given:
            header.add(given[keyword])
    header.PatientName = header.PatientID = pseudonym
    header.PatientBirthDate = header.PatientSex = ""
    header.PatientIdentityRemoved = "YES"
    header.DeidentificationMethod = f"{MANUFACTURER} {version()}: only listed attributes kept"
    header.LongitudinalTemporalInformationModified = "REMOVED"
    header.DeidentificationMethodCodeSequence = [coded(codes.DCM.BasicApplicationConfidentialityProfile)]
    return header

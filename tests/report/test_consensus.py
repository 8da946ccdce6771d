"""What a report says of an acquisition: the same whatever the axes, missing things named, nobody named."""

import itertools
import json

import numpy as np
import pytest

from napari_metaqsm.reading.study import Study
from napari_metaqsm.report.consensus import (
    NOT_KNOWN,
    acquisition_facts,
    echo_text,
    read_scanner,
)
from napari_metaqsm.scan import Acquisition, Geometry

GEOMETRY = Geometry((40, 50, 20), (1.0, 0.9, 3.0), (0.0, np.sin(0.1), np.cos(0.1)))


def facts_of(geometry=GEOMETRY, acquisition=None, scanner=None):
    study = Study(geometry, {"map": np.ones(geometry.shape, np.float32)}, acquisition or Acquisition())
    return {fact.name: fact for fact in acquisition_facts(study, scanner or {})}


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_sizes_are_told_in_the_patients_axes(axes):
    facts = facts_of(GEOMETRY.permuted(axes))
    assert facts["Voxel size"].value == "1 × 0.9 × 3 mm"
    assert facts["Coverage and matrix"].value == "40 × 45 × 60 mm, 40 × 50 × 20 as reconstructed"
    assert facts["Orientation"].value == "B0 5.7° from the superior–inferior axis of the volume"


@pytest.mark.parametrize(
    ("times", "text"),
    [
        (None, NOT_KNOWN),
        ((0.02,), "1, 20 ms"),
        ((0.005, 0.010, 0.015), "3, 5 : 5 : 15 ms"),
        ((0.0023, 0.0046), "2, 2.3 : 2.3 : 4.6 ms"),
        ((0.004, 0.012, 0.017), "3, at 4, 12, 17 ms"),
    ],
)
def test_echo_times_as_the_consensus_writes_them(times, text):
    assert echo_text(Acquisition(times)) == text


def test_what_is_essential_and_missing_is_named():
    facts = facts_of(acquisition=Acquisition(b0_tesla=3.0))
    assert facts["Field strength"].value == "3 T"
    missing = {name for name, fact in facts.items() if fact.essential and fact.missing}
    assert missing == {
        *("Vendor", "Sequence type", "Echoes, TE1 : ΔTE : TEmax", "Repetition time"),
        *("Acceleration", "Partial Fourier"),
    }


def test_sidecars_tell_of_the_scanner_and_of_nobody(scan_folder):
    scanner = read_scanner({"phase": str(scan_folder / "part-phase.nii.gz")})
    facts = facts_of(scanner=scanner)
    assert facts["Vendor"].value == "Siemens"
    assert facts["Scanner model"].value == "Prisma"
    assert facts["Sequence type"].value == "3D gradient echo"
    assert facts["Repetition time"].value == "35 ms"
    assert facts["Flip angle"].value == "15°"
    told = json.dumps(scanner) + " ".join(fact.value for fact in facts.values())
    for private in ("Somebody", "0815", "hospital", "2024"):
        assert private not in told


@pytest.mark.parametrize("content", ["no JSON", "[1]", '{"FlipAngle": "much", "Manufacturer": {"a": 1}}'])
def test_a_sidecar_that_cannot_be_read_tells_nothing(tmp_path, content):
    (tmp_path / "phase.json").write_text(content)
    scanner = read_scanner({"phase": str(tmp_path / "phase.nii.gz"), "magnitude": ""})
    facts = facts_of(scanner=scanner)
    assert facts["Flip angle"].missing
    assert facts["Vendor"].missing


def test_acceleration_and_polarity_are_put_into_words():
    scanner = {
        "ParallelAcquisitionTechnique": "GRAPPA",
        "ParallelReductionFactorInPlane": 2,
        "BipolarReadout": False,
        "PartialFourier": 0.875,
    }
    facts = facts_of(scanner=scanner)
    assert facts["Acceleration"].value == "GRAPPA, 2 in plane"
    assert facts["Echo polarity"].value == "monopolar"
    assert facts["Partial Fourier"].value == "0.875"

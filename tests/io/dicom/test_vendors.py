"""Phase of each vendor, made, converted by dcm2niix and read by our rule, is the phase that was put in."""

import json
import shutil
import subprocess
from pathlib import Path

import made
import numpy as np
import pydicom
import pytest
from made import OBLIQUE, SAGITTAL, VENDORS, given_axes
from made_enhanced import enhanced

from napari_metaqsm.field.scaling import phase_in_radians
from napari_metaqsm.io.complex_parts import magnitude_and_phase
from napari_metaqsm.io.dicom.facts import Facts
from napari_metaqsm.io.dicom.vendors import phase_sign, rule_for
from napari_metaqsm.scan import Acquisition

MAGNITUDE, PHASE = made.phantom()
SIGNAL = MAGNITUDE[0] > 0.5
# 12 bits to a circle, with Philips' rounded slope
HALF_A_STEP = 2.5e-3


def convert(folder: Path) -> dict[str, Path]:
    """NIfTI files of the first echo by part, as dcm2niix writes them with its defaults."""
    dcm2niix = pytest.importorskip("dcm2niix").bin
    out = folder.with_name(f"{folder.name}_nifti")
    out.mkdir()
    command = [dcm2niix, "-b", "y", "-f", "%s_%d", "-o", str(out), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    found = {}
    for path in out.glob("*.nii"):
        said = json.loads(path.with_suffix(".json").read_text())
        if said["EchoTime"] == 0.005:
            types = {"PHASE": "phase", "REAL": "real", "IMAGINARY": "imaginary"}
            found[types.get(said["ImageType"][-1], "magnitude")] = path
    return found


def facts(path: Path, part: str) -> Facts:
    """What the header of one file says."""
    header = pydicom.dcmread(path, stop_before_pixels=True)
    frames = header.get("PerFrameFunctionalGroupsSequence")
    scale, private = header, {}
    if frames:
        phase = [f for f in frames if f.MRImageFrameTypeSequence[0].ComplexImageComponent == part.upper()]
        scale = phase[0].PixelValueTransformationSequence[0]
    elif (0x2005, 0x100E) in header:
        private["2005,100e"] = header[0x2005, 0x100E].value
    rescale = None
    if "RescaleSlope" in scale:
        rescale = (float(scale.RescaleSlope), float(scale.RescaleIntercept))
    return Facts(
        manufacturer=header.Manufacturer, part=part, enhanced=bool(frames), rescale=rescale, private=private
    )


def error(phase: np.ndarray, true: np.ndarray = PHASE[0]) -> np.ndarray:
    """Differences of phase, rad, where there is signal."""
    return np.abs(np.angle(np.exp(1j * (phase - true))))[SIGNAL]


def from_phase(folder: Path, header: Path, affine: np.ndarray = OBLIQUE) -> tuple[np.ndarray, int]:
    """Phase of the first echo in radians by our rule, and the sign that the rule gave."""
    rule = rule_for(facts(header, "phase"))
    values = given_axes(convert(folder)["phase"], affine)
    acquisition = Acquisition(phase_sign=rule.phase_sign, phase_pi=rule.phase_pi)
    return phase_in_radians(values, acquisition)[0], rule.phase_sign


@pytest.mark.parametrize(
    ("vendor", "stored"),
    [*((vendor, None) for vendor in VENDORS), ("Siemens", "0…4095"), ("Canon", "mrad"), ("UIH", "0…4095")],
)
def test_stored_phase_comes_back_in_radians_with_its_sign(tmp_path, vendor, stored):
    files = made.classic(tmp_path / "in", MAGNITUDE, PHASE, OBLIQUE, vendor=vendor, stored=stored)
    phase, sign = from_phase(tmp_path / "in", files["phase", 0, 0])
    assert error(phase).max() < HALF_A_STEP
    assert sign == (-1 if vendor == "GE" else 1)


@pytest.mark.parametrize("vendor", ["Siemens", "Philips", "GE"])
def test_enhanced_phase_comes_back_in_radians_with_its_sign(tmp_path, vendor):
    files = enhanced(tmp_path / "in", MAGNITUDE, PHASE, SAGITTAL, vendor=vendor)
    phase, _ = from_phase(tmp_path / "in", files[0 if vendor == "Philips" else 1], SAGITTAL)
    assert error(phase).max() < HALF_A_STEP


@pytest.mark.parametrize("removed", ["scale slope", "scale slope and rescale"])
def test_philips_without_its_scale_slope_is_still_read_right(tmp_path, removed):
    """Anonymised files lack private elements; their display values are radians times 1000."""
    files = made.classic(tmp_path / "in", MAGNITUDE, PHASE, OBLIQUE, vendor="Philips")
    for path in files.values():
        image = pydicom.dcmread(path)
        image.remove_private_tags()
        if "rescale" in removed and float(image.RescaleIntercept) < 0:
            mapping = pydicom.Dataset()
            mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 1.53455433455433, -3142.0
            image.RealWorldValueMappingSequence = [mapping]
            del image.RescaleSlope, image.RescaleIntercept
        image.save_as(path)
    phase, _ = from_phase(tmp_path / "in", files["phase", 0, 0])
    assert error(phase).max() < HALF_A_STEP


@pytest.mark.parametrize("alternating", [True, False])
@pytest.mark.parametrize("vendor", ["GE", "Siemens", "Philips"])
def test_real_and_imaginary_parts_give_the_phase(tmp_path, vendor, alternating):
    parts = ("magnitude", "real", "imaginary")
    files = made.classic(
        tmp_path / "in", MAGNITUDE, PHASE, OBLIQUE, vendor=vendor, parts=parts, alternating=alternating
    )
    rule = rule_for(facts(files["real", 0, 0], "real"))
    found = {part: given_axes(path, OBLIQUE) for part, path in convert(tmp_path / "in").items()}
    told = None if alternating else rule.alternating_slices
    _, phase, negated, words, _ = magnitude_and_phase(found["real"], found["imaginary"], 2, told)
    assert negated == alternating, words
    assert rule.alternating_slices is (None if vendor == "GE" else False)
    assert rule.phase_pi == pytest.approx(np.pi)
    phase = rule.phase_sign * phase
    offset = np.angle(np.mean(np.exp(1j * (phase - PHASE[0]))[SIGNAL]))
    assert min(abs(offset), np.pi - abs(offset)) < 1e-3  # negated slices leave one constant pi
    assert error(phase - offset).max() < 5e-3


@pytest.mark.parametrize(
    ("manufacturer", "sign"),
    [
        ("GE MEDICAL SYSTEMS", -1), ("GE", -1), ("ge healthcare", -1), ("GEMS", -1), ("General Electric", -1),
        ("SIEMENS", 1), ("Siemens Healthineers", 1), ("Philips Medical Systems", 1), ("CANON_MEC", 1),
        ("TOSHIBA_MEC", 1), ("UIH", 1), ("United Imaging Healthcare", 1), ("GENESIS", 1), ("", 1),
    ],
)  # fmt: skip
def test_only_ge_stores_phase_inverted(manufacturer, sign):
    assert phase_sign(manufacturer) == rule_for(Facts(manufacturer, part="phase")).phase_sign == sign


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            Facts("GE MEDICAL SYSTEMS", part="phase"),
            "GE MEDICAL SYSTEMS: GE stores phase inverted",
        ),
        (Facts("GE", part="real"), "whether their sign alternates from slice to slice is told from the data"),
        (
            Facts("SIEMENS", part="phase", rescale=(2, -4096)),
            "intercept -4096, so that 4096 means pi",
        ),
        (Facts("SIEMENS", part="phase"), "no header tells the scale of the phase, so its range does"),
        (
            Facts("Philips", part="phase", private={"2005,100e": 651.7}),
            "scale slope (2005,100E) makes radians",
        ),
        (
            Facts("Philips", part="phase", rescale=(1.53, -3142)),
            "-3142, which is radians times 1000",
        ),
        (
            Facts("Philips", part="phase", enhanced=True),
            "or radians times 1000, which the range tells",
        ),
        (Facts("CANON_MEC", part="phase"), "assumed to grow with the field (--phase-sign -1 overrides)"),
        (Facts("UIH", part="phase"), "United Imaging documents no sign of phase, so it is assumed"),
        (
            Facts("HITACHI", part="phase"),
            "HITACHI: no rule is known for it, so phase is assumed",
        ),
        (Facts(part="phase"), "no manufacturer is stated: no rule is known"),
    ],
)
def test_a_decision_names_its_evidence_and_what_overrides_it(found, said):
    assert said in rule_for(found).decision


def test_a_scale_that_is_none_of_the_known_ones_is_not_guessed():
    for rescale in ((1.0, 0.0), (2.0, -4000.0), (1.0, -1024.0), (-2.0, 4096.0), (0.0, 0.0)):
        assert rule_for(Facts("SIEMENS", part="phase", rescale=rescale)).phase_pi is None
    # the converter goes by the rescale, so a mapping beside it says nothing
    both = Facts("Philips", part="phase", rescale=(1.0, 0.0), real_world=(0.00153, -3.142))
    assert rule_for(both).phase_pi is None


@pytest.mark.parametrize("vendor", VENDORS)
def test_what_is_made_is_valid_dicom(tmp_path, vendor):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    files = made.classic(tmp_path, MAGNITUDE, PHASE, OBLIQUE, vendor=vendor, parts=made.PARTS)
    some = [files[part, 1, 3] for part in made.PARTS]
    some += enhanced(tmp_path / "enhanced", MAGNITUDE, PHASE, OBLIQUE, vendor=vendor)
    for path in some:
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        wrong = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        assert wrong == [], path.name

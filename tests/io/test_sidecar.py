"""What a JSON sidecar may say, and what it may not."""

import json

import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.sidecar import Sidecar, read_sidecar, sidecar_path


def sidecar(tmp_path, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "x.json").write_text(text)
    return read_sidecar(tmp_path / "x.nii.gz")


def test_the_file_beside_it_is_meant(tmp_path):
    assert sidecar_path("a/b.c.nii.gz").name == "b.c.json"
    assert sidecar_path("a/b.nii").name == "b.json"
    assert read_sidecar(tmp_path / "none.nii") == Sidecar()


def test_what_is_said_is_read(tmp_path):
    found = sidecar(
        tmp_path,
        {
            "EchoTime": 0.0046,
            "EchoTime1": 0.00519,
            "EchoTime2": 0.00765,
            "MagneticFieldStrength": 3,
            "ImagingFrequency": 127.748512,
            "Manufacturer": "Philips",
            "B0_dir": [0, 0.1, 1],
            "ImageType": ["ORIGINAL", "PRIMARY", "P", "ND", "Phase"],
            "EchoNumber": 2,
            "Units": "Hz",
        },
    )
    assert found == Sidecar(
        file="x.json",
        echo_times_s=(0.0046,),
        difference_s=0.00246,
        b0_tesla=3.0,
        imaging_frequency_mhz=127.748512,
        manufacturer="Philips",
        b0_direction=(0.0, 0.1, 1.0),
        image_type=("ORIGINAL", "PRIMARY", "P", "ND", "PHASE"),
        echo_number=2,
        units="Hz",
    )
    assert found.role == "phase_difference"


@pytest.mark.parametrize("value", ["123 MHz", -1, 0, None, [123.25], float("nan"), True])
def test_an_imaging_frequency_that_cannot_be_meant_is_passed_over(tmp_path, value):
    assert sidecar(tmp_path, {"ImagingFrequency": value}).imaging_frequency_mhz is None


def test_how_the_phase_is_to_be_read_is_taken_from_our_own_key(tmp_path):
    found = sidecar(tmp_path, {"MetaQSM": {"phase_sign": -1, "phase_pi": 4096}})
    assert (found.phase_sign, found.phase_pi) == (-1, 4096.0)


@pytest.mark.parametrize(
    ("types", "role"),
    [(["M", "FFE"], "magnitude"), (["PHASE MAP", "P"], "phase"), (["T1", "MIXED"], None), ("M", None)],
)
def test_the_image_type_tells_the_role(tmp_path, types, role):
    assert sidecar(tmp_path, {"ImageType": types}).role == role


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"EchoTime": 20},
            r"EchoTime is 20; it must lie in \(0, 0.5\] seconds; that looks like milliseconds \(0.02 s\)",
        ),
        ({"EchoTime": 0}, "EchoTime is 0"),
        ({"EchoTime": -0.004}, "EchoTime is -0.004"),
        ({"EchoTime": "0.004"}, "EchoTime is '0.004'; it must be a number"),
        ({"EchoTime": True}, "EchoTime is True"),
        ({"EchoTime": [0.004, 8]}, "EchoTime is 8"),
        ({"EchoTime": [0.004] * 2000}, "2000 values"),
        ('{"EchoTime": NaN}', "EchoTime is nan"),
        ('{"EchoTime": 1e999}', "EchoTime is inf"),
        ('{"EchoTime": 1' + "0" * 400 + "}", "hundreds of digits"),
        ({"EchoTime1": 0.008, "EchoTime2": 0.004}, "longer than EchoTime1"),
        ({"MetaQSM": "inverted"}, "MetaQSM is inverted; it must be a JSON object"),
        ({"MetaQSM": {"phase_sign": 0}}, "phase_sign is 0; it must be 1 or -1"),
        ({"MetaQSM": {"phase_sign": True}}, "phase_sign is True"),
        ({"MetaQSM": {"phase_sign": [-1]}}, "phase_sign is"),
        ({"MetaQSM": {"phase_pi": -3.14}}, "phase_pi is -3.14"),
        ({"MetaQSM": {"phase_pi": "pi"}}, "phase_pi is 'pi'; it must be a number in stored values"),
        ({"MagneticFieldStrength": 0}, "MagneticFieldStrength is 0"),
        ({"MagneticFieldStrength": 30000}, "tesla"),
        ({"MagneticFieldStrength": {"value": 3}}, "must be a number"),
        ({"B0_dir": [0, 0, 0]}, "must point along B0"),
        ({"B0_dir": "z"}, "three numbers"),
        ({"B0_dir": [0, 0, None]}, "must be a number"),
        ("{", "no readable JSON"),
        ("[1, 2]", "must hold a JSON object"),
        ("[" * 100_000, "no readable JSON"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as caught:
        sidecar(tmp_path, content)
    assert str(caught.value).startswith("x.json")
    assert len(str(caught.value)) < 400


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(InputError, match="no readable JSON"):
        read_sidecar(tmp_path / "x.nii")

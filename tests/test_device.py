"""Which device is chosen, and what a full one leads to."""

import pytest
import torch

from napari_metaqsm.device import choose_device, with_fallback
from napari_metaqsm.errors import InputError
from napari_metaqsm.method import running


def test_auto_is_the_fastest_there_is():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("name", "message"), [("tpu", "must be one of auto"), ("mps", "this machine has none")]
)
def test_unknown_and_missing_devices_are_refused(name, message):
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(InputError, match=message):
        choose_device(name)


def test_a_full_device_falls_back_to_the_cpu_and_says_so():
    full = torch.device("meta")
    asked = []

    def compute(device):
        asked.append(device.type)
        if device == full:
            raise torch.OutOfMemoryError("full")
        return torch.ones(2, device=device)

    with running() as run:
        result, used = with_fallback(compute, full)
    assert asked == ["meta", "cpu"]
    assert used.type == result.device.type == "cpu"
    assert run.notices == ["meta ran out of memory; computed on the CPU instead"]


def test_a_full_cpu_is_an_error():
    def compute(device):
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        with_fallback(compute, torch.device("cpu"))

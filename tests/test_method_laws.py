"""The laws that every registered method obeys, whatever it computes.

Inputs are made from the names a method asks for, so a new file in a stage's folder is tested by being there.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_metaqsm.errors import Cancelled
from napari_metaqsm.method import STAGES, methods, running
from napari_metaqsm.network.checkpoint import write_weights
from napari_metaqsm.network.unet import Architecture, UNet
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.pipeline import make_step, run_step
from napari_metaqsm.scan import Acquisition, Geometry
from napari_metaqsm.simulation.acquisition import echo_signal
from napari_metaqsm.simulation.shapes import sphere

# Odd and even, anisotropic, oblique; wide enough for a sphere of 6 mm inside the mask.
GEOMETRY = Geometry((28, 25, 15), (1.0, 1.2, 2.0), (0.2, -0.1, 1.0), "RAS")
ACQUISITION = Acquisition(echo_times_s=(0.004, 0.009, 0.013), b0_tesla=3.0)
B0_DIRECTIONS = ((0.2, -0.1, 1.0), (-0.3, 0.0, 1.0), (0.1, 0.4, 1.0), (0.0, -0.5, 1.0))
PERMUTATIONS = list(itertools.permutations(range(3)))[1:]

# deepbet finds brains in heads alone; tests/mask shows it real ones.
NEEDS_A_HEAD = {"brain"}
METHODS = [entry for entry in methods() if entry.name not in NEEDS_A_HEAD]
LINEAR = [entry for entry in METHODS if entry.stage in ("background", "inversion", "orientations")]
ON_FIELDS = [entry for entry in METHODS if "mask" in (*entry.needs, *entry.takes)]


@pytest.fixture(scope="module")
def mesa_weights(tmp_path_factory):
    """Weights, never trained, of a small fixed-resolution network for voxels as in ``GEOMETRY``."""
    path = tmp_path_factory.mktemp("weights") / "mesaqsm_toy.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = UNet(Architecture(conditions=(), width=4, levels=3))
    write_weights(path, network, {"voxel_size_mm": GEOMETRY.voxel_size_mm, "tilt_degrees": 15.0})
    return path


@pytest.fixture(autouse=True)
def ship_them(mesa_weights, monkeypatch):
    """Those shipped refuse the toy's voxels, as they must."""
    monkeypatch.setattr("napari_metaqsm.inversion.mesaqsm.shipped_weights", lambda pattern: [mesa_weights])


def named(entry) -> str:
    return f"{entry.stage}-{entry.name}"


def make_data() -> dict[str, torch.Tensor]:
    """Every array a method may ask for: a bright ball with a strong source in it, and noise."""
    generator = torch.Generator().manual_seed(5)
    body, source = sphere(GEOMETRY, 13.0), sphere(GEOMETRY, 4.0, (2.0, -3.0, 1.0))
    mask = sphere(GEOMETRY, 12.0) > 0.5
    local_field = dipole_field(0.5 * source, GEOMETRY)
    total_field = local_field + 0.3 * torch.linspace(-1, 1, GEOMETRY.shape[0])[:, None, None]
    echoes = torch.stack(
        [
            echo_signal(body, 20.0 + 0 * body, total_field, ACQUISITION.b0_tesla, t)
            for t in ACQUISITION.echo_times_s
        ]
    )
    noise = 0.01 * torch.randn(2, *echoes.shape, generator=generator)
    echoes = echoes + torch.complex(*noise)
    turned = [dipole_field(0.5 * source, replace(GEOMETRY, b0_direction=b)) * mask for b in B0_DIRECTIONS]
    masks = mask.repeat(len(turned), 1, 1, 1)
    masks[:2, 8:10] = False
    return {
        "phase": echoes.angle(),
        "magnitude": echoes.abs(),
        "mask": mask,
        "total_field": total_field * mask,
        "local_field": local_field * mask,
        "noise": 0.01 + 0.01 * torch.rand(GEOMETRY.shape, generator=generator),
        "quality": body.clamp(0.05, 0.95),
        "local_fields": torch.stack(turned),
        "b0_directions": torch.tensor(B0_DIRECTIONS),
        "noises": 0.01 + 0.01 * torch.rand(len(turned), *GEOMETRY.shape, generator=generator),
        "masks": masks,
    }


def inputs_of(entry) -> list[str]:
    """What it needs and takes, but for where to begin: tests of a method show that it changes little."""
    return [n for n in (*entry.needs, *entry.takes) if n != "initial_susceptibility"]


def call(entry, data, geometry=GEOMETRY) -> dict[str, torch.Tensor]:
    """The method with its defaults on the arrays it needs and takes; what it gives, by name."""
    settings = {
        "geometry": geometry,
        "acquisition": ACQUISITION,
        "parameters": entry.make_parameters(),
    }
    wanted = {n: data[n] for n in inputs_of(entry)}
    with running():  # notices are not what is tested
        given = entry.function(**wanted, **{n: settings[n] for n in entry.settings})
    given = given if isinstance(given, tuple) else (given,)
    outputs = zip(STAGES[entry.stage], given, strict=True)
    return {name: values for name, values in outputs if values is not None}


def as_arrays(entry, data) -> dict[str, np.ndarray]:
    return {n: data[n].numpy() for n in inputs_of(entry)}


@pytest.mark.parametrize("entry", METHODS, ids=named)
def test_it_gives_what_its_stage_promises_and_leaves_its_inputs_alone(entry):
    data = make_data()
    outputs = call(entry, data)
    for name, before in make_data().items():
        assert torch.equal(data[name], before), name
    for name, values in outputs.items():
        assert tuple(values.shape) == GEOMETRY.shape, name
        assert values.dtype == (torch.bool if name.endswith("mask") else torch.float32), name
        assert values.isfinite().all(), name
        assert values.any(), name


@pytest.mark.parametrize("entry", METHODS, ids=named)
def test_twice_gives_the_same_and_being_watched_changes_nothing(entry):
    data = make_data()
    first = call(entry, data)
    heard = []
    with running(report=lambda fraction, label: heard.append((fraction, label))):
        step = run_step(
            make_step(entry.stage, entry.name), as_arrays(entry, data), GEOMETRY, ACQUISITION, "cpu"
        )
    for name, values in first.items():
        np.testing.assert_allclose(step.outputs[name], values.numpy(), rtol=0, atol=1e-6, err_msg=name)
    assert heard
    assert all(0 <= fraction <= 1 and label for fraction, label in heard)


@pytest.mark.parametrize("entry", METHODS, ids=named)
def test_cancel_stops_wherever_it_listens(entry):
    data = make_data()
    arrays, step = as_arrays(entry, data), make_step(entry.stage, entry.name)
    heard = []
    with running(report=lambda *said: heard.append(said)):
        run_step(step, arrays, GEOMETRY, ACQUISITION, "cpu")
    for asked in sorted({0, len(heard) // 2, len(heard) - 1}):
        count = itertools.count()
        with running(stopped=lambda c=count, a=asked: next(c) >= a), pytest.raises(Cancelled):
            run_step(step, arrays, GEOMETRY, ACQUISITION, "cpu")


@pytest.mark.parametrize("entry", LINEAR, ids=named)
def test_zero_in_gives_zero_out(entry):
    data = make_data()
    field = entry.needs[0]
    first = call(entry, {**data, field: torch.zeros_like(data[field])})[STAGES[entry.stage][0]]
    assert float(first.abs().max()) == 0


@pytest.mark.parametrize("entry", [m for m in METHODS if m.stage == "field"], ids=named)
def test_no_phase_gives_no_field(entry):
    data = make_data()
    total_field = call(entry, {**data, "phase": torch.zeros_like(data["phase"])})["total_field"]
    assert float(total_field.abs().max()) < 1e-6


@pytest.mark.parametrize("entry", ON_FIELDS, ids=named)
def test_maps_are_zero_outside_the_mask(entry):
    data = make_data()
    outputs = call(entry, data)
    mask = outputs.get("eroded_mask", data["mask"])
    assert not (mask & ~data["mask"]).any()
    for name, values in outputs.items():
        if name not in ("quality", "eroded_mask"):
            assert float(values[~mask].abs().max()) == 0, name


@pytest.mark.parametrize("entry", ON_FIELDS, ids=named)
def test_what_lies_outside_the_mask_changes_nothing_not_even_nan(entry):
    data = make_data()
    step, arrays = make_step(entry.stage, entry.name), as_arrays(entry, data)
    outside = ~arrays["mask"]
    changed = {n: a.copy() for n, a in arrays.items()}
    for name, array in changed.items():
        if name not in ("mask", "b0_directions"):
            array[..., outside] = np.where(np.arange(int(outside.sum())) % 2, 0.4, np.nan)
    with running():
        first = run_step(step, arrays, GEOMETRY, ACQUISITION, "cpu").outputs
        second = run_step(step, changed, GEOMETRY, ACQUISITION, "cpu").outputs
    # The phase offset is smoothed over the rim, whose quality depends a little on what lies beyond; so
    # does the residual, which is relative to the signal.
    tolerance = 1e-4 if entry.stage == "field" else 1e-5
    for name, values in first.items():
        if name not in ("quality", "residual"):
            inside = ... if name == "eroded_mask" else arrays["mask"]
            np.testing.assert_allclose(
                second[name][inside], values[inside], rtol=0, atol=tolerance, err_msg=name
            )


def in_order(array: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """With its spatial axes permuted; of directions, their components."""
    if array.ndim == 2:
        return array[:, axes]
    return array.permute((0, *(x + 1 for x in axes)) if array.ndim == 4 else axes).contiguous()


@pytest.mark.parametrize("entry", METHODS, ids=named)
def test_axes_in_another_order_give_the_same(entry):
    data = make_data()
    straight = call(entry, data)
    for axes in PERMUTATIONS:
        turned = {n: in_order(a, axes) for n, a in data.items()}
        outputs = call(entry, turned, GEOMETRY.permuted(axes))
        for name, values in straight.items():
            torch.testing.assert_close(
                outputs[name], values.permute(axes), rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}"
            )


@pytest.mark.parametrize("entry", LINEAR, ids=named)
def test_a_batch_is_the_same_as_a_loop(entry):
    data = make_data()
    field = entry.needs[0]
    fields = [data[field], -0.5 * data[field].flip(-3) * data["mask"]]
    together = call(entry, {**data, field: torch.stack(fields)})[STAGES[entry.stage][0]]
    for alone, batched in zip(fields, together, strict=True):
        expected = call(entry, {**data, field: alone})[STAGES[entry.stage][0]]
        torch.testing.assert_close(batched, expected, rtol=1e-4, atol=1e-6)

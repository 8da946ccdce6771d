"""How long methods take: measured on small heads, estimated for others, kept in a file that may be bad."""

import json
import math
import time
from dataclasses import dataclass

import numpy as np
import pytest
from torch import Tensor

from napari_metaqsm import method as registry_module
from napari_metaqsm import timing
from napari_metaqsm.errors import Cancelled, InputError
from napari_metaqsm.method import check_parameters, find_method, method, methods, parameter, running, steps
from napari_metaqsm.pipeline import make_step, run_step
from napari_metaqsm.scan import Geometry
from napari_metaqsm.timing import BOX_SHARE, Timed, Times, box_voxels, measure, spoken_time

SCAN = Geometry((96, 110, 40), (0.8, 0.8, 2.5), b0_direction=(0.1, 0, 1))


@dataclass(frozen=True)
class TimedParameters:
    """Of the method that is timed."""

    seconds_per_million: float = parameter(0.4, low=0, high=100, help="How slow it is")

    __post_init__ = check_parameters


@pytest.fixture
def slow(monkeypatch):
    """A method that takes so long for each voxel, and the voxels of its runs."""
    methods()
    monkeypatch.setattr(registry_module, "_REGISTRY", dict(registry_module._REGISTRY))
    ran = []

    @method("inversion", title="Slow", reference="doi:10.1000/1", kind="direct")
    def slow(local_field: Tensor, mask: Tensor, geometry: Geometry, parameters: TimedParameters) -> Tensor:
        """Direct: takes its time."""
        ran.append(local_field.numel())
        for _ in steps(10, "Waits"):
            time.sleep(0.005 + parameters.seconds_per_million * 1e-7 * local_field.numel())
        return local_field * mask

    return find_method("inversion", "slow"), ran


@pytest.fixture
def tkd():
    return find_method("inversion", "tkd")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "cache" / "times.json"


def n_log_n(voxels):
    return voxels * math.log2(voxels)


# --------------------------------------------------------------------------------- estimates
def test_nothing_is_guessed(tkd, file):
    assert Times(file).estimate(tkd, 10**6) is None
    assert spoken_time(None) == "not yet measured"


def test_one_run_is_scaled(tkd, file):
    times = Times(file)
    times.learn(tkd, Timed(10**5, 2.0, "cpu"))
    assert times.estimate(tkd, 10**5) == pytest.approx(2)
    assert times.estimate(tkd, 10**6) == pytest.approx(2 * n_log_n(10**6) / n_log_n(10**5))
    assert times.estimate(find_method("inversion", "l2"), 10**5) is None


def test_what_every_run_spends_is_not_scaled(tkd, file):
    times = Times(file)
    seconds = {n: 3.0 + 1e-7 * n_log_n(n) for n in (10**4, 10**5, 10**6, 4 * 10**6)}
    times.learn(tkd, *(Timed(n, seconds[n], "cpu") for n in (10**4, 10**6)))
    for n, expected in seconds.items():
        assert times.estimate(tkd, n) == pytest.approx(expected)
    assert times.estimate(tkd, 10) == pytest.approx(seconds[10**4])


def test_runs_of_a_size_refine_the_estimate_for_it_alone(tkd, file):
    times = Times(file)
    times.learn(tkd, Timed(10**4, 1.0, "cpu"), Timed(10**6, 8.0, "cpu"))
    for _ in range(6):
        times.learn(tkd, Timed(10**6, 4.0, "cpu"))
    assert times.estimate(tkd, 10**6) == pytest.approx(4, rel=0.05)
    assert times.estimate(tkd, 10**4) == pytest.approx(1)


def test_a_larger_run_that_was_shorter_does_not_lead_below_it(tkd, file):
    times = Times(file)
    times.learn(tkd, Timed(10**4, 2.0, "cpu"), Timed(10**5, 1.0, "cpu"))
    assert times.estimate(tkd, 10**8) == pytest.approx(1)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.02, "under 1 s"),
        (1.2, "about 1 s"),
        (8.4, "about 8 s"),
        (23.4, "about 25 s"),
        (57, "about 55 s"),
        (58, "about 1 min"),
        (124, "about 2 min"),
        (3590, "about 1 h"),
        (5400, "about 1.5 h"),
    ],
)
def test_times_are_said_in_round_numbers(seconds, said):
    assert spoken_time(seconds) == said


def test_the_box_around_a_mask_counts():
    mask = np.zeros((9, 8, 7), np.uint8)
    assert box_voxels(mask) == mask.size
    mask[2, 3, 1], mask[5, 3, 6] = 1, 3
    assert box_voxels(mask) == 4 * 1 * 6


# --------------------------------------------------------------------------------- measuring
def test_the_estimate_for_a_scan_is_within_a_factor_of_two(slow, file):
    entry, _ = slow
    times = Times(file)
    times.learn(entry, *measure(entry, SCAN))
    data = timing._small_head(SCAN)
    took = run_step(make_step("inversion", "slow"), data, SCAN).record["seconds"]
    assert 0.5 < times.estimate(entry, box_voxels(data["mask"])) / took < 2


def test_the_first_run_warms_up_and_a_long_one_is_the_last(slow, monkeypatch):
    entry, ran = slow
    monkeypatch.setattr(timing, "LONG_S", 0.15)
    small, large = measure(entry, SCAN)
    assert small.voxels < large.voxels < ran[-1]
    assert len(ran) == 1 + timing.REPEATS + 1
    assert ran[0] == ran[1] < ran[-1] == pytest.approx(timing.MEASURED_VOXELS[0], rel=0.1)


@pytest.mark.parametrize("voxels", [50_000, 800_000])
def test_the_head_is_as_large_as_the_scans_unless_the_method_refuses(slow, voxels):
    seen = []
    entry, _ = slow

    def look(geometry, parameters):
        seen.append(geometry)
        if len(seen) > 1:
            raise InputError("for 0.8 mm alone")

    step = make_step("inversion", "slow")
    object.__setattr__(entry, "check", look)
    first, second = (timing._small_scan(step, SCAN, voxels) for _ in range(2))
    assert np.multiply(first.shape, first.voxel_size_mm) == pytest.approx([76.8, 88, 100])
    assert math.prod(first.shape) == pytest.approx(voxels, rel=0.05)
    assert (second.shape, second.voxel_size_mm) == (first.shape, SCAN.voxel_size_mm)
    assert first.b0_direction == pytest.approx(SCAN.b0_direction)


def test_a_head_fills_its_part_of_the_grid():
    data = timing._small_head(SCAN)
    assert box_voxels(data["mask"]) / data["mask"].size == pytest.approx(BOX_SHARE, rel=0.6)
    assert 0.005 < np.std(data["local_field"][data["mask"]]) < 0.05  # ppm, as in a head


@pytest.mark.parametrize("name", ["tkd", "metaqsm"])
def test_real_methods_can_be_measured_whatever_the_scan(name, monkeypatch):
    monkeypatch.setattr(timing, "REPEATS", 1)
    monkeypatch.setattr(timing, "MEASURED_VOXELS", (20_000,))
    runs = measure(find_method("inversion", name), Geometry((40, 31, 9), (1, 1, 4), (0, 1, 0.2)))
    assert all(run.seconds > 0 and run.device == "cpu" and 0 < run.voxels < 20_000 for run in runs)


def test_measuring_can_be_stopped(slow):
    entry, ran = slow
    with running(stopped=lambda: len(ran) == 2), pytest.raises(Cancelled):
        measure(entry, SCAN)
    assert len(ran) == 2


def test_a_method_that_cannot_take_the_scan_says_so():
    with pytest.raises(InputError, match="no Mesa-QSM weights fit"):
        measure(find_method("inversion", "mesaqsm"), Geometry((64, 64, 64), (7.0, 1.0, 1.0)))


# ---------------------------------------------------------------------------------- the file
def test_times_are_kept_for_the_next_window_and_beside_those_of_another(tkd, file):
    l2 = find_method("inversion", "l2")
    first, second = Times(file), Times(file)
    first.learn(tkd, Timed(10**5, 2.0, "cpu"))
    second.learn(l2, Timed(10**5, 3.0, "cpu"))
    later = Times(file)
    assert later.estimate(tkd, 10**5) == pytest.approx(2)
    assert later.estimate(l2, 10**5) == pytest.approx(3)
    assert [path.name for path in file.parent.iterdir()] == ["times.json"]


def test_times_of_another_machine_stay_and_those_of_another_version_go(tkd, file, monkeypatch):
    Times(file).learn(tkd, Timed(10**5, 2.0, "cpu"))
    monkeypatch.setattr(timing, "_machine", lambda: "another machine")
    times = Times(file)
    assert times.estimate(tkd, 10**5) is None
    times.learn(tkd, Timed(10**5, 5.0, "cpu"))
    monkeypatch.setattr(timing, "_version", lambda: "99.0")
    times = Times(file)
    assert times.estimate(tkd, 10**5) is None
    times.learn(tkd, Timed(10**5, 7.0, "cpu"))
    monkeypatch.undo()
    assert Times(file).estimate(tkd, 10**5) == pytest.approx(2)
    assert len(json.loads(file.read_text())) == 2


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"a": 1}', '{"a": {"17": [1]}}', '{"a": {"17": [100000, -1.0]}}', "\0"]
)
def test_a_file_that_cannot_be_read_is_as_none(tkd, file, content):
    file.parent.mkdir()
    file.write_text(content)
    times = Times(file)
    assert times.estimate(tkd, 10**5) is None
    times.learn(tkd, Timed(10**5, 2.0, "cpu"))
    assert Times(file).estimate(tkd, 10**5) == pytest.approx(2)


def test_where_nothing_can_be_written_times_are_kept_in_memory(tkd, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    times = Times(tmp_path / "cache" / "times.json")
    times.learn(tkd, Timed(10**5, 2.0, "cpu"))
    assert times.estimate(tkd, 10**5) == pytest.approx(2)


def test_the_file_lies_in_the_users_cache():
    assert timing.times_file().name == "times.json"
    assert timing.times_file().parent.name == "napari-metaqsm"

"""Parameters, the registry, and how a running method is watched."""

import dataclasses

import pytest

from napari_metaqsm import method as module
from napari_metaqsm.errors import Cancelled, InputError, MetaQSMWarning
from napari_metaqsm.method import (
    STAGES,
    announce,
    check_parameters,
    find_method,
    method,
    methods,
    notice,
    parameter,
    parameter_infos,
    part,
    point,
    running,
    steps,
)


@dataclasses.dataclass(frozen=True)
class Some:
    threshold: float = parameter(0.2, low=0.01, high=2 / 3, unit="ppm", help="Smallest")
    rounds: int = parameter(5, low=1, help="Most")
    smooth: bool = parameter(False, help="Whether")
    kind: str = parameter("one", choices=("one", "two"), help="Which")
    shift: float = parameter(0.0, high=1.0, help="By")
    calm: float = parameter(0.0, low=-1, high=1, slider=("sharp", "calm"), help="How")
    weights: str = parameter("", file="*.safetensors", help="From")

    __post_init__ = check_parameters


# ------------------------------------------------------------------------------- parameters
def test_a_declaration_says_all_that_a_form_needs():
    infos = {info.name: info for info in parameter_infos(Some)}
    assert list(infos) == ["threshold", "rounds", "smooth", "kind", "shift", "calm", "weights"]
    threshold = infos["threshold"]
    assert (threshold.type, threshold.default, threshold.low, threshold.high) == (float, 0.2, 0.01, 2 / 3)
    assert (threshold.unit, threshold.help) == ("ppm", "Smallest")
    assert infos["kind"].choices == ("one", "two")
    assert (infos["calm"].slider, infos["calm"].file) == (("sharp", "calm"), "")
    assert (infos["weights"].slider, infos["weights"].file) == (None, "*.safetensors")
    assert parameter_infos(Some()) == parameter_infos(Some)


def test_values_and_their_strings_are_put_into_the_type():
    some = Some(threshold="0.1", rounds="7", smooth="Yes", kind="two", shift=-3)
    assert dataclasses.astuple(some) == (0.1, 7, True, "two", -3.0, 0.0, "")
    assert [type(v) for v in dataclasses.astuple(some)] == [float, int, bool, str, float, float, str]
    assert Some(rounds=3.0).rounds == 3
    assert Some(smooth="0").smooth is False
    assert Some(threshold=0.01).threshold == 0.01  # the ends belong to the range


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 0.0}, r"^threshold is 0\.0; it must lie in \[0\.01, 0\.666667\]$"),
        ({"threshold": "a"}, r"^threshold is 'a'; it must be a number$"),
        ({"threshold": None}, r"^threshold is None; it must be a number$"),
        ({"threshold": True}, r"^threshold is True; it must be a number$"),
        ({"threshold": float("nan")}, r"^threshold is nan; it must be finite$"),
        ({"shift": float("-inf")}, r"^shift is -inf; it must be finite$"),
        ({"shift": 2}, r"^shift is 2\.0; it must be at most 1$"),
        ({"rounds": 2.5}, r"^rounds is 2\.5; it must be a whole number$"),
        ({"rounds": float("inf")}, r"^rounds is inf; it must be a whole number$"),
        ({"rounds": 0}, r"^rounds is 0; it must be at least 1$"),
        ({"smooth": "maybe"}, r"^smooth is 'maybe'; it must be true or false$"),
        ({"kind": "three"}, r"^kind is 'three'; it must be one of one, two$"),
        ({"kind": 1}, r"^kind is 1; it must be text$"),
    ],
)
def test_unusable_values_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        Some(**values)


# --------------------------------------------------------------------------------- registry
@pytest.fixture
def registry(monkeypatch):
    """A registry of its own, so that what a test registers is forgotten."""
    monkeypatch.setattr(module, "_REGISTRY", {})
    monkeypatch.setattr(module, "_load_all", lambda: None)


def test_a_method_is_known_by_what_its_signature_asks_for(registry):
    @method(
        "inversion",
        title="Mine",
        reference="doi:1",
        stand_ins={"magnitude": "equal weights"},
        kind="iterative",
    )
    def mine(local_field, mask, geometry, parameters: Some, magnitude=None):
        """First line.

        More.
        """

    (entry,) = methods("inversion")
    assert entry is find_method("inversion", "mine")
    assert (entry.name, entry.title, entry.summary) == ("mine", "Mine", "First line.")
    assert (entry.needs, entry.takes) == (("local_field", "mask"), {"magnitude": "equal weights"})
    assert entry.settings == ("geometry", "parameters")
    assert entry.parameters is Some
    assert entry.function is mine


def test_an_optional_input_without_a_stand_in_is_refused(registry):
    def mine(local_field, geometry, parameters: Some, noise=None): ...

    with pytest.raises(TypeError, match=r"mine: each optional input needs a stand-in: \['noise'\]"):
        method("inversion", title="Mine", reference="doi:1")(mine)
    with pytest.raises(TypeError, match=r"needs a stand-in"):
        method("inversion", title="Mine", reference="doi:1", stand_ins={"mask": "all"})(mine)
    assert methods() == ()


def test_an_inversion_says_of_what_kind_it_is_and_nothing_else_does(registry):
    def mine(local_field, geometry, parameters: Some): ...

    with pytest.raises(TypeError, match=r"mine: kind is 'fast'; an inversion has one of direct, iterative"):
        method("inversion", title="Mine", reference="doi:1", kind="fast")(mine)
    with pytest.raises(TypeError, match=r"mine: kind is 'direct'"):
        method("background", title="Mine", reference="doi:1", kind="direct")(mine)
    assert methods() == ()


def test_an_unknown_stage_is_refused(registry):
    def mine(local_field, geometry, parameters: Some): ...

    with pytest.raises(TypeError, match=r"mine: stage is 'invert'; it must be one of field, mask"):
        method("invert", title="Mine", reference="doi:1")(mine)


def test_parameters_are_made_by_name_and_errors_name_the_method():
    entry = find_method("inversion", "tkd")
    assert entry.make_parameters(threshold=0.1).threshold == 0.1
    with pytest.raises(InputError, match=r"^tkd has no parameter 'treshold'; it has threshold, "):
        entry.make_parameters(treshold=0.1)
    with pytest.raises(InputError, match=r"^tkd: threshold is 9\.0; it must lie in"):
        entry.make_parameters(threshold=9)


def test_an_unknown_method_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"there is no inversion method 'medy'; there are .*\btkd\b"):
        find_method("inversion", "medy")


def test_methods_stand_in_the_order_of_the_stages():
    stages = [entry.stage for entry in methods()]
    assert stages == sorted(stages, key=list(STAGES).index)
    assert set(stages) == set(STAGES)


@pytest.mark.parametrize("entry", methods(), ids=lambda entry: f"{entry.stage}-{entry.name}")
def test_every_method_can_be_listed(entry):
    assert entry.summary.endswith(".")
    assert entry.title
    assert entry.reference.startswith("doi:10.")
    assert dataclasses.asdict(entry.make_parameters()) == {
        info.name: info.default for info in parameter_infos(entry.parameters)
    }
    for info in parameter_infos(entry.parameters):
        assert info.type in (float, int, bool, str)
        assert info.help
        assert not info.help.endswith(".")
        if info.slider:
            assert info.type is float
        if info.file:
            assert (info.type, info.default) == (str, "")
        if info.type in (float, int):
            assert info.low is not None
            assert info.high is not None


# -------------------------------------------------------------------- progress, cancel, notices
def test_steps_count_and_report():
    heard = []
    with running(report=lambda fraction, label: heard.append((fraction, label))):
        assert list(steps(4, "CG")) == [0, 1, 2, 3]
    assert heard == [(0.0, "CG"), (0.25, "CG"), (0.5, "CG"), (0.75, "CG")]


def test_steps_and_announce_work_unwatched():
    assert list(steps(3, "CG")) == [0, 1, 2]
    announce("FFT")


def test_steps_stop_where_the_user_asks():
    done = []

    def loop():
        for i in steps(10, "CG"):
            done.append(i)

    with running(stopped=lambda: len(done) == 3), pytest.raises(Cancelled, match="CG"):
        loop()
    assert done == [0, 1, 2]
    with running(stopped=lambda: True), pytest.raises(Cancelled, match="FFT"):
        announce("FFT")


def test_what_is_not_given_is_the_outer_runs_but_notices_stay_inside():
    heard = []
    with running(report=lambda fraction, label: heard.append(label), stopped=lambda: bool(heard)) as outer:
        with running() as inner:
            notice("odd")
            announce("once")
            with pytest.raises(Cancelled):
                announce("twice")
        assert inner.notices == ["odd"]
        assert outer.notices == []
    assert heard == ["once"]
    announce("after")  # nobody watches any more


def test_points_of_a_curve_are_kept_plotted_and_said_beside_the_loop():
    heard, plotted = [], []
    with running(lambda done, label: heard.append(label), plot=lambda *p: plotted.append(p)):
        with part(0, 2, "MEDI") as run:
            for index in steps(3, "CG"):
                if index != 1:
                    point("residual", 0.12345 / 10**index)
        assert run.curves == {"residual": [0.123, 0.00123]}
    assert heard == ["MEDI: CG", "MEDI: CG, residual 0.12", "MEDI: CG"]
    assert plotted == [("residual", 0, 0.123), ("residual", 1, 0.00123)]
    point("residual", 1.0)  # nobody watches


def test_a_part_reports_its_share():
    heard = []
    with running(report=lambda fraction, label: heard.append((fraction, label))), part(1, 4, "Field"):
        announce("fit", 0.5)
    assert heard == [(0.375, "Field: fit")]


def test_notices_are_kept_once_by_a_run_and_warn_without_one():
    with running() as run:
        notice("odd")
        notice("odd")
        notice("even")
    assert run.notices == ["odd", "even"]
    with pytest.warns(MetaQSMWarning, match="odd"):
        notice("odd")

"""The registry of methods, their typed parameters, and how a running method is watched.

A method is one file: a frozen dataclass of parameters and one pure function, decorated with
:func:`method`. Whatever lists methods (dock widget, command line, benchmark, documentation) reads
:func:`methods`; nothing else has to be told of a new file.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import pkgutil
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from napari_metaqsm.errors import Cancelled, InputError, MetaQSMWarning

# What each stage of the chain gives, in the order in which its methods return it.
STAGES: dict[str, tuple[str, ...]] = {
    "field": ("total_field", "noise", "residual", "quality"),
    "mask": ("mask",),
    "background": ("local_field", "eroded_mask"),
    "inversion": ("susceptibility",),
    # In place of an inversion, from the local fields of several head orientations; never in a chain.
    "orientations": ("susceptibility", "eroded_mask"),
}
# How an inversion comes to its map: by one formula, by steps that lower an objective, or by what a network
# has learned.
KINDS = ("direct", "iterative", "learned")
# The inversions that run where none is named: on the command line, in Python, and ticked in the window.
DEFAULT_INVERSIONS = ("tkd", "metaqsm")


# ------------------------------------------------------------------------------- parameters
@dataclass(frozen=True)
class ParameterInfo:
    """What a form, a table or a parser needs to know of one parameter."""

    name: str
    type: type
    default: Any
    low: float | None
    high: float | None
    choices: tuple[str, ...] | None
    unit: str
    help: str
    slider: tuple[str, str] | None
    file: str

    def check(self, value: Any) -> Any:
        """``value`` in the parameter's own type.

        Raises
        ------
        InputError
            When it is of another type, not finite, outside its range or not among the choices.
        """
        try:
            value = _converted(value, self.type)
        except (TypeError, ValueError, KeyError, OverflowError):
            kind = {float: "a number", int: "a whole number", bool: "true or false"}
            raise InputError(f"{self.name} is {value!r}; it must be {kind.get(self.type, 'text')}") from None
        if self.choices is not None and value not in self.choices:
            raise InputError(f"{self.name} is {value!r}; it must be one of {', '.join(self.choices)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{self.name} is {value}; it must be finite")
        low, high = self.low, self.high
        if (low is not None and value < low) or (high is not None and value > high):
            raise InputError(f"{self.name} is {value}; it must {_range_text(low, high)}")
        return value


def _range_text(low: float | None, high: float | None) -> str:
    if low is None:
        return f"be at most {high:g}"
    if high is None:
        return f"be at least {low:g}"
    return f"lie in [{low:g}, {high:g}]"


_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _converted(value: Any, kind: type) -> Any:
    if kind is bool:
        return _BOOLEANS[str(value).lower()]
    if isinstance(value, bool) or (kind is str and not isinstance(value, str)):
        raise TypeError
    if kind is int and float(value) != int(float(value)):
        raise ValueError
    return int(float(value)) if kind is int else kind(value)


def parameter(
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    unit: str = "",
    help: str,
    slider: tuple[str, str] | None = None,
    file: str = "",
) -> Any:
    """Declare a parameter of a method: a dataclass field with its range, unit and help.

    Parameters
    ----------
    slider : what the low and the high end are called; such a number is moved while its map is looked
        at, and the map follows
    file : of text that is the path of a file, the pattern of its name ("*.safetensors"); empty text, the
        default, stands for the file that is shipped
    """
    about = {"low": low, "high": high, "choices": choices, "unit": unit, "help": help}
    return field(default=default, metadata={**about, "slider": slider, "file": file})


def parameter_infos(parameters: Any) -> tuple[ParameterInfo, ...]:
    """The parameters that a parameter class (or an instance of it) declares."""
    cls = parameters if isinstance(parameters, type) else type(parameters)
    types = typing.get_type_hints(cls)
    return tuple(
        ParameterInfo(f.name, types[f.name], f.default, **f.metadata) for f in dataclasses.fields(cls)
    )


def check_parameters(self: Any) -> None:
    """The ``__post_init__`` of every parameter class: each value checked and put into its type."""
    for info in parameter_infos(self):
        object.__setattr__(self, info.name, info.check(getattr(self, info.name)))


# --------------------------------------------------------------------------------- registry
@dataclass(frozen=True)
class Method:
    """One registered method.

    ``needs`` are the data it cannot run without, ``takes`` those it can use, each with the
    documented stand-in that it falls back to (and that the record then names); ``settings`` are those
    of geometry, acquisition and parameters that it asks for. ``check`` refuses beforehand a geometry and
    parameters that do not go together. ``kind`` is one of ``KINDS`` for an inversion, else empty.
    """

    stage: str
    name: str
    title: str
    reference: str
    function: Callable[..., Any]
    parameters: type
    needs: tuple[str, ...]
    takes: Mapping[str, str]
    settings: tuple[str, ...]
    check: Callable[[Any, Any], object] | None
    kind: str

    @property
    def summary(self) -> str:
        """First line of the method's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n", 1)[0]

    def make_parameters(self, **values: Any) -> Any:
        """An instance of the parameter class.

        Raises
        ------
        InputError
            When a name is unknown or a value unusable; the message names the method.
        """
        known = [info.name for info in parameter_infos(self.parameters)]
        for name in values:
            if name not in known:
                raise InputError(
                    f"{self.name} has no parameter {name!r}; it has {', '.join(known) or 'none'}"
                )
        try:
            return self.parameters(**values)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from error


_REGISTRY: dict[tuple[str, str], Method] = {}
_SETTINGS = ("geometry", "acquisition", "parameters")


def method(
    stage: str,
    *,
    title: str,
    reference: str,
    stand_ins: Mapping[str, str] | None = None,
    check: Callable[[Any, Any], object] | None = None,
    kind: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as a method of ``stage`` under its own name.

    The function asks for its inputs by argument name (``local_field``, ``mask``, ``magnitude``, …,
    besides ``geometry``, ``acquisition`` and ``parameters``). An argument with a default of None is
    optional; ``stand_ins`` says in a few words what is used in its place. ``check`` takes geometry and
    parameters and raises ``InputError`` where the method would, so that a chain is refused before it runs.
    ``kind`` of an inversion is one of ``KINDS``.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        arguments = inspect.signature(function).parameters
        data = [a for a in arguments.values() if a.name not in _SETTINGS]
        optional = {a.name for a in data if a.default is None}
        if optional != set(stand_ins or {}):
            raise TypeError(f"{function.__name__}: each optional input needs a stand-in: {sorted(optional)}")
        entry = Method(
            stage=stage,
            name=function.__name__,
            title=title,
            reference=reference,
            function=function,
            parameters=typing.get_type_hints(function)["parameters"],
            needs=tuple(a.name for a in data if a.name not in optional),
            takes=dict(stand_ins or {}),
            settings=tuple(name for name in arguments if name in _SETTINGS),
            check=check,
            kind=kind,
        )
        if stage not in STAGES:
            raise TypeError(f"{function.__name__}: stage is {stage!r}; it must be one of {', '.join(STAGES)}")
        if (kind in KINDS) != (stage == "inversion"):
            raise TypeError(
                f"{function.__name__}: kind is {kind!r}; an inversion has one of {', '.join(KINDS)}"
            )
        _REGISTRY[stage, entry.name] = entry
        return function

    return register


def methods(stage: str | None = None) -> tuple[Method, ...]:
    """All registered methods, or those of one stage; the first call imports their files."""
    _load_all()
    return tuple(m for (s, _), m in sorted(_REGISTRY.items(), key=_order) if stage in (None, s))


def find_method(stage: str, name: str) -> Method:
    """The method ``name`` of ``stage``.

    Raises
    ------
    InputError
        When there is none; the message lists those there are.
    """
    _load_all()
    if (stage, name) not in _REGISTRY:
        known = ", ".join(m.name for m in methods(stage))
        raise InputError(f"there is no {stage} method {name!r}; there are {known}")
    return _REGISTRY[stage, name]


def _order(item: tuple[tuple[str, str], Method]) -> tuple[int, str]:
    return list(STAGES).index(item[0][0]), item[0][1]


@cache
def _load_all() -> None:
    package = __name__.rpartition(".")[0]
    for stage in STAGES:
        room = importlib.import_module(f"{package}.{stage}")
        for module in pkgutil.iter_modules(room.__path__):
            importlib.import_module(f"{package}.{stage}.{module.name}")


# -------------------------------------------------------------------- progress, cancel, notices
@dataclass
class Run:
    """What the caller of a running method wants to hear, and what the method had to say."""

    report: Callable[[float, str], None]
    stopped: Callable[[], bool]
    plot: Callable[[str, int, float], None]
    notices: list[str] = field(default_factory=list)
    remarks: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    latest: str = ""


_UNWATCHED = Run(
    report=lambda fraction, label: None, stopped=lambda: False, plot=lambda curve, index, value: None
)
_run: ContextVar[Run | None] = ContextVar("run", default=None)


@contextmanager
def running(
    report: Callable[[float, str], None] | None = None,
    stopped: Callable[[], bool] | None = None,
    plot: Callable[[str, int, float], None] | None = None,
) -> Iterator[Run]:
    """Watch the methods called inside, from the thread that computes.

    Inside another such block, what is not given is the outer one's; notices, remarks and curves stay with
    the inner.

    Parameters
    ----------
    report : called with the fraction done of the current loop (0 to 1) and its label
    stopped : asked before each step; once it is true, :class:`Cancelled` is raised there
    plot : called with the name of a curve of convergence, the number of its point and the point's value
    """
    outer = _run.get() or _UNWATCHED
    run = Run(report or outer.report, stopped or outer.stopped, plot or outer.plot)
    token = _run.set(run)
    try:
        yield run
    finally:
        _run.reset(token)


@contextmanager
def part(index: int, count: int, label: str) -> Iterator[Run]:
    """Report what runs inside as one part of ``count``, under its own label."""
    outer = _run.get() or _UNWATCHED
    with running(lambda done, text: outer.report((index + done) / count, f"{label}: {text}")) as run:
        yield run


def steps(count: int, label: str) -> Iterator[int]:
    """Count like ``range(count)``, reporting each step and stopping where the user asks for it.

    The label is followed by what :func:`point` was told during the step before.

    Raises
    ------
    Cancelled
        At the first step after the user stopped the work.
    """
    for index in range(count):
        run = _run.get()
        latest = run.latest if run is not None else ""
        announce(f"{label}, {latest}" if latest else label, index / count)
        if run is not None:
            run.latest = ""
        yield index


def point(curve: str, value: float) -> None:
    """One point of a curve of convergence, such as the relative residual after an iteration.

    The curve is kept in the step's record and drawn while the method runs, and the newest value stands
    beside the label of the loop that is running.
    """
    run = _run.get()
    if run is not None:
        points = run.curves.setdefault(curve, [])
        # Three digits tell all that a curve can; a record of hundreds of points stays small.
        points.append(float(f"{value:.3g}"))
        run.latest = f"{curve} {points[-1]:.2g}"
        run.plot(curve, len(points) - 1, points[-1])


def announce(label: str, fraction: float = 0.0) -> None:
    """Report one step that is no loop, and stop here if the user asked for it (`Cancelled`)."""
    run = _run.get()
    if run is not None:
        if run.stopped():
            raise Cancelled(label)
        run.report(fraction, label)


def notice(text: str) -> None:
    """Tell the user something about the result: kept by the run, else a :class:`MetaQSMWarning`."""
    run = _run.get()
    if run is None:
        warnings.warn(text, MetaQSMWarning, stacklevel=2)
    elif text not in run.notices:
        run.notices.append(text)


def remark(name: str, value: Any) -> None:
    """Put into the record of the step what the method found or decided, as a JSON value."""
    run = _run.get()
    if run is not None:
        run.remarks[name] = value

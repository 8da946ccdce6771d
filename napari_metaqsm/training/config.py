"""What a training run does, read from a TOML file: one table for each class below.

``[architecture]`` and ``[recipe]`` are :class:`~napari_metaqsm.network.unet.Architecture` and
:class:`~napari_metaqsm.training.examples.Recipe`. What a table leaves out has its default.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import check_parameters, parameter
from napari_metaqsm.network.conditions import CONDITIONS
from napari_metaqsm.network.unet import INPUTS, Architecture
from napari_metaqsm.training.examples import Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Triple = tuple[float, float, float]
MEASURED_AT: tuple[Triple, ...] = ((1.0, 1.0, 1.0), (0.5, 0.5, 2.0), (0.7639, 0.7639, 3.0))


@dataclass(frozen=True)
class Data:
    """Where examples come from; with neither labels nor maps, from geometric shapes alone."""

    labels: str = parameter("", help="Folder of label maps, each with a number in its name")
    maps: tuple[str, ...] = parameter((), help="Susceptibility maps in ppm, zero outside the brain")
    validation: tuple[int, ...] = parameter((19, 20), help="Numbers of the label maps held out")
    validation_voxels_mm: tuple[Triple, ...] = parameter(
        MEASURED_AT, unit="mm", help="Voxel sizes of the validation scans, where the recipe has no fixed one"
    )
    samples_per_step: int = parameter(
        4, low=1, high=64, help="Examples, each of its own geometry, that one step learns from on each device"
    )
    acquisitions_per_subject: int = parameter(
        2, low=1, high=64, help="Acquisitions made of one subject before the next is made"
    )
    window: tuple[int, ...] = parameter(
        (), help="Voxels of each scan, at a random place, that a step learns from; none for the whole scan"
    )
    seed: int = parameter(0, low=0, high=2**31, help="Of everything random")

    __post_init__ = check_parameters


@dataclass(frozen=True)
class Loss:
    """L1 of the map, which is always there, and what is added to it."""

    gradient_weight: float = parameter(0.0, low=0, high=100, help="Of the L1 of the map's differences")
    model_weight: float = parameter(0.0, low=0, high=100, help="Of the L1 of the map's field")
    weight_penalty: float = parameter(
        0.0, low=0, high=10, help="Of the squared weights of the fully connected layers of WP-Conv"
    )

    __post_init__ = check_parameters


@dataclass(frozen=True)
class Optimisation:
    """How the weights are found, and for how long: until the steps or the minutes are used up."""

    steps: int = parameter(0, low=0, high=10**9, help="Steps in all; 0 for no limit")
    minutes: float = parameter(
        0.0, low=0, high=10**6, unit="min", help="Time in all, over every resumption; 0 for no limit"
    )
    optimiser: str = parameter("adamw", choices=("adamw", "rmsprop"), help="Rule of the step")
    learning_rate: float = parameter(1e-3, low=1e-8, high=1, help="Its highest value")
    warmup_steps: int = parameter(200, low=0, high=10**6, help="Steps in which it rises from zero")
    schedule: str = parameter(
        "cosine", choices=("cosine", "exponential"), help="How it falls: to zero at the end, or step by step"
    )
    decay: float = parameter(0.96, low=0.01, high=1, help="Factor of the exponential schedule")
    decay_steps: int = parameter(200, low=1, high=10**6, help="Steps after which that factor is applied")
    weight_decay: float = parameter(0.01, low=0, high=1, help="Of AdamW")
    clip_norm: float = parameter(1.0, low=0, high=1e6, help="Longest gradient; 0 clips none")
    average_decay: float = parameter(
        0.999, low=0, high=0.999999, help="Of the moving average of the weights, which is what is kept"
    )
    precision: str = parameter(
        "auto",
        choices=("auto", "float32", "bfloat16"),
        help="Of convolutions; auto is bfloat16 where the hardware computes it",
    )
    initial_weights: str = parameter(
        "", help="Weights to start from: of the same architecture, or of a Meta-QSM, for a Mesa-QSM"
    )

    __post_init__ = check_parameters


@dataclass(frozen=True)
class Run:
    """On what it runs, and what it leaves behind."""

    device: str = parameter("auto", choices=("auto", "cpu", "cuda"), help="Kind of device")
    devices: int = parameter(
        0, low=0, high=1024, help="Devices of each machine; 0 takes every GPU, or one CPU"
    )
    checkpoint_minutes: float = parameter(
        10.0,
        low=0,
        high=1e4,
        unit="min",
        help="Between validations, each with checkpoint and weights; 0 after every step",
    )
    log_every: int = parameter(20, low=1, high=10**6, help="Steps between lines of the log")
    pieces: str = parameter(
        "none",
        choices=("none", "exact", "compact"),
        help="Checkpoint cut into files of 16 MB besides, whole or with what a run misses least left out",
    )

    __post_init__ = check_parameters


@dataclass(frozen=True)
class Configuration:
    """One training run."""

    data: Data = field(default_factory=Data)
    recipe: Recipe = field(default_factory=Recipe)
    architecture: Architecture = field(default_factory=Architecture)
    loss: Loss = field(default_factory=Loss)
    optimisation: Optimisation = field(default_factory=Optimisation)
    run: Run = field(default_factory=Run)

    def __post_init__(self) -> None:
        if not (self.optimisation.steps or self.optimisation.minutes):
            raise InputError(
                "optimisation.steps and optimisation.minutes are both 0; give one, or nothing ends the run"
            )
        kind, stride = self.architecture, self.architecture.stride
        for name, known in (("inputs", INPUTS), ("conditions", tuple(CONDITIONS))):
            for value in getattr(kind, name):
                if value not in known:
                    raise InputError(f"architecture.{name} has {value!r}; it may hold {', '.join(known)}")
        for name in ("width", "levels", "kernels"):
            if getattr(kind, name) < 1:
                raise InputError(f"architecture.{name} is {getattr(kind, name)}; it must be at least 1")
        if not kind.inputs:
            raise InputError("architecture.inputs is empty; the network needs at least the field")
        if any(n < stride or n % stride for n in self.recipe.shape):
            raise InputError(
                f"recipe.shape is {self.recipe.shape}; {kind.levels} levels need multiples of {stride}"
            )
        window = self.data.window
        if window and (len(window) != 3 or any(map(operator.gt, window, self.recipe.shape))):
            raise InputError(
                f"data.window is {window}; it must be three numbers, none above recipe.shape "
                f"({self.recipe.shape})"
            )
        if any(n < stride or n % stride for n in window):
            raise InputError(f"data.window is {window}; {kind.levels} levels need multiples of {stride}")
        if window and self.loss.model_weight:
            raise InputError("loss.model_weight needs the field of whole scans; leave data.window out")

    @property
    def validation_voxels_mm(self) -> tuple[Triple, ...]:
        """Of the validation scans."""
        fixed = self.recipe.voxel_size_mm
        return self.data.validation_voxels_mm if fixed is None else (fixed,)


def read_configuration(path: Path, settings: Sequence[str] = ()) -> Configuration:
    """The configuration in a TOML file.

    Parameters
    ----------
    settings : values that replace those of the file, as "optimisation.steps=100"

    Raises
    ------
    InputError
        When the file cannot be read, or a table, a name or a value is not one that there is.

    Notes
    -----
    Paths in the file are relative to the file, those in ``settings`` to the working folder.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise InputError(f"{path} is no file; give a TOML file")
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    _make_paths_absolute(tables, Path(path).parent)
    given: dict[str, Any] = {}
    for setting in settings:
        target, equals, text = setting.partition("=")
        table, dot, name = target.strip().partition(".")
        if not (equals and dot):
            raise InputError(f"--set is {setting!r}; it must be table.name=value")
        given.setdefault(table, {})[name] = _value(text.strip())
    _make_paths_absolute(given, Path())
    for table, values in given.items():
        if isinstance(tables.setdefault(table, {}), dict):
            tables[table].update(values)
    return configuration_from(tables)


def configuration_from(tables: Mapping[str, Any]) -> Configuration:
    """The configuration of nested tables."""
    return _convert(tables, Configuration, "")


def _value(text: str) -> Any:
    """A TOML value; what is none is text without its quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _make_paths_absolute(tables: dict[str, Any], folder: Path) -> None:
    def absolute(value: Any) -> Any:
        return str((folder / value).resolve()) if isinstance(value, str) and value else value

    for table, name in (("data", "labels"), ("data", "maps"), ("optimisation", "initial_weights")):
        values = tables.get(table)
        if isinstance(values, dict) and name in values:
            value = values[name]
            values[name] = [absolute(v) for v in value] if isinstance(value, list) else absolute(value)


def _convert(value: Any, kind: Any, name: str) -> Any:
    """A value of TOML as the type that the field ``name`` is declared with."""
    if dataclasses.is_dataclass(kind):
        return _convert_table(value, kind, name)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (kind,) = (k for k in typing.get_args(kind) if k is not type(None))
        return _convert(value, kind, name)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise InputError(f"{name} is {value!r}; it must be a list")
        kinds = typing.get_args(kind)
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(value)
        if len(kinds) != len(value):
            raise InputError(f"{name} is {value!r}; it must be a list of {len(kinds)}")
        return tuple(_convert(v, k, name) for v, k in zip(value, kinds, strict=True))
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        words = {float: "a finite number", int: "a whole number", bool: "true or false", str: "text"}
        raise InputError(f"{name} is {value!r}; it must be {words[kind]}")
    return value


def _convert_table(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise InputError(f"{name} is {value!r}; it must be a table")
    hints = typing.get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind)]
    for key in value:
        if key not in known:
            thing = f"[{name}] has no setting" if name else "the configuration has no table"
            raise InputError(f"{thing} {key!r}; it has {', '.join(known)}")
    prefix = f"{name}." if name else ""
    values = {key: _convert(v, hints[key], prefix + key) for key, v in value.items()}
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"{prefix}{error}") from error

"""Which scans of a cohort stand apart from the others that were acquired alike.

A value stands apart where its modified z-score, (x − median) / (1.4826 MAD), is beyond 3.5: Iglewicz and
Hoaglin 1993, How to Detect and Handle Outliers. Median and MAD (the median distance from the median) do not
follow the outliers that they are to find, as mean and standard deviation do.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

THRESHOLD = 3.5
# Of normally distributed values, the standard deviation over the MAD.
SD_PER_MAD = 1.4826
FEWEST_SCANS = 6
# Numbers of two headers that differ by less mean the same protocol.
_ALIKE = 0.03
# 2.89 T is called 3 T.
_ALIKE_TESLA = 0.06


class Quantity(NamedTuple):
    """What is measured once in every scan.

    Parameters
    ----------
    name : in words, as in "Caudate" or "Mask volume"
    map : title of the map that it was measured in; "" where there is none
    unit, digits : that it is told in
    least, least_share : a robust SD below this, or below this share of the median, is taken as this: nobody
        acts on less
    only_above : whether a low value is no trouble
    of : "region", its susceptibility; "size" of a region; or "scan", the whole
    """

    name: str
    map: str = ""
    unit: str = "ppm"
    digits: int = 3
    least: float = 0.001
    least_share: float = 0.0
    only_above: bool = False
    of: str = "scan"

    def text(self, value: float) -> str:
        """A value as it is printed, without its unit."""
        return f"{value + 0.0:.{self.digits}f}".replace("-", "−")


@dataclass(frozen=True)
class Spread:
    """Where the scans of one kind lie: their median, robust standard deviation and number."""

    median: float
    sd: float
    count: int


@dataclass(frozen=True)
class Outlier:
    """One value of one scan that stands apart; ``score`` is in robust SD, negative below the median."""

    label: str
    quantity: Quantity
    value: float
    spread: Spread
    score: float

    @property
    def sentence(self) -> str:
        """In words: what, how much, and how far from which median of how many scans."""
        q = self.quantity
        by = f" by {q.map}" if q.map else ""
        side = "above" if self.score > 0 else "below"
        return (
            f"{self.label}: {q.name} {q.text(self.value)} {q.unit}{by}, {abs(self.score):.1f} robust SD "
            f"{side} the cohort's median {q.text(self.spread.median)} ({self.spread.count} scans)"
        )


def quantities_of(measures: Mapping[str, Any]) -> dict[Quantity, float]:
    """What can be compared between scans, from the measures of one (``cohort.summary``)."""
    return {quantity: float(value) for quantity, value in _told(measures) if value is not None}


# The scans of a cohort share what they are measured by, instead of having it a thousand times.
_quantity = functools.lru_cache(maxsize=10_000)(Quantity)


def _told(measures: Mapping[str, Any]) -> Iterator[tuple[Quantity, float | None]]:
    noise = measures["field_noise_ppm"]
    yield _quantity("Mask volume", "", "ml", 0, 0.0, 0.01), measures["mask_ml"]
    yield _quantity("Noise of the field", "", "ppb", 1, 0.1, only_above=True), _times(noise, 1000)
    yield _quantity("Unreliable voxels", "", "%", 1, 1.0, only_above=True), measures["unreliable_percent"]
    for title, of in measures["maps"].items():
        yield _quantity("SD of the map", title), of["sd_ppm"]
        yield _quantity("Volume of the map", title, "ml", 0, 0.0, 0.01), of["volume_ml"]
    for region in measures["regions"]:
        volume = _times(region["volume_mm3"], 0.001)
        yield _quantity(f"Volume of {region['name']}", "", "ml", 2, 0.0, 0.01, of="size"), volume
        for title, of in region["maps"].items():
            yield _quantity(region["name"], title, of="region"), of["mean_ppm"]


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


class Acquired(NamedTuple):
    """How a scan was acquired, as far as its values depend on it; what is not known is None or empty."""

    b0_tesla: float | None
    echo_times_ms: tuple[float, ...]
    voxel_size_mm: tuple[float, ...]

    @classmethod
    def of(cls, measures: Mapping[str, Any]) -> Acquired:
        """From the measures of a scan; the voxel's sides ascend, for files differ in the order of axes."""
        told = measures["acquisition"]
        times = tuple(told["echo_times_ms"] or ())
        return cls(told["b0_tesla"], times, tuple(sorted(told["voxel_size_mm"])))

    def like(self, other: Acquired) -> bool:
        """Whether both are the same protocol, headers' rounding apart."""
        return (
            _near((self.b0_tesla or 0.0,), (other.b0_tesla or 0.0,), _ALIKE_TESLA)
            and _near(self.echo_times_ms, other.echo_times_ms, _ALIKE)
            and _near(self.voxel_size_mm, other.voxel_size_mm, _ALIKE)
        )

    @property
    def words(self) -> str:
        """As in "3 T, 5 echoes of 4 to 20 ms, 1 × 1 × 2 mm"."""
        times = self.echo_times_ms
        told = [f"{self.b0_tesla:.3g} T"] if self.b0_tesla else []
        if len(times) == 1:
            told.append(f"an echo of {times[0]:.3g} ms")
        elif times:
            told.append(f"{len(times)} echoes of {times[0]:.3g} to {times[-1]:.3g} ms")
        return ", ".join([*told, " × ".join(f"{size:.3g}" for size in self.voxel_size_mm) + " mm"])


def _near(a: Sequence[float], b: Sequence[float], share: float) -> bool:
    return len(a) == len(b) and all(abs(x - y) <= share * max(x, y) for x, y in zip(a, b, strict=True))


def acquired_alike(scans: Mapping[str, Acquired]) -> list[list[str]]:
    """The labels of scans that were acquired alike, the largest group first, labels in their order."""
    groups: list[tuple[Acquired, list[str]]] = []
    for label, acquired in scans.items():
        same = next((labels for first, labels in groups if first.like(acquired)), None)
        if same is None:
            groups.append((acquired, [label]))
        else:
            same.append(label)
    return sorted((labels for _, labels in groups), key=len, reverse=True)


def spread_of(quantity: Quantity, values: Sequence[float]) -> Spread:
    """Median and robust SD of the values of one quantity."""
    median = statistics.median(values)
    mad = statistics.median(abs(value - median) for value in values)
    least = max(quantity.least, quantity.least_share * abs(median))
    return Spread(median, max(SD_PER_MAD * mad, least), len(values))


def find_outliers(scans: Mapping[str, Mapping[Quantity, float]]) -> list[Outlier]:
    """All values that stand apart among scans acquired alike, the farthest first.

    Parameters
    ----------
    scans : by label, see :func:`quantities_of`

    Returns
    -------
    nothing of a quantity that fewer than six scans have
    """
    columns: dict[Quantity, list[tuple[str, float]]] = {}
    for label, values in scans.items():
        for quantity, value in values.items():
            columns.setdefault(quantity, []).append((label, value))
    found = []
    for quantity, column in columns.items():
        if len(column) < FEWEST_SCANS:
            continue
        spread = spread_of(quantity, [value for _, value in column])
        for label, value in column:
            score = (value - spread.median) / spread.sd if spread.sd else 0.0
            if score > THRESHOLD or (score < -THRESHOLD and not quantity.only_above):
                found.append(Outlier(label, quantity, value, spread, score))
    return sorted(found, key=lambda outlier: (-abs(outlier.score), outlier.label))

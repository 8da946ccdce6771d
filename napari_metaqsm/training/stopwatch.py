"""Where the seconds of training go."""

from __future__ import annotations

import time

import torch

# On a GPU the parts of a step overlap with what was asked for before; only in every so manyeth step
# each part is waited for.
SAMPLED = 10


class Stopwatch:
    """Seconds by part: each lap goes to one part and begins where the last one ended.

    Attributes
    ----------
    seconds : of every part, of the laps that were measured
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._device = torch.device("cpu")
        self._measured = True
        self._start = time.perf_counter()

    def begin_step(self, step: int, device: torch.device) -> None:
        """Say which step begins; its laps are measured, or not."""
        self._device = device
        self._measured = device.type == "cpu" or step % SAMPLED == 0
        self._start = self._now()

    def lap(self, part: str) -> None:
        """Add the time since the last lap to ``part``."""
        if self._measured:
            now = self._now()
            self.seconds[part] = self.seconds.get(part, 0.0) + now - self._start
            self._start = now

    def shares(self) -> dict[str, float]:
        """Of each part, its share of what was measured."""
        total = sum(self.seconds.values()) or 1.0
        return {part: seconds / total for part, seconds in self.seconds.items()}

    def _now(self) -> float:
        if self._measured and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

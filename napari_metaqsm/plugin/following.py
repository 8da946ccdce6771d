"""The newest map of a method: which layer it is, and what a new job of the method may take from it.

A slider's new value may be computed into its place, and another weight may go on from it: both only where
the inputs are still the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from napari.layers import Layer

from napari_metaqsm.checks import spoken
from napari_metaqsm.plugin.jobs import START, Job, Origin
from napari_metaqsm.plugin.layers import metadata_of

# A map computed within this may be finished while its slider is on the move, so that the map follows the
# hand; of a slower one the newest value alone is worth the wait.
FOLLOWS_THE_HAND_S = 0.4


@dataclass(frozen=True)
class NewestMap:
    """The newest map of a method that has sliders or can go on from a map.

    ``name`` is what the layer was called when the map was made, ``parameters`` and ``seconds`` are those
    of its computation.
    """

    layer: Layer
    name: str
    job: Job
    parameters: Mapping[str, Any]
    seconds: float

    @property
    def is_slow(self) -> bool:
        """Whether its computation is worth being stopped for a newer value."""
        return self.seconds > FOLLOWS_THE_HAND_S

    def changed_since(self, job: Job, parameters: Mapping[str, Any], sliders: Collection[str]) -> list[str]:
        """What a new job of the method, its sliders apart, would not find as this map found it, in words."""
        changed = self._inputs_changed_since(job)
        fixed = [name for name in parameters if name not in sliders]
        if any(parameters[name] != self.parameters[name] for name in fixed):
            changed.append("another parameter")
        return changed

    def going_on(self, job: Job, parameters: Mapping[str, Any]) -> Job:
        """``job`` with this map to begin from, where the inputs are the same and the parameters are not.

        With the same parameters it is the same computation, which nothing shortens.
        """
        if dict(parameters) == dict(self.parameters) or self._inputs_changed_since(job):
            return job
        begins = metadata_of(self.layer).get("unreferenced", self.layer.data)
        origins = {**job.origins, START: Origin(self.layer.name, None, None)}
        return replace(job, data={**job.data, START: begins}, origins=origins)

    def _inputs_changed_since(self, job: Job) -> list[str]:
        before, now = self.job.data, job.data
        names = sorted({*before, *now} - {START})
        changed = [f"the {spoken(name)}" for name in names if not _same(name, before, now)]
        if (self.job.geometry, self.job.acquisition) != (job.geometry, job.acquisition):
            changed.append("the scan's description")
        return changed


def _same(name: str, before: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray]) -> bool:
    if name not in before or name not in now:
        return False
    return before[name] is now[name] or np.array_equal(before[name], now[name])

"""The objective of MEDI on a grid: phases trusted as they are known, and the ventricles evened out."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_metaqsm.inversion.total_variation import Variation
from napari_metaqsm.operators.dipole import dipole_kernel
from napari_metaqsm.operators.phase_pull import reflect_unwrapped_field, relax_to_phase
from napari_metaqsm.scan import Geometry

# How firmly the split CSF is held to the map, of the weight that makes it even.
CSF_PENALTY = 0.1
# MERIT: a residual is an outlier from this many standard deviations on.
OUTLIER = 6.0


class MorphologyEnabled(Variation):
    """The objective of :func:`~napari_metaqsm.inversion.medi.medi` over ``2 lambda s^2``, in ppm.

    ``||m (exp(i s D chi) - exp(i s f))||^2 / (2 s^2) + beta ||M grad chi||_1 + gamma / 2 ||C chi||^2`` with
    ``beta = 1 / (2 lambda s)`` and ``gamma = lambda_csf / lambda``; C subtracts the mean in the ventricles.

    Parameters
    ----------
    weights : (i, j, k), m^2
    radians : s, phase that a field of one ppm is
    data_weight : lambda
    high_pass : half spectrum that the field went through, if it did
    """

    # The threshold is about half of what gradients in the brain are.
    field_penalty, threshold, relaxation = 0.07, 0.00125, 1.8

    def __init__(
        self,
        field: Tensor,
        weights: Tensor,
        penalised: Tensor,
        geometry: Geometry,
        radians: float,
        data_weight: float,
        high_pass: Tensor | None = None,
    ) -> None:
        kernel = dipole_kernel(geometry, like=field)
        super().__init__(
            field, weights, penalised, geometry, kernel if high_pass is None else kernel * high_pass
        )
        self.radians, self.data_weight = radians, data_weight
        self.csf: Tensor | None = None
        self.field_state = field.clone()
        self.set_weight(1 / (2 * data_weight * radians))

    def even_out(self, csf: Tensor, csf_weight: float) -> None:
        """Penalise how far the voxels of ``csf`` (i, j, k) bool are from their mean."""
        self.csf, self.gamma = csf, csf_weight / self.data_weight
        self.held = CSF_PENALTY * self.gamma
        self.csf_state = torch.zeros_like(self.field)
        self.set_weight(self.weight)

    def start_at(self, susceptibility: Tensor) -> None:
        """Set the states as they would be at a solution (i, j, k) that this map is close to."""
        super().start_at(susceptibility)
        if self.csf is not None:
            self.csf_state = susceptibility.clone()

    def objective_of_nothing(self) -> float:
        """The objective of a map of zeros."""
        lag = (self.field * (self.radians / 2)).sin_().square_().mul_(self.weights)
        return 2 * float(lag.sum(dtype=torch.float64)) / self.radians**2

    def distrust_outliers(self) -> None:
        """Lower the weights of voxels whose field the last map leaves unexplained (MERIT)."""
        trust = self.weights.sqrt()
        known = trust > 0
        here, there = (torch.polar(trust[known], x[known] * self.radians) for x in (self._image, self.field))
        residual = here - there
        residual = (residual - residual.mean()).abs()
        spread = residual.std()
        if not spread > 0:
            return
        trust[known] /= (residual / (OUTLIER * spread)).clamp_(min=1).square_()
        self.weights = trust.div_(trust[known].mean()).square_()

    def _pull(self, field: Tensor) -> Tensor:
        return ((field - self.field) * self.radians).sin_().div_(self.radians)

    def _reflect_misfit(self, out: Tensor) -> None:
        reflect_unwrapped_field(
            self.field_state, self.field, self.weights, self.field_penalty, self.radians, out=out
        )

    def _reflect_rest(self, out: Tensor) -> None:
        if self.csf is not None:
            reflected = 2 * self._evened() - self.csf_state
            out.add_(reflected, alpha=self.held * self.threshold / self.weight)

    def _relax_misfit(self) -> float:
        return relax_to_phase(
            self.field_state,
            self._right_sides[0],
            self._image,
            self.field,
            self.weights,
            self.radians,
            self.relaxation,
        )

    def _relax(self, susceptibility: Tensor) -> float:
        self.objective = super()._relax(susceptibility)
        if self.csf is not None:
            inside = susceptibility[self.csf]
            self.objective += self.gamma / 2 * float((inside - inside.mean()).square().sum())
            self.csf_state.add_(susceptibility - self._evened(), alpha=self.relaxation)
        return self.objective

    def _evened(self) -> Tensor:
        """Nearest to the CSF's state with the penalty on its spread: the state itself elsewhere."""
        evened = self.csf_state.clone()
        inside = evened[self.csf]
        evened[self.csf] = torch.lerp(inside.mean(), inside, CSF_PENALTY / (1 + CSF_PENALTY))
        return evened

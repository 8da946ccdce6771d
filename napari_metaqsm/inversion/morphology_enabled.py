"""The objective of MEDI on a grid, and the split that ADMM minimises it by."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_metaqsm.operators.dipole import dipole_kernel
from napari_metaqsm.operators.fourier import irfftn, multiply_spectrum, rfftn
from napari_metaqsm.operators.gradient import gradient, gradient_spectrum
from napari_metaqsm.operators.phase_pull import reflect_unwrapped_field, relax_to_phase
from napari_metaqsm.operators.shrinkage import reflected_divergence, relax_to_gradient
from napari_metaqsm.scan import Geometry
from napari_metaqsm.solvers.admm import admm

# How firmly the split field is held to that of the map, of the mean weight; the step of shrinking in ppm/mm,
# about half of what gradients in the brain are; how firmly the split CSF is held to the map, of the weight
# that makes it even; and over-relaxation.
FIELD_PENALTY = 0.07
THRESHOLD = 0.00125
CSF_PENALTY = 0.1
RELAXATION = 1.8
# MERIT: a residual is an outlier from this many standard deviations on.
OUTLIER = 6.0


class MorphologyEnabled:
    """The objective of :func:`~napari_metaqsm.inversion.medi.medi` over ``2 lambda s^2``, in ppm.

    ``||m (exp(i s D chi) - exp(i s f))||^2 / (2 s^2) + beta ||M grad chi||_1 + gamma / 2 ||C chi||^2`` with
    ``beta = 1 / (2 lambda s)`` and ``gamma = lambda_csf / lambda``; C subtracts the mean in the ventricles.

    Parameters
    ----------
    field : (i, j, k), ppm, on the grid
    trust : (i, j, k), m
    penalised : (3, i, j, k) bool, M
    high_pass : half spectrum that the field went through, if it did
    """

    def __init__(
        self,
        field: Tensor,
        trust: Tensor,
        penalised: Tensor,
        geometry: Geometry,
        radians: float,
        data_weight: float,
        high_pass: Tensor | None = None,
    ) -> None:
        self.field, self.trust, self.penalised, self.geometry = field, trust, penalised, geometry
        self.radians, self.data_weight = radians, data_weight
        self.weights = trust.square()
        self.kernel = dipole_kernel(geometry, like=field)
        if high_pass is not None:
            self.kernel = self.kernel * high_pass
        self.beta = 1 / (2 * data_weight * radians)
        self.csf, self.gamma = None, 0.0
        self.field_state = field.clone()
        self.gradient_state = field.new_zeros((3, *field.shape))
        self._right_sides = field.new_empty((2, *field.shape))
        self._set_divisor()

    def even_out(self, csf: Tensor, csf_weight: float) -> None:
        """Penalise how far the voxels of ``csf`` (i, j, k) bool are from their mean."""
        self.csf, self.gamma = csf, csf_weight / self.data_weight
        self.csf_state = torch.zeros_like(self.field)
        self._set_divisor()

    def _set_divisor(self) -> None:
        # chi = (mu_1 D F q_1 + F (mu_2 div q_2 + mu_3 q_3)) / (mu_1 D^2 + mu_2 sum_i |E_i|^2 + mu_3)
        divisor = self.kernel.square().mul_(FIELD_PENALTY)
        divisor.add_(gradient_spectrum(self.geometry, like=self.field), alpha=self.beta / THRESHOLD)
        divisor.add_(CSF_PENALTY * self.gamma)
        if not self.gamma:
            divisor[0, 0, 0] = 1  # all terms vanish there, and so does the numerator
        self._from_field = FIELD_PENALTY * self.kernel / divisor
        self._from_gradient = self.beta / THRESHOLD / divisor

    def start_at(self, susceptibility: Tensor) -> None:
        """Set the states as they would be at a solution (i, j, k) that this map is close to."""
        field = multiply_spectrum(susceptibility, self.kernel)
        pull = ((field - self.field) * self.radians).sin_().div_(self.radians)
        self.field_state = field.addcmul_(self.weights, pull, value=1 / FIELD_PENALTY)
        differences = gradient(susceptibility, self.geometry.voxel_size_mm, periodic=True)
        multiplier = (10 * differences).clamp_(-THRESHOLD, THRESHOLD).mul_(self.penalised)
        self.gradient_state = differences.add_(multiplier)
        if self.csf is not None:
            self.csf_state = susceptibility.clone()

    def minimise(self, iterations: int, tolerance: float) -> tuple[Tensor, float]:
        """The map (i, j, k), and its relative change in the last step."""
        return admm(self._solve, self._relax, iterations=iterations, tolerance=tolerance, label="ADMM")

    def objective_of_nothing(self) -> float:
        """The objective of a map of zeros."""
        lag = (self.field * (self.radians / 2)).sin_().square_().mul_(self.weights)
        return 2 * float(lag.sum(dtype=torch.float64)) / self.radians**2

    def distrust_outliers(self) -> None:
        """Lower the weights of voxels whose field the last map leaves unexplained (MERIT)."""
        known = self.trust > 0
        here, there = (
            torch.polar(self.trust[known], x[known] * self.radians) for x in (self._image, self.field)
        )
        residual = here - there
        residual = (residual - residual.mean()).abs()
        spread = residual.std()
        if not spread > 0:
            return
        trust = self.trust.clone()
        trust[known] /= (residual / (OUTLIER * spread)).clamp_(min=1).square_()
        self.trust = trust.div_(trust[known].mean())
        self.weights = self.trust.square()

    def _solve(self) -> Tensor:
        from_field, from_gradient = self._right_sides
        reflect_unwrapped_field(
            self.field_state, self.field, self.weights, FIELD_PENALTY, self.radians, out=from_field
        )
        size = self.geometry.voxel_size_mm
        reflected_divergence(self.gradient_state, THRESHOLD, self.penalised, size, out=from_gradient)
        if self.csf is not None:
            reflected = 2 * self._evened() - self.csf_state
            from_gradient.add_(reflected, alpha=CSF_PENALTY * self.gamma * THRESHOLD / self.beta)
        spectra = rfftn(self._right_sides)
        # As pairs of reals: torch multiplies complex by real numbers at a third of the speed.
        spectrum, image = torch.view_as_real(spectra)
        spectrum.mul_(self._from_field[..., None]).addcmul_(image, self._from_gradient[..., None])
        torch.mul(spectrum, self.kernel[..., None], out=image)
        susceptibility, self._image = irfftn(spectra, self.field.shape)
        return susceptibility

    def _relax(self, susceptibility: Tensor) -> float:
        misfit = relax_to_phase(
            self.field_state,
            self._right_sides[0],
            self._image,
            self.field,
            self.weights,
            self.radians,
            RELAXATION,
        )
        size = self.geometry.voxel_size_mm
        variation = relax_to_gradient(
            self.gradient_state, susceptibility, THRESHOLD, self.penalised, size, RELAXATION
        )
        self.objective = misfit + self.beta * variation
        if self.csf is not None:
            inside = susceptibility[self.csf]
            self.objective += self.gamma / 2 * float((inside - inside.mean()).square().sum())
            self.csf_state.add_(susceptibility - self._evened(), alpha=RELAXATION)
        return self.objective

    def _evened(self) -> Tensor:
        """Nearest to the CSF's state with the penalty on its spread: the state itself elsewhere."""
        evened = self.csf_state.clone()
        inside = evened[self.csf]
        evened[self.csf] = torch.lerp(inside.mean(), inside, CSF_PENALTY / (1 + CSF_PENALTY))
        return evened

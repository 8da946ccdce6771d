"""A misfit of the field and a penalty on gradients, on a grid, and the split that ADMM minimises them by."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_metaqsm.operators.dipole import dipole_kernel
from napari_metaqsm.operators.fourier import irfftn, multiply_spectrum, rfftn
from napari_metaqsm.operators.gradient import gradient, gradient_spectrum
from napari_metaqsm.operators.shrinkage import (
    field_misfit,
    phase_misfit,
    reflect_field,
    reflected_divergence,
    relax_to_field,
    relax_to_gradient,
)
from napari_metaqsm.scan import Geometry
from napari_metaqsm.solvers.admm import admm


class Variation:
    """``g(D chi) + beta ||M grad chi||_1`` on a grid; what g is, a class below says.

    The split is ``z_1 = D chi`` and ``z_2 = grad chi``, each with a state (see
    :func:`~napari_metaqsm.solvers.admm.admm`). The map nearest to both is one division in k-space.

    Parameters
    ----------
    field : (i, j, k), ppm, on the grid
    weights : (i, j, k), of the misfit in each voxel, 0 where the field is not known
    penalised : (3, i, j, k) bool, M; the other differences are free
    geometry : of the grid
    kernel : half spectrum, D; the dipole where it is not given

    Attributes
    ----------
    field_penalty : of the data's weight, how firmly the split field is held to that of the map
    threshold : ppm/mm, the step of shrinking
    relaxation : over-relaxation
    held : added to the divisor, for what a class below splits besides
    """

    field_penalty: float
    threshold: float
    relaxation: float
    held = 0.0

    def __init__(
        self,
        field: Tensor,
        weights: Tensor,
        penalised: Tensor,
        geometry: Geometry,
        kernel: Tensor | None = None,
    ) -> None:
        self.field, self.weights, self.penalised, self.geometry = field, weights, penalised, geometry
        self.kernel = dipole_kernel(geometry, like=field) if kernel is None else kernel
        self.field_state = torch.zeros_like(field)
        self.gradient_state = field.new_zeros((3, *field.shape))
        self._right_sides = field.new_empty((2, *field.shape))
        self.set_weight(1.0)

    def set_weight(self, weight: float) -> None:
        """Choose beta, ppm·mm; the states stay, a good start for a weight not far off."""
        self.weight = weight
        smooth = weight / self.threshold
        # chi = (mu_1 D F q_1 + F (mu_2 div q_2 + q_3)) / (mu_1 D^2 + mu_2 sum_i |E_i|^2 + mu_3)
        divisor = self.kernel.square().mul_(self.field_penalty)
        divisor.add_(gradient_spectrum(self.geometry, like=self.field), alpha=smooth).add_(self.held)
        if not self.held:
            divisor[0, 0, 0] = 1  # all terms vanish there, and so does the numerator
        self._field_over_gradient = self.field_penalty / smooth
        self._from_gradient = divisor.reciprocal_().mul_(smooth)

    def start_at(self, susceptibility: Tensor) -> None:
        """Set the states as they would be at a solution (i, j, k) that this map is close to."""
        field = multiply_spectrum(susceptibility, self.kernel)
        # z_1 = D chi, and W^2 pull(z_1) + mu_1 (z_1 - t_1) = 0
        self.field_state = field.addcmul(self.weights, self._pull(field), value=1 / self.field_penalty)
        differences = gradient(susceptibility, self.geometry.voxel_size_mm, periodic=True)
        multiplier = (10 * differences).clamp_(-self.threshold, self.threshold).mul_(self.penalised)
        self.gradient_state = differences.add_(multiplier)

    def minimise(self, iterations: int, tolerance: float, label: str = "ADMM") -> tuple[Tensor, float]:
        """The map (i, j, k), and its relative change in the last step."""
        return admm(self._solve, self._relax, iterations=iterations, tolerance=tolerance, label=label)

    def residual(self) -> Tensor:
        """``f - D chi`` of the last map, (i, j, k)."""
        return self.field - self._image

    def _pull(self, field: Tensor) -> Tensor:
        """The derivative of the misfit at ``field`` (i, j, k), over its weights."""
        raise NotImplementedError

    def _reflect_misfit(self, out: Tensor) -> None:
        """``2 z_1 - t_1``, written to ``out``."""
        raise NotImplementedError

    def _relax_misfit(self) -> float:
        """Move the field's state on to that of the last map, and tell its misfit."""
        raise NotImplementedError

    def _reflect_rest(self, out: Tensor) -> None:
        """Add what a class below splits besides to ``out``, in units of ``mu_2``."""

    def _solve(self) -> Tensor:
        self._image = None  # its memory serves the transforms
        from_field, from_gradient = self._right_sides
        self._reflect_misfit(from_field)
        size = self.geometry.voxel_size_mm
        reflected_divergence(self.gradient_state, self.threshold, self.penalised, size, out=from_gradient)
        self._reflect_rest(from_gradient)
        spectra = rfftn(self._right_sides)
        # As pairs of reals: torch multiplies complex by real numbers at a third of the speed.
        image, spectrum = torch.view_as_real(spectra)
        kernel = self.kernel[..., None]
        spectrum.addcmul_(image, kernel, value=self._field_over_gradient)
        torch.mul(spectrum.mul_(self._from_gradient[..., None]), kernel, out=image)
        # Apart, for ADMM keeps the map of the step before, and would keep its image with it.
        self._image, susceptibility = (irfftn(each, self.field.shape) for each in spectra)
        return susceptibility

    def _relax(self, susceptibility: Tensor) -> float:
        misfit = self._relax_misfit()
        size = self.geometry.voxel_size_mm
        variation = relax_to_gradient(
            self.gradient_state, susceptibility, self.threshold, self.penalised, size, self.relaxation
        )
        return misfit + self.weight * variation


class TotalVariation(Variation):
    """``||W (D chi - f)||^2 / 2 + beta ||M grad chi||_1``, or the same with the misfit of phases.

    Parameters
    ----------
    weights : (i, j, k), ``W^2``, about 1 where the field is known, 0 where not
    radians : phase that a field of one ppm is; None for a linear data term, else it is
        ``||W (exp(i radians D chi) - exp(i radians f))||^2 / (2 radians^2)``
    """

    # The threshold is as large as gradients in the brain are.
    field_penalty, threshold, relaxation = 0.05, 0.003, 1.7

    def __init__(
        self,
        field: Tensor,
        weights: Tensor,
        penalised: Tensor,
        geometry: Geometry,
        radians: float | None = None,
    ) -> None:
        super().__init__(field, weights, penalised, geometry)
        self.radians = radians
        # What the field is for the next step: see phase_misfit.
        self._target = field
        if radians is not None:
            self._target = torch.zeros_like(field)
            phase_misfit(torch.zeros_like(field), field, weights, radians, target=self._target)

    def _pull(self, field: Tensor) -> Tensor:
        if self.radians is not None:
            phase_misfit(field, self.field, self.weights, self.radians, target=self._target)
        return field - self._target

    def _reflect_misfit(self, out: Tensor) -> None:
        reflect_field(self.field_state, self._target, self.weights, self.field_penalty, out=out)

    def _relax_misfit(self) -> float:
        relax_to_field(self.field_state, self._right_sides[0], self._image, self.relaxation)
        if self.radians is None:
            return field_misfit(self._image, self.field, self.weights)
        return phase_misfit(self._image, self.field, self.weights, self.radians, target=self._target)

"""COSMOS: the fields of several head orientations together tell every spatial frequency."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import (
    announce,
    check_parameters,
    method,
    notice,
    parameter,
    remark,
    running,
    steps,
)
from napari_metaqsm.operators.dipole import build_dipole_kernel
from napari_metaqsm.operators.fourier import irfftn, multiply_spectrum, rfftn
from napari_metaqsm.operators.pad import WorkingGrid, crop_to, pad_to, working_grid
from napari_metaqsm.orientations.conditioning import FEWEST_DIRECTIONS, conditioning
from napari_metaqsm.scan import Geometry, Triple
from napari_metaqsm.solvers.conjugate_gradient import conjugate_gradient

FITS = ("least squares", "closed form")
# Noise below this part of its median counts as this part: no voxel may outweigh all others.
LEAST_NOISE = 0.1
# Least sum of D^2 divided by where the threshold is 0.
SMALLEST_SUM = 1e-6
# Least part of the median weight, and of the root mean square of D, that the preconditioner divides by.
PRECONDITIONER_FLOOR = 0.1


@dataclass(frozen=True)
class CosmosParameters:
    """Parameters of ``cosmos``."""

    fit: str = parameter(
        "least squares", choices=FITS, help="Closed form is faster, and takes the field outside to be zero"
    )
    threshold: float = parameter(
        0.05, low=0.0, high=0.3, help="Closed form: least root mean square of D divided by"
    )
    iterations: int = parameter(50, low=1, high=1000, help="Least squares: most steps of conjugate gradients")
    tolerance: float = parameter(
        3e-3, low=1e-7, high=0.5, help="Least squares: relative residual at which CG stops"
    )

    __post_init__ = check_parameters


@method(
    "orientations",
    title="COSMOS",
    reference="doi:10.1002/mrm.21828",
    stand_ins={"noises": "equal noise everywhere", "masks": "the mask, for every field"},
)
def cosmos(
    local_fields: Tensor,
    b0_directions: Tensor,
    mask: Tensor,
    geometry: Geometry,
    parameters: CosmosParameters,
    noises: Tensor | None = None,
    masks: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The gold standard: free of streaks with nothing assumed; needs three or more head orientations.

    Parameters
    ----------
    local_fields : (..., orientation, i, j, k) float, ppm, registered to one another
    b0_directions : (orientation, 3), B0 of each field along the axes i, j, k; that of ``geometry`` is
        not used
    mask : (i, j, k) bool, where there are sources
    noises : (orientation, i, j, k), ppm, standard deviation of each field; 0 where it is not known at all
    masks : (orientation, i, j, k) bool, where in ``mask`` each field is known

    Returns
    -------
    susceptibility : (..., i, j, k) float, ppm; zero outside the mask, not referenced
    eroded_mask : (i, j, k) bool, where in ``mask`` enough fields are known; None where that is all of it

    Raises
    ------
    InputError
        When fewer than three B0 directions differ, or nowhere enough fields are known.

    Notes
    -----
    Least squares minimises ``sum_n ||w_n (D_n chi - f_n)||^2`` over all chi that are zero outside ``mask``,
    with ``w_n = 1 / noise`` where field n is known and 0 elsewhere, so that neither the field outside the
    mask nor the rims that differ from field to field are taken to be zero. A voxel is left out of the
    map where fewer than three fields are known. The closed form ``sum_n D_n f_n / sum_n D_n^2`` (Liu 2009)
    does take them to be zero, and leaves out what any field lacks.

    On a simulated head (256×256×64 voxels of 0.75×0.75×3 mm, local field known in the brain alone, noise of
    1.4 ppb) the error is 11.2 % from three fields tilted by 0 and ±20 degrees (closed form 21.8 %), 8.2 %
    from five tilted about two axes (18.6 %) and 5.7 % from twelve (17.4 %), in 5 to 8 iterations. With ten
    times the noise in a tenth of each field, at 1.5×1.5×3 mm, five fields give 9.9 % weighted and 27.9 % not
    weighted. With sources outside the brain that leave 1 ppb in it: 13.6 % (closed form 20.2 %). The default
    tolerance is from these noises and tilts: 1e-2 loses accuracy in some, 1e-3 gains none.

    References
    ----------
    Liu et al. 2009, doi:10.1002/mrm.21828
    """
    directions = [tuple(row) for row in b0_directions.tolist()]
    _assess(directions, parameters)
    fields = _Fields(local_fields, mask.bool(), noises, masks)
    least_squares = parameters.fit == "least squares"
    if noises is not None and not least_squares:
        notice("cosmos: the closed form uses the noise maps only where they are zero; least squares weighs")
    needed = FEWEST_DIRECTIONS if least_squares else fields.count
    inside = _determined(fields, needed)
    if least_squares:
        susceptibility = _least_squares(fields, geometry, directions, parameters).mul_(inside)
    else:
        susceptibility = _closed_form(fields, inside, geometry, directions, parameters)
    return susceptibility, None if torch.equal(inside, fields.mask) else inside


@dataclass(frozen=True)
class _Fields:
    """The fields, and what is known of each; made one by one, for together they are most of the memory."""

    fields: Tensor
    mask: Tensor
    noises: Tensor | None
    masks: Tensor | None

    @property
    def count(self) -> int:
        return self.fields.shape[-4]

    def known(self, n: int) -> Tensor:
        """Where field n is known, (i, j, k) bool."""
        known = self.mask if self.masks is None else self.mask & self.masks[n].bool()
        return known if self.noises is None else known & (self.noises[n] > 0)

    def typical_noise(self) -> Tensor:
        """The median over the fields of their medians."""
        knowns = ((self.noises[n], self.known(n)) for n in steps(self.count, "noise"))
        medians = [noise[known].median() for noise, known in knowns if known.any()]
        return torch.stack(medians).median()

    def on(self, grid: WorkingGrid, n: int, inside: Tensor) -> Tensor:
        """Field n on the grid, zero outside ``inside``, even where it is NaN there."""
        field = self.fields[(..., n, *grid.box)]
        return pad_to(torch.where(inside[grid.box], field, 0), grid.geometry.shape)

    def weight(self, grid: WorkingGrid, n: int, typical: Tensor | None) -> Tensor:
        """``1 / noise^2`` in the grid's box, 1 for the typical noise, 0 where field n is not known."""
        known = self.known(n)[grid.box]
        if typical is None:
            return known
        noise = (self.noises[(n, *grid.box)] / typical).clamp_(min=LEAST_NOISE)
        return torch.where(known, noise.square_().reciprocal_(), 0)


def _assess(directions: Sequence[Triple], parameters: CosmosParameters) -> None:
    """Put into the record what the directions can tell; refuse too few, and warn of poor ones."""
    found = conditioning(directions, parameters.threshold)
    remark("b0_directions", [[round(b, 6) for b in d] for d in directions])
    remark("conditioning", {name: float(f"{v:.3g}") for name, v in dataclasses.asdict(found).items()})
    if found.warning:
        notice(f"cosmos: {found.warning}")


def _determined(fields: _Fields, needed: int) -> Tensor:
    """Where in the mask at least ``needed`` fields are known."""
    if fields.noises is None and fields.masks is None:
        return fields.mask
    known = torch.zeros_like(fields.mask, dtype=torch.int16)
    for n in range(fields.count):
        known += fields.known(n)
    determined = fields.mask & (known >= needed)
    left_out = 1 - int(determined.sum()) / max(int(fields.mask.sum()), 1)
    if left_out == 1:
        raise InputError(f"no voxel of the mask is known in {needed} fields; check that the masks overlap")
    if left_out > 0:
        notice(f"cosmos: {left_out:.1%} of the mask is left out: fewer than {needed} fields are known there")
    return determined


def _closed_form(
    fields: _Fields,
    inside: Tensor,
    geometry: Geometry,
    directions: Sequence[Triple],
    parameters: CosmosParameters,
) -> Tensor:
    """``sum_n D_n f_n / sum_n D_n^2``."""
    grid = working_grid(inside, geometry)
    divided = summed = None
    for n in steps(fields.count, "COSMOS"):
        kernel = _kernel(grid, directions[n], fields.fields)
        spectrum = rfftn(fields.on(grid, n, inside)).mul_(kernel)
        divided = spectrum if divided is None else divided.add_(spectrum)
        summed = kernel.square_() if summed is None else summed.addcmul_(kernel, kernel)
    # The mean over the volume, which no dipole sees, comes out as zero.
    summed.clamp_(min=max(fields.count * parameters.threshold**2, SMALLEST_SUM))
    return grid.paste(irfftn(divided.div_(summed), grid.geometry.shape), inside)


def _least_squares(
    fields: _Fields, geometry: Geometry, directions: Sequence[Triple], parameters: CosmosParameters
) -> Tensor:
    """The minimum of ``sum_n ||w_n (D_n chi - f_n)||^2`` over all chi within the mask."""
    grid = working_grid(fields.mask, geometry)
    shape = grid.geometry.shape
    inside = grid.cut(fields.mask)
    typical = None if fields.noises is None else fields.typical_noise()
    kernels, right = [], None
    for n in steps(fields.count, "dipoles"):
        kernels.append(_kernel(grid, directions[n], fields.fields))
        _listen()
        weighted = _weigh(fields.on(grid, n, fields.known(n)), fields.weight(grid, n, typical))
        spectrum = rfftn(weighted).mul_(kernels[n])
        right = spectrum if right is None else right.add_(spectrum)
    del weighted, spectrum
    right = irfftn(right, shape).mul_(inside)

    def normal(chi: Tensor) -> Tensor:
        spectrum, total = rfftn(chi), None
        for n, kernel in enumerate(kernels):
            _listen()
            # Weights are made anew each time, for those of many fields are more memory than all else.
            weighted = _weigh(irfftn(spectrum * kernel, shape), fields.weight(grid, n, typical))
            back = rfftn(weighted).mul_(kernel)
            del weighted
            total = back if total is None else total.add_(back)
        _listen()
        return irfftn(total, shape).mul_(inside)

    susceptibility, residual = conjugate_gradient(
        normal,
        right,
        iterations=parameters.iterations,
        tolerance=parameters.tolerance,
        precondition=_preconditioner(
            kernels, (fields.weight(grid, n, typical) for n in range(fields.count)), inside
        ),
    )
    if float(residual.max()) > parameters.tolerance:
        notice(
            f"cosmos: stopped after {parameters.iterations} iterations at a residual of "
            f"{float(residual.max()):.1e}, above the tolerance of {parameters.tolerance:.1e}"
        )
    return grid.paste(susceptibility, fields.mask)


def _preconditioner(
    kernels: Sequence[Tensor], squares: Iterable[Tensor], inside: Tensor
) -> Callable[[Tensor], Tensor]:
    """The closed form between two divisions by the root of each voxel's weight, the mean over the fields.

    With S^2 the mean of w_n^2, ``sum_n D_n w_n^2 D_n`` is somewhere between ``sum_n D_n^2`` and
    ``S (sum_n D_n^2) S``: dividing by the root of S takes 8 to 13 iterations where dividing by S takes 16
    to 42, and not at all 11 to 13.
    """
    summed, scale = torch.zeros_like(kernels[0]), 0
    for kernel, square in zip(kernels, squares, strict=True):
        summed.addcmul_(kernel, kernel)
        scale = scale + square.to(kernel.dtype)
    inverse = summed.clamp_(min=len(kernels) * PRECONDITIONER_FLOOR**2).reciprocal_()
    scale = scale.div_(len(kernels)).pow_(0.25).clamp_(min=PRECONDITIONER_FLOOR).reciprocal_()
    scale = pad_to(scale, inside.shape) * inside
    return lambda x: multiply_spectrum(x * scale, inverse).mul_(scale)


def _weigh(field: Tensor, square: Tensor) -> Tensor:
    """Multiply in place by weights given in the box alone, outside of which they are zero."""
    for axis, side in enumerate(square.shape, start=-3):
        field.narrow(axis, side, field.shape[axis] - side).zero_()
    crop_to(field, square.shape).mul_(square)
    return field


def _kernel(grid: WorkingGrid, direction: Triple, like: Tensor) -> Tensor:
    geometry = dataclasses.replace(grid.geometry, b0_direction=direction)
    return build_dipole_kernel(geometry, like.dtype, like.device)


def _listen() -> None:
    """Stop here if the user asked for it; the progress shown stays that of the iterations."""
    with running(report=lambda fraction, label: None):
        announce("CG")

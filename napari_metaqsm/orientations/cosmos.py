"""COSMOS: the fields of several head orientations together tell every spatial frequency."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
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
from napari_metaqsm.operators.pad import WorkingGrid, pad_to, working_grid
from napari_metaqsm.orientations.conditioning import FEWEST_DIRECTIONS, conditioning
from napari_metaqsm.scan import Geometry, Triple
from napari_metaqsm.solvers.conjugate_gradient import conjugate_gradient

FITS = ("least squares", "closed form")
# Of the directions, from which on the user is told that noise in the fields is amplified.
POOR_CONDITION = 50.0
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
    """The gold standard: free of streaks, nothing regularised; needs three or more head orientations.

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

    FIGURES

    References
    ----------
    Liu et al. 2009, doi:10.1002/mrm.21828
    """
    directions = [tuple(row) for row in b0_directions.tolist()]
    _assess(directions, parameters)
    mask = mask.bool()
    known = _known(mask, len(directions), noises, masks)
    least_squares = parameters.fit == "least squares"
    if noises is not None and not least_squares:
        notice("cosmos: the closed form uses the noise maps only where they are zero; least squares weighs")
    eroded_mask = None
    if known is not None:
        needed = FEWEST_DIRECTIONS if least_squares else len(directions)
        eroded_mask = _eroded(mask, known.sum(0) >= needed, needed)
    if not least_squares:
        inside = mask if eroded_mask is None else eroded_mask
        return _closed_form(local_fields, inside, geometry, directions, parameters), eroded_mask
    weights = _weights(mask, len(directions), known, noises)
    susceptibility = _least_squares(local_fields, mask, weights, geometry, directions, parameters)
    return (susceptibility if eroded_mask is None else susceptibility.mul_(eroded_mask)), eroded_mask


def _assess(directions: Sequence[Triple], parameters: CosmosParameters) -> None:
    """Put into the record what the directions can tell; refuse too few, and warn of poor ones."""
    found = conditioning(directions, parameters.threshold)
    remark("b0_directions", [[round(b, 6) for b in d] for d in directions])
    remark("conditioning", {name: float(f"{v:.3g}") for name, v in dataclasses.asdict(found).items()})
    if found.condition > POOR_CONDITION:
        notice(
            f"cosmos: the B0 directions are poorly conditioned ({found.condition:.0f}): some spatial "
            "frequencies are hardly seen by any field; turn the head further, or about another axis"
        )


def _known(mask: Tensor, count: int, noises: Tensor | None, masks: Tensor | None) -> Tensor | None:
    """Where each field is known (orientation, i, j, k), bool; None where that is all of the mask."""
    if noises is None and masks is None:
        return None
    known = mask.expand(count, *mask.shape) if masks is None else masks.bool() & mask
    return known if noises is None else known & (noises > 0)


def _eroded(mask: Tensor, determined: Tensor, needed: int) -> Tensor | None:
    eroded_mask = mask & determined
    left = int(eroded_mask.sum())
    if left == 0:
        raise InputError(f"no voxel of the mask is known in {needed} fields; check that the masks overlap")
    if left == int(mask.sum()):
        return None
    notice(
        f"cosmos: {1 - left / int(mask.sum()):.1%} of the mask is known in fewer than {needed} fields and is "
        "left out of the map"
    )
    return eroded_mask


def _weights(mask: Tensor, count: int, known: Tensor | None, noises: Tensor | None) -> list[Tensor]:
    """``1 / noise^2`` of each field where it is known, that of the median noise being 1."""
    if known is None:
        return [mask] * count
    if noises is None:
        return list(known)
    median = noises[known].median()
    return [
        torch.where(inside, (noise / median).clamp(min=LEAST_NOISE), torch.inf).square_().reciprocal_()
        for noise, inside in zip(noises, known, strict=True)
    ]


def _closed_form(
    local_fields: Tensor,
    mask: Tensor,
    geometry: Geometry,
    directions: Sequence[Triple],
    parameters: CosmosParameters,
) -> Tensor:
    """``sum_n D_n f_n / sum_n D_n^2``."""
    grid = working_grid(mask, geometry)
    divided = summed = None
    for n in steps(len(directions), "COSMOS"):
        kernel = _kernel(grid, directions[n], local_fields)
        spectrum = rfftn(_cut(grid, local_fields[..., n, :, :, :], mask)).mul_(kernel)
        divided = spectrum if divided is None else divided.add_(spectrum)
        summed = kernel.square_() if summed is None else summed.addcmul_(kernel, kernel)
    summed.clamp_(min=_floor(parameters.threshold, directions))
    return grid.paste(irfftn(divided.div_(summed), grid.geometry.shape), mask)


def _least_squares(
    local_fields: Tensor,
    mask: Tensor,
    weights: Sequence[Tensor],
    geometry: Geometry,
    directions: Sequence[Triple],
    parameters: CosmosParameters,
) -> Tensor:
    """The minimum of ``sum_n ||w_n (D_n chi - f_n)||^2`` over all chi within the mask."""
    grid = working_grid(mask, geometry)
    shape = grid.geometry.shape
    inside = grid.cut(mask)
    kernels, squares, right = [], [], None
    for n in steps(len(directions), "dipoles"):
        kernels.append(_kernel(grid, directions[n], local_fields))
        squares.append(grid.cut(weights[n]))
        weighted = _cut(grid, local_fields[..., n, :, :, :], weights[n] > 0).mul_(squares[n])
        spectrum = rfftn(weighted).mul_(kernels[n])
        right = spectrum if right is None else right.add_(spectrum)
    right = irfftn(right, shape).mul_(inside)

    def normal(chi: Tensor) -> Tensor:
        spectrum, total = rfftn(chi), None
        for kernel, square in zip(kernels, squares, strict=True):
            _listen()
            back = rfftn(irfftn(spectrum * kernel, shape).mul_(square)).mul_(kernel)
            total = back if total is None else total.add_(back)
        return irfftn(total, shape).mul_(inside)

    susceptibility, residual = conjugate_gradient(
        normal,
        right,
        iterations=parameters.iterations,
        tolerance=parameters.tolerance,
        precondition=_preconditioner(kernels, squares, inside),
    )
    if float(residual.max()) > parameters.tolerance:
        notice(
            f"cosmos: stopped after {parameters.iterations} iterations at a residual of "
            f"{float(residual.max()):.1e}, above the tolerance of {parameters.tolerance:.1e}"
        )
    return grid.paste(susceptibility, mask)


def _preconditioner(
    kernels: Sequence[Tensor], squares: Sequence[Tensor], inside: Tensor
) -> Callable[[Tensor], Tensor]:
    """The closed form between two divisions by the root of each voxel's weight, the mean over the fields.

    With S^2 the mean of w_n^2, ``sum_n D_n w_n^2 D_n`` is somewhere between ``sum_n D_n^2`` and
    ``S (sum_n D_n^2) S``: dividing by the root of S takes 8 to 13 iterations where dividing by S takes 16
    to 42, and not at all 11 to 13.
    """
    summed, scale = torch.zeros_like(kernels[0]), torch.zeros_like(inside, dtype=kernels[0].dtype)
    for kernel, square in zip(kernels, squares, strict=True):
        summed.addcmul_(kernel, kernel)
        scale.add_(square)
    inverse = summed.clamp_(min=len(kernels) * PRECONDITIONER_FLOOR**2).reciprocal_()
    scale = scale.div_(len(squares)).pow_(0.25).clamp_(min=PRECONDITIONER_FLOOR).reciprocal_().mul_(inside)
    return lambda x: multiply_spectrum(x * scale, inverse).mul_(scale)


def _kernel(grid: WorkingGrid, direction: Triple, like: Tensor) -> Tensor:
    geometry = dataclasses.replace(grid.geometry, b0_direction=direction)
    return build_dipole_kernel(geometry, like.dtype, like.device)


def _cut(grid: WorkingGrid, field: Tensor, inside: Tensor) -> Tensor:
    """The field on the grid, zero where it is not known, even where it is NaN there."""
    return pad_to(torch.where(inside[grid.box], field[(..., *grid.box)], 0), grid.geometry.shape)


def _floor(threshold: float, directions: Sequence[Triple]) -> float:
    """Of ``sum_n D_n^2``; the mean over the volume, which no dipole sees, then comes out as zero."""
    return max(len(directions) * threshold**2, SMALLEST_SUM)


def _listen() -> None:
    """Stop here if the user asked for it; the progress shown stays that of the iterations."""
    with running(report=lambda fraction, label: None):
        announce("CG")

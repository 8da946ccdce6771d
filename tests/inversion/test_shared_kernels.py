"""A second method on the same scan finds the dipole where the first one left it."""

import torch

from napari_metaqsm.method import find_method, running
from napari_metaqsm.operators import dipole
from napari_metaqsm.scan import Acquisition, Geometry
from napari_metaqsm.simulation.shapes import sphere

GEOMETRY = Geometry((22, 26, 13), (1.0, 0.9, 2.1), (0.1, 0.2, 1.0))


def run(name: str, field: torch.Tensor, mask: torch.Tensor) -> None:
    entry = find_method("inversion", name)
    settings = {
        "geometry": GEOMETRY,
        "acquisition": Acquisition((0.02,), 3.0),
        "parameters": entry.make_parameters(),
    }
    with running():
        entry.function(local_field=field, mask=mask, **{n: settings[n] for n in entry.settings})


def test_all_iterative_methods_share_one_dipole_and_all_direct_ones_another():
    mask = sphere(GEOMETRY, 9.0) > 0.5
    field = dipole.dipole_field(0.2 * sphere(GEOMETRY, 4.0), GEOMETRY) * mask
    for family in (("tv", "nonlinear_tv", "medi", "ilsqr"), ("tkd", "l2")):
        dipole._dipole_kernel.cache_clear()
        for name in family:
            run(name, field, mask)
        assert dipole._dipole_kernel.cache_info().misses == 1, family

"""Axes of layers: turned for display and back, measured, and kept through results."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer

from napari_metaqsm.errors import InputError
from napari_metaqsm.io.nifti import space_from
from napari_metaqsm.plugin.layers import (
    array_in_file_axes,
    contrast_limits,
    direction_note,
    geometry_of,
    layer_data,
    metadata_of,
    result_layer,
    space_of,
    unit_note,
)
from napari_metaqsm.scan import Acquisition, Geometry

ALL_CODES = [
    "".join(codes)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*order)
]
SHAPE, SIZE = (3, 4, 5), (0.75, 1.5, 3.0)
TILTED = (0.15, -0.1, 0.95)  # B0 in right, anterior, superior of a patient whose slab is oblique
OPPOSITE = {"I": "S", "P": "A", "L": "R"}
# napari says so of every layer that is turned against its slices, and shows it straight.
turned_layers = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
VALUES = np.random.default_rng(2).normal(size=(2, *SHAPE)).astype(np.float32)


def space_with(codes, tilted=False):
    """A space whose axes run to ``codes``, B0 along the patient's or tilted against it."""
    along = dict(zip("RAS", TILTED if tilted else (0, 0, 1), strict=True))
    along.update({low: -along[high] for low, high in zip("LPI", "RAS", strict=True)})
    return space_from(Geometry(SHAPE, SIZE, tuple(along[c] for c in codes), codes))


@pytest.mark.parametrize("tilted", [False, True])
@pytest.mark.parametrize("codes", ALL_CODES)
def test_a_layer_is_radiological_and_turns_back_exactly(codes, tilted):
    space = space_with(codes, tilted)
    geometry = space.geometry()
    layer = Layer.create(*layer_data(VALUES, space, "phase", "p", Acquisition((0.004, 0.008), 3)))
    assert nib.aff2axcodes(space.affine) == tuple(codes)
    np.testing.assert_array_equal(array_in_file_axes(layer), VALUES)
    assert space_of(layer) is space
    # Each anatomical direction by itself: a ramp along it must rise along the layer's own axis.
    for axis, code in enumerate("IPL"):
        source = next(a for a, c in enumerate(codes) if c in (code, OPPOSITE[code]))
        ramp = np.indices(SHAPE)[source] * (1 if codes[source] == code else -1)
        shown = layer_data(ramp, space, "magnitude", "m")[0]
        assert (np.diff(shown, axis=axis) == 1).all()
    seen = geometry_of(layer)
    assert seen.orientation == "IPL"
    along = dict(zip(codes, zip(geometry.voxel_size_mm, geometry.b0_direction, strict=True), strict=True))
    for code, size, direction in zip("IPL", seen.voxel_size_mm, seen.b0_direction, strict=True):
        opposite = along.get(OPPOSITE[code], (0, 0))
        expected = along.get(code, (opposite[0], -opposite[1]))
        np.testing.assert_allclose((size, direction), expected, rtol=1e-6, atol=1e-7)


def test_an_echo_layer_has_four_axes_with_units_and_names():
    values, settings, kind = layer_data(VALUES, space_with("RAS"), "magnitude", "m")
    layer = Layer.create(values, settings, kind)
    assert [str(u) for u in layer.units] == ["dimensionless", "millimeter", "millimeter", "millimeter"]
    assert layer.axis_labels == ("echo", "z", "y", "x")
    np.testing.assert_allclose(layer.scale, (1, 3.0, 1.5, 0.75), rtol=1e-6)
    viewer = ViewerModel()
    viewer.add_layer(layer)
    viewer.add_layer(Layer.create(*layer_data(VALUES[0] > 0, space_with("RAS"), "mask", "mask")))
    assert isinstance(viewer.layers[1], Labels)
    assert viewer.dims.units is not None


def test_metadata_carries_what_the_chain_needs():
    acquisition = Acquisition((0.02,), 3, -1)
    space = space_with("LAS", tilted=True)
    layer = Layer.create(*layer_data(VALUES[0], space, "phase", "p", acquisition, {"by": "us"}))
    known = metadata_of(layer)
    assert (known["quantity"], known["acquisition"], known["record"]) == ("phase", acquisition, {"by": "us"})
    assert known["unit"] == "rad"
    assert layer_data(VALUES * 4096, space, "phase", "p")[1]["metadata"]["metaqsm"]["unit"] == "as stored"
    assert metadata_of(Image(VALUES[0])) == {}
    assert metadata_of(Image(VALUES[0], metadata={"metaqsm": "text"})) == {}


def test_another_direction_of_b0_is_turned_with_the_axes():
    space = space_with("RAS")
    other = Geometry(SHAPE, SIZE, (0.6, 0, 0.8))
    layer = Layer.create(*layer_data(VALUES[0], space, "phase", "p", geometry=other))
    np.testing.assert_allclose(geometry_of(layer).b0_direction, (-0.8, 0, -0.6))


# ------------------------------------------------------------------------ layers of other readers
def test_voxel_size_is_measured_in_the_world_and_in_mm():
    turned = np.eye(4)
    turned[:3, :3] = np.diag([2.0, 0.5, -0.5])[[0, 2, 1]]
    assert geometry_of(Image(VALUES[0], affine=turned)).voxel_size_mm == (2, 0.5, 0.5)
    scaled = Image(VALUES[0], scale=(2000, 500, 700), units=("um",) * 3)
    assert geometry_of(scaled).voxel_size_mm == pytest.approx((2, 0.5, 0.7))
    assert unit_note(scaled) == ""
    both = Image(VALUES, scale=(9, 2, 1, 1), affine=np.diag([7.0, 1, 0.5, 0.25, 1]))
    assert geometry_of(both).voxel_size_mm == (2, 0.5, 0.25)


def test_what_has_to_be_assumed_is_said():
    layer = Image(VALUES[0], scale=(3, 1, 1), name="foreign")
    assert unit_note(layer) == "the unit of 'foreign' is pixel; its scale is taken to be in mm"
    assert "taken along the first spatial axis" in direction_note(layer)
    assert geometry_of(layer) == Geometry(SHAPE, (3, 1, 1), (1, 0, 0), "SPL")
    own = Layer.create(*layer_data(VALUES[0], space_with("RAS"), "phase", "p"))
    assert unit_note(own) == direction_note(own) == ""


@turned_layers
def test_b0_of_a_turned_foreign_layer_is_the_worlds_first_axis():
    c, s = np.cos(0.3), np.sin(0.3)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(SIZE)
    np.testing.assert_allclose(
        geometry_of(Image(VALUES[0], affine=affine)).b0_direction, (c, -s, 0), atol=1e-12
    )


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Image(np.zeros((4, 5))), "2 axes"),
        (Image(np.zeros((2, 2, 3, 4, 5))), "5 axes"),
        (Image(np.zeros((1, 4, 5))), "single slice"),
        (Image(np.zeros((6, 4, 5, 3)), rgb=True), "colour"),
    ],
)
def test_what_is_no_volume_is_refused(layer, message):
    with pytest.raises(InputError, match=message):
        geometry_of(layer)


@turned_layers
@pytest.mark.parametrize("turned", [False, True])
def test_a_foreign_layer_is_saved_where_it_stands(turned):
    """Voxel to world in the layer and in the file must be one place, (z, y, x) being S, P, L."""
    place = {"scale": (3, 2, 1), "translate": (10, 20, 30)}
    if turned:
        place["rotate"] = (10, 20, 30)
    layer = Image(VALUES, scale=(1, *place.pop("scale")), units=("dimensionless", "mm", "mm", "mm"))
    layer.translate = (0, *place["translate"])
    if turned:
        rotation = np.eye(4)
        rotation[1:, 1:] = Image(VALUES[0], rotate=place["rotate"]).rotate
        layer.rotate = rotation
    array, space = array_in_file_axes(layer), space_of(layer)
    assert array.shape == (2, *SHAPE[::-1])
    for voxel in [(0, 0, 0), (2, 3, 4), (1, 0, 3)]:
        assert array[1][voxel[::-1]] == VALUES[1][voxel]
        z, y, x = layer.data_to_world((0, *voxel))[1:]
        np.testing.assert_allclose((space.affine @ [*voxel[::-1], 1])[:3], (-x, -y, z), atol=1e-5)
    direction = space.geometry().b0_direction[::-1]
    np.testing.assert_allclose(direction, geometry_of(layer).b0_direction, atol=1e-6)


# ------------------------------------------------------------------------------- results
@turned_layers
@pytest.mark.parametrize("like", ["echoes", "volume", "foreign", "turned"])
def test_a_result_lies_where_its_layer_does(like):
    affine = np.eye(4)
    affine[:3, :3] = [[0, 2, 0], [1.5, 0, 0], [0, 0, 3]]
    layer = {
        "echoes": lambda: Layer.create(*layer_data(VALUES, space_with("RAS", True), "phase", "p")),
        "volume": lambda: Layer.create(*layer_data(VALUES[0], space_with("ASL"), "local_field", "p")),
        "foreign": lambda: Image(VALUES[0], scale=(3, 2, 1), translate=(1, 2, 3)),
        "turned": lambda: Image(VALUES[0], affine=affine, units=("um",) * 3),
    }[like]()
    values = np.zeros(layer.data.shape[-3:], np.float32)
    data, settings, kind = result_layer(values, layer, "susceptibility", "chi", {"by": "us"})
    result = Layer.create(data, settings, kind)
    assert data is values
    assert geometry_of(result) == geometry_of(layer)
    voxel = (1, 2, 1)
    lead = (0,) * (layer.ndim - 3)
    np.testing.assert_allclose(result.data_to_world(voxel), layer.data_to_world((*lead, *voxel))[-3:])
    assert {str(u) for u in result.units} == {"micrometer" if like == "turned" else "millimeter"}
    assert tuple(result.contrast_limits) == (-0.1, 0.1)
    known = metadata_of(result)
    assert (known["quantity"], known["unit"], known["record"]) == ("susceptibility", "ppm", {"by": "us"})
    assert known.get("space") is metadata_of(layer).get("space")
    assert direction_note(result).replace("chi", layer.name) == direction_note(layer)
    with pytest.raises(InputError, match="voxels, but"):
        result_layer(np.zeros((2, 2, 2)), layer, "susceptibility", "chi")


def test_a_cropped_layer_no_longer_claims_the_place_of_its_file():
    data, settings, kind = layer_data(VALUES[0], space_with("RAS"), "local_field", "p")
    cropped = Layer.create(data[1:], settings, kind)
    assert space_of(cropped).shape == cropped.data.shape[::-1]


def test_a_mask_result_is_a_labels_layer():
    layer = Layer.create(*layer_data(VALUES[0], space_with("RAS"), "local_field", "p"))
    data, _, kind = result_layer(layer.data > 0, layer, "eroded_mask", "m")
    assert (kind, data.dtype) == ("labels", np.uint8)


@pytest.mark.parametrize(
    ("quantity", "unit", "values", "limits"),
    [
        ("phase", "rad", [-1.0, 1.0], (-np.pi, np.pi)),
        ("susceptibility_tkd", "ppm", [-9.0, 9.0], (-0.1, 0.1)),
        ("quality", "", [0.2, 0.3], (0, 1)),
        ("local_field", "ppm", [-2.0] * 50 + [1.0] * 50 + [0.0] * 500, (-2, 2)),
        ("magnitude", "", [5.0] * 100, (0, 5)),
        ("magnitude", "", [0.0, np.nan], (0, 1)),
        ("image", "", [7.0] * 10, (6.5, 7.5)),
    ],
)
def test_gray_ranges(quantity, unit, values, limits):
    assert contrast_limits(np.array(values), quantity, unit) == pytest.approx(limits)

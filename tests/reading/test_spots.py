"""The lesion probe on spots that are known, on noise, and after a real inversion."""

import json
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from napari_metaqsm.errors import InputError
from napari_metaqsm.inversion.tkd import TKDParameters, tkd
from napari_metaqsm.operators.dipole import dipole_field
from napari_metaqsm.reading.spots import Spot, probe, sentence
from napari_metaqsm.reading.study import Study
from napari_metaqsm.scan import Acquisition, Geometry

SIZE = (1.0, 0.8, 1.5)
SHAPE = (40, 50, 30)
MIDDLE = (21, 24, 14)
NOISE_PPM = 0.01


def ball(middle, radius_mm, shape=SHAPE, size=SIZE):
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return sum(((g - m) * s) ** 2 for g, m, s in zip(grid, middle, size, strict=True)) <= radius_mm**2


def noise(seed=0, shape=SHAPE):
    return NOISE_PPM * np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def with_spot(value, radius_mm=3.0, middle=MIDDLE, seed=0, surroundings=0.0):
    chi = noise(seed) + np.float32(surroundings)
    chi[ball(middle, radius_mm)] += value
    return chi


def study(*maps, orientation="RAS", **others):
    titles = ("TKD", "TV", "MEDI")
    return Study(
        Geometry(SHAPE, SIZE, orientation=orientation), dict(zip(titles, maps, strict=False)), **others
    )


@pytest.mark.parametrize("value", [0.3, -0.3])
def test_a_known_spot_is_found_whole_and_measured_on_every_map(value):
    maps = with_spot(value, seed=0), with_spot(0.8 * value, seed=1)
    clicked = (MIDDLE[0] + 2, MIDDLE[1], MIDDLE[2])
    spot = probe(study(*maps), clicked, "TV")
    truth = ball(MIDDLE, 3.0)
    region = np.zeros(SHAPE, bool)
    region[tuple(spot.region.T)] = True
    np.testing.assert_array_equal(region, truth)
    assert spot.clicked == clicked
    assert spot.volume_mm3 == pytest.approx(truth.sum() * 1.2)
    assert spot.sign == np.sign(value)
    assert spot.confidence == "clear"
    assert spot.doubts == ()
    for title, chi in zip(("TKD", "TV"), maps, strict=True):
        values = spot.methods[title]
        inside = chi[truth].astype(float)
        assert values.mean == pytest.approx(inside.mean(), abs=1e-7)
        assert values.sd == pytest.approx(inside.std(), abs=1e-7)
        assert values.peak == pytest.approx(inside[np.abs(inside).argmax()], abs=1e-7)
        assert values.voxels == truth.sum()
        assert values.around_mean == pytest.approx(0, abs=3 * NOISE_PPM / values.around_voxels**0.5)
        assert values.around_sd == pytest.approx(NOISE_PPM, rel=0.15)
        assert values.around_spread == pytest.approx(NOISE_PPM, rel=0.2)
        assert values.cnr == pytest.approx(values.contrast / values.around_spread)
    peak = tuple(np.argwhere(truth)[np.abs(maps[1][truth]).argmax()])
    assert spot.peak == peak


def test_the_uncertainty_is_the_formula():
    chi = with_spot(0.08)
    given_noise = np.full(SHAPE, 0.004, np.float32)
    values = probe(study(chi), MIDDLE).methods["TKD"]
    noisier = probe(study(chi, noise=given_noise), MIDDLE).methods["TKD"]
    # White noise: eight voxels count as one, up to the correlation that chance leaves.
    n, m = values.voxels / 8, values.around_voxels / 8
    variance = values.around_sd**2 * (1 / n + 1 / m)
    assert values.z == pytest.approx(values.contrast / variance**0.5, rel=1e-6)
    variance = (4 * 0.004) ** 2 * (1 / n + 1 / m)
    assert noisier.z == pytest.approx(values.contrast / variance**0.5, rel=1e-6)


def test_other_spots_do_not_count_as_surroundings():
    chi = with_spot(0.3)
    alone = probe(study(chi), MIDDLE).methods["TKD"]
    chi[ball((MIDDLE[0] + 7, MIDDLE[1], MIDDLE[2]), 2.0)] = 0.25
    beside = probe(study(chi), MIDDLE).methods["TKD"]
    assert beside.around_mean == pytest.approx(alone.around_mean, abs=0.002)
    assert beside.around_sd == pytest.approx(alone.around_sd, rel=0.1)
    assert beside.voxels == alone.voxels


@settings(max_examples=25, deadline=None)
@given(offset=st.floats(-0.05, 0.05), value=st.sampled_from([0.3, -0.25, 0.15]), seed=st.integers(0, 5))
def test_another_reference_moves_the_means_and_nothing_else(offset, value, seed):
    chi = with_spot(value, seed=seed)
    first = probe(study(chi), MIDDLE)
    second = probe(study(np.where(chi + np.float32(offset) == 0, 1e-9, chi + np.float32(offset))), MIDDLE)
    np.testing.assert_array_equal(first.region, second.region)
    one, two = first.methods["TKD"], second.methods["TKD"]
    assert two.mean - one.mean == pytest.approx(offset, abs=1e-6)
    assert two.contrast == pytest.approx(one.contrast, abs=1e-6)
    assert second.confidence == first.confidence == "clear"


def test_a_click_beside_a_spot_finds_it_and_a_click_far_off_does_not():
    chi = with_spot(0.4, radius_mm=1.6)
    assert probe(study(chi), (MIDDLE[0] + 4, MIDDLE[1], MIDDLE[2])).methods["TKD"].mean > 0.3
    assert probe(study(chi), (MIDDLE[0] + 9, MIDDLE[1], MIDDLE[2])).methods["TKD"].mean < 0.1


def test_a_dark_spot_that_is_clicked_is_not_left_for_a_stronger_bright_one_beside_it():
    chi = with_spot(0.5, radius_mm=1.6)
    dark = (MIDDLE[0] + 3, MIDDLE[1], MIDDLE[2])
    chi[ball(dark, 1.2)] = -0.2
    spot = probe(study(chi), dark)
    assert (spot.sign, spot.kind) == (-1, "diamagnetic")
    assert spot.confidence == "probable"
    assert probe(study(chi), MIDDLE).sign == 1


@pytest.mark.parametrize("smooth", [0, 1, 2])
def test_noise_alone_is_hardly_ever_a_spot_and_never_a_clear_one(smooth):
    random = np.random.default_rng(smooth)
    chi = gaussian_filter(random.standard_normal(SHAPE), smooth).astype(np.float32) if smooth else noise(3)
    found = [probe(study(chi), random.integers((8, 8, 6), (32, 42, 24))).confidence for _ in range(60)]
    assert "clear" not in found
    assert found.count("cannot be told") >= 57


def test_after_a_real_inversion_the_signs_of_blood_and_calcium_are_right():
    geometry = Geometry((48, 48, 48), (1.0, 1.0, 1.0))
    truth = np.zeros(geometry.shape, np.float32)
    blood, calcium = (14, 24, 24), (34, 24, 24)
    size = geometry.voxel_size_mm
    truth[ball(blood, 2.5, geometry.shape, size)] = 0.6
    truth[ball(calcium, 2.5, geometry.shape, size)] = -0.6
    generator = torch.Generator().manual_seed(0)
    field = dipole_field(torch.from_numpy(truth), geometry)
    field = field + 0.002 * torch.randn(geometry.shape, generator=generator)
    maps = {
        f"TKD {t}": tkd(field, torch.ones(geometry.shape, dtype=bool), geometry, TKDParameters(t)).numpy()
        for t in (0.1, 0.2)
    }
    scan = Study(geometry, maps, noise=np.full(geometry.shape, 0.002))
    for middle, word, meaning in (
        (blood, "paramagnetic", "iron or blood products"),
        (calcium, "diamagnetic", "calcium"),
    ):
        spot = probe(scan, middle, "TKD 0.2")
        assert (spot.kind, spot.confidence) == (word, "clear")
        assert sentence(spot).startswith(f"Clearly {word}")
        assert f"consistent with {meaning}; it does not exclude" in sentence(spot)


# --------------------------------------------------------------------------------- what lowers it
def test_methods_that_disagree_leave_the_sign_open():
    spot = probe(study(with_spot(0.3), with_spot(-0.2, seed=1)), MIDDLE)
    assert (spot.confidence, spot.kind) == ("cannot be told", "sign not told")
    assert spot.doubts[0] == "TV shows the opposite sign"
    assert "cannot be told (TV shows the opposite sign" in sentence(spot)
    assert "consistent" not in sentence(spot)


def test_darker_than_its_surroundings_is_not_yet_diamagnetic():
    spot = probe(study(with_spot(-0.1, surroundings=0.25)), MIDDLE)
    assert spot.sign == -1
    assert spot.confidence == "cannot be told"
    assert spot.doubts == ("it is less paramagnetic than its surroundings, but not below the reference",)


@pytest.mark.parametrize(
    ("chi", "others", "confidence", "doubt"),
    [
        (with_spot(0.1, radius_mm=0.9), {}, "probable", "voxels large"),
        (with_spot(0.3) * ball((14, 24, 14), 9), {}, "probable", "from the edge of the map"),
        (with_spot(0.3) - 0.5 * ball((28, 24, 14), 1.6), {}, "probable", "of the other sign is beside it"),
        (with_spot(0.3, radius_mm=14), {}, "clear", "beyond the largest region"),
        (with_spot(0.3), {"unreliable": ball(MIDDLE, 2.9)}, "clear", "its values are uncertain, "),
        (
            with_spot(0.06, radius_mm=1.8),
            {"unreliable": ball(MIDDLE, 2.9)},
            "probable",
            "its values are uncertain, ",
        ),
    ],
    ids=["small", "edge", "streaks", "large", "unreliable and strong", "unreliable and weak"],
)
def test_each_doubt_is_said_and_counts(chi, others, confidence, doubt):
    middle = tuple(int(v) for v in np.unravel_index(chi.argmax(), SHAPE))
    spot = probe(study(chi.astype(np.float32)), middle, **others)
    assert spot.confidence == confidence
    assert any(doubt in words for words in spot.doubts), spot.doubts
    assert doubt in sentence(spot)


# ------------------------------------------------------------------------------- what is beside it
def test_field_phase_and_magnitude_at_the_spot():
    truth = ball(MIDDLE, 3.0)
    phase = np.random.default_rng(1).uniform(-4096, 4096, (2, *SHAPE))
    magnitude = np.full((2, *SHAPE), 100.0)
    magnitude[0, truth], magnitude[1, truth] = 50, 25
    local_field = np.where(truth, 0.02, 0.0)
    acquisition = Acquisition((0.004, 0.008), 3.0, phase_pi=4096)
    scan = study(
        with_spot(0.3), phase=phase, magnitude=magnitude, local_field=local_field, acquisition=acquisition
    )
    spot = probe(scan, MIDDLE)
    assert spot.local_field_ppm == pytest.approx(0.02)
    assert spot.magnitude == pytest.approx((0.5, 0.25))
    assert spot.phase_rad == pytest.approx(phase[(slice(None), *spot.peak)] / 4096 * np.pi)
    radians = study(with_spot(0.3), phase=phase / 4096 * np.pi)
    assert probe(radians, MIDDLE).phase_rad == pytest.approx(spot.phase_rad)
    unknown = study(with_spot(0.3), phase=phase)
    assert probe(unknown, MIDDLE).phase_rad is None


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [("RAS", (12.0, -8.0, 9.0)), ("IPL", (-9.0, 8.0, -12.0)), ("LAS", (-12.0, -8.0, 9.0))],
)
def test_the_place_is_the_patients_whatever_way_the_axes_run(orientation, expected):
    brain = ball((20, 25, 15), 14.0)
    spot = probe(
        study(with_spot(0.4, middle=(32, 15, 21)), orientation=orientation, mask=brain), (32, 15, 21)
    )
    # The ball's middle is that of its extent up to half a voxel; the peak lies in the spot.
    assert spot.offset_mm == pytest.approx(expected, abs=4.0)
    assert np.sign(spot.offset_mm).tolist() == np.sign(expected).tolist()
    side = "right" if expected[0] > 0 else "left"
    assert spot.place.startswith(side)
    assert spot.place.endswith(" mm")


def test_it_goes_through_json_and_comes_back():
    spot = probe(study(with_spot(0.3), with_spot(0.2, seed=2), local_field=noise(4)), MIDDLE).with_note(
        "old?"
    )
    plain = json.loads(json.dumps(spot.to_dict(), allow_nan=False))
    back = Spot.from_dict(plain)
    assert back == spot
    np.testing.assert_array_equal(back.region, spot.region)
    assert sentence(back) == sentence(spot)
    assert len(plain["region"]) < len(spot.region)
    with pytest.raises(InputError, match="this is no probed spot"):
        Spot.from_dict({**plain, "colour": 3})
    with pytest.raises(InputError, match="this is no probed spot"):
        Spot.from_dict({"peak": [1, 2, 3]})


def test_without_spread_around_it_the_numbers_stay_finite():
    chi = np.full(SHAPE, 0.01, np.float32)
    chi[ball(MIDDLE, 3.0)] = 0.2
    spot = probe(study(chi), MIDDLE)
    assert spot.confidence == "clear"
    json.dumps(spot.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("voxel", "lead", "message"),
    [
        ((0, 0, 0), "TKD", "TKD is not known within 3 mm of voxel"),
        ((21, 24, 99), "TKD", r"voxel is \(21, 24, 99\); it must lie in the grid"),
        (MIDDLE, "MEDI", "lead is 'MEDI'; it must be one of TKD"),
    ],
)
def test_where_there_is_nothing_to_probe_it_says_so(voxel, lead, message):
    inside = ball(MIDDLE, 12.0)
    with pytest.raises(InputError, match=message):
        probe(study(with_spot(0.3) * inside), voxel, lead)
    with pytest.raises(InputError, match="TKD is flat around"):
        probe(study(np.full(SHAPE, 0.1, np.float32)), MIDDLE)


def test_a_map_that_knows_only_the_spot_tells_nothing():
    chi = np.zeros(SHAPE, np.float32)
    chi[MIDDLE] = 0.3
    chi[MIDDLE[0] + 1, MIDDLE[1] + 1, MIDDLE[2]] = chi[MIDDLE[0] - 1, MIDDLE[1], MIDDLE[2]] = 0.01
    spot = probe(study(chi), MIDDLE)
    assert spot.confidence == "cannot be told"
    assert "too little of the map around it is known" in sentence(spot)


def test_it_answers_at_once_on_a_large_volume():
    shape = (128, 512, 512)
    chi = np.empty(shape, np.float32)
    chi[:] = noise(0, (1, 512, 512))
    chi[60:63, 250:256, 250:256] = 0.3
    titles = dict.fromkeys("abcd", chi)
    scan = Study(Geometry(shape, (1.0, 0.4, 0.4), orientation="IPL"), titles, mask=chi != 0)
    started = time.perf_counter()
    probe(scan, (61, 252, 252))
    assert time.perf_counter() - started < 0.5

"""Which stacks belong together, and the words for what is missing."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_metaqsm.io.dicom.headers import Header, Headers, Image
from napari_metaqsm.io.dicom.series import find_runs
from napari_metaqsm.io.dicom.stacks import facts_of, same_grid, stack

HEADER = Header(
    path=None,
    packed=False,
    sop_uid="",
    series_uid="1",
    study_uid="study",
    frame_of_reference="",
    enhanced=False,
    transfer_syntax="1.2.840.10008.1.2.1",
    series_number=1,
    description="gre QSM (3D)",
    manufacturer="SIEMENS",
    model="",
    software="",
    b0_tesla=3.0,
    sequence="*fl3d2r",
)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
TYPES = {"magnitude": "M", "phase": "P", "real": "R", "imaginary": "I", "other": "OTHER"}
numbers = itertools.count()


def images(part="phase", series=1, echoes=(5, 12), slices=10, time=100.0, orientation=AXIAL, **changes):
    """Made images of one part: classic, 2 mm apart; ``changes`` are of the header, or of the image."""
    fields = {f.name for f in dataclasses.fields(Header)}
    of_header = {k: v for k, v in changes.items() if k in fields}
    of_image = {k: v for k, v in changes.items() if k not in fields}
    made = []
    normal = np.cross(orientation[:3], orientation[3:])
    for echo, k in itertools.product(echoes, range(slices) if isinstance(slices, int) else slices):
        number = next(numbers)
        header = dataclasses.replace(
            HEADER,
            **{
                "path": f"/{number}",
                "sop_uid": str(number),
                "series_uid": f"uid {series}",
                "series_number": series,
                **of_header,
            },
        )
        image = Image(
            header=header,
            frame=0,
            part=part,
            measured=True,
            image_type=("ORIGINAL", "PRIMARY", TYPES[part]),
            echo_time_s=None if echo is None else echo / 1000,
            orientation=orientation,
            position=tuple(2.0 * k * normal + [-50, -60, 0]),
            spacing_mm=(1.0, 1.0),
            shape=(64, 48),
            time_s=time,
            order=(0, 0, number),
            rescale=None,
            real_world=None,
        )
        made.append(dataclasses.replace(image, **of_image))
    return made


def runs(*groups, series=None, refused=()):
    every = [image for group in groups for image in group]
    return find_runs(Headers(tuple(every), tuple(refused), 0), series)[:3]


def only(*groups):
    """The only run, and all that is said of it and of what was left out."""
    found, notes, decisions = runs(*groups)
    (run,) = found
    return run, [*run.notes, *run.decisions, *notes, *decisions]


def told(notes, words):
    return any(words in note for note in notes)


# ---------------------------------------------------------------------------------- what belongs together
def test_magnitude_and_phase_of_two_series_are_one_run():
    run, notes = only(images("phase", 9), images("magnitude", 8))
    assert {part: len(stacks) for part, stacks in run.parts.items()} == {"phase": 2, "magnitude": 2}
    assert (run.series, run.name, notes) == ([8, 9], "acq-greqsm3d_run-9", [])
    assert [s.echo_time_s for s in run.parts["phase"]] == [0.005, 0.012]


def test_echoes_that_are_series_of_their_own_are_one_run():
    groups = [
        images(part, 10 * n + echo, echoes=(echo,), time=100 + n)
        for n, part in enumerate(("magnitude", "phase"))
        for echo in (5, 12, 19)
    ]
    run, _ = only(*groups)
    assert [s.echo_time_s for s in run.parts["phase"]] == [0.005, 0.012, 0.019]
    assert run.series == [5, 12, 15, 19, 22, 29]


def test_a_scan_that_was_repeated_is_two_runs_each_with_its_own_magnitude():
    found, *_ = runs(
        images("magnitude", 8, time=100),
        images("phase", 9, time=100),
        images("magnitude", 10, time=400),
        images("phase", 11, time=400),
    )
    assert [run.series for run in found] == [[8, 9], [10, 11]]


def test_without_times_the_nearest_series_is_taken():
    groups = [images(p, n, time=None) for n, p in ((8, "magnitude"), (9, "phase"), (20, "magnitude"))]
    run, notes = only(*groups)
    assert run.series == [8, 9]
    assert told(notes, "left out, for no phase belongs to them: series 20")


def test_a_magnitude_that_states_another_time_is_taken_where_no_other_fits():
    run, notes = only(images("magnitude", 8, time=160), images("phase", 9, time=100))
    assert run.series == [8, 9]
    assert told(notes, "(series 8 and 9) started 60 s apart; there is no other that fits")


def test_the_magnitude_of_another_scan_is_not_taken_where_two_scans_share_it():
    found, *_ = runs(
        images("magnitude", 8, time=500), images("phase", 9, time=100), images("phase", 11, time=300)
    )
    assert [list(run.parts) for run in found] == [["phase"], ["phase"]]


@pytest.mark.parametrize(
    "other",
    [
        {"study_uid": "another"},
        {"orientation": CORONAL},
        {"shape": (64, 64)},
        {"spacing_mm": (1.0, 1.1)},
        {"echoes": (6, 13)},
    ],
)
def test_what_differs_in_study_grid_or_echo_times_is_not_joined(other):
    run, notes = only(images("magnitude", 8, **other), images("phase", 9))
    assert list(run.parts) == ["phase"]
    assert told(notes, "there is no magnitude to the phase of series 9")


def test_with_and_without_distortion_correction_are_paired_each_with_its_own():
    groups = [
        images(part, n, image_type=("ORIGINAL", "PRIMARY", TYPES[part], kind))
        for n, (part, kind) in enumerate(
            [("magnitude", "ND"), ("magnitude", "DIS3D"), ("phase", "DIS3D"), ("phase", "ND")], 4
        )
    ]
    found, *_ = runs(*groups)
    assert [run.series for run in found] == [[4, 7], [5, 6]]


def test_classic_and_enhanced_of_one_scan_are_one_and_the_complete_one_is_used():
    whole = [images(part, 8, enhanced=True) for part in ("magnitude", "phase")]
    run, notes = only(
        *whole, *(images(part, 8, slices=[*range(4), *range(5, 10)]) for part in ("magnitude", "phase"))
    )
    assert all(s.header.enhanced for s in run.stacks)
    assert told(notes, "series 8 is there as classic and as enhanced DICOM; the enhanced one is used")
    run, notes = only(*whole, *(images(part, 8) for part in ("magnitude", "phase")))
    assert not any(s.header.enhanced for s in run.stacks)


def test_copies_of_files_count_once_and_other_images_with_one_number_do_not():
    phase = images("phase", echoes=(5,))
    copies = [
        dataclasses.replace(i, header=dataclasses.replace(i.header, path=f"copy{i.header.path}"))
        for i in phase
    ]
    run, notes = only(phase, copies)
    assert len(run.stacks[0].images) == 10
    assert told(notes, "10 files are copies of others; each image is used once")
    run, notes = only(images("phase", echoes=(5,), sop_uid="all the same"))
    assert len(run.stacks[0].images) == 10


def test_real_and_imaginary_parts_are_a_run_and_give_way_to_phase_with_magnitude():
    complex_parts = [images(part, 8) for part in ("real", "imaginary")]
    run, _ = only(*complex_parts)
    assert set(run.parts) == {"real", "imaginary"}
    run, notes = only(*complex_parts, images("phase", 8), images("magnitude", 8))
    assert set(run.parts) == {"phase", "magnitude"}
    assert told(notes, "real and imaginary parts are there too")
    run, notes = only(*complex_parts, images("phase", 8))
    assert set(run.parts) == {"real", "imaginary"}


def test_the_difference_of_siemens_field_mapping_is_no_second_echo():
    mapping = {"sequence": "*fm2d2r"}
    phase, magnitude = images("phase", 9, (7.65,), **mapping), images("magnitude", 8, (5.19, 7.65), **mapping)
    run, notes = only(phase, magnitude)
    assert {part: len(s) for part, s in run.parts.items()} == {"phase_difference": 1, "magnitude": 2}
    assert facts_of(run.parts["phase_difference"]).part == "phase_difference"
    run, notes = only(images("phase", 9, (7.65,)), images("magnitude", 8, (5.19, 7.65)))
    assert {part: len(s) for part, s in run.parts.items()} == {"phase": 1, "magnitude": 1}
    assert told(notes, "there is no phase of the echo at 5.19 ms, only magnitude; left out")


# ---------------------------------------------------------------------------------- what is missing
@given(st.sets(st.integers(1, 18), max_size=4), st.permutations(range(20)))
@settings(max_examples=40, deadline=None)
def test_gaps_are_the_numbers_of_the_slices_that_are_not_there(lost, order):
    kept = [k for k in order if k not in lost]
    (one,) = stack(images(echoes=(5,), slices=kept))
    assert one.gaps() == sorted(k + 1 for k in lost)
    assert one.spacing_mm == pytest.approx(2)
    np.testing.assert_array_equal(np.diff(one.heights_mm) > 0, True)


def test_slices_aside_or_unevenly_spaced_are_no_volume():
    phase = images("phase", echoes=(5,))
    moved = dataclasses.replace(phase[4], position=(-50, -55, phase[4].position[2]))
    found, *_ = runs([*phase[:4], moved, *phase[5:]])
    assert "are not evenly spaced; no echo is whole" in found[0].trouble
    near = dataclasses.replace(phase[4], position=(-50, -60, phase[4].position[2] + 0.9))
    found, *_ = runs([*phase[:4], near, *phase[5:]])
    assert "are not evenly spaced" in found[0].trouble


def test_of_enhanced_files_too_the_slices_that_all_have_are_used():
    run, notes = only(images("phase", 9, (5,), enhanced=True), images("phase", 9, (12,), 9, enhanced=True))
    assert [len(s.images) for s in run.parts["phase"]] == [9, 9]
    assert [len(s.cut_from.images) for s in run.parts["phase"]] == [10, 9]
    assert told(notes, "the phase at 12 ms (series 9) has 9 of 10 slices, the outer ones are missing")


def test_repetitions_are_told_and_the_first_is_used():
    first, second = images("phase", echoes=(5,)), images("phase", echoes=(5,))
    run, notes = only(second, first)
    assert {i.order for i in run.stacks[0].images} == {i.order for i in first}
    assert told(notes, "holds 2 images at each place (repetitions, coils); the first is used")
    found, *_ = runs(images("phase", echoes=(None,)), images("phase", echoes=(None,)))
    assert "no echo times or numbers that would tell them apart" in found[0].trouble


def test_orientations_mixed_in_one_series_are_scans_of_their_own():
    found, notes, _ = runs(images("phase"), images("phase", orientation=CORONAL))
    assert [run.name for run in found] == ["acq-greqsm3d_run-1", "acq-greqsm3d_run-1x2"]
    assert told(notes, "series 1 mixes 2 orientations or grids")


def test_what_is_left_out_is_told_by_series():
    found, notes, decisions = runs(
        images("phase", 4),
        images("magnitude", 1, slices=3),
        images("other", 2, measured=False),
        images("magnitude", 3, echoes=(3,)),
        images("phase", 5, transfer_syntax="1.2.840.113619.5.2"),
        refused=[("/a", "it is truncated"), ("/b", "it is truncated"), ("/c", "it is no DICOM file")],
    )
    assert [run.series for run in found] == [[4]]
    assert told(decisions, "series 1 holds only 3 slices, too few for a volume")
    assert told(decisions, "(localizers, computed images and the like): series 2")
    assert told(decisions, "left out, for no phase belongs to them: series 3")
    assert told(
        notes, "series 5 is compressed in a way that cannot be read (transfer syntax 1.2.840.113619.5.2)"
    )
    assert told(notes, "3 files cannot be read: 2 as it is truncated; it is no DICOM file")


def test_grids_are_the_same_whichever_slices_are_there():
    (whole,), (part,) = stack(images(echoes=(5,))), stack(images(echoes=(5,), slices=range(3, 8)))
    assert same_grid(whole, part)
    between = [dataclasses.replace(i, position=(-50, -60, i.position[2] + 1.0)) for i in part.images]
    assert not same_grid(whole, stack(between)[0])


@given(st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_the_order_of_the_files_decides_nothing(random):
    every = [
        *images("magnitude", 8),
        *images("phase", 9),
        *images("magnitude", 10, time=400),
        *images("phase", 11, time=400),
        *images("phase", 9, enhanced=True, series_uid="e"),
    ]

    def told(images):
        found, notes, decisions = runs(images)
        return [(r.name, {p: [s.images for s in x] for p, x in r.parts.items()}, r.notes) for r in found], (
            notes,
            decisions,
        )

    shuffled = list(every)
    random.shuffle(shuffled)
    assert told(shuffled) == told(every)

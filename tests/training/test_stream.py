"""Which example comes when: the same after a resumption, another in each slot, step and process."""

import pytest
import torch

from napari_metaqsm.network.unet import Architecture
from napari_metaqsm.training import stream as module
from napari_metaqsm.training.examples import Recipe
from napari_metaqsm.training.sources import Sources
from napari_metaqsm.training.stream import Stream, generator_for

RECIPE = Recipe(shape=(8, 8, 8), margin_mm=0.0, shape_count=(2, 4))
CPU = torch.device("cpu")


def make(rank=0, seed=0, slots=2, acquisitions=3):
    return Stream(Sources(), RECIPE, CPU, seed, rank, slots, acquisitions)


def test_a_stream_that_begins_later_goes_on_as_the_first_would_have():
    first, late = make(), make()
    before = {(step, slot): first.example(step, slot) for step in range(7) for slot in range(2)}
    for step in (4, 5, 6):
        for slot in range(2):
            again = late.example(step, slot)
            assert torch.equal(again.local_field, before[step, slot].local_field)
            assert torch.equal(again.susceptibility, before[step, slot].susceptibility)
            assert again.geometry == before[step, slot].geometry


def test_a_window_is_a_part_of_the_scan_with_the_code_of_the_whole():
    architecture, window = Architecture(levels=2), (4, 6, 2)
    whole, part = (make().sample(2, 1, architecture, shape) for shape in ((), window))
    assert torch.equal(part.code, whole.code)
    assert part.prepared.channels.shape == (1, 4, *window)
    assert part.example.geometry.shape == window
    assert bool(part.example.mask.any())
    # Somewhere in the whole there is exactly that part, of everything at the same place.
    wide = torch.cat(
        [whole.prepared.channels[0], whole.prepared.start[None], whole.example.susceptibility[None]]
    )
    narrow = torch.cat(
        [part.prepared.channels[0], part.prepared.start[None], part.example.susceptibility[None]]
    )
    places = wide.unfold(1, 4, 1).unfold(2, 6, 1).unfold(3, 2, 1)
    assert bool((places == narrow[:, None, None, None]).all(dim=(0, 4, 5, 6)).any())
    assert torch.equal(make().sample(2, 1, architecture, window).prepared.start, part.prepared.start)


def test_no_two_examples_are_the_same():
    fields = [
        make(rank=rank, seed=seed).example(step, slot).local_field
        for rank, seed, step, slot in [(0, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 0, 0, 0), (0, 1, 0, 0)]
    ]
    for i, field in enumerate(fields):
        for other in fields[:i]:
            assert not torch.equal(field, other)


def test_subjects_are_kept_for_their_acquisitions_and_exchanged_in_turn(monkeypatch):
    made = []
    real = module.make_subject
    monkeypatch.setattr(module, "make_subject", lambda *given: made.append(step) or real(*given))
    stream = make(slots=2, acquisitions=4)
    for step in range(12):
        for slot in range(2):
            stream.example(step, slot)
    # The first slot changes at 4 and 8, the second between them.
    assert made == [0, 0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("places", [(("a", 1), ("a", 2)), (("a", 12), ("a", 1, 2)), ((1, "a"), ("a", 1))])
def test_places_have_generators_of_their_own(places):
    one, other = (generator_for(CPU, *place).initial_seed() for place in places)
    assert one != other

"""How much memory scans are given, told before they are read."""

import made_bids
import pytest

from napari_metaqsm.cohort import memory
from napari_metaqsm.cohort.memory import (
    GB,
    NETWORK_BYTES,
    PROCESS_BYTES,
    Need,
    fits,
    need_of,
    share_out,
    statement,
)
from napari_metaqsm.cohort.plan import Settings, find_items
from napari_metaqsm.errors import InputError
from napari_metaqsm.method import methods
from napari_metaqsm.network.inference import CPU_BYTES


@pytest.fixture
def item(tmp_path):
    root = made_bids.make_dataset(tmp_path / "data")
    made_bids.add_subject(root, "01")
    return find_items(root, Settings())[0]


def test_a_need_grows_with_what_the_chain_holds_and_its_largest_step(item, monkeypatch):
    volume = 4 * 20 * 22 * 16
    tkd, both = (need_of(item, Settings(mask="none", inversion=i).chain) for i in (("tkd",), ("tkd", "l2")))
    assert tkd.held == volume * (6 + 6 + 1)  # three echoes of two series, six maps before the inversion
    assert both.held - tkd.held == volume
    assert need_of(item, Settings(inversion=("tkd",)).chain).peak - tkd.peak > 0.5 * GB  # its own grid
    learned = need_of(item, Settings(mask="none", inversion=("metaqsm",)).chain)
    assert learned.peak >= tkd.peak
    assert NETWORK_BYTES == CPU_BYTES
    learned = Settings(mask="none", inversion=("metaqsm",)).chain
    for side, volumes in (
        (200, 90),
        (600, 36 + NETWORK_BYTES / (4 * 600**3)),
    ):  # in blocks, where it is large
        monkeypatch.setattr(memory, "shape_of", lambda file, n=side: (n, n, n))
        need = need_of(item, learned)
        assert need.peak - need.held == pytest.approx(0.3 * GB + 4 * side**3 * volumes)


def test_a_header_that_promises_more_than_the_file_holds_is_refused(item):
    made_bids.cut_short(item.scan.files["phase"][0], 0.01)
    with pytest.raises(InputError, match="part-phase"):
        need_of(item, Settings().chain)


def test_a_method_without_a_figure_is_given_what_the_goal_allows(item):
    names = [m.name for m in methods("inversion")]
    assert {"tv", "medi", "nonlinear_tv", "ilsqr"} <= set(names)
    needs = {n: need_of(item, Settings(mask="none", inversion=(n,)).chain).peak for n in names}
    assert all(need > 0 for need in needs.values())


LARGE, SMALL = Need(0.2 * GB, 2 * GB), Need(0.1 * GB, 0.5 * GB)


def test_the_largest_scan_decides_how_many_workers_there_are():
    each = PROCESS_BYTES + 2.4 * GB
    given = share_out([SMALL, LARGE, SMALL] * 9, cores=16, free=3.5 * each)
    assert (given.workers, given.threads) == (3, 5)
    assert given.bytes == pytest.approx(3.5 * each / 3)
    assert share_out([LARGE], cores=16, free=100 * GB).workers == 1  # no more than scans
    assert share_out([SMALL] * 99, cores=2, free=100 * GB).workers == 2  # no more than cores
    assert share_out([SMALL] * 99, cores=2, free=100 * GB).bytes < 5 * GB  # nor all the memory there is
    assert share_out([], cores=2, free=1.0).workers == 1


def test_cards_get_their_memory_too():
    each = PROCESS_BYTES + 2.4 * GB
    given = share_out([LARGE] * 9, cores=16, free=3.5 * each, gpus=1)
    assert given.workers == 2
    assert 3 * given.bytes <= 3.5 * each


def test_what_cannot_be_had_is_said_in_words():
    with pytest.raises(InputError, match=r"4 workers of 3\.4 GB would be needed, and 10\.0 GB are free"):
        share_out([LARGE] * 9, cores=16, free=10 * GB, workers=4)
    assert fits(LARGE, 3.5 * GB) == ""
    assert fits(LARGE, 3 * GB) == "it would take 3.4 GB of memory, and 3.0 GB are free"


def test_the_statement():
    given = share_out([LARGE] * 9, cores=2, free=7.0 * GB)
    assert statement(given) == "2 workers, each up to 3.5 GB of memory and 1 thread"

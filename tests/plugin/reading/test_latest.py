"""What a long computation tells of itself when it is stopped."""

import threading

import pytest

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import announce
from napari_metaqsm.plugin.reading.latest import Told

pytestmark = pytest.mark.usefixtures("qapp")


class Work:
    """A computation that goes on when the test says so."""

    def __init__(self, lasting=True):
        self.said, self.ends = [], []
        self.told = Told("it", self.said.append, self.returned, self.progressed, self.ended, lasting)
        self.began, self.go = threading.Event(), threading.Event()

    def returned(self, value):
        self.said.append(f"made {value}")

    def progressed(self, fraction, text):
        self.said.append(text)

    def ended(self):
        self.ends.append(self.told.is_busy)

    def begin(self, then):
        def compute():
            announce("on its way")
            self.began.set()
            assert self.go.wait(30)
            return then()

        self.told.ask(compute)
        assert self.began.wait(30)  # what it announced waits for this thread

    def end(self, qtbot):
        self.go.set()
        qtbot.waitUntil(lambda: bool(self.ends), timeout=30_000)
        assert self.ends == [False]


@pytest.mark.parametrize(
    ("then", "lasting", "told"),
    [
        (lambda: announce("goes on"), True, "it was cancelled"),
        (lambda: 1, True, "it was done before it could be stopped"),
        (lambda: 1, False, "it was cancelled"),
    ],
)
def test_stopped_work_says_how_it_ended_and_nothing_else(qtbot, then, lasting, told):
    work = Work(lasting)
    work.begin(then)
    work.told.stop()
    work.end(qtbot)
    assert work.said == ["stopping …", told]


def test_an_error_is_not_hidden_by_the_stop(qtbot):
    def fail():
        raise InputError("the disk is full")

    work = Work()
    work.begin(fail)
    work.told.stop()
    work.end(qtbot)
    assert work.said == ["stopping …", "the disk is full"]


def test_what_is_asked_for_after_a_stop_is_not_called_stopped(qtbot):
    work = Work()
    work.begin(lambda: announce("goes on"))
    work.told.stop()
    work.told.ask(lambda: 2)
    work.end(qtbot)
    assert work.said == ["stopping …", "made 2"]


def test_nothing_is_told_once_it_is_released_or_when_nothing_runs(qtbot):
    work = Work()
    work.told.stop()
    work.begin(lambda: announce("goes on"))
    work.told.release()
    work.go.set()
    qtbot.waitUntil(lambda: not work.told.is_busy, timeout=30_000)
    assert (work.said, work.ends) == ([], [])

"""The worker: progress, result, errors of every kind, cancelling, and that it always finishes."""

import errno
import gc
import os
import threading
import time
import weakref

import pytest
import torch

from napari_metaqsm.errors import InputError
from napari_metaqsm.method import announce, point, steps
from napari_metaqsm.plugin import worker as worker_module
from napari_metaqsm.plugin.worker import plain_words, start

pytestmark = pytest.mark.usefixtures("qapp")


class Heard:
    """Everything that a worker says, with the threads in which it was heard."""

    def __init__(self):
        self.progress, self.returned, self.errors, self.order, self.threads = [], [], [], [], set()
        self.points = []

    def start(self, function, *args):
        return start(
            function,
            *args,
            progressed=lambda *p: self._hear("progress", p, self.progress),
            returned=lambda value: self._hear("returned", value, self.returned),
            errored=lambda error: self._hear("errored", error, self.errors),
            finished=lambda: self._hear("finished", None, []),
            plotted=lambda points: self._hear("plotted", points, self.points),
        )

    def _hear(self, kind, value, into):
        into.append(value)
        self.order.append(kind)
        self.threads.add(threading.current_thread())

    def finished(self):
        return "finished" in self.order


def test_result_and_progress_arrive_in_the_windows_thread(qtbot, monkeypatch):
    monkeypatch.setattr(worker_module, "SHORTEST_REPORT_INTERVAL_S", 0)

    def count(n):
        total = sum(steps(n, "counting"))
        return total, threading.current_thread()

    heard = Heard()
    heard.start(count, 4)
    qtbot.waitUntil(heard.finished, timeout=30_000)
    ((total, thread),) = heard.returned
    assert total == 6
    assert thread is not threading.main_thread()
    assert heard.threads == {threading.main_thread()}
    assert heard.progress == [(0.0, "counting"), (0.25, "counting"), (0.5, "counting"), (0.75, "counting")]
    assert heard.order[-2:] == ["returned", "finished"]


def test_a_loop_that_reports_too_often_does_not_flood_the_window(qtbot):
    heard = Heard()
    heard.start(lambda: list(steps(10_000, "fast")) and announce("next"))
    qtbot.waitUntil(heard.finished, timeout=30_000)
    assert 2 <= len(heard.progress) < 100
    assert heard.progress[-1] == (0.0, "next")  # a new label always comes through


def test_points_of_a_curve_arrive_by_the_dozen_in_order_and_before_the_end(qtbot):
    def converge():
        for index in steps(2000, "Converges"):
            point("residual", 1 / (index + 1))

    heard = Heard()
    heard.start(converge)
    qtbot.waitUntil(heard.finished, timeout=30_000)
    points = [each for several in heard.points for each in several]
    assert [index for _, index, _ in points] == list(range(2000))
    assert points[3] == ("residual", 3, 0.25)
    assert 2 <= len(heard.points) < 100
    assert heard.threads == {threading.main_thread()}
    assert heard.order[-2:] == ["returned", "finished"]


def test_the_points_before_an_error_arrive(qtbot):
    def diverge():
        for index in steps(3, "Diverges"):
            point("residual", 2.0**index)
        raise InputError("it diverges")

    heard = Heard()
    heard.start(diverge)
    qtbot.waitUntil(heard.finished, timeout=30_000)
    assert [value for several in heard.points for _, _, value in several] == [1, 2, 4]
    assert heard.order[-2:] == ["errored", "finished"]


def test_a_pause_in_a_loop_does_not_keep_its_points_back(qtbot):
    go = threading.Event()

    def converge():
        point("residual", 1.0)
        point("residual", 0.5)
        for _ in steps(10**9, "Waits"):
            if go.wait(0.01):
                break

    heard = Heard()
    heard.start(converge)
    qtbot.waitUntil(lambda: sum(map(len, heard.points)) == 2, timeout=30_000)
    go.set()
    qtbot.waitUntil(heard.finished, timeout=30_000)


@pytest.mark.parametrize("fails", [False, True])
def test_a_worker_that_is_kept_does_not_keep_what_it_was_given(qtbot, fails):
    class Volume:
        pass

    def read(volume):
        if fails:
            raise InputError("it cannot be read")

    volume = Volume()
    heard = Heard()
    kept = heard.start(read, volume)
    qtbot.waitUntil(heard.finished, timeout=30_000)
    gone = weakref.ref(volume)
    heard.errors.clear()  # an error holds on to where it was raised
    del volume
    gc.collect()
    assert gone() is None
    assert kept is not None


@pytest.mark.parametrize(
    "error",
    [InputError("the mask is empty"), RuntimeError("no"), torch.OutOfMemoryError("full"), MemoryError()],
)
def test_every_error_arrives_and_then_it_finishes(qtbot, error):
    def fail():
        raise error

    heard = Heard()
    heard.start(fail)
    qtbot.waitUntil(heard.finished, timeout=30_000)
    assert heard.errors == [error]
    assert heard.order == ["errored", "finished"]


def test_cancel_ends_the_work_without_a_result(qtbot):
    begun = threading.Event()
    done = []

    def endless():
        for index in steps(10**9, "endless"):
            begun.set()
            done.append(index)

    heard = Heard()
    running = heard.start(endless)
    qtbot.waitUntil(begun.is_set, timeout=30_000)
    running.quit()
    qtbot.waitUntil(heard.finished, timeout=30_000)
    assert heard.returned == []
    assert heard.errors == []
    assert len(done) < 10**9


def test_a_result_on_its_way_to_the_window_is_held_back_once_the_work_is_stopped(qtbot):
    done = threading.Event()
    heard = Heard()
    worker = heard.start(done.set)
    assert done.wait(5)
    time.sleep(0.2)  # it has been sent, and the window is busy with something else
    worker.quit()
    qtbot.waitUntil(heard.finished, timeout=30_000)
    assert heard.order == ["finished"]
    assert not worker.was_stopped  # so who wrote files can say that they are there


def test_a_full_disk_is_said_as_such():
    words = plain_words(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert words.startswith("a file could not be read or written: No space left on device")

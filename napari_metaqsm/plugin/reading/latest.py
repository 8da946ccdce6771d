"""One computation at a time beside the window, always the latest that was asked for, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_metaqsm.plugin.worker import plain_words, start


class Latest:
    """Computes in a worker what is asked for; of what is asked for meanwhile, only the last.

    Parameters
    ----------
    returned : called with the result
    failed : called with what went wrong, in words
    progressed : called with the fraction done and what is being done
    ended : called when nothing is being computed any more; ``was_stopped`` then says whether the last
        computation ended before its end, for it may have been done when it was told to stop
    """

    def __init__(
        self,
        returned: Callable[[Any], None],
        failed: Callable[[str], None],
        progressed: Callable[[float, str], None] = lambda fraction, text: None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._returned, self._failed, self._progressed, self._ended = returned, failed, progressed, ended
        self._worker: Any = None
        self._stopping = False
        self.was_stopped = False
        self._next: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
        self._released = False

    @property
    def is_busy(self) -> bool:
        """Whether something is being computed."""
        return self._worker is not None

    def ask(self, function: Callable[..., Any], *args: Any, stop: bool = False) -> None:
        """Compute ``function(*args)``, after what is being computed now, or in place of it (``stop``)."""
        if self._worker is not None:
            self._next = (function, args)
            if stop:
                self._worker.quit()
            return
        self._worker = start(
            function,
            *args,
            progressed=self._on_progress,
            returned=self._on_returned,
            errored=self._on_error,
            finished=self._on_finished,
        )

    def stop(self) -> None:
        """Compute nothing any more until it is asked for."""
        self._next = None
        if self._worker is not None:
            self._stopping = True
            self._worker.quit()

    def release(self) -> None:
        """Stop for good; nothing is told any more."""
        self._released = True
        self.stop()

    def _on_progress(self, fraction: float, text: str) -> None:
        if not (self._released or self._stopping):  # it may have been on its way when it was stopped
            self._progressed(fraction, text)

    def _on_returned(self, result: Any) -> None:
        if not self._released and result is not None:
            self._returned(result)

    def _on_error(self, error: Exception) -> None:
        if not self._released:
            self._failed(plain_words(error))

    def _on_finished(self) -> None:
        self.was_stopped = self._worker.was_stopped
        self._worker, self._stopping = None, False
        following, self._next = self._next, None
        if self._released:
            return
        if following is not None:
            self.ask(following[0], *following[1])
        else:
            self._ended()


class Told(Latest):
    """A long computation, whose panel says that it is being stopped and how that ended.

    Parameters
    ----------
    what : as the sentence begins, "the export"
    say : called with a sentence
    lasting : whether it leaves something when it was done before it could be stopped
    """

    def __init__(
        self,
        what: str,
        say: Callable[[str], None],
        returned: Callable[[Any], None],
        progressed: Callable[[float, str], None],
        ended: Callable[[], None],
        lasting: bool = True,
    ) -> None:
        super().__init__(returned, self._fail, progressed, self._end)
        self.what, self.lasting = what, lasting
        self._say, self._then = say, ended
        self._says_stopping = False

    def ask(self, function: Callable[..., Any], *args: Any, stop: bool = False) -> None:
        """Compute what is asked for, as :meth:`Latest.ask` does."""
        self._says_stopping = False
        super().ask(function, *args, stop=stop)

    def stop(self) -> None:
        """Stop, and say so."""
        if self.is_busy and not self._released:
            self._says_stopping = True
            self._say("stopping …")
        super().stop()

    def _fail(self, words: str) -> None:
        self._says_stopping = False
        self._say(words)

    def _end(self) -> None:
        if self._says_stopping:  # and nothing has gone wrong since
            self._says_stopping = False
            late = self.lasting and not self.was_stopped
            self._say(f"{self.what} was {'done before it could be stopped' if late else 'cancelled'}")
        self._then()

"""Loops compiled by Numba, kept on disk from one process to the next where there is a place for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function, which then runs without Python's lock.

    Parameters
    ----------
    options : of ``numba.njit``, as ``parallel=True``
    """

    def compile_when_called(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:
            # Neither beside the file nor at home may be written to, as in a container: each process compiles.
            return numba.njit(nogil=True, **options)(function)

    return compile_when_called

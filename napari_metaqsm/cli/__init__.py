"""The command line, ``metaqsm``: a file for each group of commands, in the order in which help lists them.

Exit codes: 0 done, 2 bad input (one line on standard error says what and what to do), 1 failed (a full disk,
too little memory, or a fault of the program, with its traceback), 130, 143 and 129 stopped by Ctrl-C, by
SIGTERM and by a terminal that closed.
"""

from napari_metaqsm.cli import chain, cohort, learning, pacs, reading, scanner  # noqa: F401
from napari_metaqsm.cli.app import app, main

__all__ = ["app", "main"]

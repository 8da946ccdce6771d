"""The exceptions that a caller acts on. Everything else is a plain Python error."""


class InputError(ValueError):
    """The data or the settings cannot be used; the message says why and what to do.

    Raised before anything is computed or written. The command line ends with exit code 2 on it,
    the window shows its message and leaves the chain as it was.

    The message may hold what a file says, which may be anything: as text it is one line of what can be
    printed, with its middle left out where it is very long.
    """

    def __str__(self) -> str:
        text = " ".join(super().__str__().split())
        if len(text) > _LONGEST_MESSAGE:
            text = f"{text[: _LONGEST_MESSAGE // 2]} … {text[-_LONGEST_MESSAGE // 2 :]}"
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Cancelled(Exception):
    """The user stopped the work. Raised by :func:`napari_metaqsm.method.steps`."""


class MetaQSMWarning(UserWarning):
    """Something the user should know about a result that is nevertheless valid."""


def computer_fault(error: BaseException) -> str | None:
    """What the computer, not the data or this program, is short of, in words; None where that is not it.

    A full or failing disk, a folder or a network drive that went away, and memory that does not suffice:
    of Python, of a GPU, and of torch on the CPU, which has no class of its own for it.
    """
    short = "OutOfMemory" in type(error).__name__
    if short or isinstance(error, MemoryError) or _ALLOCATION in str(error).lower():
        return "there is not enough memory for this step; close other programs, or crop the volume"
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return (
            f"a file could not be read or written: {error.strerror or error}{where}; "
            "check the disk and the folder"
        )
    return None


_LONGEST_MESSAGE = 600
_ALLOCATION = "defaultcpuallocator"

"""The exceptions that a caller acts on. Everything else is a plain Python error."""


class InputError(ValueError):
    """The data or the settings cannot be used; the message says why and what to do.

    Raised before anything is computed or written. The command line ends with exit code 2 on it,
    the window shows its message and leaves the chain as it was.
    """


class Cancelled(Exception):
    """The user stopped the work. Raised by :func:`napari_metaqsm.method.steps`."""


class MetaQSMWarning(UserWarning):
    """Something the user should know about a result that is nevertheless valid."""

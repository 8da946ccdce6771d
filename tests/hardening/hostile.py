"""What the tests of faults share: settings of the fuzzing, and a process of its own under limits."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, settings

from napari_metaqsm.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]
# The same examples in every run: a failure in CI can be had again, and nothing fails by chance.
FUZZ = settings(
    derandomize=True,
    deadline=None,
    max_examples=80,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_PREAMBLE = """
import json, resource, sys
memory = {memory}
if memory:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
{code}
"""


# What getrusage tells begins with the memory of the process that this one was forked from.
_LAST = """
status = open("/proc/self/status").read() if sys.platform == "linux" else "VmHWM: 0"
print("\\npeak", status.split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, what it said, its largest memory in bytes, its CPU seconds."""

    code: int
    out: str
    err: str
    peak: int
    seconds: float

    @property
    def value(self):
        """What it printed last, as JSON."""
        return json.loads(self.out.splitlines()[-1])


def child(code, *arguments, memory=0, timeout=120, **options) -> Ended:
    """Run Python code in a process of its own, with ``memory`` bytes of address space; 0 for no limit."""
    text = _PREAMBLE.format(memory=memory, code=code)
    text += _LAST
    before = os.times()  # of the processor: what waits for a busy machine is not slow
    done = subprocess.run(
        [sys.executable, "-c", text, *map(str, arguments)],
        capture_output=True, text=True, timeout=timeout, cwd=options.pop("cwd", REPOSITORY), **options,
    )  # fmt: skip
    err, _, peak = done.stderr.rpartition("\npeak ")
    peak = int(peak) * 1024 if peak.strip().isdigit() else 0
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return Ended(done.returncode, done.stdout, err or done.stderr, peak, seconds)


def one_sentence(text: str, longest: int = 640) -> bool:
    """Whether a message is fit to be read: one line, not endless, no name of Python's."""
    return "\n" not in text and 0 < len(text) <= longest and "Traceback" not in text


def outcome(function, *arguments, **named):
    """What a reader returned, or the sentence with which it refused; anything else is a failure."""
    try:
        return function(*arguments, **named)
    except InputError as error:
        text = str(error)
    assert one_sentence(text), text
    return text

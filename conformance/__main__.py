"""Runs the command line."""

import os
import signal
import sys
import time
from types import FrameType

# ``python -m`` searches the current folder first, which may be a kit from elsewhere with modules in it. Only the folder
# that holds this package is needed; a Python callable under test has a separate process, which searches both.
if sys.path and sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
    del sys.path[0]

from .cli import main
from .run.process import adopt_orphans

_ENDING = 10.0
"""Seconds in which further signals are passed over, while programs are ended and reports are written."""

_stopped = float("-inf")


def _stop(number: int, frame: FrameType | None) -> None:
    """End a run with its reports, on Ctrl-C and on SIGTERM: a second signal at once does not interrupt that."""
    global _stopped
    if time.monotonic() - _stopped >= _ENDING:
        _stopped = time.monotonic()
        raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell ignores it for jobs in the background
        signal.signal(signal.SIGINT, _stop)
    adopt_orphans()
    code = main()
    for number in (signal.SIGINT, signal.SIGTERM):  # the exit code is the run's, though Python's end takes a moment
        signal.signal(number, signal.SIG_IGN)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:  # of which the message is printed; what Python flushes at its end must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)

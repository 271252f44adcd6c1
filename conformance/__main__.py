"""Runs the command line."""

import os
import signal
import sys

# ``python -m`` searches the current folder first, which may be a kit from elsewhere with modules in it. Only the folder
# that holds this package is needed; a Python callable under test has a process of its own, which searches both.
if sys.path and sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
    del sys.path[0]

from .cli import main
from .run.process import adopt_orphans

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # reports are written, and programs ended, as on Ctrl-C
    adopt_orphans()
    code = main()
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:  # of which the message is printed; what Python flushes at its end must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)

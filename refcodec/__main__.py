"""``python -m refcodec`` and the command ``refcodec``: a start that ends in order when it is interrupted."""

from __future__ import annotations

import os
import signal
import sys

from .errors import INTERRUPTED, LimitExceeded, missing_package


def _end(*_: object) -> None:
    """End the process while its modules are imported: an exception inside an import may become any other."""
    try:
        os.write(2, b"refcodec: error: interrupted\n")
    finally:
        os._exit(INTERRUPTED)


def main() -> int:
    """Import the command line and run it; see refcodec/cli/__init__.py for exit codes."""
    asks = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not if the caller ignores the signal
    if asks:
        signal.signal(signal.SIGINT, _end)
    try:
        from .cli import main as run
    except ModuleNotFoundError as e:
        if (missing := missing_package(e)) is None:
            raise
        sys.stderr.write(f"refcodec: error: {missing}\n")
        return missing.exit_code
    except MemoryError:
        sys.stderr.write("refcodec: error: too little memory to start\n")
        return LimitExceeded.exit_code
    if asks:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


if __name__ == "__main__":
    sys.exit(main())

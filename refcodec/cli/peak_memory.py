"""Run one command of refcodec, then print the largest resident memory of this process in bytes, or "unknown".

    python -m refcodec.cli.peak_memory COMMAND [...]

``refcodec bench --memory`` starts it (refcodec/bench/processes.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..bench.processes import own_peak
from . import main as refcodec


def main(arguments: Sequence[str]) -> int:
    """Run the command and print the figure as the last line; the exit code is the command's."""
    code = refcodec(arguments)
    print(own_peak() or "unknown")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

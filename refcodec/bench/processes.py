"""Measurements of ``refcodec bench`` in separate processes: the start of a decode, its memory, the twin.

The float twin in PyTorch (weights_converter/network/bench.py) works only while it is asked, on the cores that this
process may use, so runs of both alternate and see the same state of the machine. Nothing here imports PyTorch.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import CheckFailed, Unsupported
from ..model.config import Config

REST = 0.05
"""Seconds between a run of the twin and ours: its helper threads spin for a while before they sleep."""


def environment(**more: str) -> dict[str, str]:
    """The environment of this process, in which the package is found, and more."""
    path = [str(Path(__file__).parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in path if p), **more}


def run_python(arguments: Sequence[str], variables: Mapping[str, str]) -> tuple[float, str]:
    """Run Python: seconds and standard output.

    Raises
    ------
    CheckFailed
        It failed.
    """
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], env=dict(variables), capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise CheckFailed(
            "a process that was to be measured failed",
            where=" ".join(arguments[:3]),
            exit_code=done.returncode,
            message=(done.stderr.strip().splitlines() or [""])[-1][:300],
        )
    return seconds, done.stdout


def start_times(command: Sequence[str], repeats: int, backend: str) -> dict[str, float | None]:
    """Wall seconds of ``python -m refcodec`` with these arguments: warm and cold.

    Byte code is found, as pip leaves it with an installed package: it is in a folder of these processes alone.

    Parameters
    ----------
    command : sequence of str
        Arguments of ``python -m refcodec``.
    repeats : int
        Warm processes.
    backend : "numba" or "numpy"

    Returns
    -------
    dict
        ``warm``: the median of processes that find compiled kernels in their cache; ``cold``: one process that finds
        none and compiles them, None where nothing is compiled.
    """
    arguments = ["-m", "refcodec", *command]
    with tempfile.TemporaryDirectory(prefix="refcodec-") as folder:
        installed = environment(PYTHONPYCACHEPREFIX=folder, PYTHONDONTWRITEBYTECODE="")
        run_python(arguments, installed)
        warm = statistics.median(run_python(arguments, installed)[0] for _ in range(repeats))
        if backend != "numba":
            return {"warm": warm, "cold": None}
        return {"warm": warm, "cold": run_python(arguments, {**installed, "NUMBA_CACHE_DIR": folder})[0]}


def peak_memory(command: Sequence[str]) -> int | None:
    """Largest resident memory in bytes of a fresh process that runs refcodec with these arguments.

    None where the system does not tell.
    """
    answer = run_python(["-m", "refcodec.cli.peak_memory", *command], environment())[1].split()
    return int(answer[-1]) if answer[-1].isdigit() else None


def own_peak() -> int | None:
    """Largest resident memory of this process so far, in bytes; None where the system does not tell.

    Linux counts what the parent held when it started this process into ``ru_maxrss``, so its own figure is preferred.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10  # in KiB
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10  # in bytes there, in KiB elsewhere


class Twin:
    """The float network in PyTorch, in a process that answers.

    Parameters
    ----------
    config : Config
    checkpoint : str or None
        Weights; random ones without it.
    picture : path of a picture
    quality, threads, repeats : int
        Repeats by which the twin chooses the better memory layout.

    Raises
    ------
    Unsupported
        PyTorch is not installed, or the twin does not start.
    """

    def __init__(
        self, config: Config, checkpoint: str | None, picture: Path, quality: int, threads: int, repeats: int = 3
    ) -> None:
        if find_spec("torch") is None or find_spec("weights_converter") is None:
            raise Unsupported("the twin needs PyTorch", where="--twin", cause='install "refcodec[train]"')
        command = [
            sys.executable,
            "-m",
            "weights_converter",
            "bench",
            *([checkpoint] if checkpoint else []),
            "--config",
            json.dumps(config.as_dict()),
            "--picture",
            str(picture),
            "--quality",
            str(quality),
            "--threads",
            str(threads),
            "--repeats",
            str(repeats),
            "--serve",
        ]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )
        self._convolutions: dict[str, float] = {}
        self.facts: dict[str, Any] = {}
        try:
            self.facts = json.loads(self._answer())
        except BaseException:
            self.close()
            raise

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise Unsupported(
                "the twin has ended",
                where="weights_converter bench",
                cause="its message is above; it may lack memory, or the checkpoint is of another model",
            )
        return answer

    def seconds(self, request: str) -> float:
        """Seconds of one ``encode``, ``decode`` or convolution."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended, as reading shows
        answer = float(self._answer())
        time.sleep(REST)
        return answer

    def convolution(self, shape: Sequence[int], repeats: int) -> float:
        """Median seconds of one conv2d: inputs, outputs, kernel, stride, groups, height, width of the input."""
        request = " ".join(map(str, ("conv", *shape)))
        if request not in self._convolutions:
            self._convolutions[request] = statistics.median(self.seconds(request) for _ in range(repeats))
        return self._convolutions[request]

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass
        self._process.terminate()
        self._process.wait()

    def __enter__(self) -> Twin:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""``python -m weights_converter.speed``: refcodec beside its float twin in PyTorch, in alternation on the same cores.

The twin runs in a process of its own (torch_bench --serve) that works only while it is asked, so neither disturbs the
other and both see the same state of the machine. refcodec's figures include everything from samples to stream and
back: entropy coding, container, digest; the twin's are its tensor operations alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refcodec.arith.backend import default_backend
from refcodec.arith.threads import thread_count
from refcodec.codec import decode_stream, encode_picture
from refcodec.errors import RefcodecError, Unsupported
from refcodec.image import read_picture
from refcodec.limits import Limits
from refcodec.model_file import load_model


def processor() -> str:
    """The processor's name and vector extensions that matter, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    known = [f for f in ("avx2", "avx512f", "avx512_vnni", "avx_vnni") if f in flags]
    return f"{facts.get('model name', '?')} ({', '.join(known)})"


def compare(checkpoint: str, picture: str, quality: int, repeats: int, threads: int | None,
            model_name: str | None) -> dict[str, Any]:
    """Medians and ratios of encode and decode.

    Raises
    ------
    Unsupported
        PyTorch is not installed.
    """
    count = thread_count(threads)
    model = load_model(model_name)
    samples = read_picture(picture, Limits()).samples
    command = [sys.executable, "-m", "weights_converter.torch_bench", checkpoint, "--picture", picture, "--quality",
               str(quality), "--threads", str(count), "--serve"]
    twin = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert twin.stdin is not None and twin.stdout is not None
    with twin:
        ready = twin.stdout.readline()
        if not ready:
            raise Unsupported("the twin did not start", where="weights_converter.torch_bench",
                              cause="install the extra train")
        data = encode_picture(samples, quality, model=model, threads=count).data
        decode_stream(data, model=model, threads=count)
        ours: dict[str, list[float]] = {"encode": [], "decode": []}
        theirs: dict[str, list[float]] = {"encode": [], "decode": []}
        for _ in range(repeats):
            for direction in ("encode", "decode"):
                start = time.perf_counter()
                if direction == "encode":
                    encode_picture(samples, quality, model=model, threads=count)
                else:
                    decode_stream(data, model=model, threads=count)
                ours[direction].append(time.perf_counter() - start)
                twin.stdin.write(direction + "\n")
                twin.stdin.flush()
                theirs[direction].append(float(twin.stdout.readline()))
        twin.stdin.close()
    result: dict[str, Any] = {"processor": processor(), "threads": count,
                              "backend": default_backend(), "quality": quality,
                              "size": [samples.shape[1], samples.shape[0]], "repeats": repeats,
                              "torch": json.loads(ready)}
    for direction in ours:
        a, b = statistics.median(ours[direction]), statistics.median(theirs[direction])
        result[direction] = {"refcodec_seconds": a, "pytorch_seconds": b, "ratio": a / b}
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print it."""
    p = argparse.ArgumentParser(prog="python -m weights_converter.speed", description=__doc__.split("\n")[0])
    p.add_argument("checkpoint")
    p.add_argument("picture")
    p.add_argument("--quality", type=int, default=60)
    p.add_argument("--repeats", type=int, default=9)
    p.add_argument("--threads", type=int)
    p.add_argument("--model")
    p.add_argument("--json", action="store_true")
    args = p.parse_args(argv)
    try:
        result = compare(args.checkpoint, args.picture, args.quality, args.repeats, args.threads, args.model)
    except RefcodecError as e:
        print(f"weights_converter.speed: error: {e}", file=sys.stderr)
        return e.exit_code
    if args.json:
        print(json.dumps(result))
        return 0
    print(f"{result['processor']}, {result['threads']} threads, {result['size'][0]}x{result['size'][1]}, quality "
          f"{result['quality']}, medians of {result['repeats']} alternating runs, backend {result['backend']}")
    for direction in ("encode", "decode"):
        r = result[direction]
        print(f"{direction}: refcodec {r['refcodec_seconds']:.3f} s, PyTorch {r['pytorch_seconds']:.3f} s, "
              f"ratio {r['ratio']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

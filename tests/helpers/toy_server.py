"""Decoders that serve the toy codec of tiny_kit.py, well or with something left over from earlier streams."""

import shlex
import sys
from pathlib import Path

SERVER = r"""
import json, os, sys, time

behaviour = sys.argv[1]
kept_model, kept_trace, kept_samples, kept_size, refused, count = None, "", bytearray(), None, False, 0


def answer(number, code, **more):
    sys.stdout.write(json.dumps({"id": number, "exit_code": code, **more}) + "\n")
    sys.stdout.flush()


if behaviour == "ends-at-once":
    sys.exit("toy: unknown option --serve")
if behaviour == "silent":
    time.sleep(600)
print({"another-greeting": "ready"}.get(behaviour, '{"serves": 1}'), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    number, data, count = request["id"], open(request["stream"], "rb").read(), count + 1
    if os.environ.get("TOLD"):
        open(os.environ["TOLD"], "a").write(line)
    try:
        header = json.loads(data)
        width, height, channels, value = (header[n] for n in ("width", "height", "channels", "value"))
    except ValueError:
        refused = True
        answer(number, 65, error="ChecksumError", message="at byte 4")
        continue
    samples = bytearray((value + 7 * n) % 256 for n in range(width * height * channels))
    if behaviour == "keeps-buffer":  # the first, largest samples stay where the next picture is smaller
        if len(kept_samples) > len(samples):
            samples[-1] = kept_samples[len(samples) - 1]
        kept_samples = max(samples, kept_samples, key=len)
    if behaviour == "keeps-model":
        kept_model = kept_model or request["model"]
        if kept_model != request["model"]:
            samples[0] ^= 1
    if behaviour == "keeps-refusal" and refused:
        samples[0] ^= 1
    if behaviour == "keeps-size":
        kept_size = kept_size or (width, height, channels)
        width, height, channels = kept_size
    trace = header.get("trace", "")
    if behaviour == "keeps-trace":
        trace, kept_trace = kept_trace + trace, kept_trace + trace
    if request["trace"]:
        open(request["trace"], "w").write(trace)
    if channels in (2, 4):
        raise SystemExit("no alpha")
    picture = b"P%d %d %d 255\n" % (5 if channels == 1 else 6, width, height)
    open(request["output"], "wb").write(picture + samples)
    if behaviour == "dies" and count == 3:
        os._exit(9)
    if behaviour == "leaves" and count == 3:
        sys.exit(0)
    if behaviour == "hangs" and count == 3:
        time.sleep(600)
    if behaviour == "mumbles" and count == 3:
        print("done", flush=True)
        continue
    if behaviour == "answers-twice" and count == 3:
        sys.stdout.write(json.dumps({"id": number, "exit_code": 0}) + "\n")
    if behaviour == "other-id" and count == 3:
        number -= 1
    if behaviour == "internal" and count == 3:
        answer(number, 70, message="an index is out of range")
        continue
    answer(number, 0)
"""
"""The program; its argument is how it behaves, "good" or a fault."""


def server(folder: Path, behaviour: str) -> str:
    """The command of a server that behaves so."""
    program = folder / "server.py"
    if not program.exists():
        program.write_text(SERVER)
    return shlex.join([sys.executable, "-S", "-E", str(program), behaviour])

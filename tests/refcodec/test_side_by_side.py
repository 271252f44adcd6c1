"""Tiles of a row decoded at once: the same samples, the first tile's error, progress, memory, interrupts."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from tiny_models import random_picture, tiny_model

from conformance.kit.suites import KIT
from refcodec import memory
from refcodec.bitstream.container import parse, serialise
from refcodec.codec import decode_stream, decode_strips, encode_picture
from refcodec.errors import CoderError
from refcodec.side_by_side import tiles_at_once
from refcodec.tiles import TileGrid


@pytest.fixture(scope="module")
def coded():
    return encode_picture(random_picture(130, 700), 60, model=tiny_model(), tile=64)


@pytest.mark.parametrize("threads", [2, 3, 5, 11, 12])
def test_samples_are_those_of_one_thread(coded, threads):
    """Eleven tiles in a row: whole groups, and some that are left; twelve threads are too many."""
    assert tiles_at_once("numba", threads, 11) == (threads if threads <= 11 else 1)
    shares: list[float] = []
    found, _ = decode_stream(coded.data, model=tiny_model(), threads=threads, progress=shares.append)
    assert np.array_equal(found, coded.reconstruction)
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    part, _ = decode_stream(coded.data, model=tiny_model(), threads=threads, region=(200, 70, 300, 40))
    assert np.array_equal(part, coded.reconstruction[70:110, 200:500])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_first_damaged_tile_is_told(coded, threads):
    stream = parse(coded.data)
    segments = [stream.segments(n) for n in range(33)]
    for n in (12, 13, 15, 30):
        segments[n] = (segments[n][0], segments[n][1] + bytes(4))
    damaged = serialise(stream.header, segments)
    with pytest.raises(CoderError) as caught:
        decode_stream(damaged, model=tiny_model(), threads=threads)
    assert caught.value.values["tile"] == 12
    found, _ = decode_stream(coded.data, model=tiny_model(), threads=threads)
    assert np.array_equal(found, coded.reconstruction)


INTERRUPTED = """
import _thread, signal, sys, threading, time
import numpy as np
from refcodec.codec import decode_stream, encode_picture
from refcodec.model.registry import load_model

signal.signal(signal.SIGINT, signal.default_int_handler)
picture = np.random.default_rng(0).integers(0, 256, (130, 700, 3), dtype=np.uint8)
model = load_model(sys.argv[1])
coded = encode_picture(picture, 60, model=model, tile=64)
threading.Timer(0.1, _thread.interrupt_main).start()
end = time.monotonic() + 60
try:
    while time.monotonic() < end:
        decode_stream(coded.data, model=model, threads=4)
    sys.exit("no interrupt")
except KeyboardInterrupt:
    pass
for _ in range(3):
    assert np.array_equal(decode_stream(coded.data, model=model, threads=4)[0], coded.reconstruction)
"""


def test_an_interrupt_leaves_a_process_that_decodes():
    """In a separate process, since workers of pytest ignore interrupts."""
    words = [sys.executable, "-c", INTERRUPTED, str(KIT / "models" / "tiny-7.h5")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("threads", [2, 4])
def test_the_estimate_counts_every_thread(coded, threads):
    model, shape = tiny_model(), (700, 130)
    decode_stream(coded.data, model=model, threads=threads)  # packs the weights
    tracemalloc.start()
    try:
        decode_strips(coded.data, lambda first, rows: None, model=model, threads=threads)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    grid = TileGrid.of(*shape, 64, 64)
    most = memory.memory_estimate(*shape, model, threads=threads, encoding=False, grid=grid, held=False)
    assert peak < most - memory.model_bytes(model)

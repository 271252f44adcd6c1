"""The second reading of SPEC.md: the decoder in JavaScript against a few vectors of the kit and against refcodec.

Node is no requirement of the project. Where it is absent, this module says so and is not run.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from own_kit import suite
from tiny_models import random_picture, tiny_content, tiny_model

from conformance.kit import suites
from conformance.run import decoders
from conformance.run.engine import Options, run_all
from conformance.run.process import Limits
from refcodec.bitstream.container import ALPHA, LOSSLESS, parse, serialise
from refcodec.bitstream.crc32c import crc32c
from refcodec.codec import decode_stream, encode_picture
from refcodec.errors import ChunkError, RefcodecError
from refcodec.lossless.rectangles import Rectangle, Rectangles, pack_rectangles
from refcodec.lossless.samples import SamplesReader
from refcodec.model.file import write_model
from refcodec.trace import Recorder

NODE = shutil.which("node")
if NODE is None:
    pytest.skip("the decoder in JavaScript needs Node, which is not installed", allow_module_level=True)

KIT = suites.KIT
SCRIPTS = KIT.parent / "examples" / "javascript"
DECODER = SCRIPTS / "decoder.mjs"

RIGHT = (
    "core/coded-tiny-7-scene-q060",
    "core/configuration-tiny-old-7-colour",
    "core/model-file-chunks",
    "core/model-file-tree-2-of-depth-7",
)
WRONG = (
    "invalid/magic-late",
    "invalid/cut-whole-0033",
    "invalid/positions-just",
    "invalid/chunk-twice-apart",
    "invalid/y-word-left",
    "invalid/symbol-z-last-32768",
    "invalid/model-tables-decreasing",
    "invalid/model-proof-least",
    "invalid/model-file-cycle",
    "invalid/model-file-nodes-shared",
    "invalid/model-file-filters-late",
)


COMMAND = decoders.parse(f"{NODE} {DECODER} {{stream}} {{output}}", "--model {model}", "--trace {trace}")
SERVER = decoders.parse_server(f"{NODE} {DECODER} --serve")


def results(ids: tuple[str, ...], spec: decoders.Spec = COMMAND) -> dict[str, str]:
    """Outcomes of these vectors by id."""
    vectors = suites.select((suite("core"), suite("invalid")), suites.Selection(ids=ids))
    found = run_all(vectors, spec, Options(traces=True, limits=Limits(seconds=60.0)))
    return {r.vector.id: f"{r.outcome} {r.detail}".strip() for r in found}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory) -> Path:
    """The file of the tiny model."""
    path = tmp_path_factory.mktemp("model") / "tiny.h5"
    write_model(path, tiny_content(), {})
    return path


@pytest.fixture(scope="module")
def stream_file(tmp_path_factory) -> Path:
    """A stream that needs the tiny model."""
    path = tmp_path_factory.mktemp("stream") / "s.loclic"
    path.write_bytes(coded(random_picture(3, 5)))
    return path


def coded(samples: np.ndarray, **options) -> bytes:
    """A stream of the tiny model, or without loss."""
    return encode_picture(samples, 60, model=tiny_model(), rectangles=False, **options).data


def with_alpha(samples: np.ndarray) -> np.ndarray:
    """A picture [H, W, C] or [H, W] with noise as alpha."""
    alpha = np.random.default_rng(1).integers(0, 256, (*samples.shape[:2], 1)).astype(np.uint8)
    return np.concatenate((samples.reshape(*alpha.shape[:2], -1), alpha), axis=2)


def with_rectangles(data: bytes, stored: np.ndarray, *places: Rectangle) -> bytes:
    """A stream with rectangles of a picture."""
    stream = parse(data)
    height, width, channels = stored.shape
    payload = pack_rectangles(places, lambda first, n: stored[first : first + n], width, height, channels)
    segments = [stream.segments(k) for k in range(stream.header.tiles)]
    return serialise(stream.header, segments, [*stream.chunks, (LOSSLESS, payload)])


def read_pnm(path: Path) -> np.ndarray:
    """The samples of a PGM, PPM or PAM file: [H, W], [H, W, 2], [H, W, 3] or [H, W, 4]."""
    data = path.read_bytes()
    if data.startswith(b"P7"):
        head, _, body = data.partition(b"ENDHDR\n")
        fields = dict(line.split() for line in head.splitlines()[1:])
        height, width, channels = (int(fields[name]) for name in (b"HEIGHT", b"WIDTH", b"DEPTH"))
        assert fields[b"TUPLTYPE"] == {2: b"GRAYSCALE_ALPHA", 4: b"RGB_ALPHA"}[channels]
    else:
        kind, size, _, body = data.split(b"\n", 3)
        (width, height), channels = map(int, size.split()), {b"P5": 1, b"P6": 3}[kind]
    samples = np.frombuffer(body, np.uint8).reshape(height, width, channels)
    return samples[:, :, 0] if channels == 1 else samples


def many(script: str, cases: list[list]) -> list[str]:
    """Results of a function of the decoder's modules for each case: hexadecimal digits, or the name of a refusal."""
    program = f"""
        import {{ createInterface }} from "node:readline";
        const [folder] = process.argv.slice(1);
        const load = (name) => import(`${{folder}}/${{name}}.mjs`);
        const f = await (async () => {{ {script} }})();
        for await (const line of createInterface({{ input: process.stdin }})) {{
          const [hex, ...rest] = JSON.parse(line);
          try {{
            console.log(Buffer.from(f(Buffer.from(hex, "hex"), ...rest)).toString("hex"));
          }} catch (error) {{
            console.log(error.detail ? error.name : `crash: ${{error}}`);
          }}
        }}"""
    lines = "".join(json.dumps([data.hex(), *rest]) + "\n" for data, *rest in cases)
    words = [str(NODE), "--input-type=module", "-e", program, SCRIPTS.as_uri()]
    ended = subprocess.run(words, input=lines, capture_output=True, text=True, timeout=60)
    assert ended.stderr == ""
    return ended.stdout.split("\n")[:-1]


def decode(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(NODE), str(DECODER), *map(str, words)], capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_it_decodes_pictures_and_traces_exactly():
    assert results(RIGHT) == dict.fromkeys(RIGHT, "pass")


@pytest.mark.slow
def test_it_refuses_what_must_be_refused_by_the_same_names():
    assert results(WRONG) == dict.fromkeys(WRONG, "pass")


def test_one_process_serves_pictures_and_refusals():
    assert results(RIGHT + WRONG, SERVER) == dict.fromkeys(RIGHT + WRONG, "pass")


def test_a_server_goes_on_after_what_is_no_stream(stream_file, tmp_path):
    request = {"id": 7, "output": str(tmp_path / "o.ppm"), "model": None, "trace": None, "threads": None}
    lines = [json.dumps(request | {"stream": str(path)}) + "\n" for path in (tmp_path, tmp_path / "none", stream_file)]
    words = [str(NODE), str(DECODER), "--serve"]
    ended = subprocess.run(words, input="".join(lines), capture_output=True, text=True, timeout=60)
    greeting, *answers = map(json.loads, ended.stdout.splitlines())
    assert greeting == {"serves": 1} and (ended.returncode, ended.stderr) == (0, "")
    assert [answer["exit_code"] for answer in answers] == [66, 66, 78] and {answer["id"] for answer in answers} == {7}
    assert answers[2]["error"] == "ModelError" and "is needed, none is given" in answers[2]["message"]
    assert decode("--serve", stream_file).returncode == 64


def test_a_trace_goes_as_far_as_the_decoding(tmp_path, model_file, stream_file):
    data = parse(stream_file.read_bytes())
    z, y = data.segments()
    (tmp_path / "s.loclic").write_bytes(serialise(data.header, [(z, y + bytes(4))]))
    ended = decode(tmp_path / "s.loclic", tmp_path / "o.ppm", "--model", model_file, "--trace", tmp_path / "t")
    assert ended.returncode == 65 and json.loads(ended.stdout)["error"] == "CoderError"
    names = [json.loads(line)["name"] for line in (tmp_path / "t").read_text().splitlines()]
    assert names[0] == "z_hat" and not any(name.startswith("g_s/") for name in names)


def test_a_refusal_is_one_object_and_leaves_nothing(stream_file, tmp_path):
    other, output = tmp_path / "other.h5", tmp_path / "o.ppm"
    write_model(other, tiny_content(seed=2), {})
    for words in ([], ["--model", other]):
        ended = decode(stream_file, output, *words)
        assert ended.returncode == 78 and ended.stderr == ""
        assert json.loads(ended.stdout)["error"] == "ModelError"
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize(
    "kind",
    [
        *("grey tiles with alpha", "whole"),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("tiles", "alpha", "rectangles", "whole grey")),
    ],
)
def test_it_decodes_what_refcodec_writes(kind, model_file, tmp_path):
    samples = random_picture(70, 150, channels=1 if "grey" in kind else 3)
    options = {"tile": 64 if "tiles" in kind or kind == "rectangles" else 0, "lossless": "whole" in kind}
    if "alpha" in kind or kind == "whole":
        samples = with_alpha(samples)
    data = coded(samples, digest=kind != "rectangles", **options)
    if kind == "rectangles":
        data = with_rectangles(data, random_picture(70, 150, 2), Rectangle(2, 60, 80, 9), Rectangle(11, 0, 150, 59))
    recorder = Recorder()
    wanted, stream = decode_stream(data, model=tiny_model(), trace=recorder)
    recorder("samples", wanted)
    path, output, trace = tmp_path / "s.loclic", tmp_path / "o.pnm", tmp_path / "t.jsonl"
    path.write_bytes(data)
    words = [] if stream.header.lossless else ["--model", model_file]
    ended = decode(path, output, "--trace", trace, *words, *(["--verify"] if stream.header.digest else []))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert np.array_equal(read_pnm(output), wanted)
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    assert lines == [json.loads(stage.line()) for stage in recorder.stages]
    for x, y, width, height in ((149, 69, 1, 1), (55, 1, 40, 12)):
        ended = decode(path, output, "--region", f"{x},{y},{width},{height}", *words)
        assert ended.returncode == 0, ended
        assert np.array_equal(read_pnm(output), wanted[y : y + height, x : x + width])


@pytest.mark.slow
def test_a_region_needs_the_tiles_around_it(model_file, tmp_path):
    data = bytearray(coded(random_picture(64, 1024), tile=64))
    wanted, stream = decode_stream(data, model=tiny_model())
    data[stream.index[7].start] ^= 1
    path, output = tmp_path / "s.loclic", tmp_path / "o.ppm"
    path.write_bytes(data)
    for x, width, sound in ((0, 80, True), (0, 81, False), (879, 1, False), (880, 80, True)):
        ended = decode(path, output, "--model", model_file, "--region", f"{x},5,{width},9")
        assert ended.returncode == (0 if sound else 65)
        if sound:
            assert np.array_equal(read_pnm(output), wanted[5:14, x : x + width])
        else:
            assert json.loads(ended.stdout) == {"error": "ChecksumError", "detail": "the checksum of tile 7 is another"}
    assert json.loads(decode(path, output, "--model", model_file).stdout)["error"] == "ChecksumError"
    for region in ("0,0,0,1", "1016,0,9,1", "0,64,1,1", "0,0,1"):
        assert decode(path, output, "--region", region).returncode == 64
    assert decode(path, output, "--region", "0,0,1,1", "--verify").returncode == 64


def random_payload(rng: np.random.Generator, height: int, width: int, channels: int) -> bytes:
    """A payload of samples of any kind, now and then one that is not allowed."""

    def below(n: int) -> int:
        return int(rng.integers(n))

    def squeezed(values: np.ndarray) -> bytes:
        return zlib.compress(values.astype(np.uint8).tobytes(), below(10))

    kind, table, top = below(8 if channels == 3 else 2), b"", 256
    if kind > 5:
        top = 1 + below(256)
        table = bytes([top - 1]) + rng.bytes(3 * top)
    size = 1 if kind > 3 else channels
    if kind % 2 == 0:
        rows = rng.integers(0, top, (height, 1 + width * size))
        rows[:, 0] = 0 if kind == 6 else rng.integers(0, 5 + (below(9) == 0), height)
        return bytes([kind]) + table + squeezed(rows)
    bits, form = 1 << below(4), below(16)
    listed = min(255, max(0, below((1 << bits) + 1) - form.bit_count()))
    new = listed + form.bit_count()
    codes = rng.integers(0, min(1 << bits, new + 1 + (below(9) == 0)), (height, width))
    places = (codes[:, :, np.newaxis] >> np.arange(bits - 1, -1, -1)) & 1
    packed = np.packbits(places.reshape(height, -1), axis=1)
    coded = squeezed(np.concatenate((np.zeros((height, 1)), packed), axis=1))
    taken = listed + int((codes == new).sum()) + (below(15) == 0)
    colours = squeezed(rng.integers(0, top, (taken, size)))
    head = bytes([form | (bits.bit_length() - 1) << 4, listed]) + len(coded).to_bytes(4, "little")
    return bytes([kind]) + table + head + coded + colours


def damaged(rng: np.random.Generator, data: bytes, first: int) -> bytes:
    """Half of the time the same bytes, else cut, longer, or with another byte among the first or anywhere."""
    way, changed = int(rng.integers(8)), bytearray(data)
    if way == 0:
        return data[: int(rng.integers(len(data)))]
    if way == 1:
        return data + b"\0"
    if way < 4:
        changed[int(rng.integers(first if way == 2 else len(data)))] = int(rng.integers(256))
    return bytes(changed)


def test_samples_without_loss_are_those_of_refcodec():
    rng, cases, wanted = np.random.default_rng(3), [], []
    for _ in range(600):
        height, width, channels = int(rng.integers(1, 7)), int(rng.integers(1, 10)), int(rng.choice((1, 3)))
        payload = damaged(rng, random_payload(rng, height, width, channels), 8)
        cases.append([payload, height, width, channels])
        try:
            wanted.append(SamplesReader(payload, height, width, channels).read(height).tobytes().hex())
        except ChunkError:
            wanted.append("ChunkError")
    script = """
        const { decodeSamples, openSamples } = await load("lossless");
        return (data, height, width, channels) => decodeSamples(openSamples(data, { height, width, channels })).values;
    """
    assert many(script, cases) == wanted
    assert 200 < wanted.count("ChunkError") < 400


def test_rectangles_are_those_of_refcodec():
    rng, cases, wanted = np.random.default_rng(4), [], []
    places = [[(x, 0, 1, 2) for x in range(n)] for n in (256, 257)]
    for _ in range(200):
        corners = sorted(rng.integers(0, 150, (int(rng.integers(1, 4)), 2)).tolist())
        places.append([(x, y, *rng.integers(1 - (rng.random() < 0.1), 60, 2).tolist()) for y, x in corners])
    for rectangles in places:
        height, width = (64, 64 * 257) if len(rectangles) > 9 else (200, 200)
        bodies = [b"\0" + zlib.compress(bytes(max(1, h * (1 + w)))) for _, _, w, h in rectangles]
        entries = [struct.pack("<5I", *r, len(body)) for r, body in zip(rectangles, bodies, strict=True)]
        payload = damaged(rng, b"".join([struct.pack("<I", len(entries)), *entries, *bodies]), 24)
        cases.append([payload, height, width])
        samples = np.ones((height, width), np.uint8)
        try:
            Rectangles(payload, width, height, 1).apply(samples, 0)
            wanted.append(str(int(samples.sum())).encode().hex())
        except ChunkError:
            wanted.append("ChunkError")
    script = """
        const { putRectangles, readRectangles } = await load("rectangles");
        return (data, height, width) => {
          const samples = { height, width, channels: 1, values: new Uint8Array(height * width).fill(1) };
          putRectangles(samples, readRectangles(data, samples), { x: 0, y: 0, width, height });
          return String(samples.values.reduce((sum, v) => sum + v, 0));
        };
    """
    assert many(script, cases) == wanted
    assert 50 < wanted.count("ChunkError") < 150


def damaged_streams() -> list[bytes]:
    """Streams of every kind with another byte, and most with a checksum that is right all the same."""
    plain, tiled = (coded(random_picture(3, 70), tile=tile) for tile in (0, 64))
    bare = coded(with_alpha(random_picture(3, 5)), digest=False, tile=64)
    whole = coded(with_alpha(random_picture(3, 5)), lossless=True)
    found = [plain[:n] for n in range(70)] + [tiled[:n] for n in range(0, len(tiled), 5)] + [whole + b"\0"]
    for data in (plain, tiled, bare, whole):
        stream = parse(data)
        first = stream.header.size + stream.header.index_size
        behind = first + stream.segment_bytes
        for at in (*range(first + 1), *range(behind, len(data))):
            for value in (0, 1, 2, 3, 5, 65, 128, 255):
                changed = bytearray(data)
                changed[at] = value
                found.append(bytes(changed))
                covered = changed[:first] + changed[behind:-4] if stream.header.tiled else changed[:-4]
                found.append(bytes(changed[:-4]) + crc32c(covered).to_bytes(4, "little"))
    stream = parse(plain)
    payload = parse(bare).chunk(ALPHA)
    for tags in (["exif"] * 2, ["Zzzz"], ["zzzz", "ALPH", "Exif"], [f"a{n:3}" for n in range(65)], [ALPHA] * 2):
        chunks = b"".join(tag.encode() + len(payload).to_bytes(4, "little") + payload for tag in tags)
        body = plain[:-4] + chunks
        found.append(body + crc32c(body).to_bytes(4, "little"))
    return found


@pytest.mark.slow
def test_it_refuses_damaged_streams_by_the_same_names():
    wanted = []
    for data in (cases := damaged_streams()):
        try:
            stream = parse(data)
            for tag in {ALPHA, LOSSLESS} & dict(stream.chunks).keys():
                channels = 1 if tag == ALPHA else stream.header.channels
                header = stream.header
                SamplesReader(stream.chunk(tag), header.height, header.width, channels).read(header.height)
            wanted.append("")
        except RefcodecError as error:
            wanted.append(type(error).__name__)
    script = """
        const { readHeader, readStream } = await load("container");
        const { decodeSamples } = await load("lossless");
        const { windowOf } = await load("tiles");
        return (data) => {
          const header = readHeader(data.subarray(0, 52));
          const { alpha, whole } = readStream(data, header, windowOf({ x: 0, y: 0, ...header }, header));
          [alpha, whole].filter((samples) => samples).forEach(decodeSamples);
          return "";
        };
    """
    assert many(script, [[data] for data in cases]) == wanted
    names = {"", "BadMagic", "UnknownVersion", "TruncatedStream", "HeaderError", "ChecksumError", "ChunkError"}
    assert set(wanted) == names | {"TrailingBytes", "UnknownRequiredChunk"}


def test_limits_are_judged_on_the_header_alone(tmp_path):
    header = bytearray(coded(random_picture(3, 5), lossless=True)[:52])
    header[8:12] = (2**15 + 1).to_bytes(4, "little")
    (tmp_path / "wide.loclic").write_bytes(header)
    ended = decode(tmp_path / "wide.loclic", tmp_path / "o.ppm")
    assert (ended.returncode, json.loads(ended.stdout)["error"]) == (77, "LimitExceeded")
    ended = decode(tmp_path / "wide.loclic", tmp_path / "o.ppm", "--level", 5)
    assert (ended.returncode, json.loads(ended.stdout)["error"]) == (65, "TruncatedStream")


def test_a_failed_check_leaves_nothing(tmp_path):
    samples, path, output = random_picture(3, 5), tmp_path / "s.loclic", tmp_path / "o.ppm"
    stream = parse(coded(samples, lossless=True))
    for digest in (bytes(16), None):
        path.write_bytes(serialise(replace(stream.header, digest=digest), (), stream.chunks))
        ended = decode(path, output, "--verify")
        assert ended.returncode == 1 and ended.stderr.count("\n") == 1 and not output.exists()
        assert decode(path, output).returncode == 0
        assert np.array_equal(read_pnm(output), samples)
        output.unlink()


@pytest.mark.parametrize("code, words", [(64, ["{s}"]), (66, ["absent", "o.ppm"]), (73, ["{s}", "absent/o.ppm"])])
def test_other_trouble_is_one_line(code, words, stream_file, model_file, tmp_path):
    ended = decode(*(tmp_path / word.format(s=stream_file) for word in words), "--model", model_file)
    assert ended.returncode == code
    assert ended.stdout == "" and ended.stderr.count("\n") == 1


def test_comments_name_clauses_that_are_there():
    known = {clause["id"] for clause in json.loads((KIT.parent / "kit" / "clauses.json").read_text(encoding="utf-8"))}
    cited = {
        clause
        for path in SCRIPTS.glob("*.mjs")
        for clause in re.findall(r"(?<= )\[((?:\d+|[A-D])[.\d]*-\d+)\]", path.read_text(encoding="utf-8"))
    }
    assert cited <= known and len(cited) > 150

"""The self-test: it passes here in both backends, sees every operation, and says what is wrong."""

import json
import re

import numpy as np
import pytest

from refcodec.agreement import items as hashes
from refcodec.agreement import operations as vectors
from refcodec.agreement import selftest
from refcodec.agreement.operations import Way
from refcodec.arith import engine, numpy_ops
from refcodec.arith.jit import backend as numba_backend
from refcodec.arith.maps import interior
from refcodec.cli import main
from refcodec.entropy import rans
from refcodec.errors import InvalidModel, UsageError

BACKENDS = ("numba", "numpy")
MODULES = {"numba": numba_backend, "numpy": numpy_ops}
CONVOLUTIONS = {name for name in hashes.NAMES if name.startswith("conv ")} | {"gelu"}


@pytest.fixture
def no_streams(monkeypatch):
    """Leave the coded pictures out, which take most of the time."""
    monkeypatch.setattr(hashes, "STREAMS", {})
    return {name: value for name, value in selftest.golden().items() if name in hashes.VECTORS}


def changed(backend, expected):
    """Items that differ from the committed hashes."""
    found = hashes.compute(backend, 1)
    return {name for name in expected if found[name] != expected[name]}


@pytest.mark.parametrize("backend", BACKENDS)
def test_this_machine_passes(backend, monkeypatch, capsys):
    monkeypatch.setenv("REFCODEC_BACKEND", backend)
    assert main(["selftest", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["differences"] == [] and report["backend"] == backend
    assert report["items"] == len(hashes.NAMES) == len(selftest.golden())


def test_every_item_has_a_committed_hash():
    assert tuple(selftest.golden()) == hashes.NAMES
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in selftest.golden().values())
    assert len(set(selftest.golden().values())) == len(hashes.NAMES) - 2  # two pictures decode to what was coded
    for name in hashes.STREAMS:
        assert selftest.golden()[f"{name} decoded"] == selftest.golden()[f"{name} reconstruction"]


def test_a_wrong_hash_fails_and_is_named(no_streams, monkeypatch, capsys):
    name = "layer norm"
    wrong = {**no_streams, name: "0" * 64}
    monkeypatch.setattr(selftest, "golden", lambda: wrong)
    assert main(["selftest"]) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("layer norm: expected 0000000000000000") and shown.out.count("\n") == 1
    assert "both backends agree" in shown.out and "layer norm" in shown.err
    assert main(["selftest", "--json"]) == 1
    fields = json.loads(capsys.readouterr().out)
    assert fields["exit_code"] == 1 and [d["name"] for d in fields["values"]["items"]] == [name]


def test_items_that_are_missing_or_unknown_fail(no_streams):
    fewer = {name: value for name, value in no_streams.items() if name != "gdn"}
    for expected in (fewer, {**no_streams, "gdn of old": "0" * 64}):
        [difference] = selftest.run("numpy", 1, expected).differences
        assert "absent" in (difference.expected, difference.found)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("kernel", "items"),
    [
        ("conv", CONVOLUTIONS),
        ("gdn", {"gdn"}),
        ("igdn", {"igdn"}),
        ("layer_norm", {"layer norm"}),
        ("local_attention", {"local attention"}),
        ("linear_attention", {"linear attention", "softmax"}),
    ],
)
def test_one_wrong_bit_of_a_kernel_is_seen(no_streams, monkeypatch, backend, kernel, items):
    """The lowest bit of one number of the result: exactly the operation's items change."""
    right = getattr(MODULES[backend], kernel)

    def wrong(*args):
        right(*args)
        out = interior(args[{"local_attention": 3, "linear_attention": 5}.get(kernel, 2)])
        out[(-1,) * out.ndim] ^= 1

    monkeypatch.setattr(MODULES[backend], kernel, wrong)
    assert changed(backend, no_streams) == items


@pytest.mark.parametrize(
    ("owner", "method", "items"),
    [
        (engine.Engine, "sum", {"sum"}),
        (engine.Engine, "gain", {"gain"}),
        (engine.Engine, "rescale", {"rescale"}),
        (engine.Engine, "half_tanh", {"half tanh"}),
        (engine.Engine, "scale_index", {"scale index"}),
        (rans.RangeDecoder, "get", {"range decoder"}),
        (vectors, "crop_samples", {"picture"}),
    ],
)
def test_one_wrong_bit_of_every_other_operation_is_seen(no_streams, monkeypatch, owner, method, items):
    right = getattr(owner, method)

    def wrong(*args):
        out = right(*args)
        out[(-1 if out.ndim == 1 else out.shape[0] // 2,) * out.ndim] ^= 1
        return out

    monkeypatch.setattr(owner, method, wrong)
    assert changed("numpy", no_streams) == items


def test_wrong_bytes_are_seen(no_streams, monkeypatch):
    right = vectors.crc32c
    monkeypatch.setattr(vectors, "crc32c", lambda data: right(data) ^ (len(data) == 5000))
    assert changed("numpy", no_streams) == {"crc-32c"}
    monkeypatch.undo()
    monkeypatch.setattr(hashes, "STREAMS", {})
    write = vectors.serialise
    monkeypatch.setattr(vectors, "serialise", lambda **more: write(**{**more, "quality": 98}))
    assert changed("numpy", no_streams) == {"container"}


@pytest.mark.parametrize("part", hashes.STREAM_PARTS[1:])
def test_a_wrong_bit_in_a_coded_picture_is_seen(monkeypatch, part):
    """One result of analysis, of the walk or of synthesis changes what lies behind it."""
    stage = {"stream": "h_a/0", "reconstruction": "g_s/7", "stages": "g_s/6/conv2", "decoded": "g_s/7"}[part]
    right = engine.Engine.conv

    def wrong(self, name, x, **more):
        out = right(self, name, x, **more)
        if name == stage:
            interior(out)[...] += 64
        return out

    names = [f"tiny {p}" for p in hashes.STREAM_PARTS]
    monkeypatch.setattr(engine.Engine, "conv", wrong)
    found = hashes.compute("numba", 1, names)
    assert found[f"tiny {part}"] != selftest.golden()[f"tiny {part}"]
    assert found["tiny model"] == selftest.golden()["tiny model"]


def test_hashes_see_type_shape_order_and_split():
    a = np.arange(6, dtype=np.int16)
    seen = [
        hashes.digest(parts)
        for parts in ([a], [a.astype(np.int32)], [a.reshape(2, 3)], [a[::-1]], [a[:3], a[3:]], [a, b""], [a.tobytes()])
    ]
    assert len(set(seen)) == len(seen)
    assert hashes.digest([a.astype(">i2")]) == seen[0]
    assert hashes.digest([np.repeat(a, 2)[::2]]) == seen[0]


def test_the_cause_tells_the_backends_apart(no_streams, monkeypatch):
    right = numba_backend.gdn

    def wrong(x, layer, out, threads):
        right(x, layer, out, threads)
        interior(out)[0, 0, 0] += 1

    monkeypatch.setattr(numba_backend, "gdn", wrong)
    [difference] = selftest.run("numba", 1, no_streams).differences
    assert difference.name == "gdn" and "NumPy computes it right" in difference.cause
    with pytest.raises(UsageError, match="disagree") as refused:
        selftest.write()
    assert refused.value.values["items"] == ["gdn"]
    monkeypatch.setattr(numpy_ops, "gdn", lambda *args: 1 // 0)
    [difference] = selftest.run("numpy", 1, no_streams).differences
    assert difference.found.startswith("error: ZeroDivisionError") and "both backends differ" in difference.cause


def test_an_item_that_raises_is_its_own_failure(monkeypatch):
    def broken(way):
        raise MemoryError("none left")

    monkeypatch.setitem(hashes.VECTORS, "sum", broken)
    monkeypatch.setitem(hashes.STREAMS, "tiny", (broken, (8, 8, 1), 1))
    found = hashes.compute("numpy", 1, ["sum", "gain", "tiny stream"])
    assert found["sum"] == "error: MemoryError: none left" and found["tiny stream"].startswith("error: TypeError")
    assert found["gain"] == selftest.golden()["gain"] and len(found) == 3


def test_the_hashes_are_written_as_committed(no_streams, tmp_path):
    path = tmp_path / "selftest.json"
    assert selftest.write(path) == len(hashes.VECTORS)
    assert dict(selftest.golden(path)) == no_streams


@pytest.mark.parametrize("text", ["", "{}", '{"items": [1]}', '{"items": {"sum": 1}}'])
def test_damaged_hashes_are_refused(tmp_path, text):
    path = tmp_path / "selftest.json"
    path.write_text(text)
    with pytest.raises(InvalidModel, match="damaged"):
        selftest.golden(path)
    with pytest.raises(InvalidModel, match="damaged"):
        selftest.golden(tmp_path / "absent.json")


def test_the_vectors_reach_what_they_claim():
    """Few results are clamped, accumulators reach their bound, symbols of every length and level are coded."""
    for name, item in hashes.VECTORS.items():
        if name.startswith("conv ") and name != "conv bounds":
            values = np.concatenate([part.reshape(-1) for part in item(Way("numpy", 1))])
            assert np.unique(values).size > 1000, name
            magnitude = np.abs(values.astype(np.int64))
            assert (magnitude < magnitude.max()).mean() > 0.9, name
    [bounds] = hashes.VECTORS["conv bounds"](Way("numpy", 1))
    assert bounds.min() == -(2**31 - 1) and bounds.max() == 2**31 - 1
    symbols, levels = vectors._symbols()
    assert {int(abs(s)).bit_length() for s in symbols} == set(range(16)) and set(levels) == set(range(128))


def test_hashes_as_a_command(no_streams, capsys):
    assert hashes.main(["--backend", "numpy"]) == 0
    assert dict(line.split(" ", 1)[::-1] for line in capsys.readouterr().out.splitlines()) == no_streams
    assert hashes.main(["--backend", "numba", "--threads", "2", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["hashes"] == no_streams and answer["facts"]["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("\tvpdpwssd\t%zmm1, %zmm2, %zmm3\n", "vpdpwssd zmm"),
        ("\tpmaddwd\t%xmm1, %xmm2\n", "pmaddwd xmm"),
        ("\t{vex} vpdpwssd\t%ymm1, %ymm2, %ymm3\n", "vpdpwssd ymm"),
        ("\tvpmaddwd\t(%rax), %ymm2, %ymm3\n", "vpmaddwd ymm"),
        ("\tsmlal2\tv1.4s, v2.8h, v3.8h\n", "smlal2 4s"),
        ("\tmla\tv1.4s, v2.4s, v3.4s\n", "mla 4s"),
    ],
)
def test_multiplications_are_counted(line, count):
    assert hashes.products(f"f:\n\tmovq\t%rax, %rbx\n{line}{line}\tret\n") == {count: 2}

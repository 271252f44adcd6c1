"""Python callables as decoders: worker processes, what exceptions mean, what arrays may be."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tiny_kit
from hypothesis import given
from hypothesis import strategies as st

from conformance.kit import suites
from conformance.kit.errors import UsageError
from conformance.run import decoders, worker
from conformance.run.engine import Options, run_all
from conformance.run.process import Limits

NUMBERS = st.none() | st.booleans() | st.integers() | st.sampled_from([0, 3, 65]) | st.text()
JSON = st.recursive(
    NUMBERS,
    lambda part: st.lists(part) | st.dictionaries(st.sampled_from(["id", "exit_code", "message"]), part),
    max_leaves=9,
)
"""Values that may be answers."""

PICTURE = np.frombuffer(tiny_kit.samples(5, 4, 3, 9), np.uint8).reshape(4, 5, 3)


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A kit with two suites."""
    return tiny_kit.tiny_kit(tmp_path_factory.mktemp("kit"))


def results(kit, spec):
    vectors = suites.select(suites.load_all(kit), suites.Selection())
    return run_all(vectors, spec, Options(limits=Limits(20.0, 1 << 30, 4 << 20)))


@pytest.mark.parametrize("channels", range(6))
def test_arrays_may_have_alpha(channels):
    array = np.zeros((4, 5, channels), np.uint8)
    if channels in (2, 3, 4):
        assert np.array_equal(np.load(io.BytesIO(worker.npy_file(array))), array)
    else:
        with pytest.raises(TypeError, match=r"expected uint8 \[H, W\] or \[H, W, 2..4\]"):
            worker.npy_file(array)


CALLABLES = """
import json, os, time
import numpy as np
from tiny_kit import CrcMismatch, good

calls = 0


def class_known(stream, model):
    try:
        return good(stream, model)
    except ValueError:
        raise CrcMismatch("at byte 4")


def counts_calls(stream, model):
    global calls
    calls += 1
    return good(stream, model) if calls == 1 else good(stream, model) + 1


def floats(stream, model):
    return good(stream, model).astype(np.float64)


def none(stream, model):
    return None


def prints(stream, model):
    print('{"exit_code": 65}', flush=True)
    os.write(1, b'{"exit_code": 65}\\n')
    return good(stream, model)


def bug(stream, model):
    return [][0]


def not_implemented(stream, model):
    raise NotImplementedError("grey pictures")


def no_memory(stream, model):
    return np.zeros(1 << 40, np.uint8)


def crashes(stream, model):
    os.abort()


def leaves(stream, model):
    os._exit(0)


def hangs(stream, model):
    time.sleep(600)


def another(stream, model):
    return good(stream, model) ^ 1


def traces(stream, model, trace=None):
    if trace:
        open(trace, "w").write("{}")
    return good(stream, model) ^ 1
"""


@pytest.fixture
def callables(tmp_path, monkeypatch):
    """A module of callables that worker processes can import."""
    (tmp_path / "toys.py").write_text(CALLABLES)
    here = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2] / "helpers")])
    monkeypatch.setenv("PYTHONPATH", here)
    return tmp_path


@pytest.mark.parametrize(
    ("function", "valid_outcome", "says", "invalid_outcome"),
    [
        ("tiny_kit:good", "pass", "", "pass"),
        ("toys:class_known", "pass", "", "pass"),
        ("toys:prints", "pass", "", "pass"),
        ("toys:another", "fail", "another picture", "pass"),
        ("toys:floats", "crash", "TypeError: the callable returned float64", "pass"),
        ("toys:none", "crash", "TypeError", "crash"),
        ("toys:bug", "crash", "IndexError", "crash"),
        ("toys:not_implemented", "not-supported", "grey pictures", "not-supported"),
        ("toys:no_memory", "out-of-memory", "", "out-of-memory"),
        ("toys:crashes", "crash", "SIGABRT", "crash"),
        ("toys:leaves", "crash", "exit code 70", "crash"),
        pytest.param("toys:hangs", "timeout", "ended after", "timeout", marks=pytest.mark.slow),
    ],
)
def test_callables_are_decoders_too(kit, callables, function, valid_outcome, says, invalid_outcome):
    vectors = suites.select(suites.load_all(kit), suites.Selection(ids=("core/colour", "invalid/crc")))
    seconds = 1.0 if function == "toys:hangs" else 20.0
    a, b = run_all(vectors, decoders.parse(f"python:{function}"), Options(limits=Limits(seconds, 2 << 30)))
    assert (a.outcome, b.outcome) == (valid_outcome, invalid_outcome) and says in a.detail
    if function in ("tiny_kit:good", "toys:class_known"):
        assert b.error == "ChecksumError"


def test_a_worker_serves_many_streams_unless_told_otherwise(kit, callables):
    kept = {r.vector.id: r.outcome for r in results(kit, decoders.parse("python:toys:counts_calls"))}
    passed = dict.fromkeys(("core/dot", "invalid/crc", "invalid/two"), "pass")  # the cheapest vector is the first
    assert kept == passed | {"core/grey": "fail", "core/colour": "fail"}
    fresh = [r.outcome for r in results(kit, decoders.parse("python:toys:counts_calls", fresh=True))]
    assert fresh == ["pass"] * 5


@pytest.mark.parametrize(
    ("name", "says"),
    [("no_such_module:f", "No module named 'no_such_module'"), ("tiny_kit:no_such_function", "no_such_function")],
)
def test_a_callable_that_cannot_be_imported_is_a_usage_error(kit, callables, name, says):
    with pytest.raises(UsageError, match=says):
        results(kit, decoders.parse(f"python:{name}"))


def test_a_callable_returns_what_the_format_needs():
    from conformance.run.worker import npy_file

    file = io.BytesIO()
    np.save(file, PICTURE)
    assert npy_file(PICTURE) == file.getvalue()
    for wrong in (PICTURE[:, :, :1], PICTURE.ravel(), PICTURE.astype(np.int64), [[1, 2]], None):
        with pytest.raises(TypeError, match="expected uint8"):
            npy_file(wrong)


def test_exceptions_become_exit_codes():
    from conformance.run.worker import classify

    class Unsupported(Exception):
        exit_code = 69

    for error, code, name in [
        (ValueError("HeaderError"), 65, "HeaderError"),
        (ValueError("odd"), 65, "ValueError"),
        (KeyError("x"), 70, "KeyError"),
        (MemoryError(), 1, "MemoryError"),
        (tiny_kit.CrcMismatch(), 65, "ChecksumError"),
        (Unsupported(), 69, "Unsupported"),
        (type("LimitExceeded", (Exception,), {})(), 77, "LimitExceeded"),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "ChecksumError"), 65, "UnicodeDecodeError"),
    ]:
        assert classify(error) == {"exit_code": code, "error": name}
    assert json.dumps(classify(ValueError()))


def test_answers_are_one_line_of_json_for_the_request():
    assert decoders.answer(b'{"id": 3, "exit_code": 65}\n', 3) == (65, "")
    assert decoders.answer(b'{"id": 3, "exit_code": 0, "message": "fine", "more": []}\n', 3) == (0, "fine")
    for wrong in (
        *(b"", b"{", b"[]", b"{}", b"5", b'{"id": 3}', b'{"id": 3, "exit_code": "65"}', b'{"id": 3, "exit_code": 256}'),
        *(b'{"id": 3, "exit_code": true}', b'{"id": 3, "exit_code": 0}\n{"id": 3, "exit_code": 0}'),
    ):
        code, says = decoders.answer(wrong + b"\n", 3)
        assert code is None and says.startswith('no answer: expected a line such as {"id": 3, "exit_code": 0}, got ')
    for other in (b"2", b"true", b'"3"', b"null"):
        code, says = decoders.answer(b'{"id": %s, "exit_code": 0}\n' % other, 3)
        assert code is None and says.endswith("asked was 3")


@given(st.one_of(st.binary(), st.builds(lambda value: json.dumps(value).encode(), JSON)))
def test_any_answer_is_taken(reply):
    for number in (3, None):
        code, says = decoders.answer(reply + b"\n", number)
        assert says if code is None else 0 <= code < 256


def test_servers_greet():
    assert decoders.answer(b'{"serves": 1}\n', None) == (0, "")
    for wrong in (b'{"serves": 2}', b"ready", b'{"id": 1, "exit_code": 0}'):
        code, says = decoders.answer(wrong + b"\n", None)
        assert code is None and 'begins with the line {"serves": 1}' in says

"""Traces and values of strangers are read strictly."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import model, reference, stream

from conformance.locate.traces import TraceError, parse_trace, read_npy, read_trace, stage_of
from refcodec.codec import decode_stream
from refcodec.trace import Recorder, npy_bytes

LINE = {"index": 0, "name": "z_hat", "shape": [1, 1, 6], "dtype": "int16", "sha256": "0" * 64}


def test_a_trace_of_refcodec_is_read(tmp_path):
    recorder = Recorder(save=lambda stage, values: (tmp_path / stage.file_name).write_bytes(npy_bytes(values)) and None)
    decode_stream(stream(), model=model(), backend="numpy", trace=recorder)
    (tmp_path / "t").write_text("".join(stage.line() + "\n" for stage in reversed(recorder.stages)))
    trace = read_trace(tmp_path / "t", tmp_path)
    assert trace.stages == reference().stages[:-1]
    assert all(np.array_equal(trace.values(s), reference().values(s)) for s in trace.stages)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "no stage"),
        (b"\n \n", "no stage"),
        (b"nonsense", "line 1: not JSON"),
        (b"[1]", "an object is expected"),
        (b"\xff\xfe", "line 1: not JSON"),
        (b"[" * 100000, "not JSON"),
        (b'{"name": 1, "name": 2}', "occurs twice"),
        ({"name": "../etc"}, "'name'"),
        ({"name": "A"}, "'name'"),
        ({"name": "a/" * 150 + "a"}, "'name'"),
        ({"shape": [1]}, "'shape'"),
        ({"shape": [1, 0]}, "'shape'"),
        ({"shape": [1, True]}, "'shape'"),
        ({"shape": [1, 1.5]}, "'shape'"),
        ({"shape": [1 << 23, 1 << 23]}, "'shape'"),
        ({"shape": "1"}, "'shape'"),
        ({"dtype": "float32"}, "'dtype'"),
        ({"dtype": "object"}, "'dtype'"),
        ({"sha256": "0" * 63}, "'sha256'"),
        ({"sha256": "G" * 64}, "'sha256'"),
        ({"index": -1}, "'index'"),
        ({"index": 1 << 21}, "'index'"),
        ({"index": True}, "'index'"),
        ({"index": "3"}, "'index'"),
        ({"index": None}, "'index'"),
        ({"file": "../x.npy"}, "'file'"),
        ({"file": "/x.npy"}, "'file'"),
        ({"file": "x.pkl"}, "'file'"),
        ({"sha": 1}, "unknown field 'sha'"),
    ],
)
def test_malformed_lines_are_clear_errors(text, says):
    data = text if isinstance(text, bytes) else json.dumps({**LINE, **text}).encode()
    with pytest.raises(TraceError, match=says) as caught:
        parse_trace(data, "theirs.jsonl")
    assert "theirs.jsonl" in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_trace_of_endless_length_is_refused(tmp_path):
    (tmp_path / "t").write_bytes(json.dumps(LINE).encode() + b"\n" * (25 << 20))
    with pytest.raises(TraceError, match="longer than"):
        read_trace(tmp_path / "t")


def test_indices_are_on_all_lines_or_none_and_differ():
    def lines(*indices):
        return b"\n".join(
            json.dumps({k: v for k, v in {**LINE, "index": i}.items() if v is not None}).encode() for i in indices
        )

    assert [s.index for s in parse_trace(lines(4, 0, 2), "t").stages] == [0, 2, 4]
    assert [s.index for s in parse_trace(lines(None, None), "t").stages] == [None, None]
    with pytest.raises(TraceError, match="some lines have an 'index' and some have none"):
        parse_trace(lines(1, None), "t")
    with pytest.raises(TraceError, match="2 lines have the index 3"):
        parse_trace(lines(3, 1, 3), "t")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_a_trace_or_a_trace_error(data):
    for text in (data, json.dumps(LINE).encode()[:40] + data):
        with pytest.raises(TraceError):
            parse_trace(text, "t")


def test_values_are_checked_against_their_line(tmp_path):
    values = np.arange(12, dtype=np.int16).reshape(2, 2, 3)
    stage = stage_of("z_hat", values, 0)
    path = tmp_path / "00000.z_hat.npy"

    def read(**more):
        line = {**LINE, "shape": [2, 2, 3], "sha256": stage.sha256, **more}
        (tmp_path / "t").write_text(json.dumps({k: v for k, v in line.items() if v is not None}))
        trace = read_trace(tmp_path / "t", tmp_path)
        return trace.values(trace.stages[0])

    assert read() is None
    path.write_bytes(npy_bytes(values))
    assert np.array_equal(read(), values)
    assert read(index=None) is None and np.array_equal(read(index=None, file="00000.z_hat.npy"), values)
    with pytest.raises(TraceError, match="no such file"):
        read(file="other.npy")
    with pytest.raises(TraceError, match="int16"):
        read(dtype="int32")
    with pytest.raises(TraceError, match="expected are"):
        read(shape=[2, 3, 2])
    with pytest.raises(TraceError, match="not those of its line"):
        read(sha256="0" * 64)
    with pytest.raises(TraceError, match="no such folder"):
        read_trace(tmp_path / "t", tmp_path / "nowhere")
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[:-1], "the file holds"),
        (lambda data: data + b"\0", "the file holds"),
        (lambda data: b"", "not the NPY file"),
        (lambda data: b"\x93NUMPY\x02\x00" + data[8:], "version 2.0"),
        (lambda data: data.replace(b"<i2", b"|O8"), "the type is object"),
        (lambda data: data.replace(b"<i2", b"<f4"), "float32"),
        (lambda data: data.replace(b"(2, 2, 3)", b"(9e9,2,3)"), "not the NPY file"),
        (lambda data: data.replace(b"(2, 2, 3), ", b"(-2,-2,3), "), "not the NPY file|the file holds"),
        (lambda data: data.replace(b"{'descr'", b"{'__im__'"), "not the NPY file"),
    ],
)
def test_files_of_values_are_read_strictly(tmp_path, damage, says):
    path = tmp_path / "x.npy"
    path.write_bytes(damage(npy_bytes(np.zeros((2, 2, 3), np.int16))))
    with pytest.raises(TraceError, match=says):
        read_npy(path)


def test_values_of_any_byte_order_are_read(tmp_path):
    values = np.arange(12).reshape(3, 4)
    for array in (values.astype(">i4"), np.asfortranarray(values.astype("<i8"))):
        np.save(tmp_path / "x.npy", array)
        read = read_npy(tmp_path / "x.npy")
        assert np.array_equal(read, values) and read.dtype.isnative and read.flags.c_contiguous

"""The validator of streams: clause, byte and place of the first rule that each invalid stream of the suites breaks."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from tiny_models import random_picture, tiny_content, tiny_model

import refcodec
from conformance import cli
from conformance.kit import clauses, suites
from conformance.kit.vectors import Reject
from conformance.run.models import locate
from conformance.synthetic import writer
from conformance.synthetic.models import procedural as models
from conformance.workbench.validate import _CLAUSES, _FIELDS, _TOGETHER, described, needs, validate
from refcodec.bitstream.container import parse, serialise
from refcodec.bitstream.crc32c import crc32c
from refcodec.codec import encode_picture
from refcodec.errors import ModelError
from refcodec.model.file import write_model
from refcodec.model.registry import load_model

INVALID = [
    v
    for v in suites.load_all(names=["invalid"])[0].vectors
    if isinstance(v.expect, Reject) and v.expect.error != "InvalidModel"
]


@cache
def _model(path):
    return load_model(path)


@pytest.fixture(scope="module")
def findings():
    """Findings in every invalid stream, but those of models."""
    return {
        v.id: (v, validate(v.read(), _model(locate(v.model)) if v.model else tiny_model(), "numpy")) for v in INVALID
    }


def test_every_refusal_names_a_clause_and_a_byte(findings):
    known, right = set(clauses.load()), 0
    for vector, found in findings.values():
        assert found is not None, vector.id
        limits = vector.expect.error == "LimitExceeded"  # no rule of the format: the validator has no limits
        assert found.error in vector.expect.classes or (limits and found.error == "CoderError"), vector.id
        assert found.clause in known and 0 <= found.byte <= len(vector.read()), vector.id
        assert (found.segment != "") == found.clause.startswith("7."), vector.id
        assert found.says in described(found) and f"at byte {found.byte} (SPEC {found.clause})" in described(found)
        right += found.clause in vector.clauses
    assert len(findings) > 500 and right > 0.8 * len(findings)


def test_every_message_is_met(findings):
    """No clause is named for a message that refcodec has not."""
    met = {
        found.says.split(" at byte")[0].split(" at header")[0].split(" at the ")[0].split(" at SPEC")[0]
        for _, found in findings.values()
    }
    met |= {"the reconstruction differs from the encoder's"}
    assert set(_CLAUSES) | set(_TOGETHER) <= {text.split(" (")[0] for text in met}
    fields = {found.clause for _, found in findings.values() if "the header field" in found.says}
    assert (
        {"8.1-1", "8.1-2", "8.1-3", "8.1-4", "8.1-5", "8.1-6", "8.1-7", "8.1-11", "8.1-12"}
        == fields
        <= set(_FIELDS.values())
    )


def test_places_in_the_container(findings):
    for name, expected in (
        ("magic-late", ("BadMagic", "8.1-1", 0)),
        ("cut-whole-0033", ("TruncatedStream", "8.5-3", 33)),
    ):
        _, found = findings[f"invalid/{name}"]
        assert (found.error, found.clause, found.byte) == expected and found.tile is None and found.symbol is None


def test_bytes_that_form_no_chunk_break_one_of_three_rules():
    stream = parse(encode_picture(random_picture(5, 6), 60, model=tiny_model(), digest=False).data)
    body = serialise(stream.header, [stream.segments()])[:-4]
    for tail, clause in ((b"exif", "8.4-12"), (b"1abc" + bytes(4), "8.4-13"), (b"exif" + b"\1\0\0\0", "8.4-14")):
        data = body + tail
        found = validate(data + crc32c(data).to_bytes(4, "little"), tiny_model(), "numpy")
        assert (found.error, found.clause, found.byte) == ("TrailingBytes", clause, len(body))


# Below the container


def coded(tile=(0, 0), seed=3):
    """A stream of random symbols, and the model."""
    model = models.model("tiny-7")
    return writer.random_stream(model, seed, 100, 70, 3, 60, "mixed", digest=False, tile=tile), model


def rewritten(data, tile, change):
    """A stream whose segments of one tile are changed: ``change(z, y)`` gives both."""
    stream = parse(data)
    segments = [stream.segments(k) for k in range(stream.header.tiles)]
    segments[tile] = change(*segments[tile])
    return serialise(stream.header, segments)


@pytest.mark.parametrize("tile", [0, 1])
def test_segments_that_are_cut_or_too_long(tile):
    data, model = coded((1, 1))
    for name, change, clause in (
        ("z", lambda z, y: (z[:-4], y), "7.6-3"),
        ("y", lambda z, y: (z, y[:-4]), "7.6-3"),
        ("z", lambda z, y: (z + bytes(4), y), "7.6-4"),
        ("y", lambda z, y: (z, y + bytes(4)), "7.6-4"),
        ("z", lambda z, y: (z[:-1], y), "7.6-1"),
        ("y", lambda z, y: (z, y[:-1]), "7.6-1"),
        ("y", lambda z, y: (z, b""), "7.6-1"),
        ("y", lambda z, y: (z, bytes(8) + y[8:]), "7.6-2"),
        ("y", lambda z, y: (z, y + bytes(1 << 20)), "7.6-4"),
    ):
        changed = rewritten(data, tile, change)
        found, entry = validate(changed, model, "numpy"), parse(changed).index[tile]
        assert (found.clause, found.tile, found.segment) == (clause, tile, name)
        first = entry.start + (entry.z_length if name == "y" else 0)
        assert first <= found.byte <= first + (entry.y_length if name == "y" else entry.z_length)
        assert (found.symbol is not None) == (clause == "7.6-3")
    assert validate(data, model, "numpy") is None


def test_a_symbol_is_found_in_its_slice_and_pass():
    """Of a valid stream the words are cut, so that they run out at every place in turn."""
    data, model = coded()
    config = model.config
    height, width = 8, 8
    half = height * width // 2 * config.ch
    seen = set()
    _, y = parse(data).segments()
    for keep in range(8, len(y), max(4, (len(y) // 60) // 4 * 4)):
        found = validate(rewritten(data, 0, lambda z, y, keep=keep: (z, y[:keep])), model, "numpy")
        assert found.clause == "7.6-3" and found.segment == "y"
        number, rest = divmod(found.symbol, 2 * half)
        anchors = rest < half
        assert (found.slice, found.of_pass) == (number, "anchors" if anchors else "non-anchors")
        row, column, channel = np.unravel_index(rest % half, (height, width // 2, config.ch))
        assert (found.row, found.channel) == (row, channel) and found.column // 2 == column
        assert (found.row + found.column) % 2 == anchors
        seen.add((found.slice, found.of_pass))
    assert len(seen) == 2 * config.slices
    found = validate(rewritten(data, 0, lambda z, y: (z[:-4], y)), model, "numpy")
    assert found.segment == "z" and found.slice is None and found.row is not None and found.channel < config.hyper
    assert f"symbol {found.symbol} of the segment, at row {found.row}" in described(found)


def test_a_symbol_out_of_range_is_found(findings):
    """As the vector's name says."""
    _, found = findings["invalid/symbol-z-last-32768"]
    assert (found.error, found.clause, found.segment, found.slice) == ("SymbolError", "7.2-6", "z", None)
    assert found.row is not None and found.column is not None and found.channel is not None


def test_a_wrong_digest_is_a_fault_of_the_encoder():
    stream = parse(refcodec.encode(random_picture(5, 6), lossless=True))
    header = type(stream.header)(**{**vars(stream.header), "digest": bytes(16)})
    found = validate(serialise(header, (), stream.chunks))
    assert (found.error, found.clause, found.byte) == ("CheckFailed", "8.1-20", 36)


def test_a_model_that_is_not_installed_says_nothing_about_the_stream():
    data, _ = coded()
    with pytest.raises(ModelError, match="no installed model"):
        validate(data)
    found = validate(data, tiny_model(), "numpy")
    assert (found.error, found.clause, found.byte) == ("ModelError", "6.10-2", 16)


# Valid streams


def test_needs_of_valid_streams():
    data, model = coded()
    assert needs(data, model).level == "1A" and needs(data, model).profiles == ("tiny", "main", "full")
    whole = refcodec.encode(np.zeros((1, 5000), np.uint8), lossless=True)
    assert needs(whole).level == "2" and len(needs(whole).profiles) == 7


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("REFCODEC_BACKEND", "numpy")
    write_model(tmp_path / "m.h5", tiny_content(), {})
    good = encode_picture(random_picture(70, 150), 60, model=tiny_model(), tile=64, rectangles=False).data
    (tmp_path / "good").write_bytes(good)
    (tmp_path / "bad").write_bytes(good[:-5])
    words = ["validate", str(tmp_path / "good"), str(tmp_path / "bad"), "--model", str(tmp_path / "m.h5")]
    assert cli.main(words) == 1
    right, wrong = capsys.readouterr().out.splitlines()
    assert right.endswith(
        "good: valid; level 1A, profiles main, full; 150x70 RGB, quality 60, 6 tiles, the digest is right"
    )
    assert "bad: TruncatedStream at byte" in wrong and "(SPEC 8.5-8): the stream ends inside its" in wrong
    assert cli.main([*words, "--json"]) == 1
    right, wrong = map(json.loads, capsys.readouterr().out.splitlines())
    assert (
        right["valid"]
        and right["needs"] == {"level": "1A", "profiles": ["main", "full"]}
        and right["facts"]["tiles"] == 6
    )
    assert not wrong["valid"] and wrong["finding"]["clause"] == "8.5-8" and wrong["finding"]["tile"] is None
    assert cli.main(["validate", str(tmp_path / "good"), "--model", str(tmp_path / "m.h5")]) == 0
    assert cli.main(["validate", str(tmp_path / "none")]) == 2
    assert cli.main(["validate", str(tmp_path / "good"), "--model", str(tmp_path / "none.h5")]) == 78
    whole = with_alpha(random_picture(5, 6))
    (tmp_path / "whole").write_bytes(encode_picture(whole, lossless=True, digest=False).data)
    capsys.readouterr()
    assert cli.main(["validate", str(tmp_path / "whole")]) == 0
    assert "6x5 RGB and alpha, stored without loss, no digest" in capsys.readouterr().out


def with_alpha(samples):
    return np.concatenate([samples, samples[:, :, :1]], axis=2)

"""Digests of blocks of pictures, in manifests and in the runner."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import tiny_kit
from PIL import Image
from tiny_kit import command, sha256, valid, write_suite

from conformance.kit import suites
from conformance.kit.blocks import MOST, are_digests, differing, digests, side
from conformance.kit.errors import SuiteDamaged
from conformance.kit.vectors import Accept
from conformance.run import decoders, report_html
from conformance.run.engine import Options, run_all
from conformance.run.pictures import BlockDifference, block_difference
from conformance.run.process import Limits
from conformance.run.report import Run, build
from conformance.run.system import system_facts

LIMITS = Limits(20.0, 1 << 30, 4 << 20)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(1, 1, 1), (64, 1, 1), (65, 1, 2), (8, 8, 1), (9, 8, 2), (20, 20, 4), (64, 64, 8), (1 << 20, 1, 1 << 14)],
)
def test_blocks_are_as_small_as_their_number_allows(width, height, expected):
    assert side(width, height) == side(height, width) == expected
    assert -(-width // expected) * -(-height // expected) <= MOST


@pytest.mark.parametrize("shape", [(1, 1), (9, 8), (9, 8, 3), (70, 33, 4), (5, 300, 2)])
def test_every_sample_is_in_the_digest_of_its_block(shape):
    samples = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    channels = shape[2] if len(shape) == 3 else 1
    expect = Accept(shape[1], shape[0], channels, "", digests(samples))
    assert are_digests(expect.blocks, expect) and not differing(expect, samples.tobytes()).any()
    block = side(shape[1], shape[0])
    for place in np.random.default_rng(2).integers(0, samples.size, 40):
        other = samples.copy()
        other.flat[place] ^= 1
        row, column = np.unravel_index(place, shape)[:2]
        assert np.argwhere(differing(expect, other.tobytes())).tolist() == [[row // block, column // block]]


def test_every_byte_of_a_digest_counts():
    pictures = [bytes([value]) for value in range(256)]
    own = {p: base64.b64decode(digests(np.frombuffer(p, np.uint8).reshape(1, 1))) for p in pictures}
    for place in (0, 1):
        a, b = next((a, b) for a in own for b in own if a < b and own[a][place] == own[b][place])
        expect = Accept(1, 1, 1, "", base64.b64encode(own[a]).decode())
        assert differing(expect, b).all() and not differing(expect, a).any()


def test_only_digests_of_such_a_picture_are_taken(tmp_path):
    right = digests(np.zeros((9, 8), np.uint8))  # five rows of four blocks
    assert len(base64.b64decode(right)) == 40
    assert are_digests(right, Accept(8, 9, 1, "")) and not are_digests(right, Accept(8, 8, 1, ""))
    vector, stream = valid("core/a", 8, 9, 1, 0)
    for wrong in (right[:-4], right[:-1], right + "AAAA", right.replace("=", "!"), "\u00e9" + right, right + "\n"):
        vector["expect"]["blocks"] = wrong
        path = write_suite(tmp_path / sha256(wrong.encode()), "core", [(vector, stream)])
        with pytest.raises(SuiteDamaged, match=r"'blocks' is .* which are no digests of such a picture's blocks"):
            suites.load(path)
    vector["expect"]["blocks"] = right
    [loaded] = suites.load(write_suite(tmp_path, "core", [(vector, stream)])).vectors
    assert loaded.expect.blocks == right and loaded.expect == Accept(8, 9, 1, loaded.expect.samples)


def kit(folder, blocks=True, picture=b""):
    """A kit with one vector, of 9x20 pixels in blocks of 2x2."""
    vector, stream = valid("core/a", 9, 20, 3, 9)
    files = {}
    if blocks:
        expected = np.frombuffer(tiny_kit.samples(9, 20, 3, 9), np.uint8).reshape(20, 9, 3)
        vector["expect"]["blocks"] = digests(expected)
    if picture:
        vector["picture"], files["a.raw"] = "a.raw", sha256(picture)
    path = write_suite(folder, "core", [(vector, stream)], files=files)
    (path.parent / "a.raw").write_bytes(picture)
    return suites.load(path).vectors


def tried(vectors, folder, fault):
    """The result of the toy decoder with another line before it writes."""
    text = command(folder, "good")
    program = folder / "decoder.py"
    program.write_text(
        tiny_kit.DECODER.replace('if behaviour == "exits-early"', f'{fault}\nif behaviour == "exits-early"')
    )
    [result] = run_all(vectors, decoders.parse(text), Options(limits=LIMITS))
    return result


def test_blocks_show_where_a_picture_differs(tmp_path):
    vectors = kit(tmp_path / "kit")
    result = tried(vectors, tmp_path, "for n in (5 * 27 + 9, 12 * 27 + 20, 13 * 27 + 18): samples[n] ^= 1")
    assert result.blocks == BlockDifference(2, 50, 2, 4, 2) and result.difference is None
    assert result.detail == (
        "another picture: 2 of 50 blocks of 2x2 pixels differ; the first begins at row 4, column 2"
    )
    cells = np.asarray(Image.open(io.BytesIO(result.heat_map)))[::12, ::12].sum(axis=2)
    assert np.argwhere(cells > cells.min()).tolist() == [[2, 1], [6, 3]]
    run = Run("decoder", "toy", (), [result], Options(), {}, "2026-01-01", 1.0, system_facts())
    report = build(run)
    assert report["vectors"][0]["blocks"] == {"count": 2, "total": 50, "side": 2, "row": 4, "column": 2}
    assert "Blocks that differ are bright" in report_html.render(json.loads(json.dumps(report)))


def test_a_picture_of_the_suite_tells_more_than_blocks(tmp_path):
    right = tiny_kit.samples(9, 20, 3, 9)
    result = tried(kit(tmp_path / "kit", True, right), tmp_path, "samples[-1] ^= 4")
    assert result.detail.startswith("another picture: 1 of 540 samples differ, by at most 4; first at row 19, column 8")
    assert result.blocks is None
    result = tried(kit(tmp_path / "other", True, bytes(540)), tmp_path, "samples[-1] ^= 4")
    assert result.difference is None and result.blocks.count == 1  # a picture with another hash is not believed
    result = tried(kit(tmp_path / "none", False), tmp_path, "samples[-1] ^= 4")
    assert result.detail == "another picture" and not result.heat_map


def test_blocks_that_look_equal_tell_nothing():
    expect = Accept(1, 1, 1, "", digests(np.zeros((1, 1), np.uint8)))
    assert block_difference(b"\0", expect) is None and block_difference(b"\1", expect).count == 1

"""The encoder mode, with a toy codec in place of the reference, and once with refcodec itself."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from conformance import cli
from conformance.kit.errors import UsageError
from conformance.run import encoder

SCHEMA = json.loads((Path(cli.__file__).parent / "run" / "report.schema.json").read_text())


REFERENCE = r"""
import json, sys

command, *words = sys.argv[1:]
FACTS = ("width", "height", "channels", "quality", "alpha", "lossless", "tile_width", "tiles", "chunks", "digest")


def refuse(name, code=65):
    print(json.dumps({"error": name}))
    sys.exit(code)


def header(path):
    data = open(path, "rb").read()
    if data[:1] != b"{":
        refuse("BadMagic")
    return json.loads(data)


if command == "info":
    h = header(words[0])
    print(json.dumps({name: h[name] for name in FACTS}))
elif command == "decode":
    import numpy
    h = header(words[0])
    assert words[2:] == (["--verify"] if h["digest"] else []) + ["--json"] + (["--model", "M"] if "M" in words else [])
    if h["broken"]:
        refuse("CoderError")
    if h["digest"] == "wrong":
        sys.stderr.write("the digest is another\n"), sys.exit(1)
    if h["digest"] == "bug":
        sys.exit(70)
    shape = (h["height"], h["width"], h["channels"] + h["alpha"])
    samples = numpy.full(shape, h["value"], numpy.uint8)
    if h["alpha"]:
        samples[:, :, -1] = h["opacity"]
    numpy.save(words[1], samples)
elif command == "encode":
    open(words[1], "wb").write(b'{"reproducible": 1}')
"""

ENCODER = r"""
import json, sys, time

behaviour, picture, stream, quality = sys.argv[1:5]
data = open(picture, "rb").read()
width, height = (int.from_bytes(data[n:n + 4], "big") for n in (16, 20))
h = {"width": width, "height": height, "channels": 3 if data[25] in (2, 6) else 1, "quality": int(quality),
     "alpha": data[25] > 2, "lossless": False, "tile_width": 0, "tiles": 1, "chunks": [], "opacity": 7,
     "digest": "right", "broken": False, "value": 100}
if behaviour == "refuses":
    sys.exit(65)
if behaviour == "unsupported":
    sys.exit(69)
if behaviour == "crashes":
    sys.exit(3)
if behaviour == "hangs":
    time.sleep(600)
if behaviour == "no-stream":
    sys.exit(0)
h.update({"transposed": {"width": height, "height": width}, "other-quality": {"quality": 1}, "broken": {"broken": True},
          "wrong-digest": {"digest": "wrong"}, "no-digest": {"digest": None}, "bug": {"digest": "bug"},
          "lossless": {"value": 90, "quality": 0, "lossless": True}, "no-alpha": {"alpha": False},
          "opaque": {"opacity": 255}, "tiled": {"tile_width": 64, "tiles": 6},
          "parts": {"chunks": [{"tag": "LOSS", "bytes": 9}]}}.get(behaviour, {}))
text = "junk" if behaviour == "junk" else json.dumps(h)
open(stream, "w").write(text)
"""


@pytest.fixture
def toys(tmp_path):
    """Programs, and a folder with a grey and a colour picture."""
    (tmp_path / "reference.py").write_text(REFERENCE)
    (tmp_path / "encoder.py").write_text(ENCODER)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(np.full((4, 5, 3), 90, np.uint8)).save(pictures / "colour.png")
    Image.fromarray(np.full((3, 2), 110, np.uint8)).save(pictures / "grey.png")
    return tmp_path


def run(toys, behaviour, *more):
    python = f"{shlex.quote(sys.executable)} -E {toys}"
    report = toys / "report.json"
    code = cli.main(
        [
            "encoder",
            "--encoder",
            f"{python}/encoder.py {behaviour} {{picture}} {{stream}} {{quality}}",
            "--reference",
            f"{python}/reference.py",
            "--pictures",
            str(toys / "pictures"),
            "--json",
            str(report),
            *more,
        ]
    )
    value = json.loads(report.read_text()) if report.exists() else {}
    if value:
        jsonschema.validate(value, SCHEMA)
    return code, value


def test_a_good_encoder_passes(toys, capsys):
    code, report = run(
        toys, "good", "--qualities", "20,80", "--junit", str(toys / "r.xml"), "--html", str(toys / "r.html"), "-j", "2"
    )
    assert code == 0 and report["kind"] == "encoder"
    assert [v["id"] for v in report["vectors"]] == [
        "encoder/colour-q020",
        "encoder/colour-q080",
        "encoder/grey-q020",
        "encoder/grey-q080",
    ]
    bits, rest = report["vectors"][0]["detail"].split(" ", 1)
    assert 50 < float(bits) < 100 and rest == "bpp, PSNR 28.13 dB"
    assert "all 4 vectors passed" in capsys.readouterr().out
    assert (toys / "r.xml").read_text().count("<testcase") == 4
    assert "Conformance of an encoder" in (toys / "r.html").read_text()


@pytest.mark.parametrize(
    ("behaviour", "outcome", "says"),
    [
        ("refuses", "fail", "the encoder refused"),
        ("crashes", "crash", "exit code 3"),
        pytest.param("hangs", "timeout", "ended after", marks=pytest.mark.slow),
        ("no-stream", "fail", "no stream was written"),
        ("junk", "fail", "the header is refused"),
        ("transposed", "fail", "width is 4, asked for was 5; height is 5, asked for was 4"),
        ("other-quality", "fail", "quality is 1, asked for was 60"),
        ("broken", "fail", "the stream is refused"),
        ("wrong-digest", "fail", "the stream is refused: the digest is another"),
    ],
)
def test_bad_encoders_are_found_out(toys, behaviour, outcome, says):
    code, report = run(toys, behaviour, "--qualities", "60", "--timeout", "2" if behaviour == "hangs" else "20")
    assert code == 1 and report["vectors"][0]["outcome"] == outcome and says in report["vectors"][0]["detail"]


@pytest.mark.slow
def test_other_ends(toys, capsys):
    assert run(toys, "unsupported", "--qualities", "60")[0] == 4
    code, report = run(toys, "no-digest", "--qualities", "60")
    assert code == 0 and report["vectors"][0]["detail"].endswith("PSNR 28.13 dB, no digest")
    code, report = run(toys, "lossless", "--qualities", "60", "--model", "M")
    assert code == 0 and report["vectors"][0]["detail"].endswith("PSNR inf dB, stored without loss")
    for behaviour, says in (("tiled", "6 tiles"), ("parts", "parts stored without loss")):
        assert run(toys, behaviour, "--qualities", "60")[1]["vectors"][0]["detail"].endswith(f"28.13 dB, {says}")


@pytest.mark.parametrize(
    ("behaviour", "outcome", "says"),
    [
        ("good", "pass", "PSNR 28.13 dB, alpha"),
        ("opaque", "pass", "PSNR 28.13 dB, alpha changed"),
        ("no-alpha", "fail", "alpha is False, asked for was True"),
    ],
)
def test_alpha_is_asked_for(toys, behaviour, outcome, says):
    for name, channels in (("colour", 4), ("grey", 2)):
        samples = np.full((4, 5, channels), 90, np.uint8)
        samples[:, :, -1] = 7
        Image.fromarray(samples).save(toys / "pictures" / f"{name}.png")
    _, report = run(toys, behaviour, "--qualities", "60")
    assert [v["outcome"] for v in report["vectors"]] == [outcome] * 2 and says in report["vectors"][0]["detail"]


def test_reproducible_streams_are_compared_byte_by_byte(toys):
    code, report = run(toys, "good", "--qualities", "60", "--reproducible")
    assert code == 1 and "valid, but not refcodec's" in report["vectors"][0]["detail"]
    assert "instead of 19, the first that differs is byte 2" in report["vectors"][0]["detail"]


def test_a_reference_that_fails_is_no_result(toys, capsys):
    assert run(toys, "bug", "--qualities", "60")[0] == 2
    assert "the reference does not run: crash, exit code 70" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (("--qualities", "0"), 2, "different numbers in 1..100"),
        (("--qualities", "101"), 2, "in 1..100"),
        (("--qualities", "x"), 2, "separated by commas"),
        (("--qualities", "5,5"), 2, "different numbers"),
        (("--pictures", "/no/such/folder"), 4, "no PNG files"),
        (("--encoder", "x {picture}"), 2, "{stream} is missing"),
        (("--reference", "no-such-program"), 2, "no program"),
        (("--html", "/no/such/folder/x"), 73, "not a file"),
    ],
)
def test_wrong_arguments(toys, capsys, more, code, says):
    assert run(toys, "good", *more)[0] == code and says in capsys.readouterr().err


def test_only_pictures_that_can_be_coded(tmp_path):
    Image.new("P", (2, 2)).save(tmp_path / "alpha.png")
    with pytest.raises(UsageError, match="P samples"):
        encoder.tasks(tmp_path, [60])
    (tmp_path / "alpha.png").write_bytes(b"junk")
    with pytest.raises(UsageError, match="alpha"):
        encoder.tasks(tmp_path, [60])


@pytest.mark.slow
def test_refcodec_s_own_streams_are_valid(tmp_path, monkeypatch):
    from conformance.synthetic.models.procedural import source

    monkeypatch.setenv("REFCODEC_BACKEND", "numpy")
    Image.fromarray(np.arange(20 * 30, dtype=np.uint8).reshape(20, 30)).save(tmp_path / "grey.png")
    model = source("tiny-7").path
    own = f"{shlex.quote(sys.executable)} -m refcodec encode {{picture}} {{stream}} -q {{quality}} --model {{model}}"
    assert (
        cli.main(
            [
                "encoder",
                "--encoder",
                own,
                "--model",
                str(model),
                "--pictures",
                str(tmp_path),
                "--qualities",
                "60",
                "--reproducible",
            ]
        )
        == 0
    )


# Streams that are there already


VALIDATOR = r"""
import json, sys

path, *more = sys.argv[1:]
text = open(path).read()
assert more[0] == "--json" and more[1:] in ([], ["--model", "M"])
if text == "no answer":
    print("[]")
elif text == "bug":
    sys.exit("no such model")
elif text == "bad":
    print(json.dumps({"valid": False, "finding": {"error": "CoderError", "clause": "7.6-3"}, "says": "words run out"}))
else:
    wanted = {"level": "2B", "profiles": ["default", "full"]}
    print(json.dumps({"valid": True, "needs": wanted, "says": "valid; " + " ".join(more[1:])}))
"""


@pytest.fixture
def validator(toys):
    """A validator, and a folder of streams."""
    (toys / "validator.py").write_text(VALIDATOR)
    (toys / "streams").mkdir()
    return f"{shlex.quote(sys.executable)} -E {toys}/validator.py"


def streams(toys, validator, *more):
    report = toys / "report.json"
    code = cli.main(["encoder", "--streams", *more, "--validator", validator, "--json", str(report)])
    value = json.loads(report.read_text()) if report.exists() else {}
    if value:
        jsonschema.validate(value, SCHEMA)
    return code, value


def test_streams_that_are_there_are_validated(toys, validator, capsys):
    for name, text in (("a.loclic", "good"), ("b c.loclic", "bad"), ("readme", "bad")):
        (toys / "streams" / name).write_text(text)
    code, report = streams(toys, validator, str(toys / "streams"))
    assert code == 1 and report["kind"] == "encoder"
    found = [(v["id"], v["outcome"], v["detail"], v["error"]) for v in report["vectors"]]
    assert found == [("encoder/a", "pass", "valid; ", ""), ("encoder/b-c", "fail", "words run out", "CoderError")]
    assert report["suspects"] == ["7.6-3"] and "encoder/b-c: fail: words run out" in capsys.readouterr().out
    code, report = streams(toys, validator, str(toys / "streams" / "a.loclic"), "--model", "M", "-j", "2")
    assert code == 0 and report["vectors"][0]["detail"] == "valid; --model M"


def test_a_validator_that_does_not_run_is_no_result(toys, validator, capsys):
    for text, says in (("bug", "no such model"), ("no answer", "no answer")):
        (toys / "streams" / "a.loclic").write_text(text)
        assert streams(toys, validator, str(toys / "streams"))[0] == 2
        assert f"the validator does not run: {says}" in capsys.readouterr().err


def test_streams_are_named_once(toys, validator, capsys):
    assert streams(toys, validator, str(toys / "streams"))[0] == 4
    assert "no streams NAME.loclic" in capsys.readouterr().err
    assert streams(toys, validator, str(toys / "none"))[0] == 2
    (toys / "a.loclic").write_text("good")
    (toys / "streams" / "a.loclic").write_text("good")
    assert streams(toys, validator, str(toys / "a.loclic"), str(toys / "streams"))[0] == 2
    says = capsys.readouterr().err
    assert "there is no such file or folder" in says and "two streams have the name 'encoder/a'" in says
    with pytest.raises(SystemExit):
        cli.main(["encoder", "--streams", "x", "--encoder", "y"])


@pytest.mark.slow
def test_an_encoder_is_told_the_rule_and_what_a_decoder_needs(toys, validator):
    (toys / "validator.py").write_text(VALIDATOR.replace('text == "bad"', "'\"broken\": true' in text"))
    for behaviour, says in (
        ("broken", "the stream is refused: words run out"),
        ("good", ", level 2B, profiles default full"),
    ):
        _, report = run(toys, behaviour, "--qualities", "60", "--validator", validator)
        assert says in report["vectors"][0]["detail"]


@pytest.mark.slow
def test_refcodec_s_validator_names_rules(tmp_path, monkeypatch):
    """The default validator, on a stream whose last words are cut."""
    from conformance.synthetic import writer
    from conformance.synthetic.models.procedural import model, source
    from refcodec.bitstream.container import parse, serialise

    monkeypatch.setenv("REFCODEC_BACKEND", "numpy")
    data = writer.random_stream(model("tiny-7"), 1, 20, 30)
    stream = parse(data)
    z, y = stream.segments()
    (tmp_path / "good.loclic").write_bytes(data)
    (tmp_path / "cut.loclic").write_bytes(serialise(stream.header, [(z, y[:-4])]))
    report = tmp_path / "r.json"
    words = ["encoder", "--streams", str(tmp_path), "--model", str(source("tiny-7").path), "--json", str(report)]
    assert cli.main(words) == 1
    cut, good = json.loads(report.read_text())["vectors"]
    assert "(SPEC 7.6-3), tile 0, segment y, slice " in cut["detail"] and cut["clauses"] == ["7.6-3"]
    assert good["detail"].startswith("valid; level 1A, profiles tiny, main, full; 20x30 RGB")

"""Features of all commands: levels of messages, and completion in shells."""

import os
import subprocess
import sys

import pytest

from refcodec.cli import main


def test_levels(tmp_path, capsys):
    absent = str(tmp_path / "absent")
    for words, lines in (([], 1), (["--quiet"], 1), (["--log-level", "error"], 1)):
        assert main([*words, "info", absent]) == 66
        assert capsys.readouterr().err.count("\n") == lines
    assert main(["--log-level", "debug", "info", absent]) == 66
    assert "Traceback" in (told := capsys.readouterr().err) and "refcodec: error: " in told
    assert main(["--log-level", "loud", "info", absent]) == 2


def test_quiet_commands_say_nothing(tmp_path, capsys):
    from PIL import Image

    Image.new("L", (9, 9), 5).save(tmp_path / "a.png")
    words = ["encode", "--lossless", str(tmp_path / "a.png"), str(tmp_path / "a.loclic"), "--force"]
    assert main(["--quiet", *words]) == 0 and capsys.readouterr().err == ""
    assert main(words) == 0 and "9x9" in capsys.readouterr().err  # the level was of that command alone


@pytest.mark.parametrize(
    ("line", "expected"), [("refcodec enc", "encode"), ("refcodec bench --est", "--estimates"), ("refcodec xyz", "")]
)
def test_completion(tmp_path, line, expected):
    pytest.importorskip("argcomplete")
    out = tmp_path / "words"
    asked = {
        "_ARGCOMPLETE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
    }
    words = [sys.executable, "-m", "refcodec"]
    ended = subprocess.run(words, env={**os.environ, **asked}, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert out.read_text().strip() == expected

"""The API pages: the command of CONTRIBUTING builds them without a warning."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pdoc")
pytest.importorskip("imageio")
pytest.importorskip("zarr")

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_pages_are_built_without_a_warning(tmp_path):
    text = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    words = shlex.split(re.search(r"^python (-m pdoc .*?)(?<!\\)$", text, re.M | re.S)[1].replace("\\\n", ""))
    words[words.index("-o") + 1] = str(tmp_path)
    built = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    modules = words[words.index("-o") + 2 :]
    assert len(modules) > 5
    for module in modules:
        page = (tmp_path / f"{module.replace('.', '/')}.html").read_text(encoding="utf-8")
        assert module in page
    page = (tmp_path / "refcodec.html").read_text(encoding="utf-8")
    for name in ("encode", "decode", "encode_file", "Limits", "StreamInfo"):
        assert f'id="{name}"' in page

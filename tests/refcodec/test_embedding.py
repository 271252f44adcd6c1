"""refcodec/EMBEDDING.md: its code runs as it is written, and no use imports what it does not need."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import random_picture

import refcodec

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "refcodec" / "EMBEDDING.md").read_text(encoding="utf-8")
HEAVY = {
    *("numba", "llvmlite", "scipy", "h5py", "PIL", "matplotlib", "mpmath", "torch", "zarr", "numcodecs", "dask"),
    *("distributed", "argcomplete"),
}


def blocks(kind: str) -> list[str]:
    """Blocks of code of the page."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, flags=re.M | re.S)


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    Image.fromarray(random_picture(70, 90)).save(folder / "a.png")
    (folder / "a.loclic").write_bytes(refcodec.encode(random_picture(70, 90), 40))
    (folder / "b.loclic").write_bytes(refcodec.encode(random_picture(70, 90, 1), 40))
    return folder / "a.loclic"


# ------------------------------------------------------------------------------------------------- what is imported


def only(allowed: set[str], code: str, folder: Path, **variables: str) -> str:
    """Run code in a process where every other package is absent, as if it were not installed."""
    absent = sorted(HEAVY - allowed)
    head = f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    found = subprocess.run(
        [sys.executable, "-c", head + code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def command(*words: str) -> str:
    return f"from refcodec.cli import main\nassert main({list(words)!r}) == 0"


USES = [
    (
        set(),
        "import refcodec; d = open('a.loclic', 'rb').read(); refcodec.encode(refcodec.decode(d)); refcodec.info(d)",
    ),
    (set(), "import refcodec, numpy; refcodec.encode(numpy.zeros((9, 9), 'uint8'), lossless=True)"),
    ({"PIL"}, command("encode", "a.png", "new.loclic", "--force")),
    ({"PIL"}, command("decode", "a.loclic", "new.png", "--verify", "--force")),
    ({"PIL"}, command("info", "a.loclic", "--html", "info.html", "--force")),
    ({"PIL"}, command("verify", "a.loclic")),
    ({"PIL"}, command("batch", "a.png", "-o", "out", "-j", "1", "--lossless")),
    ({"PIL"}, "import refcodec.pillow_plugin, PIL.Image; PIL.Image.open('a.loclic').load()"),
    ({"PIL", "scipy"}, command("compare", "a.loclic", "b.loclic", "--html", "compare.html", "--force")),
    ({"h5py"}, "from refcodec.model.registry import load_model; load_model('default')"),
    (
        {"numcodecs"},
        "import numpy, refcodec.arrays.numcodecs as n; n.Refcodec(lossless=True).encode(numpy.zeros((9, 9), 'uint8'))",
    ),
]


@pytest.mark.parametrize("allowed, code", USES, ids=[str(n) for n in range(len(USES))])
def test_no_use_imports_what_it_does_not_need(stream, allowed, code):
    """Some modules look whether a package is there, so it is absent rather than one that fails."""
    if missing := [name for name in allowed if find_spec(name) is None]:
        pytest.skip(f"without {missing}")
    only(allowed, code, stream.parent)


@pytest.mark.slow
def test_kernels_that_are_there_need_llvmlite_alone(stream, tmp_path):
    if find_spec("numba") is None:
        pytest.skip("without Numba nothing is compiled")
    cache = {"NUMBA_CACHE_DIR": str(tmp_path), "REFCODEC_BACKEND": "numba"}
    code = "import refcodec, hashlib; d = open('a.loclic', 'rb').read(); print(refcodec.decode(d).sum())"
    folder = stream.parent
    subprocess.run(
        [sys.executable, "-m", "refcodec", "warmup"], env={**os.environ, **cache, "PYTHONPATH": str(ROOT)}, check=True
    )
    assert only({"llvmlite"}, code, folder, **cache) == only(set(), code, folder)


def test_the_base_installation_is_what_the_first_command_needs():
    """NumPy and Pillow do it; Numba makes it quick. All else is an extra, which an error names."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*?)\]", text, flags=re.M | re.S)
    assert listed and set(re.findall(r'"([a-z0-9]+)', listed[1])) == {"numpy", "numba", "pillow"}
    extras = dict(re.findall(r"^([a-z]+) = (\[.*\])$", text, flags=re.M))
    named = set(re.findall(r"\| `([a-z]+)`(?:, `([a-z]+)`)? \|$", PAGE, flags=re.M))
    assert {name for pair in named for name in pair if name} <= extras.keys()


# ----------------------------------------------------------------------------------------------------- its examples


def test_numpy_alone(stream, tmp_path):
    """An interpreter that finds NumPy, refcodec and nothing else."""
    packages = tmp_path / "packages"
    packages.mkdir()
    numpy = Path(np.__file__).parent
    (packages / "refcodec").symlink_to(Path(refcodec.__file__).parent)
    for folder in (numpy, numpy.with_name("numpy.libs")):
        if folder.is_dir():
            (packages / folder.name).symlink_to(folder)
    (tmp_path / "example.py").write_text(f"import sys; sys.path.append({str(packages)!r})\n{blocks('python')[0]}")
    words = [sys.executable, "-I", "-S", str(tmp_path / "example.py"), str(stream)]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    again = refcodec.encode(refcodec.decode(stream.read_bytes()), quality=60)
    assert shown == ["40", "70", "90", "3", str(len(again))]


@pytest.mark.slow
def test_a_frozen_application(stream, tmp_path):
    """It is built as the page says, and runs without Python's folders, Numba and a compiler."""
    pytest.importorskip("PyInstaller")
    for name in ("numba", "llvmlite", "numpy"):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"without {name}")
    (tmp_path / "show.py").write_text(blocks("python")[1])
    bins = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": bins}
    subprocess.run(["bash", "-euc", blocks("sh")[0]], cwd=tmp_path, env=environment, check=True)
    program = tmp_path / "dist" / "show" / "show"
    assert not (tmp_path / "dist" / "show" / "_internal" / "numba").exists()
    ran = subprocess.run(
        [program, stream, "a.ppm"], cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.ppm")), refcodec.decode(stream.read_bytes()))
    kernels = next((tmp_path / "dist" / "show" / "_internal" / "kernels").rglob("*.kernels"))
    kernels.unlink()  # so they were what decoded
    ran = subprocess.run(
        [program, stream, "b.ppm"], cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert ran.returncode and "cannot use the kernels" in ran.stderr

"""Compiled kernels are stored as machine code, loaded without Numba, and compiled anew when anything is amiss."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from refcodec.arith.kernels import library
from refcodec.arith.kernels.library import Kernel
from refcodec.arith.numba_team import address

SCENE = Path(__file__).parents[1] / "conformance" / "pictures" / "scene.png"


@pytest.fixture()
def folder(tmp_path, monkeypatch):
    """An empty cache, and nothing in memory from another one."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(library, "_library", cache(library._library.__wrapped__))
    return tmp_path / "refcodec"


def products(found):
    """What the kernel of a library computes: three rows of two sums of 16 lanes."""
    rng = np.random.default_rng(5)
    held, read = (rng.integers(-1 << 15, 1 << 15, (n, 32), np.int16) for n in (2, 64))
    out = np.zeros((3, 2, 16), np.int32)
    words = np.array([address(out), address(held), address(read), 70, 2], np.int64)
    kernel = Kernel("roof.rows")
    kernel.address = found.addresses["roof.rows"]
    kernel.call(address(words), 0, 3)
    sums = sum(held.astype(np.int64) * read[k % 64] for k in range(70)).reshape(2, 16, 2).sum(axis=2)
    assert (out == sums.astype(np.int32)).all()


def test_compiled_once_then_loaded(folder):
    first = library.library("roof")
    products(first)
    assert "rows" in first.assembly("roof.rows")
    [path] = folder.iterdir()
    library._library.cache_clear()
    second = library.library("roof")
    assert isinstance(second, library._Loaded) and second.assembly("roof.rows") is None
    products(second)
    stored = path.read_bytes()
    for damage in (b"", stored[:100], stored[:-1], stored[:-1] + bytes([stored[-1] ^ 1]), b"{}\n", b"[]\n", b"\n\n"):
        path.write_bytes(damage)
        assert library._find(path.stem) is None
    head, _, code = stored.partition(b"\n")
    content = json.loads(head)
    content["kernels"][0][3].append("Py_NoSuchFunction")
    path.write_bytes(json.dumps(content).encode() + b"\n" + code)
    assert library._find(path.stem) is None
    products(library.library("roof"))


def test_what_decides_the_code_decides_the_name(monkeypatch):
    names = {library._key("codec"), library._key("roof")}
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    names.add(library._key("codec"))
    monkeypatch.setenv("NUMBA_BOUNDSCHECK", "1")
    names.add(library._key("codec"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "elsewhere")
    assert library._key("codec") in names and len(names) == 4


def test_the_oldest_files_go(folder):
    for n in range(library._KEPT + 5):
        library._store(f"{n:064}", b"code")
        os.utime(folder / f"{n:064}.kernels", (n, n))
    assert sorted(int(path.stem) for path in folder.iterdir())[0] == 5


def test_folders(monkeypatch, tmp_path):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library.sys, "platform", "linux")
    assert library._folders() == [Path(library.__file__).with_name("__pycache__"), tmp_path / "refcodec"]
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    library._store("a" * 64, b"code")  # no folder can be made there: nothing is kept, nothing fails


def test_a_warm_process_needs_no_numba(tmp_path):
    code = ("import sys\nfrom refcodec.__main__ import main\n"
            f"assert main(['encode', {str(SCENE)!r}, {str(tmp_path / 'a.loclic')!r}]) == 0\n"
            f"assert main(['decode', {str(tmp_path / 'a.loclic')!r}, {str(tmp_path / 'a.png')!r}]) == 0\n"
            "print('numba' in sys.modules, 'scipy.linalg' in sys.modules)\n")
    environment = {name: value for name, value in os.environ.items() if name != "REFCODEC_BACKEND"}
    library.load()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split()[-2:] == ["False", "False"], done.stdout + done.stderr

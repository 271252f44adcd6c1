"""The command line without the packages of its extras."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT = (
    "import sys; sys.modules.update(dict.fromkeys({packages!r})); from {module} import main; sys.exit(main({words!r}))"
)


def run(module, packages, *words):
    code = WITHOUT.format(packages=packages, module=module, words=list(words))
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    "words, said",
    [
        (("train", "--images", ".", "--out", "none"), 'training needs PyTorch; pip install "refcodec[train]"'),
        (("tables",), 'the package mpmath is missing; pip install "refcodec[convert]"'),
    ],
)
def test_a_missing_package_is_named(words, said):
    done = run("weights_converter.__main__", ["scipy", "scipy.special", "h5py", "torch", "mpmath"], *words)
    assert (done.returncode, done.stderr) == (69, f"weights_converter: error: {said}\n")


def test_commands_that_need_no_extra_work_without_them(tmp_path):
    words = ("export", "default", "--flat", str(tmp_path / "flat.safetensors"))
    done = run("weights_converter.__main__", ["scipy", "scipy.special", "h5py", "torch", "mpmath"], *words)
    assert done.returncode == 0 and (tmp_path / "flat.safetensors").stat().st_size > 1 << 20

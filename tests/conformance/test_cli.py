"""The command line without h5py, which the base installation lacks."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STREAM = ROOT / "conformance/data/suites/default/streams/c77143be-dot-q001.loclic"


def without_h5py(*words):
    code = f"import sys; sys.modules['h5py'] = None; from conformance.cli import main; sys.exit(main({list(words)!r}))"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_streams_are_validated():
    done = without_h5py("validate", str(STREAM), "--model", "default")
    assert done.returncode == 0 and "valid; level" in done.stdout


def test_a_command_that_needs_it_says_so():
    done = without_h5py("catalogue")
    assert done.returncode == 2
    assert done.stderr == 'conformance: error: the package h5py is missing; pip install "refcodec[test]"\n'

"""Every engine and every backend has every operation of its protocol, with the arguments that are passed."""

import inspect
from importlib import import_module
from importlib.util import find_spec

import pytest

from refcodec.arith.engine import Engine
from refcodec.arith.protocols import FusedOps, NetworkOps, Ops, PictureOps
from refcodec.arith.strips import Strips
from weights_converter.convert.float_engine import FloatEngine


def operations(protocol: type) -> dict[str, inspect.Signature]:
    """Signature of every method of a protocol, of those it extends as well."""
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(protocol, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize("protocol, module", [(Ops, "numpy_ops"), (FusedOps, "jit.backend")])
def test_a_backend_takes_the_arguments_that_the_engine_passes(protocol, module):
    if module != "numpy_ops" and find_spec("numba") is None:
        pytest.skip("without Numba there is one backend")
    backend = import_module(f"refcodec.arith.{module}")
    for name, wanted in operations(protocol).items():
        passed = [None] * (len(wanted.parameters) - 1)  # without self
        inspect.signature(getattr(backend, name)).bind(*passed)


@pytest.mark.parametrize(
    "protocol, poses", [(NetworkOps, Engine), (NetworkOps, FloatEngine), (PictureOps, Engine), (PictureOps, Strips)]
)
def test_an_engine_takes_the_arguments_that_networks_pass(protocol, poses):
    for name, wanted in operations(protocol).items():
        member = inspect.getattr_static(poses, name)
        offered = inspect.signature(getattr(poses, name)).parameters
        passed = [p for p in wanted.parameters if p != "self"]
        assert set(passed) <= set(offered), (poses.__name__, name)
        assert isinstance(member, staticmethod) or "self" in offered

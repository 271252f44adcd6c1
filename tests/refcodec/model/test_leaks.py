"""Models that are loaded, used and dropped leave nothing behind.

``python tests/refcodec/model/test_leaks.py 1000`` loads that many and prints the memory of the process on the way.
"""

import gc
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[3])]

from tiny_models import random_picture, tiny_content

from refcodec.codec import decode_stream, encode_picture
from refcodec.model.integer_model import build_model


def use(content, backend):
    """Build a model from its arrays, code a picture with it, and drop it; a weak reference to it."""
    model = build_model(content, "short-lived")
    data = encode_picture(random_picture(24, 40), 1, model=model, threads=2, backend=backend).data
    decode_stream(data, model=model, threads=2, backend=backend)
    return weakref.ref(model)


def weak_dictionaries():
    """The size of every WeakKeyDictionary of the package's modules."""
    return {
        f"{module.__name__}.{name}": len(value)
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith("refcodec")
        for name, value in vars(module).items()
        if isinstance(value, weakref.WeakKeyDictionary)
    }


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_model_dies_when_it_is_dropped(backend):
    content = tiny_content()
    use(content, backend)
    gc.collect()
    sizes = weak_dictionaries()
    assert sizes
    objects = None
    for _ in range(5):
        model = use(content, backend)
        gc.collect()
        assert model() is None and weak_dictionaries() == sizes
        assert objects is None or len(gc.get_objects()) <= objects + 20
        objects = len(gc.get_objects())


def main(count):
    """Print the resident memory after every tenth of ``count`` models."""
    content = {name: np.array(array) for name, array in tiny_content().items()}
    for n in range(count):
        use(content, ("numba", "numpy")[n % 2])
        if (n + 1) % max(1, count // 10) == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            print(f"{n + 1} models: {pages / 256:.1f} MiB", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))

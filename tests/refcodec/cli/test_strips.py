"""refcodec.cli.strips: what is reported of a reconstruction that arrives in strips."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from refcodec.cli import strips
from refcodec.cli.strips import Fidelity
from refcodec.measure.metrics import psnr
from refcodec.planes import ArrayRows

A, B = np.random.default_rng(9).integers(0, 256, (2, 30, 17, 4), dtype=np.uint8)


@pytest.mark.parametrize("band", [1, 100, 1 << 20])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_fidelity_is_that_of_the_whole_picture(monkeypatch, channels, band):
    monkeypatch.setattr(strips, "BAND", band)
    a, b = (x[:, :, 0] if channels == 1 else np.ascontiguousarray(x[:, :, :channels]) for x in (A, B))
    fidelity = Fidelity(ArrayRows(a))
    for first, end in ((0, 7), (7, 8), (8, 30)):
        fidelity(first, b[first:end])
    assert fidelity.sha256 == hashlib.sha256(b.tobytes()).hexdigest()
    if channels in (2, 4):
        seen = a[:, :, -1] > 0
        a, b = a[seen][:, :-1], b[seen][:, :-1]
        error = np.mean((a.astype(int) - b) ** 2)
        assert math.isclose(fidelity.psnr, 10 * math.log10(255**2 / error))
    else:
        assert math.isclose(fidelity.psnr, psnr(a, b))


def test_equal_and_invisible_pictures_have_no_error():
    equal = Fidelity(ArrayRows(A))
    equal(0, A)
    invisible = A.copy()
    invisible[:, :, 3] = 0
    hidden = Fidelity(ArrayRows(invisible))
    hidden(0, B)
    assert equal.psnr == hidden.psnr == math.inf

"""Words are declared once: every one is filled by name, and its place is the same for callers and kernels."""

import numpy as np
import pytest

from refcodec.arith.jit.kernels import words
from refcodec.arith.jit.kernels.words import HALF, HalfWords, filled

KINDS = [kind for name, kind in vars(words).items() if name.endswith("Words")]
PLACES = {type(places): places for name, places in vars(words).items() if name.isupper()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_filled_by_name_lies_where_its_index_says(kind):
    values = {name: 100 + n for n, name in enumerate(kind._fields)}
    array = filled(kind(**values))
    assert array.dtype == np.int64 and array.shape == (len(kind._fields),)
    for name, value in values.items():
        assert array[getattr(PLACES[kind], name)] == value


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_complete_and_known(kind):
    values = dict.fromkeys(kind._fields, 1)
    with pytest.raises(TypeError, match="unexpected"):
        kind(**values, no_word=1)
    for name in kind._fields:
        rest = {other: 1 for other in values if other != name}
        if name in kind._field_defaults:
            assert getattr(kind(**rest), name) == 0
        else:
            with pytest.raises(TypeError, match=name):
                kind(**rest)


def test_a_word_has_one_name():
    assert HalfWords(*range(9)) == HALF
    with pytest.raises(AttributeError):
        HALF.no_word  # noqa: B018

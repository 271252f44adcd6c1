"""The structures that SPEC B.1 names suffice: a reader that knows no others reads every sound model of the kit."""

import numpy as np
import pytest
from conftest import TINY, tiny_content
from plain_hdf5 import OtherStructure, PlainFile

from conformance.hostile_models import VICTIM, model_corpus, rebuilt, write_file
from conformance.suites import KIT, Accept, load_all
from refcodec.model_file import FORMAT, VERSION, read_content, read_floats, write_model
from refcodec.model_registry import DEFAULT

SOUND = sorted({v.model for suite in (load_all() if any(KIT.glob("suites/*")) else ()) for v in suite.vectors
                if v.model and v.model.file and isinstance(v.expect, Accept)}, key=lambda model: model.name)


def assert_the_same(data, path):
    """The plain reader and the library's find the same attributes and arrays in a file."""
    path.write_bytes(data)
    plain, (content, _) = PlainFile(data), read_content(path)
    arrays = {name: a for name, a in plain.arrays.items() if name != "provenance"}
    wanted = {**content, **{f"float/{name}": a for name, a in read_floats(path).items()}}
    assert (plain.attributes["format"], plain.attributes["version"]) == (FORMAT, VERSION)
    assert arrays.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape), name
        assert np.array_equal(arrays[name], array), name


@pytest.mark.parametrize("model", SOUND, ids=lambda model: model.name)
def test_the_kits_models_have_no_other_structures(model, tmp_path):
    assert_the_same(model.apply(model.file.read_bytes()), tmp_path / "model.h5")


@pytest.mark.skipif(not DEFAULT.is_file(), reason="without the default model")
def test_the_default_model_has_no_other_structures(tmp_path):
    assert_the_same(DEFAULT.read_bytes(), tmp_path / "model.h5")


def test_what_is_written_has_no_other_structures(tmp_path):
    """With so many and so long names that trees have three levels and indirect blocks lead to others."""
    floats = {f"{n:0200}": np.array([n], np.float32) for n in range(3000)}
    write_model(tmp_path / "written.h5", tiny_content(TINY), {"made": "by a test"}, floats)
    assert_the_same((tmp_path / "written.h5").read_bytes(), tmp_path / "model.h5")


def test_chunks_may_be_so_many_that_their_tree_has_two_levels(tmp_path):
    def cut(file):
        numbers = file[VICTIM][()]
        del file[VICTIM]
        file.create_dataset(VICTIM, data=numbers, chunks=(1, 1, 1, 1), compression="gzip", shuffle=True)

    assert_the_same(rebuilt(model_corpus().data, cut), tmp_path / "model.h5")


def test_other_structures_are_noticed():
    with pytest.raises(OtherStructure, match="superblock"):
        PlainFile(write_file(tiny_content(TINY), libver="earliest"))
    with pytest.raises(OtherStructure, match="layout"):
        PlainFile(write_file(tiny_content(TINY), libver="v110").replace(b"\x89HDF\r\n\x1a\n\3", b"\x89HDF\r\n\x1a\n\2"))

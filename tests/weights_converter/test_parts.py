"""Parts of a file: they fit, they join to the same bytes, and what does not belong together is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from refcodec.errors import InvalidModel, MissingInput, OutputError, UsageError
from weights_converter.__main__ import main
from weights_converter.parts import LIST, join_file, split_file


def test_parts_fit_and_join_from_several_folders(tmp_path: Path):
    file, parts = tmp_path / "state.pt", tmp_path / "parts"
    data = bytes(range(256)) * 10
    file.write_bytes(data)
    names = split_file(file, parts, 1000)
    assert names == [f"state.pt.{n:03d}" for n in range(3)]
    assert [(parts / name).stat().st_size for name in names] == [1000, 1000, 560]
    (tmp_path / "more").mkdir()
    (parts / names[1]).rename(tmp_path / "more" / names[1])
    assert join_file([parts, tmp_path / "more"], tmp_path / "out.pt") == 2560
    assert (tmp_path / "out.pt").read_bytes() == data
    with pytest.raises(OutputError):
        join_file([parts], tmp_path / "out.pt")


def test_parts_of_another_state_are_refused_by_name(tmp_path: Path):
    file, old, new = tmp_path / "state.pt", tmp_path / "old", tmp_path / "new"
    file.write_bytes(b"a" * 100)
    split_file(file, old, 40)
    file.write_bytes(b"a" * 40 + b"b" * 60)
    split_file(file, new, 40)
    (new / "state.pt.001").write_bytes((old / "state.pt.001").read_bytes())
    with pytest.raises(MissingInput, match=r"state\.pt\.001"):
        join_file([new], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_has_not_changed_is_not_written_again(tmp_path: Path):
    file, parts = tmp_path / "f", tmp_path / "p"
    file.write_bytes(b"a" * 100)
    split_file(file, parts, 40)
    before = (parts / "f.000").stat().st_mtime_ns
    file.write_bytes(b"a" * 99 + b"b")
    split_file(file, parts, 40)
    assert (parts / "f.000").stat().st_mtime_ns == before and (parts / "f.002").read_bytes() == b"a" * 19 + b"b"


def test_no_list_and_a_wrong_list_are_refused(tmp_path: Path):
    with pytest.raises(MissingInput):
        join_file([tmp_path], tmp_path / "out")
    (tmp_path / LIST).write_text('{"parts": 3}')
    with pytest.raises(InvalidModel):
        join_file([tmp_path], tmp_path / "out")
    with pytest.raises(UsageError):
        split_file(tmp_path / LIST, tmp_path / "parts", 0)


def test_the_commands(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"xyz" * 1000)
    assert main(["parts", "split", str(tmp_path / "f"), str(tmp_path / "p"), "--mib", "0.001"]) == 0
    assert main(["parts", "join", str(tmp_path / "p"), str(tmp_path / "g")]) == 0
    assert (tmp_path / "g").read_bytes() == b"xyz" * 1000
    assert main(["parts", "join", str(tmp_path), str(tmp_path / "h")]) == MissingInput.exit_code

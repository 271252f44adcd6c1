"""Files: an output never destroys what it should not, and an input is not read further than needed."""

import io
import os
import stat
import threading

import numpy as np
import pytest
from PIL import Image

from refcodec.bitstream.container import longest_stream, parse, serialise
from refcodec.cli import main
from refcodec.codec import encode_picture
from refcodec.errors import BadMagic, HeaderError, LimitExceeded, OutputError, TransferError, TruncatedStream
from refcodec.io import files
from refcodec.io.picture_output import FORMATS
from refcodec.limits import Limits
from refcodec.model.procedural import procedural_model


@pytest.fixture(scope="module")
def stream() -> bytes:
    model = procedural_model("tiny", 7)
    return encode_picture(np.zeros((20, 30), np.uint8), 60, model=model, rectangles=False).data


class Tap(io.RawIOBase):
    """A pipe that never ends and counts what was taken from it."""

    def __init__(self, head: bytes, length: int = 1 << 40) -> None:
        self.head, self.taken, self.length = head, 0, length

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer) -> int:
        """The head, then zeros."""
        count = min(len(buffer), self.length - self.taken)
        data = (self.head[self.taken :] + bytes(count))[:count]
        buffer[:count] = data
        self.taken += count
        return count


def piped(monkeypatch, head: bytes, length: int = 1 << 40) -> Tap:
    tap = Tap(head, length)

    class Stdin:
        buffer = io.BufferedReader(tap)

    monkeypatch.setattr("sys.stdin", Stdin)
    return tap


def test_what_is_no_stream_is_refused_by_its_first_bytes(monkeypatch, stream, capsys):
    """An endless pipe of zeros: decode, info, verify, compare and trace take one buffer of it."""
    for command in (["decode", "-", "o.png"], ["info", "-"], ["verify", "-"], ["trace", "-", "o.jsonl"]):
        tap = piped(monkeypatch, b"")
        assert main(command) == 65 and tap.taken <= 1 << 17
    tap = piped(monkeypatch, stream[:8] + b"\0" * 4)  # width 0
    with pytest.raises(HeaderError):
        files.read_stream("-", Limits())
    assert tap.taken <= 1 << 17


def test_a_stream_is_read_no_further_than_its_header_and_the_memory_allow(monkeypatch, tmp_path, stream):
    (tmp_path / "s").write_bytes(stream)
    assert files.read_stream(tmp_path / "s", Limits()) == stream
    piped(monkeypatch, stream, len(stream))
    assert files.read_stream("-", Limits()) == stream
    tap = piped(monkeypatch, stream)
    with pytest.raises(LimitExceeded, match="max_memory=4194304"):
        files.read_stream("-", Limits(max_memory=4 << 20))
    assert tap.taken < 5 << 20
    monkeypatch.setattr("refcodec.bitstream.container.MAX_METADATA_BYTES", 1 << 10)
    tap = piped(monkeypatch, stream)
    longest = longest_stream(parse(stream).header, parse(stream).index)
    assert len(files.read_stream("-", Limits())) == longest + 1 < 1 << 21  # one byte too many: parse refuses it
    assert tap.taken < 1 << 22
    for data, error in ((b"", BadMagic), (stream[:30], TruncatedStream)):
        piped(monkeypatch, data, len(data))
        with pytest.raises(error):
            files.read_stream("-", Limits())


def test_long_metadata_within_the_limits_is_read(tmp_path, stream):
    parsed = parse(stream)
    long = serialise(parsed.header, [parsed.segments()], [("exif", bytes(1 << 22))])
    (tmp_path / "long").write_bytes(long)
    assert files.read_stream(tmp_path / "long", Limits()) == long


@pytest.mark.parametrize("link", [os.link, os.symlink, None])
def test_an_output_that_is_the_input_is_refused(tmp_path, link):
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"photograph")
    if link:
        link(source, target)
    else:
        target = tmp_path / "." / "a"
    with pytest.raises(OutputError, match="is the input"):
        files.check_target(target, True, source)
    files.check_target(tmp_path / "c", True, source)
    files.check_target("-", True, source)
    files.check_target(target, True, "-")


def test_no_command_overwrites_its_input(tmp_path, stream, capsys):
    picture, coded = tmp_path / "a.npy", tmp_path / "a.loclic"
    np.save(picture, np.zeros((8, 8), np.uint8))
    coded.write_bytes(stream)
    before = picture.read_bytes()
    for command, source, target in (
        ("encode", picture, picture),
        ("decode", coded, coded),
        ("trace", coded, coded),
        ("compare", picture, picture),
    ):
        output = ["--heatmap"] if command == "compare" else []
        inputs = [str(source)] * (1 + len(output))
        assert main([command, *inputs, *output, str(target), "--force"]) == 73
        assert "the output is the input" in capsys.readouterr().err
    assert picture.read_bytes() == before and coded.read_bytes() == stream


def test_a_stream_gets_no_name_of_a_picture(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.zeros((8, 8), np.uint8))
    for name in ("b.png", "b.JPG", "b.tiff"):
        assert main(["encode", str(tmp_path / "a.npy"), str(tmp_path / name), "--force"]) == 2
        assert ".loclic" in capsys.readouterr().err and not (tmp_path / name).exists()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, mode):
    target = tmp_path / "a"
    target.write_bytes(b"old")
    target.chmod(mode)
    files.write_bytes(target, b"new", force=True)
    assert target.read_bytes() == b"new" and stat.S_IMODE(target.stat().st_mode) == mode


def test_what_replaces_a_private_file_is_never_open_to_others(tmp_path, monkeypatch):
    target, seen = tmp_path / "a", []
    target.write_bytes(b"old")
    target.chmod(0o600)
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append(stat.S_IMODE(os.stat(a).st_mode)), replace(a, b)))
    chmod = os.chmod
    monkeypatch.setattr(os, "chmod", lambda a, m: (seen.append(stat.S_IMODE(os.stat(a).st_mode)), chmod(a, m)))
    files.write_bytes(target, b"new", force=True)
    assert seen == [0o600, 0o600]


def test_a_dangling_link_needs_force(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(OutputError, match="exists"):
        files.write_bytes(tmp_path / "link", b"new")
    files.write_bytes(tmp_path / "link", b"new", force=True)
    assert (tmp_path / "nothing").read_bytes() == b"new" and (tmp_path / "link").is_symlink()


def test_another_users_link_in_a_shared_folder_is_not_followed(tmp_path, monkeypatch):
    shared, victim = tmp_path / "shared", tmp_path / "victim"
    shared.mkdir()
    shared.chmod(0o1777)
    victim.write_bytes(b"precious")
    (shared / "link").symlink_to(victim)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if os.stat(shared).st_uid == os.lstat(shared / "link").st_uid:  # the folder's owner may be trusted
        files.check_target(shared / "link", True)
    lstat = os.lstat

    def foreign(path, *more, **named):
        found = lstat(path, *more, **named)
        return os.stat_result((*found[:4], owner + 2, *found[5:])) if str(path).endswith("link") else found

    monkeypatch.setattr(os, "lstat", foreign)
    with pytest.raises(OutputError, match="another user's link"):
        files.write_bytes(shared / "link", b"new", force=True)
    assert victim.read_bytes() == b"precious"


def test_a_folder_without_permission_is_found_at_the_start(tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "a.npy", np.zeros((8, 8), np.uint8))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr("refcodec.picture_files.encoding.opened_rows", None)  # is not reached
    assert main(["encode", str(tmp_path / "a.npy"), str(tmp_path / "b.loclic")]) == 73
    assert "no permission" in capsys.readouterr().err


def test_standard_streams_that_are_closed_are_an_error(monkeypatch, tmp_path, stream, capsys):
    """Python has None in the place of a stream that is closed."""
    (tmp_path / "s.loclic").write_bytes(stream)
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdin", None)
        for words in (["encode", "-", "o"], ["decode", "-", "o.png"], ["info", "-"], ["compare", "-", "-"]):
            assert main(words) == 66
            assert "standard input is closed" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(TransferError, match="it is closed"):
        files.write_bytes("-", b"data")
    assert main(["info", str(tmp_path / "s.loclic")]) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("json", [[], ["--json"]])
def test_results_that_cannot_be_written_are_an_error(monkeypatch, tmp_path, stream, capsys, json):
    (tmp_path / "s.loclic").write_bytes(stream)
    full = open("/dev/full", "w")
    monkeypatch.setattr("sys.stdout", full)
    assert main(["info", str(tmp_path / "s.loclic"), *json]) == 74
    assert "writing failed at standard output" in capsys.readouterr().err
    with pytest.raises(OSError):
        full.close()


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="needs /dev/fd")
def test_a_pipe_is_written_under_the_name_of_its_descriptor(tmp_path):
    """/dev/stdout and the shell's >(command) are links to a pipe, which no path leads to."""
    read, write = os.pipe()
    files.write_bytes(f"/dev/fd/{write}", b"data")
    os.close(write)
    assert os.read(read, 10) == b"data"
    os.close(read)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_picture_or_stream_from_a_pipe_is_compared(tmp_path, capsys):
    """The name is opened once: the second time nobody would write."""
    picture = tmp_path / "p.png"
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(picture)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(picture.read_bytes()))
    writer.start()
    assert main(["compare", str(fifo), str(picture), "--exact"]) == 0
    writer.join()


@pytest.mark.parametrize("name", ["", "folder/", "a" * 300 + ".loclic", "a\0b"])
def test_a_name_of_no_file_is_refused_at_the_start(tmp_path, monkeypatch, name, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("refcodec.picture_files.encoding.opened_rows", None)  # is not reached
    assert main(["encode", "p.png", name, "--force"]) == 73
    assert list(tmp_path.iterdir()) == []


def test_folders_know_every_format_that_is_written_and_animations(tmp_path):
    names = [f"a.{extension}" for extension in (*FORMATS, "gif", "mpo") if extension != "npy"]  # arrays of any sort
    for name in (*names, "notes.txt", "a.npy"):
        (tmp_path / name).touch()
    assert [path.name for path in files.list_pictures(tmp_path)] == sorted(names)

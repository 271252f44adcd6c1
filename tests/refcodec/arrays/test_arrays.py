"""Chunks of arrays as streams: shapes, settings, Zarr on a disk, numcodecs, Dask with several processes."""

import socket

import numpy as np
import pytest
from tiny_models import random_picture

import refcodec
from refcodec.arrays import Settings, decode_chunk, encode_chunk, picture_shape
from refcodec.bitstream.fields import MAGIC
from refcodec.errors import InvalidStream, LimitExceeded, UsageError

zarr = pytest.importorskip("zarr", minversion="3")
numcodecs = pytest.importorskip("numcodecs")

from refcodec.arrays.numcodecs import Refcodec  # noqa: E402
from refcodec.arrays.zarr import RefcodecCodec  # noqa: E402


@pytest.mark.parametrize(
    ("shape", "picture"),
    [
        *(((5, 6), (5, 6)), ((5, 6, 3), (5, 6, 3)), ((5, 6, 1), (5, 6)), ((1, 5, 6), (5, 6)), ((1, 9, 3), (1, 9, 3))),
        *(((1, 1, 5, 6, 4), (5, 6, 4)), ((1, 1, 1), (1, 1)), ((7, 2), (7, 2))),
    ],
)
def test_pictures_of_chunks(shape, picture):
    assert picture_shape(shape) == picture


@pytest.mark.parametrize("shape", [(5,), (2, 5, 6), (2, 1, 5, 6, 3), (0, 5), ()])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(UsageError):
        picture_shape(shape)


@pytest.mark.parametrize(
    "wrong", [{"quality": 0}, {"quality": 101}, {"quality": 6.0}, {"lossless": 1}, {"model": 5}, {"threads": 0}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(UsageError):
        Settings(**wrong)


def test_a_chunk_is_a_stream_and_of_its_size():
    chunk = random_picture(20, 30)
    data = encode_chunk(chunk, Settings(lossless=True))
    assert data == refcodec.encode(chunk, lossless=True)
    assert np.array_equal(decode_chunk(data, (20, 30, 3)), chunk)
    with pytest.raises(UsageError, match="another picture"):
        decode_chunk(data, (30, 20, 3))
    with pytest.raises(LimitExceeded):
        decode_chunk(encode_chunk(random_picture(70, 30), Settings(lossless=True)), (20, 30, 3))
    with pytest.raises(InvalidStream):
        decode_chunk(b"junk", (20, 30, 3))
    with pytest.raises(UsageError, match="uint8"):
        encode_chunk(chunk.astype(np.uint16), Settings())


def created(folder, samples, chunks, **settings):
    array = zarr.create_array(
        str(folder), shape=samples.shape, chunks=chunks, dtype="uint8", compressors=None,
        serializer=RefcodecCodec(**settings),
    )  # fmt: skip
    array[:] = samples
    return array


@pytest.mark.parametrize(
    ("shape", "chunks"), [((100, 90, 3), (64, 32, 3)), ((40, 50), (32, 32)), ((2, 40, 50), (1, 32, 32))]
)
def test_zarr_on_a_disk(tmp_path, shape, chunks):
    samples = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    created(tmp_path / "a.zarr", samples, chunks, lossless=True)
    again = zarr.open_array(str(tmp_path / "a.zarr"), mode="r")
    assert np.array_equal(again[:], samples)
    part = (slice(10, 33), slice(5, 40)) if shape[0] > 2 else (slice(1, 2), slice(10, 33), slice(5, 40))
    assert np.array_equal(again[part], samples[part])
    first = next(p for p in sorted((tmp_path / "a.zarr").rglob("*")) if p.is_file() and p.name != "zarr.json")
    assert first.read_bytes()[:4] == MAGIC


def test_zarr_keeps_the_quality_and_the_bytes_of_one_machine(tmp_path):
    samples = random_picture(64, 64)
    created(tmp_path / "a.zarr", samples, (64, 64, 3), quality=30)
    data = (tmp_path / "a.zarr" / "c" / "0" / "0" / "0").read_bytes()
    assert data == refcodec.encode(samples, 30)
    array = zarr.open_array(str(tmp_path / "a.zarr"), mode="r")
    assert array.serializer.settings == Settings(30)
    assert np.array_equal(array[:], refcodec.decode(data))


def test_shards(tmp_path):
    samples = random_picture(128, 64)
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=samples.shape, chunks=(64, 32, 3), shards=(128, 64, 3), dtype="uint8",
        compressors=None, serializer=RefcodecCodec(lossless=True),
    )  # fmt: skip
    array[:] = samples
    assert np.array_equal(zarr.open_array(str(tmp_path / "a.zarr"), mode="r")[70:90, 20:40], samples[70:90, 20:40])


def test_arrays_that_are_no_pictures_are_refused_when_they_are_made(tmp_path):
    for shape, chunks, dtype in (((50, 40, 30), (5, 40, 30), "uint8"), ((50, 40), (5, 40), "uint16")):
        with pytest.raises(UsageError):
            zarr.create_array(
                str(tmp_path / f"{dtype}.zarr"), shape=shape, chunks=chunks, dtype=dtype, compressors=None,
                serializer=RefcodecCodec(),
            )  # fmt: skip
    with pytest.raises(UsageError, match="unknown settings"):
        RefcodecCodec.from_dict({"name": "refcodec", "configuration": {"speed": 3}})
    for codec in (RefcodecCodec, Refcodec):
        assert codec(quality=7, threads=2).settings == Settings(7, threads=2)
        with pytest.raises(UsageError, match="unknown settings"):
            codec(speed=3)


def test_a_damaged_chunk_is_our_error(tmp_path):
    samples = random_picture(64, 64)
    created(tmp_path / "a.zarr", samples, (64, 64, 3), lossless=True)
    path = tmp_path / "a.zarr" / "c" / "0" / "0" / "0"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidStream):
        zarr.open_array(str(tmp_path / "a.zarr"), mode="r")[:]


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (20, 30, 4)])
def test_numcodecs(shape):
    samples = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    codec = numcodecs.get_codec({"id": "refcodec", "lossless": True})
    assert codec == Refcodec(lossless=True) and codec.get_config() == {"id": "refcodec", "lossless": True}
    data = codec.encode(samples)
    assert np.array_equal(codec.decode(data), samples)
    out = np.zeros_like(samples)
    codec.decode(data, out)
    assert np.array_equal(out, samples)
    with pytest.raises(UsageError, match="shape"):
        codec.encode(samples.tobytes())


def test_a_compressor_of_the_second_format(tmp_path):
    samples = random_picture(64, 48)
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=samples.shape, chunks=(32, 48, 3), dtype="uint8", zarr_format=2,
        compressors=Refcodec(lossless=True),
    )  # fmt: skip
    array[:] = samples
    assert np.array_equal(zarr.open_array(str(tmp_path / "a.zarr"), mode="r")[:], samples)


@pytest.mark.slow
def test_dask_reads_chunks_in_processes(tmp_path):
    distributed, dask_array = pytest.importorskip("distributed"), pytest.importorskip("dask.array")
    try:
        socket.create_server(("127.0.0.1", 0)).close()
    except OSError:
        pytest.skip("there is no loopback network, which schedulers need")
    samples = random_picture(256, 192)
    created(tmp_path / "a.zarr", samples, (64, 64, 3), lossless=True)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        array = dask_array.from_zarr(str(tmp_path / "a.zarr"))
        assert np.array_equal(array.compute(), samples)
        assert int(array[100:200, 50:90].sum().compute()) == int(samples[100:200, 50:90].sum())

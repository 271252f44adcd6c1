"""Hostile models: HDF5 files that a stranger might offer as a model (SPEC 10, 11, annex B).

A case damages bytes of a small valid file, mostly of its metadata, and mostly with its checksums computed again, puts
numbers out of range, or rebuilds a part with one of the means that HDF5 offers for leading a reader astray.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

import h5py
import numpy as np

from refcodec.model.procedural import build

from ...synthetic.hdf5_checksums import checked_blocks, repaired
from ...synthetic.models.broken_files import HARMLESS, INDICES, SMALL, STRUCTURES, rebuilt, write_file
from .streams import number


@dataclass(frozen=True)
class ModelCorpus:
    """A valid model file, and its model in files of other structures.

    Attributes
    ----------
    data : bytes
    names : tuple of str
        Of its arrays.
    rebuilt : dict of str to bytes
        The files of ``STRUCTURES`` and ``HARMLESS`` by name.
    targets : dict of str to Target
        The files whose metadata is damaged, by the structures that they have.
    """

    data: bytes
    names: tuple[str, ...]
    rebuilt: dict[str, bytes]
    targets: dict[str, Target]


@dataclass(frozen=True)
class Target:
    """A valid file and where its structures are.

    Attributes
    ----------
    data : bytes
    metadata : tuple of int
        Offsets of bytes outside the stored arrays.
    blocks : list of (int, int)
        Offset and length of blocks that a checksum follows.
    """

    data: bytes
    metadata: tuple[int, ...]
    blocks: list[tuple[int, int]]


def _metadata(data: bytes, names: Iterable[str]) -> tuple[int, ...]:
    used = np.zeros(len(data), bool)
    with h5py.File(io.BytesIO(data), "r") as f:
        for name in names:
            ident = f[name].id
            if f[name].chunks:
                spot = ident.get_chunk_info(0)
                used[spot.byte_offset : spot.byte_offset + spot.size] = True
            elif ident.get_offset() is not None:
                used[ident.get_offset() : ident.get_offset() + ident.get_storage_size()] = True
    return tuple(np.flatnonzero(~used).tolist())


@cache
def model_corpus() -> ModelCorpus:
    """The files that cases start from."""
    content = build(SMALL, 7)
    data, none = write_file(content), write_file({})
    changed = {name: rebuilt(data, change) for name, change in {**STRUCTURES, **HARMLESS}.items()}
    files = {
        "new": data,
        "old": rebuilt(none, lambda f: _old_structures(f, content)),
        "earliest": write_file(content, libver="earliest"),
        "heap of attributes": changed["sound-file-many-attributes"],
        "chunks in an old tree": changed["sound-file-chunks"],
    }
    files |= {name: rebuilt(data, change, libver="v110") for name, change in INDICES.items()}
    targets = {name: Target(file, _metadata(file, content), checked_blocks(file)) for name, file in files.items()}
    return ModelCorpus(data, tuple(content), changed, targets)


def _old_structures(f: h5py.File, content: dict[str, np.ndarray]) -> None:
    """Headers of version 1, symbol tables and chunks in trees of version 1, which the library writes by default."""
    for name, array in content.items():
        chunks = tuple(-(-n // 2) for n in array.shape)
        packed: dict[str, Any] = {"compression": "gzip", "shuffle": True, "chunks": chunks}
        f.create_dataset(name, data=array, **(packed if array.size > 256 else {}))


def _values(random: Random, source: ModelCorpus) -> bytes:
    """Numbers at and beyond their limits."""

    def change(f: h5py.File) -> None:
        for _ in range(random.choice((1, 1, 2, 8))):
            d = f[random.choice(source.names)]
            array = np.array(d[()])
            bits = 8 * array.dtype.itemsize
            value = np.uint64(number(random, bits) % (1 << bits)).astype(f"u{bits // 8}").astype(array.dtype)
            if array.size:
                array.reshape(-1)[random.randrange(array.size)] = value
                d[()] = array

    return rebuilt(source.data, change)


def _in_structure(random: Random, target: Target) -> bytes:
    """Damage in a structure: a number of another size, another structure's address or a run of one, right checksums."""
    out, addresses = bytearray(target.data), [start for start, _ in target.blocks] or [0]
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        start, length = random.choice(target.blocks or [(random.choice(target.metadata), 8)])
        size = random.choice((1, 1, 2, 4, 8))
        at = start + random.randrange(4, max(5, length - size + 1))
        kind = random.randrange(5)
        if kind == 0:
            run = random.choice(addresses).to_bytes(8, "little")
        elif kind == 1:
            other = random.choice(addresses)
            run = target.data[other : other + random.choice((8, 16, 40))]
        elif kind == 2:
            near = int.from_bytes(out[at : at + size], "little") + random.choice((-1, 1, 2, 7, 8, -8))
            run = (near % (1 << 8 * size)).to_bytes(size, "little")
        else:
            run = (number(random, 8 * size) % (1 << 8 * size)).to_bytes(size, "little")
        out[at : at + len(run)] = run
    return repaired(bytes(out[: len(target.data)]), target.data, target.blocks)


def _bytes(random: Random, data: bytes, metadata: Sequence[int]) -> bytes:
    """Damage at chosen offsets: bits, numbers, copied runs, and addresses inside the file."""
    if random.random() < 0.02:
        return data[: random.randrange(len(data))]
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        at = random.randrange(len(out)) if random.random() < 0.1 else random.choice(metadata)
        kind = random.randrange(5)
        if kind == 0:
            out[at] ^= 1 << random.randrange(8)
            continue
        if kind == 1:
            run = bytes([random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))])
        elif kind == 2:
            size = random.choice((2, 4, 8))
            at, run = at - at % size, (number(random, 8 * size) % (1 << 8 * size)).to_bytes(size, "little")
        elif kind == 3:
            other = random.choice(metadata)
            run = data[other : other + random.choice((8, 16, 40))]
        else:
            at, run = at - at % 8, random.randrange(len(data)).to_bytes(8, "little")
        out[at : at + len(run)] = run
    return bytes(out[: len(data)])


def hostile_model(source: ModelCorpus, seed: int, index: int) -> bytes:
    """The file of a case: a function of seed and index.

    Parameters
    ----------
    source : ModelCorpus
    seed, index : int

    Returns
    -------
    bytes
    """
    random = Random(f"{seed}/{index}")
    kind = random.random()
    target = random.choice(list(source.targets.values()))
    if kind < 0.45:
        return _in_structure(random, target)
    if kind < 0.75:
        return repaired(_bytes(random, target.data, target.metadata), target.data, target.blocks)
    if kind < 0.82:
        return _values(random, source)
    data = random.choice(list(source.rebuilt.values()))
    return data if kind < 0.85 else _bytes(random, data, range(len(data)))

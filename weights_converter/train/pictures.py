"""Photographs in folders and tar files: which are held out, and batches of crops that follow from (seed, step) alone.

A picture is known by the SHA-256 of its file. Whether it is held out for validation depends on that alone, so the same
photograph is never trained on in one piece of a run and validated on in another. Batches are made ahead on a thread.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refcodec.errors import InvalidImage, LimitExceeded, MissingInput, TransferError
from refcodec.io.files import detail_of
from refcodec.io.pictures import READABLE

from .augment import augmented
from .plan import Schedule

HELD_OUT = 64
"""One picture of so many is held out for validation."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})

KODAK = re.compile(r"kodim\d+$", re.IGNORECASE)
"""Names of the Kodak pictures, which are for measuring: they are never trained on."""

CACHE_BYTES = 4 << 30
"""Decoded pictures kept in memory; those beyond are decoded whenever a crop is cut from them."""


@dataclass(frozen=True)
class Picture:
    """One encoded photograph inside a file.

    Attributes
    ----------
    name : str
        For people: the path, or tar file and member.
    path : Path
    start, size : int
        Bytes of the file that hold it.
    digest : str
        SHA-256 of these bytes.
    height, width : int
    """

    name: str
    path: Path
    start: int
    size: int
    digest: str
    height: int
    width: int

    def samples(self) -> np.ndarray:
        """[H, W, 3] uint8.

        Raises
        ------
        InvalidImage
            It is damaged, or not what it was when the run began.
        """
        return decode(_read(self.path, self.start, self.size, self.name), self.name)


def _read(path: Path, start: int, size: int, name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            there = os.fstat(file.fileno()).st_size - start
            if not 0 <= size <= there:  # before memory is taken: a tar header may claim any size
                raise InvalidImage("a training picture is truncated", where=name, bytes=max(there, 0), expected=size)
            file.seek(start)
            data = file.read(size)
    except OSError as error:
        raise TransferError("a training picture cannot be read", where=name, cause=error.strerror or "") from error
    if len(data) != size:
        raise InvalidImage("a training picture is truncated", where=name, bytes=len(data), expected=size)
    return data


@contextmanager
def _opened(data: bytes, name: str, action: str) -> Iterator[Image.Image]:
    """Open a picture in one of the formats that run no external program, for any name.

    Decoders of Pillow raise exceptions of many types on damaged files, so each becomes an error of this project.
    """
    try:
        with Image.open(io.BytesIO(data), formats=[kind for kind in READABLE if kind in Image.OPEN]) as image:
            yield image
    except MemoryError as error:
        raise LimitExceeded("not enough memory for a training picture", where=name) from error
    except Exception as error:
        raise InvalidImage(
            f"a training picture cannot be {action}",
            where=name,
            reason=detail_of(error)[:200],
            cause="remove it, or fetch it again",
        ) from error


def decode(data: bytes, name: str) -> np.ndarray:
    """Samples [H, W, 3] uint8 of an encoded picture; ``name`` is for errors.

    Raises
    ------
    InvalidImage, LimitExceeded
    """
    with _opened(data, name, "decoded") as image:
        return np.asarray(image.convert("RGB"))


def _places(source: Path) -> Iterator[tuple[str, Path, int, int]]:
    """Name, file, start and size of every picture of a folder or tar file, in the order of their names."""
    if source.is_dir():
        for path in sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
            yield str(path), path, 0, path.stat().st_size
        return
    if not source.is_file():
        raise MissingInput("no such folder or tar file of pictures", where=str(source))
    try:
        with tarfile.open(source, "r:") as tar:
            members = sorted(tar.getmembers(), key=lambda member: member.name)
    except Exception as error:  # damaged headers raise many types, RecursionError among them
        raise InvalidImage(
            "not an uncompressed tar file of pictures",
            where=str(source),
            reason=detail_of(error)[:200],
            cause="pack pictures with tar -cf",
        ) from error
    for member in members:
        if member.isfile() and not member.issparse() and Path(member.name).suffix.lower() in SUFFIXES:
            yield f"{source}:{member.name}", source, member.offset_data, member.size


def _picture(place: tuple[str, Path, int, int]) -> Picture:
    name, path, start, size = place
    data = _read(path, start, size, name)
    with _opened(data, name, "read") as image:
        width, height = image.size
    return Picture(name, path, start, size, hashlib.sha256(data).hexdigest(), height, width)


def list_pictures(sources: Sequence[str | Path]) -> list[Picture]:
    """Every picture of folders and tar files, each file content once, without those named as Kodak pictures are.

    Raises
    ------
    MissingInput
        A source does not exist, or there is no picture at all.
    InvalidImage
        A tar file or a picture is damaged; it is named.
    """
    places = [
        place
        for source in sources
        for place in _places(Path(source))
        if not KODAK.search(Path(place[0].rsplit(":", 1)[-1]).stem)
    ]
    Image.init()  # once, before threads ask Pillow for its formats
    with ThreadPoolExecutor(4) as pool:
        found = {picture.digest: picture for picture in pool.map(_picture, places)}
    if not found:
        raise MissingInput("no pictures to train on", where=", ".join(map(str, sources)), kinds=sorted(SUFFIXES))
    return list(found.values())


def split(pictures: Sequence[Picture]) -> tuple[list[Picture], list[Picture]]:
    """Pictures to train on, and those held out: digests below 2^256 / HELD_OUT, the least digest if there are none.

    A single picture is trained on and validated on.
    """
    held = [p for p in pictures if int(p.digest[:8], 16) * HELD_OUT < 1 << 32]
    if not held:
        held = [min(pictures, key=lambda p: p.digest)]
    if len(pictures) == 1:
        return list(pictures), held
    names = {p.digest for p in held}
    return [p for p in pictures if p.digest not in names], sorted(held, key=lambda p: p.digest)


def digest_of(pictures: Sequence[Picture]) -> str:
    """One digest of a set of pictures."""
    return hashlib.sha256("".join(sorted(p.digest for p in pictures)).encode()).hexdigest()


@dataclass(frozen=True)
class Batch:
    """Training data of one step.

    Attributes
    ----------
    samples : np.ndarray
        [B, 3, crop, crop] uint8.
    quality : np.ndarray
        [B] float32, 0 to Q - 1: one from each of B equal parts of that range, in random order.
    """

    samples: np.ndarray
    quality: np.ndarray


class Crops:
    """Random crops, flipped and rotated, from pictures that are large enough.

    Parameters
    ----------
    pictures : sequence of Picture
        Drawn with a probability that grows with the root of their area.
    qualities : int
        Q, the levels of quality gains.
    seed : int
    cache_bytes : int
        Of decoded pictures that are kept.
    augment : sequence of (str, float)
        Kinds of augmentation and their shares (augment.py).
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        qualities: int,
        seed: int,
        cache_bytes: int = CACHE_BYTES,
        augment: Schedule = (),
    ) -> None:
        self._pictures, self._qualities, self._seed = list(pictures), qualities, seed
        self._augment = augment
        self._cache: dict[str, np.ndarray] = {}
        self._room = cache_bytes
        self._lock = threading.Lock()

    @cached_property
    def _weights(self) -> np.ndarray:
        return np.sqrt([p.height * p.width for p in self._pictures])

    def _samples(self, picture: Picture) -> np.ndarray:
        kept = self._cache.get(picture.digest)
        if kept is None:
            kept = picture.samples()
            with self._lock:
                if picture.digest not in self._cache and kept.nbytes <= self._room:
                    self._cache[picture.digest] = kept
                    self._room -= kept.nbytes
        return kept

    def batch(self, step: int, count: int, crop: int) -> Batch:
        """The batch of a step; it depends on the seed and on the arguments only.

        Parameters
        ----------
        step : int
        count : int
            Crops per batch.
        crop : int
            Side of a crop, in samples.

        Returns
        -------
        Batch

        Raises
        ------
        MissingInput
            No picture is as large as a crop.
        """
        rng = np.random.default_rng([self._seed, step])
        fits = np.array([min(p.height, p.width) >= crop for p in self._pictures])
        if not fits.any():
            raise MissingInput(
                "no picture is as large as a crop",
                where="training pictures",
                crop=crop,
                largest=max(min(p.height, p.width) for p in self._pictures),
            )
        weights = self._weights * fits
        samples = np.empty((count, 3, crop, crop), np.uint8)
        for n, chosen in enumerate(rng.choice(len(self._pictures), count, p=weights / weights.sum())):
            whole = self._samples(self._pictures[chosen])
            y, x = (int(rng.integers(0, side - crop + 1)) for side in whole.shape[:2])
            piece = np.rot90(whole[y : y + crop, x : x + crop], int(rng.integers(0, 4)))
            piece = piece[:, ::-1] if rng.random() < 0.5 else piece
            samples[n] = augmented(piece, self._augment, rng).transpose(2, 0, 1)
        parts = (rng.permutation(count) + rng.random(count)) / count
        return Batch(samples, (parts * (self._qualities - 1)).astype(np.float32))


class Ahead:
    """Makes batches on threads before they are asked for. Each follows from its step alone, whatever makes it when.

    Parameters
    ----------
    crops : Crops
    loaders : int
        Threads; one more batch than there are threads is made ahead.
    """

    def __init__(self, crops: Crops, loaders: int = 1) -> None:
        self._crops, self._depth = crops, loaders + 1
        self._pool = ThreadPoolExecutor(loaders)
        self._waiting: dict[tuple[int, int, int], Future[Batch]] = {}

    def batch(self, step: int, shape: Callable[[int], tuple[int, int]]) -> Batch:
        """Return a batch and begin those of the next steps; ``shape`` gives the count and crop of a step."""
        for later in range(step, step + self._depth + 1):
            key = (later, *shape(later))
            if key not in self._waiting:
                self._waiting[key] = self._pool.submit(self._crops.batch, *key)
        ready = self._waiting.pop((step, *shape(step))).result()
        self._waiting = {key: future for key, future in self._waiting.items() if key[0] > step}
        return ready

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: Any) -> None:
        self._pool.shutdown(cancel_futures=True)

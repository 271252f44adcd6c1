"""The range coder, a range variant of asymmetric numeral systems (SPEC 7).

`RangeEncoder` collects symbols and writes the segment at the end, because the coder runs from the last symbol to the
first; `RangeDecoder` reads them in order. Each segment decodes to one sequence of symbols and each sequence has one
segment, so a segment is either what an encoder wrote for these symbols or refused.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..arith.backend import BACKENDS, default_backend
from ..errors import CoderError, SymbolError, UsageError
from ..limits import MAX_SYMBOL
from ..model.symbol_tables import EXHAUSTED, LOW, OVERSIZE, SymbolTables, intervals, table_vector

STATE_BYTES = 8
WORD_BYTES = 4


def _coder(backend: str | None) -> ModuleType:
    name = default_backend() if backend is None else backend
    if name not in BACKENDS:
        raise UsageError("unknown backend", where="range coder", value=name, known=list(BACKENDS))
    if name == "numba":
        from ..arith.jit import rans as rans_numba

        return rans_numba
    from . import rans_python

    return rans_python


class RangeEncoder:
    """(SPEC 7.5) Writes one segment.

    Parameters
    ----------
    backend : str, optional
        ``"numba"`` or ``"numpy"``; default `default_backend`. Both write the same bytes.
    """

    def __init__(self, backend: str | None = None) -> None:
        self._coder = _coder(backend)
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []

    def put(self, symbols: np.ndarray, index: np.ndarray, tables: SymbolTables) -> None:
        """(SPEC 7.2) Append symbols; the arrays may be changed afterwards.

        Parameters
        ----------
        symbols : np.ndarray
            Integers of magnitude at most 32767, any shape, coded in C order. Nothing is clamped.
        index : np.ndarray
            Integers, same shape: the table of each symbol.
        tables : SymbolTables
            The tables; they may differ from call to call.

        Raises
        ------
        SymbolError
            A symbol exceeds 32767 in magnitude.
        UsageError
            Shapes differ, an array is not of integers, or a table number is out of range.
        """
        if symbols.size or symbols.shape != index.shape:
            self._parts.append(intervals(symbols, index, tables))

    def finish(self) -> bytes:
        """(SPEC 7.3) The segment: no bytes for no symbols, else the final state and the words."""
        if not self._parts:
            return b""
        x, chunks = LOW, []
        for cum, freq in reversed(self._parts):
            words = np.empty(len(cum), "=u4")  # an interval writes at most one word
            x, count = self._coder.encode(cum, freq, x, words)
            chunks.append(words[:count].copy())
        words = np.concatenate(chunks)[::-1]  # in the order of decoding
        return int(x).to_bytes(STATE_BYTES, "little") + words.astype("<u4").tobytes()


class RangeDecoder:
    """(SPEC 7.4) Reads one segment.

    Parameters
    ----------
    data : bytes
        The whole segment.
    backend : str, optional
        ``"numba"`` or ``"numpy"``; default `default_backend`. Both read the same symbols.

    Raises
    ------
    CoderError
        The length is impossible, or the initial state lies outside [2^31, 2^63).
    """

    def __init__(self, data: bytes, backend: str | None = None) -> None:
        self._coder = _coder(backend)
        self._count = self._position = 0
        self._empty = not data
        if data and (len(data) < STATE_BYTES or len(data) % WORD_BYTES):
            raise CoderError(
                "the length of a segment is impossible",
                where="SPEC 7.3",
                bytes=len(data),
                cause="it is 0, or 8 and a multiple of 4",
            )
        self._state = int.from_bytes(data[:STATE_BYTES], "little") if data else LOW
        if not LOW <= self._state < LOW << 32:
            raise CoderError(
                "the initial state is out of range",
                where="byte 0 of the segment (SPEC 7.6)",
                state=self._state,
                cause="the segment is damaged",
            )
        words = np.frombuffer(data[STATE_BYTES:], "<u4")
        self._length = len(words)
        self._words = self._coder.as_words(words)

    def get(self, index: np.ndarray, tables: SymbolTables) -> np.ndarray:
        """(SPEC 7.4) Decode the next symbols.

        Parameters
        ----------
        index : np.ndarray
            Integers, any shape: the table of each symbol, in C order.
        tables : SymbolTables
            The tables.

        Returns
        -------
        np.ndarray
            ``index.shape`` int32, magnitudes at most 32767.

        Raises
        ------
        CoderError
            The words run out.
        SymbolError
            A symbol exceeds 32767 in magnitude.
        UsageError
            ``index`` is not of integers, or a table number is out of range.
        """
        vector = table_vector(index, len(tables))
        out = np.empty(len(vector), np.int32)
        if not len(vector):
            return out.reshape(index.shape)
        if self._empty:
            raise CoderError(
                "the segment is empty where symbols are due",
                where="byte 0 of the segment (SPEC 7.6)",
                symbols=len(vector),
            )
        self._state, self._position, done, status = self._coder.decode(
            self._words, self._state, self._position, vector, tables, out, MAX_SYMBOL
        )
        self._count += done
        if status == EXHAUSTED:
            raise CoderError(
                "the words run out",
                where=f"byte {self._byte(self._length)} of the segment (SPEC 7.6)",
                symbol=self._count,
                cause="the segment is cut, damaged, or of another model",
            )
        if status == OVERSIZE:
            raise SymbolError(
                "a symbol is out of range",
                where=f"byte {self._byte(self._position)} of the segment (SPEC 7.6)",
                symbol=self._count,
                largest=MAX_SYMBOL,
                cause="the segment is damaged, or of another model",
            )
        return out.reshape(index.shape)

    def finish(self) -> None:
        """(SPEC 7.6) Check that the segment ends where its symbols do.

        Raises
        ------
        CoderError
            Words are left, the final state is not 2^31, or a segment without symbols has bytes.
        """
        if self._empty:
            return
        where = f"byte {self._byte(self._position)} of the segment (SPEC 7.6)"
        if self._count == 0:
            raise CoderError("a segment without symbols has bytes", where=where)
        if self._position != self._length:
            raise CoderError(
                "words are left after the last symbol",
                where=where,
                words=self._length - self._position,
                cause="the segment is damaged, or of another model",
            )
        if self._state != LOW:
            raise CoderError(
                "the final state is wrong",
                where=where,
                state=self._state,
                expected=LOW,
                cause="the segment is damaged, or of another model",
            )

    @staticmethod
    def _byte(position: int) -> int:
        """Offset of a word in the segment."""
        return STATE_BYTES + WORD_BYTES * position

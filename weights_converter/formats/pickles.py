"""Pickles of PyTorch checkpoints, read without executing anything.

A pickle is a program for a small stack machine. This one knows only the opcodes that describe plain data, and only the
names that a checkpoint of tensors needs; every other opcode and name is refused when it is met, with its place. Nothing
is ever imported or called: a tensor becomes a checked description of where its numbers lie, and the few harmless
classes of optimizer states become an `Inert` that holds nothing.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from refcodec.errors import InvalidModel

from .stored_tensors import MAX_ELEMENTS, is_shape, is_sizes, span

MAX_PICKLE_BYTES = 1 << 23
"""Longest pickle: a full training state of the largest configuration takes 0.4 MB."""

MAX_OPCODES = 1 << 19
"""Most opcodes executed: the same state takes 135,000; at about 100 bytes an opcode memory stays below 50 MB."""

MAX_STACK = 1 << 16
"""Deepest stack: picklers write 1,000 entries at a time, those of other languages a whole dictionary."""

MAX_MEMO = 1 << 17
"""Most remembered values: the same state has 30,000."""

MAX_MARKS = 64
"""Most open groups: the nesting of a checkpoint's dictionaries, lists and tuples is below ten."""

MAX_STRING_BYTES = 1 << 16
"""Longest string: names and short notes."""

MAX_INTEGER_BYTES = 16
"""Longest arbitrary-length integer: the magic number of the legacy format has 10 bytes."""

MAX_KEY = 1 << 60
"""Integer keys stay below the modulus of Python's integer hash, where equal hashes cannot be made at will."""

STORAGE_TYPES = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}

INERT = frozenset(
    [
        "collections.Counter",
        "collections.defaultdict",
        "collections.deque",
        "torch.device",
        "_codecs.encode",
        "numpy.dtype",
        "numpy.ndarray",
        "datetime.date",
        "datetime.datetime",
    ]
    + [f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")]
    + [f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")]
    + [f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("dict", "float", "int", "list")]
    + [f"torch.{name}" for name in ("float16", "float32", "float64", "bfloat16", "int32", "int64")]
)
"""Names met next to weights, in states of optimizers, metrics and arguments; each value becomes an `Inert`."""

INERT_OBJECTS = frozenset(
    ["argparse.Namespace", "types.SimpleNamespace"]
    + [
        f"{package}.utilities.{module}.AttributeDict"
        for package, module in (
            ("pytorch_lightning", "parsing"),
            ("lightning.pytorch", "parsing"),
            ("lightning.fabric", "data"),
        )
    ]
)
"""Classes whose objects are written by the opcode NEWOBJ or by a call; each becomes an `Inert`."""

DAMAGED = "the checkpoint is damaged, hostile, or more than tensors and plain values"

RESAVE = (
    "only tensors and plain values are read, nothing is executed; in PyTorch, save the weights alone: "
    "torch.save({'state_dict': net.state_dict()}, path)"
)
"""What to do about a file with objects."""

_STORAGE_KEY = re.compile(r"[0-9A-Za-z_-]{1,64}")

_REFUSED = {
    b"0": "POP",
    b"1": "POP_MARK",
    b"2": "DUP",
    b"F": "FLOAT",
    b"I": "INT",
    b"L": "LONG",
    b"P": "PERSID",
    b"S": "STRING",
    b"T": "BINSTRING",
    b"U": "SHORT_BINSTRING",
    b"V": "UNICODE",
    b"B": "BINBYTES",
    b"d": "DICT",
    b"g": "GET",
    b"i": "INST",
    b"l": "LIST",
    b"o": "OBJ",
    b"p": "PUT",
    b"\x82": "EXT1",
    b"\x83": "EXT2",
    b"\x84": "EXT4",
    b"\x8b": "LONG4",
    b"\x8d": "BINUNICODE8",
    b"\x8e": "BINBYTES8",
    b"\x8f": "EMPTY_SET",
    b"\x90": "ADDITEMS",
    b"\x91": "FROZENSET",
    b"\x92": "NEWOBJ_EX",
    b"\x96": "BYTEARRAY8",
    b"\x97": "NEXT_BUFFER",
    b"\x98": "READONLY_BUFFER",
}
"""Names of the opcodes that are known but not allowed, for messages."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name on the allow-list, as met in the pickle."""

    name: str


@dataclass(frozen=True, slots=True)
class Inert:
    """Stands for an object of a harmless class; its content is dropped."""

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of `count` elements of type `dtype` that the file keeps under `key`."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as a view of a storage: offset, shape and strides in elements, proved to lie inside it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pickled:
    """What one pickle held, where it ended, and every storage it named."""

    value: Any
    end: int
    storages: dict[str, Storage]


def read_pickle(data: bytes, source: str, start: int = 0) -> Pickled:
    """Interpret one pickle of plain data and tensor descriptions.

    Parameters
    ----------
    data : bytes
        At most `MAX_PICKLE_BYTES`.
    source : str
        Names the bytes in errors.
    start : int
        Where the pickle begins.

    Returns
    -------
    Pickled
        Its value consists of dict, list, tuple, str, int, float, bool, None, `StoredTensor`, `Storage`, `Global`
        and `Inert`.

    Raises
    ------
    InvalidModel
        An opcode or name outside the allow-list, an impossible storage or tensor, a limit passed, or malformed bytes.
    """
    return _Machine(data, source, start).run()


def printable(text: str) -> str:
    """Shorten a string from a file and escape what is not plain ASCII, fit for a message."""
    return ascii(text[:80])[1:-1] + ("..." if len(text) > 80 else "")


class _Machine:
    """The stack machine of the pickle language, reduced to plain data."""

    def __init__(self, data: bytes, source: str, start: int) -> None:
        self.data, self.source, self.at = data, source, start
        self.opcode, self.opcode_at = "start", start
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self) -> Pickled:
        if len(self.data) > MAX_PICKLE_BYTES:
            self.refuse("pickle too long", bytes=len(self.data), limit=MAX_PICKLE_BYTES)
        for _ in range(MAX_OPCODES):
            self.opcode_at = self.at
            self.opcode = "opcode"
            code = self.take(1)
            if code == b".":
                self.opcode = "STOP"
                value = self.pop()
                if self.stack or self.marks:
                    self.refuse("pickle ends with values left over", values=len(self.stack))
                return Pickled(value, self.at, self.storages)
            if code not in _HANDLERS:
                name = _REFUSED.get(code, "unknown")
                self.refuse("opcode outside the allow-list", opcode=f"0x{code[0]:02x}", name=name)
            self.opcode, handler = _HANDLERS[code]
            handler(self)
            if len(self.stack) > MAX_STACK:
                self.refuse("stack too deep", limit=MAX_STACK)
        self.refuse("too many opcodes", limit=MAX_OPCODES)

    def refuse(self, what: str, cause: str = DAMAGED, **values: Any) -> NoReturn:
        raise InvalidModel(what, where=f"{self.source}, {self.opcode} at byte {self.opcode_at}", cause=cause, **values)

    # Bytes of the program.

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            self.refuse("pickle truncated", wanted=count, left=len(self.data) - self.at)
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self, count: int) -> str:
        if count > MAX_STRING_BYTES:
            self.refuse("string too long", bytes=count, limit=MAX_STRING_BYTES)
        try:
            return self.take(count).decode("utf-8")
        except UnicodeDecodeError:
            self.refuse("string is not UTF-8")

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + 256)
        if end < 0:
            self.refuse("name without end")
        text = self.text(end - self.at)
        self.take(1)
        return text

    # Stack and memo.

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            self.refuse("stack is empty")
        return self.stack.pop()

    def top(self) -> Any:
        self.push(value := self.pop())
        return value

    def mark(self) -> None:
        if len(self.marks) == MAX_MARKS:
            self.refuse("groups nested too deep", limit=MAX_MARKS)
        self.marks.append(len(self.stack))

    def group(self) -> list[Any]:
        if not self.marks:
            self.refuse("no open group")
        first = self.marks.pop()
        values = self.stack[first:]
        del self.stack[first:]
        return values

    def put(self, index: int) -> None:
        if index >= MAX_MEMO or index in self.memo:
            self.refuse("memo index out of range or used twice", index=index, limit=MAX_MEMO)
        self.memo[index] = self.top()

    def get(self, index: int) -> None:
        if index not in self.memo:
            self.refuse("memo index never set", index=index)
        self.push(self.memo[index])

    # Plain data.

    def protocol(self) -> None:
        version = self.number("<B")
        if not 2 <= version <= 5 or self.stack or self.memo:
            self.refuse("protocol not 2 to 5 or not first", protocol=version)

    def frame(self) -> None:
        length = self.number("<Q")
        if length > len(self.data) - self.at:
            self.refuse("frame longer than the pickle", bytes=length, left=len(self.data) - self.at)

    def integer(self) -> None:
        count = self.number("<B")
        if count > MAX_INTEGER_BYTES:
            self.refuse("integer too long", bytes=count, limit=MAX_INTEGER_BYTES)
        self.push(int.from_bytes(self.take(count), "little", signed=True))

    def short_bytes(self) -> None:
        """Bytes occur in NumPy scalars only; their content is dropped."""
        self.take(self.number("<B"))
        self.push(Inert("bytes"))

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def append(self, values: list[Any]) -> None:
        target = self.top()
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Inert):
            self.refuse("append to something other than a list", type=type(target).__name__)

    def set_items(self, values: list[Any]) -> None:
        target = self.top()
        if len(values) % 2 or not isinstance(target, dict | Inert):
            self.refuse("items without a dictionary or without a value", type=type(target).__name__, values=len(values))
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in (str, int) or (type(key) is int and abs(key) >= MAX_KEY):
                self.refuse("dictionary key is neither a string nor a small integer", type=type(key).__name__)
            if isinstance(target, dict):
                if key in target:
                    self.refuse("duplicate dictionary key", key=printable(str(key)))
                target[key] = value

    # Names and what is made of them.

    def name(self, module: Any, attribute: Any) -> None:
        if type(module) is not str or type(attribute) is not str:
            self.refuse("name is not made of strings")
        full = f"{module}.{attribute}"
        if not any(full in allowed for allowed in (STORAGE_TYPES, _BUILDERS, INERT, INERT_OBJECTS)):
            self.refuse("name outside the allow-list", name=printable(full), cause=RESAVE)
        self.push(Global(full))

    def stack_name(self) -> None:
        attribute, module = self.pop(), self.pop()
        self.name(module, attribute)

    def reduce(self) -> None:
        arguments, callee = self.pop(), self.pop()
        if not isinstance(callee, Global) or not isinstance(arguments, tuple):
            self.refuse("call of something other than an allowed name", type=type(callee).__name__)
        if callee.name in _BUILDERS:
            self.push(_BUILDERS[callee.name](self, arguments))
        elif callee.name in INERT or callee.name in INERT_OBJECTS:
            self.push(Inert(callee.name))
        else:
            self.refuse("storage type cannot be called", name=callee.name)

    def new_object(self) -> None:
        arguments, callee = self.pop(), self.pop()
        if not isinstance(callee, Global) or callee.name not in INERT_OBJECTS or not isinstance(arguments, tuple):
            self.refuse(
                "object of a class outside the allow-list",
                cause=RESAVE,
                name=callee.name if isinstance(callee, Global) else type(callee).__name__,
            )
        self.push(Inert(callee.name))

    def build(self) -> None:
        """Drop the attributes of an ordered dictionary (`_metadata` of a state dict) or of an `Inert`."""
        state, target = self.pop(), self.top()
        if not isinstance(target, Inert) and not (isinstance(target, dict) and isinstance(state, dict)):
            self.refuse("attributes for something other than a dictionary", type=type(target).__name__)

    def storage(self) -> None:
        value = self.pop()
        # The legacy format appends the range of a storage that is part of another; PyTorch writes None since 0.4.
        if not isinstance(value, tuple) or len(value) not in (5, 6) or (len(value) == 6 and value[5] is not None):
            self.refuse("persistent id is not a storage", type=type(value).__name__)
        kind, storage_type, key, location, count = value[:5]
        if type(kind) is not str or kind != "storage":
            self.refuse("persistent id is not a storage", kind=printable(kind) if type(kind) is str else "")
        if not isinstance(storage_type, Global) or storage_type.name not in STORAGE_TYPES:
            self.refuse("unknown storage type")
        if type(key) is not str or not _STORAGE_KEY.fullmatch(key) or type(location) is not str:
            self.refuse("storage key or location is not a name", key=printable(key) if type(key) is str else "")
        if type(count) is not int or not 0 <= count <= MAX_ELEMENTS:
            self.refuse("impossible storage size", key=key, count=count if type(count) is int else "")
        found = Storage(key, STORAGE_TYPES[storage_type.name], count)
        if self.storages.setdefault(key, found) != found:
            self.refuse("storage described twice, differently", key=key)
        self.push(self.storages[key])

    def rebuild_tensor(self, arguments: tuple[Any, ...]) -> StoredTensor:
        if len(arguments) not in (6, 7) or not isinstance(arguments[0], Storage):
            self.refuse("tensor without a storage", arguments=len(arguments))
        storage, offset, shape, strides = arguments[:4]
        if len(arguments) == 7 and arguments[6]:
            self.refuse("tensor with metadata (conjugate or negative views)", storage=storage.key)
        if not (
            is_sizes(shape)
            and is_sizes(strides)
            and len(shape) == len(strides)
            and type(offset) is int
            and 0 <= offset <= storage.count
        ):
            self.refuse(
                "impossible offset, size or stride of a tensor",
                storage=storage.key,
                offset=_short(offset),
                size=_short(shape),
                stride=_short(strides),
            )
        if not is_shape(shape) or math.prod(shape) > storage.count or offset + span(shape, strides) > storage.count:
            self.refuse(
                "tensor reaches outside its storage",
                storage=storage.key,
                elements=storage.count,
                offset=offset,
                size=list(shape),
                stride=list(strides),
            )
        return StoredTensor(storage, offset, tuple(shape), tuple(strides))

    def rebuild_parameter(self, arguments: tuple[Any, ...]) -> StoredTensor:
        if len(arguments) != 3 or not isinstance(arguments[0], StoredTensor):
            self.refuse("parameter without a tensor", arguments=len(arguments))
        return arguments[0]

    def ordered_dict(self, arguments: tuple[Any, ...]) -> dict[Any, Any]:
        if arguments:
            self.refuse("ordered dictionary with arguments", arguments=len(arguments))
        return {}

    def size(self, arguments: tuple[Any, ...]) -> tuple[int, ...]:
        if len(arguments) != 1 or not is_shape(arguments[0]):
            self.refuse("impossible size")
        return tuple(arguments[0])


def _short(value: Any) -> Any:
    """Make a refused number or size fit for a message, whatever it is."""
    if type(value) is int:
        return value
    if isinstance(value, tuple | list) and len(value) <= 16 and all(type(entry) is int for entry in value):
        return list(value)
    return type(value).__name__


_BUILDERS: dict[str, Callable[[_Machine, tuple[Any, ...]], Any]] = {
    "torch._utils._rebuild_tensor_v2": _Machine.rebuild_tensor,
    "torch._utils._rebuild_parameter": _Machine.rebuild_parameter,
    "collections.OrderedDict": _Machine.ordered_dict,
    "torch.Size": _Machine.size,
}

_HANDLERS: dict[bytes, tuple[str, Callable[[_Machine], None]]] = {
    b"\x80": ("PROTO", _Machine.protocol),
    b"\x95": ("FRAME", _Machine.frame),
    b"(": ("MARK", _Machine.mark),
    b"N": ("NONE", lambda m: m.push(None)),
    b"\x88": ("NEWTRUE", lambda m: m.push(True)),
    b"\x89": ("NEWFALSE", lambda m: m.push(False)),
    b"K": ("BININT1", lambda m: m.push(m.number("<B"))),
    b"M": ("BININT2", lambda m: m.push(m.number("<H"))),
    b"J": ("BININT", lambda m: m.push(m.number("<i"))),
    b"\x8a": ("LONG1", _Machine.integer),
    b"G": ("BINFLOAT", lambda m: m.push(m.number(">d"))),
    b"\x8c": ("SHORT_BINUNICODE", lambda m: m.push(m.text(m.number("<B")))),
    b"X": ("BINUNICODE", lambda m: m.push(m.text(m.number("<I")))),
    b")": ("EMPTY_TUPLE", lambda m: m.push(())),
    b"\x85": ("TUPLE1", lambda m: m.tuple_of(1)),
    b"\x86": ("TUPLE2", lambda m: m.tuple_of(2)),
    b"\x87": ("TUPLE3", lambda m: m.tuple_of(3)),
    b"t": ("TUPLE", lambda m: m.push(tuple(m.group()))),
    b"]": ("EMPTY_LIST", lambda m: m.push([])),
    b"a": ("APPEND", lambda m: m.append([m.pop()])),
    b"e": ("APPENDS", lambda m: m.append(m.group())),
    b"}": ("EMPTY_DICT", lambda m: m.push({})),
    b"s": ("SETITEM", lambda m: m.set_items([m.pop(), m.pop()][::-1])),
    b"u": ("SETITEMS", lambda m: m.set_items(m.group())),
    b"q": ("BINPUT", lambda m: m.put(m.number("<B"))),
    b"r": ("LONG_BINPUT", lambda m: m.put(m.number("<I"))),
    b"\x94": ("MEMOIZE", lambda m: m.put(len(m.memo))),
    b"h": ("BINGET", lambda m: m.get(m.number("<B"))),
    b"j": ("LONG_BINGET", lambda m: m.get(m.number("<I"))),
    b"c": ("GLOBAL", lambda m: m.name(m.line(), m.line())),
    b"\x93": ("STACK_GLOBAL", _Machine.stack_name),
    b"R": ("REDUCE", _Machine.reduce),
    b"\x81": ("NEWOBJ", _Machine.new_object),
    b"C": ("SHORT_BINBYTES", _Machine.short_bytes),
    b"b": ("BUILD", _Machine.build),
    b"Q": ("BINPERSID", _Machine.storage),
}

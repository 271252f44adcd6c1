"""Pickles of PyTorch checkpoints, read without executing anything.

A pickle is a program for a small stack machine. This one knows only the opcodes that describe plain data, and only the
names that a checkpoint of tensors needs; every other opcode and name is refused when it is met, with its place. Nothing
is ever imported or called: a tensor becomes a checked description of where its numbers lie, and the few harmless
classes of optimizer states become an `Inert` that holds nothing. The standard library's `pickletools` reads the
arguments of opcodes; those that are not allowed are refused before.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from collections.abc import Callable
from typing import Any, NoReturn

from refcodec.errors import InvalidModel

from .pickled import INERT, INERT_OBJECTS, RESAVE, STORAGE_TYPES, Global, Inert, Pickled, Storage, StoredTensor
from .stored_tensors import MAX_ELEMENTS, is_shape, is_sizes, shortened, span

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

MAX_NAME_BYTES = 256
"""Longest module or attribute name."""

DAMAGED = "the checkpoint is damaged, hostile, or more than tensors and plain values"

_OPCODES = {info.code: info for info in pickletools.opcodes}
_STORAGE_KEY = re.compile(r"[0-9A-Za-z_-]{1,64}")


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


class _Machine:
    """The stack machine of the pickle language, reduced to plain data."""

    def __init__(self, data: bytes, source: str, start: int) -> None:
        self.file, self.bytes, self.source = io.BytesIO(data), len(data), source
        self.file.seek(start)
        self.opcode, self.opcode_at = "start", start
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self) -> Pickled:
        if self.bytes > MAX_PICKLE_BYTES:
            self.refuse("pickle too long", bytes=self.bytes, limit=MAX_PICKLE_BYTES)
        for _ in range(MAX_OPCODES):
            self.opcode, self.opcode_at = "opcode", self.file.tell()
            argument = self.fetch()
            if self.opcode == "STOP":
                value = self.pop()
                if self.stack or self.marks:
                    self.refuse("pickle ends with values left over", values=len(self.stack))
                return Pickled(value, self.file.tell(), self.storages)
            _HANDLERS[self.opcode](self, argument)
            if len(self.stack) > MAX_STACK:
                self.refuse("stack too deep", limit=MAX_STACK)
        self.refuse("too many opcodes", limit=MAX_OPCODES)

    def fetch(self) -> Any:
        """Take the next opcode, if it is allowed; its argument."""
        code = self.file.read(1)
        if not code:
            self.refuse("pickle truncated")
        known = _OPCODES.get(code.decode("latin-1"))
        if known is None or (known.name not in _HANDLERS and known.name != "STOP"):
            name = known.name if known else "unknown"
            self.refuse("opcode outside the allow-list", opcode=f"0x{code[0]:02x}", name=name)
        self.opcode = known.name
        if known.arg is None or known.name == "GLOBAL":
            return None
        try:
            argument = known.arg.reader(self.file)
            length = len(argument.encode()) if isinstance(argument, str) else 0
        except UnicodeError:
            self.refuse("string is not UTF-8")
        except ValueError as error:
            self.refuse("pickle truncated", detail=str(error))
        if length > MAX_STRING_BYTES:
            self.refuse("string too long", bytes=length, limit=MAX_STRING_BYTES)
        return argument

    def refuse(self, what: str, cause: str = DAMAGED, **values: Any) -> NoReturn:
        raise InvalidModel(what, where=f"{self.source}, {self.opcode} at byte {self.opcode_at}", cause=cause, **values)

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

    def protocol(self, version: int) -> None:
        if not 2 <= version <= 5 or self.stack or self.memo:
            self.refuse("protocol not 2 to 5 or not first", protocol=version)

    def frame(self, length: int) -> None:
        if length > (left := self.bytes - self.file.tell()):
            self.refuse("frame longer than the pickle", bytes=length, left=left)

    def long_integer(self, value: int) -> None:
        if value.bit_length() > 8 * MAX_INTEGER_BYTES:
            self.refuse("integer too long", bits=value.bit_length(), limit=8 * MAX_INTEGER_BYTES)
        self.push(value)

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
                    self.refuse("duplicate dictionary key", key=shortened(str(key)))
                target[key] = value

    # Names and the values built from them.

    def name(self, module: Any, attribute: Any) -> None:
        if type(module) is not str or type(attribute) is not str:
            self.refuse("name does not consist of strings")
        full = f"{module}.{attribute}"
        if not any(full in allowed for allowed in (STORAGE_TYPES, _BUILDERS, INERT, INERT_OBJECTS)):
            self.refuse("name outside the allow-list", name=shortened(full), cause=RESAVE)
        self.push(Global(full))

    def global_name(self) -> None:
        """The name of the opcode GLOBAL; its reader in pickletools decodes escapes, which pickle does not."""
        lines = [self.file.readline(MAX_NAME_BYTES) for _ in range(2)]
        if not all(line.endswith(b"\n") for line in lines):
            self.refuse("name without end")
        self.name(*(line[:-1].decode("utf-8", "backslashreplace") for line in lines))

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
            self.refuse("persistent id is not a storage", kind=shortened(kind) if type(kind) is str else "")
        if not isinstance(storage_type, Global) or storage_type.name not in STORAGE_TYPES:
            self.refuse("unknown storage type")
        if type(key) is not str or not _STORAGE_KEY.fullmatch(key) or type(location) is not str:
            self.refuse("storage key or location is not a name", key=shortened(key) if type(key) is str else "")
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
    """Make a refused number or size fit for a message, of any type."""
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

_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.protocol,
    "FRAME": _Machine.frame,
    "MARK": lambda m, _: m.mark(),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "BININT1": _Machine.push,
    "BININT2": _Machine.push,
    "BININT": _Machine.push,
    "LONG1": _Machine.long_integer,
    "BINFLOAT": _Machine.push,
    "SHORT_BINUNICODE": _Machine.push,
    "BINUNICODE": _Machine.push,
    "SHORT_BINBYTES": lambda m, _: m.push(Inert("bytes")),  # they occur in NumPy scalars only
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "TUPLE": lambda m, _: m.push(tuple(m.group())),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "APPEND": lambda m, _: m.append([m.pop()]),
    "APPENDS": lambda m, _: m.append(m.group()),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.group()),
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": lambda m, _: m.global_name(),
    "STACK_GLOBAL": lambda m, _: m.stack_name(),
    "REDUCE": lambda m, _: m.reduce(),
    "NEWOBJ": lambda m, _: m.new_object(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.storage(),
}
"""Effect of an opcode with its argument."""

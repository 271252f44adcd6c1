"""Compiled kernels are kept as machine code, trusted only if nobody else can write it, and checked before use."""

import ast
import gc
import json
import os
import re
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import warnings
import weakref
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from llvmlite import binding, ir
from PIL import Image

from refcodec.arith import backend
from refcodec.arith.jit import attention, conv, local_attention, norms, rans, team, walk, winograd
from refcodec.arith.jit.native import cache, canary, link
from refcodec.arith.jit.native import loader as library
from refcodec.arith.jit.native.loader import Kernel
from refcodec.arith.jit.team import address
from refcodec.entropy import rans_python
from refcodec.errors import UsageError

ROOT = Path(__file__).parents[4]
KERNELS = ROOT / "refcodec" / "arith" / "jit" / "kernels"
SCENE = ROOT / "conformance" / "data" / "pictures" / "scene.png"

needs_users = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners of files here")


@pytest.fixture(scope="session")
def roof(tmp_path_factory):
    """The smallest library, compiled once: its file's content."""
    build = import_module("refcodec.arith.jit.native.build")
    return cache.pack(build.Built([import_module("refcodec.arith.jit.kernels.peak")]).objects())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache, and nothing in memory from another one."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("REFCODEC_KERNEL_CACHE", raising=False)
    monkeypatch.setattr(library, "_libraries", {})
    monkeypatch.setattr(library, "_messages", [])
    return tmp_path / "refcodec"


@pytest.fixture
def builds(monkeypatch, roof):
    """The names of the libraries that were compiled; the stored one replaces the compiler's output."""
    made = []

    class Built(link.Linked):
        def __init__(self, modules):
            made.append([module.__name__.rpartition(".")[2] for module in modules])
            super().__init__(cache.unpack(roof))

        def assembly(self, name):
            return f"rows of {name}"

        def objects(self):
            return {name: (symbol, image) for name, symbol, image in cache.unpack(roof)}

    monkeypatch.setattr(import_module("refcodec.arith.jit.native.build"), "Built", Built)
    return made


@contextmanager
def silence():
    """No warning may come."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def again():
    """As in a new process."""
    library._libraries.clear()
    return library.library("peak")


def products(found):
    """Results of the kernel of a library: three rows of two sums of 16 lanes."""
    rng = np.random.default_rng(5)
    held, read = (rng.integers(-1 << 15, 1 << 15, (n, 32), np.int16) for n in (2, 64))
    out = np.zeros((3, 2, 16), np.int32)
    words = np.array([address(out), address(held), address(read), 70, 2], np.int64)
    kernel = Kernel("peak.rows")
    kernel.address = found.addresses["peak.rows"]
    kernel.call(address(words), 0, 3)
    sums = sum(held.astype(np.int64) * read[k % 64] for k in range(70)).reshape(2, 16, 2).sum(axis=2)
    assert (out == sums.astype(np.int32)).all()


# ------------------------------------------------------------------------------------------------- load and compile


def test_compiled_once_then_loaded(folder):
    """By the compiler itself."""
    first = library.library("peak")
    products(first)
    assert "rows" in first.assembly("peak.rows")
    [path] = folder.iterdir()
    alive = weakref.ref(first)
    second = again()
    assert isinstance(second, link.Linked) and second.assembly("peak.rows") is None
    products(second)
    del first
    gc.collect()
    assert alive() is not None, "a helper thread may still be in its code"
    if hasattr(os, "geteuid"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and stat.S_IMODE(path.stat().st_mode) == 0o644


def with_head(data, **changes):
    head, _, code = data.partition(b"\n")
    return json.dumps(json.loads(head) | changes).encode() + b"\n" + code


def with_image(data, change):
    """The file with its one object file changed and the hash made right."""
    [(name, symbol, image)] = cache.unpack(data)
    return cache.pack({name: (symbol, change(image))})


def with_sections(image, wanted, change):
    """An ELF file after ``change(image, start, length)`` of every section of a type."""
    image = bytearray(image)
    [table] = struct.unpack_from("<Q", image, 40)
    size, count = struct.unpack_from("<HH", image, 58)
    for n in range(count):
        _, kind, _, _, start, length, *_ = struct.unpack_from("<IIQQQQIIQQ", image, table + n * size)
        if kind == wanted:
            change(image, start, length)
    return bytes(image)


def other_relocations(image):
    return with_sections(image, 4, lambda image, start, _: struct.pack_into("<I", image, start + 8, 99))


def other_import(image):
    """The last symbol is no longer defined in the file."""
    return with_sections(image, 2, lambda image, start, length: struct.pack_into("<H", image, start + length - 18, 0))


elf = pytest.mark.skipif(not sys.platform.startswith("linux") or os.uname().machine != "x86_64", reason="not ELF")

DAMAGE = {
    "empty": lambda data: b"",
    "cut in the head": lambda data: data[:50],
    "cut in the code": lambda data: data[:-1],
    "one bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "no table": lambda data: b"{}\n",
    "a list": lambda data: b"[]\n",
    "no kernels": lambda data: with_head(data, kernels=[]),
    "another kernel's name": lambda data: data.replace(b"peak.rows", b"peak.sums"),
    "another symbol": lambda data: data.replace(b'"cfunc.', b'"dfunc.'),
    "an unknown import": pytest.param(lambda data: with_image(data, other_import), marks=elf),
    "an unknown relocation": pytest.param(lambda data: with_image(data, other_relocations), marks=elf),
    "no object file": lambda data: with_image(data, lambda image: b"\x7fELF\x02\x01"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_file_that_cannot_be_used_is_compiled_again_with_one_warning(folder, builds, roof, damage):
    changed = damage(roof)
    assert changed != roof
    assert cache.store(cache.key("peak"), changed) == ""
    with pytest.warns(RuntimeWarning) as warned:
        products(again())
    assert len(warned) == 1 and "compiled again" in str(warned[0].message) and builds == [["peak"]]
    with silence():
        products(again())  # the file was replaced
    assert len(builds) == 1


def test_kernels_that_compute_something_else_are_not_used(folder, builds, roof, monkeypatch):
    cache.store(cache.key("peak"), roof)
    wrong = ArithmeticError("wrong")
    answers = iter([wrong, wrong, None, None])  # of the file, looked for twice; of the compiled; of those from its file

    def check(name):
        if error := next(answers):
            raise error

    monkeypatch.setattr(canary, "check", check)
    with pytest.warns(RuntimeWarning, match="compiled again: ArithmeticError: wrong"):
        again()
    assert len(builds) == 1
    answers = iter([wrong] * 3)
    with pytest.warns(RuntimeWarning) as warned, pytest.raises(UsageError, match="ArithmeticError: wrong"):
        again()
    assert len(warned) == 1 and "NumPy computes instead" in str(warned[0].message)
    with pytest.raises(UsageError):
        library.library("peak")


@pytest.fixture
def trial():
    """The codec's kernels as those that the canary checks, with the names of those that it asked for."""
    asked = set()

    class Addresses(dict):
        def __getitem__(self, name):
            asked.add(name)
            return super().__getitem__(name)

    library.load()
    addresses = Addresses(library.library("codec").addresses)
    for module in (attention, conv, local_attention, norms, rans, team, walk, winograd):
        for value in vars(module).values():
            if isinstance(value, Kernel):  # one that was used before holds its address and asks for none
                vars(value).pop("address", None)
                vars(value).pop("call", None)
    library._tried.library = SimpleNamespace(addresses=addresses)
    yield addresses, asked
    del library._tried.library


def test_the_canary_runs_every_kernel(trial):
    addresses, asked = trial
    canary.check("codec")
    assert asked == set(addresses)
    start = time.process_time()
    canary.check("codec")
    assert time.process_time() - start < 0.05  # 4 ms; it is part of every start


@pytest.mark.parametrize("name", canary.EXPECTED)
def test_the_canary_knows_a_wrong_result(trial, monkeypatch, name):
    monkeypatch.setitem(canary.EXPECTED, name, canary.EXPECTED[name] ^ 1)
    with pytest.raises(ArithmeticError, match=re.escape(name)):
        canary.check("codec")


def test_a_kernel_that_is_missing_fails_the_canary(trial):
    addresses, _ = trial
    del addresses["walk.clear_border"]
    with pytest.raises(KeyError, match=r"walk\.clear_border"):
        canary.check("codec")


def test_what_the_canary_expects_is_what_numpy_computes():
    found = {name: canary.crc(result) for name, result in canary.results("numpy", rans_python)}
    assert found == canary.EXPECTED
    for name, result in canary.results("numpy", rans_python):
        assert len(np.unique(result)) > 1, f"{name} shows nothing"


# ------------------------------------------------------------------------------------------------------------- names


def test_what_decides_the_code_decides_the_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {cache.key("codec"), cache.key("peak")}
    for name, value in (("CPU_NAME", "generic"), ("BOUNDSCHECK", "1"), ("SOMETHING_NEW", "1")):
        monkeypatch.setenv(f"NUMBA_{name}", value)
        names.add(cache.key("codec"))
    assert len(names) == 5
    for name in ("CACHE_DIR", "NUM_THREADS", "THREADING_LAYER", "CUDA_DRIVER", "DISABLE_PERFORMANCE_WARNINGS"):
        monkeypatch.setenv(f"NUMBA_{name}", "1")
        assert cache.key("codec") in names
    (tmp_path / ".numba_config.yaml").write_text("opt: 1\n")
    names.add(cache.key("codec"))
    monkeypatch.setattr(cache, "__version__", "99")
    names.add(cache.key("codec"))
    monkeypatch.setattr(cache, "ABI", 99)
    names.add(cache.key("codec"))
    monkeypatch.setattr(cache, "SOURCES", cache.SOURCES[1:])
    names.add(cache.key("codec"))
    assert len(names) == 9 and "" not in names
    monkeypatch.setattr(cache, "SOURCES", (*cache.SOURCES, tmp_path / "gone.py"))
    assert cache.key("codec") == ""


def test_code_for_any_processor_has_one_name_everywhere(monkeypatch):
    names = []
    for variable, value in (("NUMBA_CPU_NAME", ""), ("NUMBA_CPU_NAME", "generic"), ("NUMBA_CPU_FEATURES", "+avx2")):
        monkeypatch.setenv(variable, value)
        names.append(cache.key("codec"))
        with monkeypatch.context() as other:
            other.setattr(cache.binding, "get_host_cpu_name", lambda: "another")
            assert (cache.key("codec") == names[-1]) == (value != "")
    assert len(set(names)) == 3


def test_without_sources_nothing_is_kept(folder, builds, monkeypatch):
    monkeypatch.setattr(cache, "SOURCES", (folder / "zipped.py",))
    products(again())
    products(again())
    assert len(builds) == 2 and not folder.exists()


def imported(path):
    """Files of the package that a module imports names from."""
    package = path.parent
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package.joinpath(*[".."] * (node.level - 1), *(node.module or "").split(".")).resolve()
            for file in (base.with_suffix(".py"), *(base / f"{name.name}.py" for name in node.names)):
                if file.is_file():
                    yield file


def test_the_name_hashes_what_kernels_are_made_of_and_nothing_else():
    parts, found = set(), {KERNELS / f"{name}.py" for names in library.LIBRARIES.values() for name in names}
    while found:
        parts |= found
        found = {path for part in found if KERNELS.parent in part.parents for path in imported(part)} - parts
    assert parts == set(cache.SOURCES)


def test_kernels_import_no_caller():
    """Words and constants are what both share."""
    callers = set(KERNELS.parent.glob("*.py")) - {KERNELS.parent / "target.py"}
    package = KERNELS.parents[2]
    for path in KERNELS.glob("*.py"):
        for other in imported(path):
            assert other not in callers and package / "entropy" not in other.parents, f"{path} imports {other}"


# ----------------------------------------------------------------------------------------------- files and folders


def test_the_oldest_and_the_left_over_files_go(folder):
    folder.mkdir(0o700)
    for name, age in (("old.part", 7200), ("new.part", 60), ("old.lock", 7200), ("new.lock", 60), ("old.txt", 7200)):
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (time.time() - age,) * 2)
    for n in range(cache.KEPT + 5):
        cache.store(f"{n:064}", b"code")
        os.utime(folder / f"{n:064}.kernels", (n, n))
        if n == cache.KEPT - 2:
            assert [data for _, data in cache.stored(f"{0:064}")] == [b"code"]  # its use makes it the youngest
    left = {path.name for path in folder.iterdir()}
    assert {name for name in left if not name.endswith(".kernels")} == {"new.part", "new.lock", "old.txt"}
    assert f"{0:064}.kernels" in left and f"{1:064}.kernels" not in left and len(left) == 3 + cache.KEPT


def test_a_crash_while_writing_leaves_no_file(folder, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    assert "No space left" in cache.store("a" * 64, b"code")
    assert not list(folder.iterdir())


def test_folders(monkeypatch, tmp_path):
    package = Path(cache.__file__).with_name("__pycache__")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache.sys, "platform", "linux")
    monkeypatch.setattr(cache, "_user", lambda: 1000)
    assert cache.folders() == [tmp_path / "refcodec", package]
    monkeypatch.setattr(cache, "_user", lambda: 0)
    assert cache.folders() == [package, tmp_path / "refcodec"]
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert cache.folders() == [tmp_path / "refcodec"]


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_a_user_without_home(monkeypatch, platform):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cache.Path, "home", unknown)
    monkeypatch.setattr(cache.sys, "platform", platform)
    assert cache.folders() == [Path(cache.__file__).with_name("__pycache__")]
    assert cache.distrust(Path("/")) == ""


def test_a_cache_that_cannot_be_written_is_one_warning(folder, builds):
    folder.write_bytes(b"a file where the folder should be")
    with pytest.warns(RuntimeWarning) as warned:
        products(again())
    assert len(warned) == 1 and len(builds) == 1
    text = str(warned[0].message)
    assert "NUMBA_CACHE_DIR" in text and "warmup" in text and str(folder) in text
    with silence():
        products(library.library("peak"))  # once


@needs_users
@pytest.mark.parametrize(
    "mode, above, trusted",
    [
        (0o700, 0o755, True),
        (0o755, 0o1777, True),
        (0o777, 0o755, False),
        (0o770, 0o755, False),
        (0o1777, 0o755, False),
        (0o700, 0o777, False),
        (0o700, 0o775, False),
    ],
)
def test_a_folder_that_others_can_write_is_not_used(tmp_path, monkeypatch, builds, roof, mode, above, trusted):
    place = tmp_path / "above"
    folder = place / "refcodec"
    folder.mkdir(parents=True)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(place))
    monkeypatch.setattr(library, "_libraries", {})
    key = cache.key("peak")
    (folder / f"{key}.kernels").write_bytes(roof)
    folder.chmod(mode)
    place.chmod(above)
    assert bool(list(cache.stored(key))) == trusted and bool(cache.distrust(folder)) != trusted
    if not trusted:
        with pytest.warns(RuntimeWarning, match="others than its user can write"):
            products(again())
        assert len(builds) == 1


@needs_users
def test_a_file_that_others_can_write_is_not_used(folder, roof):
    cache.store("a" * 64, roof)
    path = folder / f"{'a' * 64}.kernels"
    assert list(cache.stored("a" * 64))
    path.chmod(0o646)
    assert not list(cache.stored("a" * 64))
    path.chmod(0o644)
    assert list(cache.stored("a" * 64))


@needs_users
def test_files_of_another_user_are_not_used(folder, roof, monkeypatch):
    """Neither the file, its folder, nor one above it; root's are."""
    cache.store("a" * 64, roof)
    if os.geteuid() == 0:
        for place in (folder / f"{'a' * 64}.kernels", folder, folder.parent):
            os.chown(place, 65534, 65534)
            assert not list(cache.stored("a" * 64))
            os.chown(place, 0, 0)
        assert list(cache.stored("a" * 64))
        monkeypatch.setattr(cache, "_user", lambda: 1000)
        assert list(cache.stored("a" * 64))
    else:
        monkeypatch.setattr(cache, "_user", lambda: os.geteuid() + 1)
        assert not list(cache.stored("a" * 64))


def test_the_cache_can_be_switched_off(folder, builds, monkeypatch):
    monkeypatch.setenv("REFCODEC_KERNEL_CACHE", "off")
    with silence():
        products(again())
        products(again())
    assert len(builds) == 2 and not folder.exists()
    monkeypatch.setenv("REFCODEC_KERNEL_CACHE", "on")
    products(again())
    products(again())
    assert len(builds) == 3
    monkeypatch.setenv("REFCODEC_KERNEL_CACHE", "maybe")
    with pytest.raises(UsageError, match="REFCODEC_KERNEL_CACHE"):
        again()


# --------------------------------------------------------------------------------------------------- several at once


def test_one_process_compiles_while_the_others_wait(tmp_path):
    code = (
        "from refcodec.arith.jit.native import loader\n"
        "print('start', flush=True)\n"
        "print(type(loader.library('peak')).__name__)\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    children = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    kinds = [child.communicate()[0].split() for child in children]
    assert sorted(kinds) == [["start", "Built"], ["start", "Linked"]]
    assert len(list((tmp_path / "refcodec").iterdir())) == 1


fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
no_fork_warning = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@fork
@no_fork_warning
def test_the_lock_of_a_process_that_was_killed_is_free(folder):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with cache.alone("a"):
            os.write(write, b"x")
            time.sleep(60)
    os.read(read, 1)
    threading.Timer(0.3, os.kill, (child, signal.SIGKILL)).start()
    start = time.monotonic()
    with cache.alone("a"):
        assert 0.1 < time.monotonic() - start < 30
    os.waitpid(child, 0)


def test_the_wait_for_a_lock_has_an_end(folder, monkeypatch):
    monkeypatch.setattr(cache, "PATIENCE", 0.2)
    with cache.alone("a"):
        start = time.monotonic()
        with cache.alone("a"):
            assert time.monotonic() - start < 30


@pytest.fixture
def slow(folder, builds, monkeypatch):
    """Loading takes a while; an event signals that it has begun."""
    begun, load = threading.Event(), library._from_file

    def wait(*arguments):
        begun.set()
        time.sleep(0.4)
        return load(*arguments)

    monkeypatch.setattr(library, "_from_file", wait)
    return begun


@fork
@no_fork_warning
def test_a_fork_while_another_thread_loads(slow):
    thread = threading.Thread(target=library.library, args=("peak",))
    thread.start()
    slow.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        products(library.library("peak"))
        os._exit(0)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_an_interrupted_wait_loses_nothing(slow, builds):
    """Not even for an exception that loading would take for a failure."""

    def late(*_):
        raise OSError("a handler's")

    before = signal.signal(signal.SIGALRM, late)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(OSError, match="a handler's"):
            library.library("peak")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    products(library.library("peak"))
    assert len(builds) == 1


def test_without_a_thread_the_caller_loads(folder, builds, monkeypatch):
    class Thread:
        def __init__(self, **_):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(library.threading, "Thread", Thread)
    products(library.library("peak"))


# ------------------------------------------------------------------------------------------------------------ numba


def private_names(tree):
    """Names that a module uses of Numba and llvmlite beyond ``numba``, ``numba.types``, ``numba.extending`` and the
    like.
    """
    documented = {
        "numba",
        "numba.types",
        "numba.extending",
        "numba.typed",
        "llvmlite",
        "llvmlite.ir",
        "llvmlite.binding",
    }
    for node in ast.walk(tree):
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
        yield from (
            name for name in names if name.partition(".")[0] in ("numba", "llvmlite") and name not in documented
        )
        if isinstance(node, ast.Attribute) and node.attr in (
            "_library",
            "_final_module",
            "_get_compiled_object",
            "get_asm_str",
            "make_array",
            "native_name",
            "_getvalue",
            "make_tuple",
            "get_or_insert_function",
            "alloca_once",
        ):
            yield node.attr


def test_private_names_of_numba_are_in_one_module():
    users = {
        path.name
        for path in (ROOT / "refcodec").rglob("*.py")
        if list(private_names(ast.parse(path.read_text("utf-8"))))
    }
    assert users == {"private.py"}


def test_intrinsics_of_llvm_are_those_that_are_known():
    """Their names hold the types of their arguments, which LLVM has renamed before."""
    found = {
        node.value
        for path in KERNELS.parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and str(node.value).startswith("llvm.")
    }
    module, real = ir.Module(), ir.VectorType(ir.DoubleType(), 8)
    short, long = ir.VectorType(ir.IntType(32), 16), ir.VectorType(ir.IntType(64), 8)
    flags = {n: ir.VectorType(ir.IntType(1), n) for n in (8, 16)}
    kinds = {
        "llvm.masked.gather.v16i32.v16p0": (
            short,
            [ir.VectorType(ir.IntType(32).as_pointer(), 16), ir.IntType(32), flags[16], short],
        ),
        "llvm.masked.gather.v8i64.v8p0": (
            long,
            [ir.VectorType(ir.IntType(64).as_pointer(), 8), ir.IntType(32), flags[8], long],
        ),
        "llvm.vector.reduce.add.v8i32": (ir.IntType(32), [ir.VectorType(ir.IntType(32), 8)]),
        "llvm.floor.v8f64": (real, [real]),
        "llvm.sqrt.v8f64": (real, [real]),
        "llvm.fmuladd.v8f64": (real, [real] * 3),
        "llvm.x86.sse2.pause": (ir.VoidType(), []),
    }
    assert found == set(kinds)
    for name, (result, arguments) in kinds.items():
        ir.Function(module, ir.FunctionType(result, arguments), name)
    parsed = binding.parse_assembly(str(module))  # LLVM renames an intrinsic that it knows by another name
    parsed.verify()
    assert {function.name for function in parsed.functions} == set(kinds)


def test_what_kernels_import():
    """The allow-list holds every name, and Numba's runtime is bound to the end of the process."""
    library.load()
    assert set(link.imports()) == {*link.C, *link.INTERPRETER, *link.RUNTIME}
    assert {link.imports()[name] for name in link.RUNTIME} == {link.imports()["abort"]}


def test_a_private_name_that_numba_renamed_costs_the_cache(folder, monkeypatch):
    """By the compiler itself."""

    def renamed(function):
        raise AttributeError("'CPUCodeLibrary' object has no attribute '_get_compiled_object'")

    monkeypatch.setattr(import_module("refcodec.arith.jit.native.private"), "object_file", renamed)
    with pytest.warns(RuntimeWarning) as warned:
        products(again())
    [text] = [str(w.message) for w in warned if w.category is RuntimeWarning]
    assert "cannot be kept" in text and "_get_compiled_object" in text


def test_without_kernels_numpy_is_the_default(folder, monkeypatch):
    class Built:
        def __init__(self, modules):
            raise ImportError("cannot import name 'populate_array' from 'numba.np.arrayobj'")

    monkeypatch.setattr(import_module("refcodec.arith.jit.native.build"), "Built", Built)
    monkeypatch.delenv("REFCODEC_BACKEND", raising=False)
    with pytest.warns(RuntimeWarning) as warned:
        assert backend.default_backend() == "numpy"
    assert len(warned) == 1 and "populate_array" in str(warned[0].message)
    with silence():
        assert backend.default_backend() == "numpy"
    monkeypatch.setenv("REFCODEC_BACKEND", "numba")
    with pytest.raises(UsageError, match="populate_array"):
        library.load()


def test_numba_without_its_compiler_means_numpy(monkeypatch):
    monkeypatch.delenv("REFCODEC_BACKEND", raising=False)
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    with silence():
        assert backend.default_backend() == "numpy"
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "0")
    assert backend.default_backend() == "numba"


def run(*arguments, **variables):
    """The command line in another process, with variables set."""
    environment = {name: value for name, value in os.environ.items() if name != "REFCODEC_BACKEND"} | variables
    return subprocess.run(
        [sys.executable, "-m", "refcodec", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_a_warm_process_needs_no_numba(tmp_path):
    code = (
        "import sys\nfrom refcodec.cli import main\n"
        f"assert main(['encode', {str(SCENE)!r}, {str(tmp_path / 'a.loclic')!r}]) == 0\n"
        f"assert main(['decode', {str(tmp_path / 'a.loclic')!r}, {str(tmp_path / 'a.png')!r}]) == 0\n"
        "print('numba' in sys.modules, 'scipy.linalg' in sys.modules)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "REFCODEC_BACKEND"}
    library.load()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split()[-2:] == ["False", "False"], done.stdout + done.stderr


@pytest.mark.slow
def test_commands_where_kernels_do_not_work(tmp_path):
    """Without the compiler; with a Numba that cannot be imported; either way the picture is coded by NumPy."""
    picture, out = tmp_path / "small.png", [tmp_path / name for name in ("a.loclic", "b.loclic", "c.loclic")]
    Image.open(SCENE).crop((0, 0, 16, 16)).save(picture)
    done = run("encode", picture, out[0], NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0 and not re.search("kernel|Warning", done.stderr), done.stderr
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text("raise ImportError('Numba needs NumPy 1.0 or less')\n")
    broken = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "empty")}
    done = run("encode", picture, out[1], **broken)
    assert done.returncode == 0 and done.stderr.count("NumPy computes instead of kernels") == 1, done.stderr
    assert "Numba needs NumPy 1.0 or less" in done.stderr and "RuntimeWarning" not in done.stderr
    done = run("encode", picture, out[2], REFCODEC_BACKEND="numba", **broken)
    assert done.returncode == 2 and "Numba needs NumPy 1.0 or less" in done.stderr and not out[2].exists(), done.stderr
    assert out[0].read_bytes() == out[1].read_bytes()

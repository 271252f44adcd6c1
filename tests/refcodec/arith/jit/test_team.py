"""Sharing rows out to threads: every row once, from several threads at once, after a fork, and after interrupts."""

import os
import signal
import sys
import threading
import time
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from interrupts import Late, storm
from numba import types

from refcodec import threads
from refcodec.arith import maps
from refcodec.arith.jit import team as numba_team
from refcodec.arith.jit.kernels.constants import FREE
from refcodec.arith.jit.native.build import compiled, memory, task
from refcodec.arith.jit.native.loader import Kernel
from refcodec.arith.jit.team import address, share
from refcodec.arith.maps import Pool, interior
from refcodec.threads import share_rows


@task
def _count_rows(arguments, y0, y1):
    """Words: address of the counts, loops that take time."""
    a = memory(arguments, types.int64)
    counts = memory(a[0], types.int64)
    for y in range(y0, y1):
        x = 0
        for n in range(a[1]):
            x = (x * 3 + n) & 1023
        counts[y] += 1 + (x >> 10)


@cache
def count_rows():
    """The kernel, compiled here."""
    kernel = Kernel("test_team.count_rows")
    kernel.function = compiled(_count_rows)
    kernel.address = kernel.function.address
    return kernel


def check(rows, threads, loops, repeats=1):
    counts = np.zeros(rows, np.int64)
    for _ in range(repeats):
        share(count_rows(), np.array([address(counts), loops], np.int64), rows, threads)
    assert (counts == repeats).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 64, 1000])
def test_every_row_once(rows, threads):
    for loops in (0, 50, 3000):
        check(rows, threads, loops, repeats=20)


def test_tasks_of_several_python_threads_at_once():
    failures = []

    def work():
        try:
            check(40, 3, 200, repeats=300)
        except BaseException as e:
            failures.append(e)

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_a_busy_team_is_not_waited_for():
    check(4, 2, 0)
    board = numba_team._team._board
    board[FREE] = 0
    try:
        check(64, 4, 100)
    finally:
        board[FREE] = 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_helpers_of_its_own():
    check(64, 2, 1000)
    child = os.fork()
    if child == 0:
        try:
            check(64, 2, 1000, repeats=50)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    check(64, 2, 1000, repeats=50)


def test_helpers_that_slept_work_again():
    for _ in range(5):
        check(64, 2, 5000)
        threading.Event().wait(0.02)


def interrupt_at(moment, call, file=numba_team.__file__):
    """Call with an exception raised before the ``moment``-th instruction of a module; whether it came so far."""
    left = moment

    def local(frame, event, argument):
        nonlocal left
        if event == "opcode":
            if left == 0:
                raise Late
            left -= 1
        return local

    def trace(frame, event, argument):
        if frame.f_code.co_filename != file:
            return None
        frame.f_trace_opcodes = True
        return local

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Late:
        return True
    finally:
        sys.settrace(before)
    return False


timers = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")


def fresh():
    numba_team._renew()


def awake():
    check(16, 5, 0)


def asleep():
    check(16, 5, 0)
    time.sleep(0.002)


@pytest.mark.parametrize("state", [fresh, awake, asleep])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_exception_before_any_instruction_of_the_scheduler(count, state):
    moment = 0
    while True:
        state()
        came = interrupt_at(moment, lambda: check(24, count, 20))
        start = time.perf_counter()
        check(24, count, 20)
        assert time.perf_counter() - start < 1
        assert numba_team._team._board[FREE] == 1
        if not came:
            break
        moment += 1
    assert moment > 10
    check(64, count, 1000, repeats=50)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads cannot be counted here")
def test_interrupts_make_no_threads():
    asleep()
    before = len(os.listdir("/proc/self/task"))
    for moment in range(0, 200, 3):
        awake()
        interrupt_at(moment, lambda: check(24, 5, 20))
    time.sleep(0.1)
    assert len(os.listdir("/proc/self/task")) <= before


@timers
@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_exceptions_at_random_moments_of_the_codec(model, count, backend):
    assert storm(model, (48, 64), count, 12 if backend == "numba" else 5, backend) > 0


def test_a_helper_keeps_the_board():
    """It may look at it after the team is gone, until the end of the process."""
    team, counts = numba_team._Team(), np.zeros(9, np.int64)
    words = np.array([address(counts), 0])
    team.run(count_rows().address, address(words), 9, 2)
    [helper] = team._helpers
    assert helper._board is team._board and helper._board.base is not None and address(helper._board) % 64 == 0


def test_no_thread_to_be_had(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_thread", SimpleNamespace(start_new_thread=refuse, allocate_lock=threading.Lock))
    numba_team._renew()
    threads._renew()
    check(64, 4, 100)
    seen = []
    share_rows(lambda y0, y1: seen.extend(range(y0, y1)), 10, 4)
    assert seen == list(range(10)) and threads._pool._calls.empty()
    monkeypatch.undo()
    numba_team._renew()
    threads._renew()


def test_rows_shared_without_kernels():
    counts = np.zeros(33, int)

    def work(y0, y1):
        counts[y0:y1] += 1

    for n in range(150):
        share_rows(work, 33, (2, 5, 40)[n % 3])
        assert (counts == n + 1).all()

    def fail(y0, y1):
        if y0:
            raise ValueError(f"row {y0}")

    with pytest.raises(ValueError, match="row"):
        share_rows(fail, 4, 2)


@pytest.mark.parametrize("count", [2, 5])
def test_an_exception_before_any_instruction_that_shares_rows(count):
    """Nothing hangs, and afterwards every row is computed once."""
    moment, counts = 0, np.zeros(24, int)

    def work(y0, y1):
        counts[y0:y1] += 1

    while interrupt_at(moment, lambda: share_rows(lambda y0, y1: None, 24, count), threads.__file__):
        counts[:] = 0
        share_rows(work, 24, count)
        assert (counts == 1).all()
        moment += 1
    assert moment > 100


@timers
@pytest.mark.parametrize(
    "share_out", [lambda: check(32, 5, 50), lambda: share_rows(lambda y0, y1: None, 32, 5)], ids=["kernels", "plain"]
)
def test_rows_shared_inside_a_signal_handler(share_out):
    """The handler's task runs while one of the interrupted function is on its way."""
    done = []

    def nested(*_):
        share_out()
        done.append(True)

    before = signal.signal(signal.SIGALRM, nested)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        end = time.monotonic() + 20
        while len(done) < 50 and time.monotonic() < end:
            share_out()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(done) >= 50


def test_the_block_of_a_map_returns_with_its_last_view():
    pool = Pool()
    x = pool.map(3, 4, 5)
    view, place = interior(x), address(x)
    del x
    other = pool.map(3, 4, 5)
    assert address(other) != place
    del view
    assert address(pool.map(3, 4, 5)) == place


def test_an_exception_before_any_instruction_of_the_pool():
    pool, moment = Pool(), 0

    def use():
        first, second, third = (pool.map(3, 4, channels) for channels in (5, 5, 9))
        first[...], second[...], third[...] = 0, 1, 2
        del second
        fourth = pool.map(3, 4, 5)
        fourth[...] = 7
        assert [set(x.ravel().tolist()) for x in (first, fourth, third)] == [{0}, {7}, {2}]

    while interrupt_at(moment, use, maps.__file__):
        use()
        moment += 1
    assert moment > 50
    pool.trim(0)
    assert not pool._free and not pool._leased, "an interrupt may lose a block but never keeps it"

"""Sharing rows out to threads: every row once, from several threads at once, and after a fork."""

import os
import threading

import numpy as np
import pytest
from numba import types

from refcodec.arith import numba_team
from refcodec.arith.kernels.build import compiled, memory, task
from refcodec.arith.kernels.library import Kernel
from refcodec.arith.numba_team import address, share


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


function = compiled(_count_rows)
count_rows = Kernel("test_team.count_rows")
count_rows.address = function.address


def check(rows, threads, loops, repeats=1):
    counts = np.zeros(rows, np.int64)
    for _ in range(repeats):
        share(count_rows, np.array([address(counts), loops], np.int64), rows, threads)
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
    with numba_team._team.free:
        check(64, 4, 100)


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

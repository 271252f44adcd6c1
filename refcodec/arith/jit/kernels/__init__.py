"""The kernels of the Numba backend: what is compiled, and what describes it.

conv.py, norms.py, attention.py, local_attention.py, walk.py, rans.py  the codec's arithmetic (SPEC 5, 6 and 7)
team.py       threads share out the rows of a task
peak.py       the bare dot product that the benchmark compares with
products.py   exact products of matrices in registers, for norms and attention
words.py      the arguments of every kind of task, by name
constants.py  sizes and codes that kernels and their callers share

A kernel is a C function of int64 numbers. A *task* computes rows y0..y1 of what an array of int64 words describes:
addresses, sizes and strides in elements. No Python object, not even an array, crosses this interface, so a process that
finds the kernels already compiled (native/loader.py) never imports Numba. Kernels import none of their callers.

``native.interpreted.interpreted(kernel)`` runs a kernel as Python, to debug it and to measure coverage.
"""

"""The kernels of the Numba way: what is compiled, and nothing else.

library.py  compiled kernels by name: from a file of machine code, or compiled and stored. The one module of this
            folder that the rest of the package imports
build.py    compiles with Numba; memory of a task; what a kernel's object file needs from outside
team.py     threads share out rows of a task
conv.py, norms.py, attention.py, walk.py, rans.py  the codec's arithmetic (SPEC 5, 6 and 7)
products.py exact products of matrices in registers, what norms and attention are made of
roof.py     the bare dot product that the benchmark compares with

A kernel is a C function of int64 numbers. A *task* computes rows y0..y1 of what an array of int64 words describes:
addresses, sizes and strides in elements, whose places the Python side of each kernel defines (refcodec/arith/numba_*.py
and refcodec/arith/jit/rans.py). Nothing of Python, not even an array, goes through that door. So processes that
find the kernels compiled need neither Numba nor what it takes to bring its functions back.
"""

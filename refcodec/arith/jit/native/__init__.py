"""Builds and loads machine code; the only package that uses private names of Numba and llvmlite."""

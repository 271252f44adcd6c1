"""The only door to private names of Numba and llvmlite: building and loading machine code."""

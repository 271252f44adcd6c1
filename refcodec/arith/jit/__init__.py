"""Numba backend: one driver per operation, compiled kernels, and the code that loads them."""

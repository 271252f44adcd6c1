"""Generators of the suites: what the vectors of conformance/data/suites are made by, from integers and seeds alone.

The runner needs none of this. ``python -m conformance generate`` rebuilds every suite byte by byte.
"""

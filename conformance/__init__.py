"""Conformance of decoders: suites and what hostile input may do to a decoder (SPEC 11)."""

"""Conformance of decoders and encoders (SPEC 14.1, 14.2): suites, runner, and what hostile input may do (SPEC 11)."""

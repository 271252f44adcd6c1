"""Fuzzers for streams, models and pictures."""

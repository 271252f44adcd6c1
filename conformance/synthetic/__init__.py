"""Streams and models made for tests."""

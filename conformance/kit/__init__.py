"""Suites, vectors and manifests as data; imports no refcodec."""

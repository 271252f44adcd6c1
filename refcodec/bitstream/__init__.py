"""The .loclic container (SPEC 8): field table, checksum, reading, writing and ``info``."""

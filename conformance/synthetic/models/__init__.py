"""Models made for tests: procedural, extreme, broken."""

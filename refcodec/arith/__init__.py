"""Integer operations: maps, layers, the engine, and the two implementations of the arithmetic (SPEC 5)."""

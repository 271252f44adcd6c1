"""Range coder, symbol tables, and the two ports of the slice walk (SPEC 7)."""

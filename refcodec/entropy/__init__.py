"""Range coder, frequency tables, and the two ports of the slice walk (SPEC 7)."""

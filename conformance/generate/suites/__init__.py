"""One module per suite of vectors."""

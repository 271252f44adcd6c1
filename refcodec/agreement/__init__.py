"""Do all machines compute the same bytes? Items, self-test, processors, pictures."""

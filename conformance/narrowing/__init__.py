"""Which vector notices an intermediate result of another type? Places, narrowed decoders, and what was found."""

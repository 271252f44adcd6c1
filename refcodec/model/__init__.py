"""Model of the codec: configuration, layer table, integer weights, proof of their bounds, files."""

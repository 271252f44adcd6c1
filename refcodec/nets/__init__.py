"""The networks as plain functions over feature maps; each names operations that an engine runs (SPEC 6)."""

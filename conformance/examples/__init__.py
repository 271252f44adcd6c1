"""Decoders that README.md shows the kit on."""

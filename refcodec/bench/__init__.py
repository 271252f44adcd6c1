"""``python -m refcodec bench``: what encoding and decoding take, stage by stage, on a named machine."""

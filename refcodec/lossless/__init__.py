"""Samples stored without loss (SPEC 8.10, 8.11): rows, rectangles, and the encoder's choice of them."""

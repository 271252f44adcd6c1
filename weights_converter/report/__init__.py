"""Cost of a conversion: measurements and their page."""

"""What a conversion costs: measurements and their page."""

"""How far the vectors reach: bounds, search, coverage."""

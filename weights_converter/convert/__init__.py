"""From a float checkpoint to an integer model."""

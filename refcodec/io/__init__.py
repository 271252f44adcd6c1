"""Pictures and files: reading and writing samples in the usual formats."""

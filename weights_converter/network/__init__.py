"""The float network in PyTorch (extra "train")."""

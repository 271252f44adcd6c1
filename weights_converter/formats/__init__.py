"""Safe readers and writers of checkpoint files; none needs PyTorch."""

"""The runner: tries decoders and encoders of any make on the suites. Nothing here imports refcodec."""

"""Where a decoder first differs: traces, stages, likely causes; imports no refcodec."""

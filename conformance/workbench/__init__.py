"""Tools that compare a decoder with refcodec part by part."""

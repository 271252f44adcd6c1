"""Files of pictures to files of streams and back, with everything that travels or is asked for on the way.

`encode_file` and `decode_file` are what the commands ``encode`` and ``decode`` do. Outputs are checked before the work
starts, and renamed into place when it is done.
"""

from .decoding import DecodedFile, decode_file
from .encoding import EncodedFile, check_lossless, encode_file

__all__ = ["DecodedFile", "EncodedFile", "check_lossless", "decode_file", "encode_file"]

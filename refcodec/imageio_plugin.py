"""imageio plug-in: importing this module lets ``imageio.v3`` read and write ``.loclic`` files (extra ``imageio``).

imageio finds no plug-ins by itself. Its Pillow plug-in does the work, so options are those of ``Image.save``::

    import imageio.v3 as iio
    import refcodec.imageio_plugin

    iio.imwrite("a.loclic", array, quality=60)
    array = iio.imread("a.loclic")
"""

from __future__ import annotations

from imageio.config import extension_list, known_extensions
from imageio.config.extensions import FileExtension

from . import pillow_plugin

EXTENSION = ".loclic"

if EXTENSION not in known_extensions:
    _extension = FileExtension(
        name=pillow_plugin.LoclicImageFile.format_description, extension=EXTENSION, priority=["pillow"]
    )
    extension_list.append(_extension)
    known_extensions[EXTENSION] = [_extension]

__all__ = ["EXTENSION"]

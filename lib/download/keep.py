"""What has arrived: whether it is an image, and the file that is kept of it."""

import hashlib
import os
from typing import NamedTuple

from PIL import Image

from lib.data.images import ImageError, identify, read_image, read_thumbnail

_ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "JPEG2000": "jp2", "DIB": "bmp", "HEIF": "heic"}
_QUALITY = 92  # of a JPEG that is kept instead of a larger picture
_END_MARKS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
_END = 4096  # bytes of a file in which its end mark is


class Kept(NamedTuple):
    """An image in its place: its path below the directory of images, its SHA-256 and its size in bytes."""

    file: str
    sha256: str
    size: int


def keep(arrived, fetched, name, directory, longest=None):
    """Check that a file is an image, and move it to its place.

    Args:
        arrived: the file, which is gone afterwards.
        fetched: its `lib.download.fetch.Fetched`.
        name: of the file to be, without the ending.
        directory: that of all images.
        longest: the longer side in pixels that a larger picture is shrunk to; None for never.

    Returns:
        `Kept`.

    Raises:
        ImageError: it is no image, or no whole one.
        OSError: it can't be written.
    """
    kind, side = identify(arrived)
    if kind == "RAW":
        raise ImageError("a camera's raw file of a kind that is not kept")
    if not fetched.counted or not _has_end(arrived, kind):
        read_image(arrived, 8)  # to its end
    sha256, size, ending = fetched.sha256, fetched.size, _ENDINGS.get(kind, kind.lower())
    if longest is not None and side > longest:
        picture = Image.fromarray(read_thumbnail(arrived, longest))
        picture.save(arrived, "JPEG", quality=_QUALITY, subsampling=0)
        with open(arrived, "rb") as file:
            content = file.read()
        sha256, size, ending = hashlib.sha256(content).hexdigest(), len(content), "jpg"
    place = os.path.join(name[:2], name[2:4], f"{name}.{ending}")
    path = os.path.join(directory, place)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(arrived, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(arrived, path)
    return Kept(place, sha256, size)


def _has_end(path, kind):
    """Whether an image file ends as its format wants; true for a format without a mark for that."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - _END))
        return _END_MARKS.get(kind, b"") in file.read()

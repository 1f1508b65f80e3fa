"""Small pictures for pages, as many as fit."""

import contextlib
import io

import numpy as np
from PIL import Image

from lib.data.images import ImageError
from lib.system.parallel import in_order, reading_threads
from lib.system.progress import progress

# Of all pictures of a page, so that the page, which holds them as text of a third more bytes, stays below 15 MB.
PAGE_BYTES = 7_500_000

_LARGEST = 9_000  # bytes of a picture, where there are few
_SIDES = ((6_000, 224), (3_000, 160), (0, 128))  # the fewest bytes for a picture, and its longer side
_QUALITIES = (82, 72, 60, 48, 36, 24, 12, 0)


def allowance(count):
    """The bytes that each of `count` pictures may have."""
    return min(_LARGEST, PAGE_BYTES // max(1, count))


def side_of(allowed):
    """The longer side in pixels of pictures of `allowed` bytes."""
    return next(side for least, side in _SIDES if allowed >= least)


def encode(pixels, allowed):
    """Encode a picture as a WebP, of the best quality within a number of bytes, in smaller size if necessary.

    Args:
        pixels: uint8 `(height, width, 3)`, or 1 for grey.
        allowed: the number of bytes.
    """
    picture = Image.fromarray(pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2))
    picture.thumbnail([side_of(allowed)] * 2, Image.LANCZOS)
    while True:
        for quality in _QUALITIES:
            file = io.BytesIO()
            picture.save(file, "WEBP", quality=quality, method=4)
            if file.tell() <= allowed:
                return file.getvalue()
        if max(picture.size) < 16:  # as small as it gets
            return file.getvalue()
        picture = picture.resize([max(1, side // 2) for side in picture.size], Image.BOX)


def make_thumbnails(items, read, processors=None):
    """Make small pictures on several threads, with progress on stderr.

    Args:
        items: the pictures, such as paths.
        read: called with an item and the least length of the longer side; returns uint8 `(height, width, 3)`, or 1 for
            grey, or raises `ImageError`.
        processors: how many cores to use; None for all.

    Yields:
        For each item the bytes of a WebP, or the `ImageError` that says why there is none.
    """
    allowed = allowance(len(items))

    def work(item):
        try:
            return encode(read(item, side_of(allowed)), allowed)
        except ImageError as error:
            return error

    threads = reading_threads(processors)
    results = in_order(work, items, threads, 4 * threads)
    with contextlib.closing(results), progress(len(items), "thumbnails") as advance:
        for _, result in results:
            advance(1)
            yield result

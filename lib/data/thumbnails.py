"""Small pictures for pages, as many as fit."""

import contextlib
import io
from typing import NamedTuple, Optional

import numpy as np
from PIL import Image

from lib.data.images import ImageError
from lib.system.parallel import in_order, reading_threads
from lib.system.progress import progress

# Of all pictures of a page, so that the page, which holds them as text of a third more bytes, stays below 15 MB.
PAGE_BYTES = 7_500_000

# Of its larger pictures, which a person decides by.
LARGER_BYTES = 4_500_000

_LARGEST = 9_000  # bytes of a picture, where there are few
_SIDES = ((6_000, 224), (3_000, 160), (0, 128))  # the fewest bytes for a picture, and its longer side
_LARGER_LEAST, _LARGER_LARGEST = 12_000, 32_000  # bytes of a larger picture
_LARGER_SIDES = ((24_000, 512), (0, 384))
_QUALITIES = (82, 72, 60, 48, 36, 24, 12, 0)


def allowance(count):
    """The bytes that each of `count` pictures may have."""
    return min(_LARGEST, PAGE_BYTES // max(1, count))


def side_of(allowed, sides=_SIDES):
    """The longer side in pixels of pictures of `allowed` bytes."""
    return next(side for least, side in sides if allowed >= least)


def larger_count(count):
    """How many of `count` pictures can be in a page a second time, larger."""
    return min(count, LARGER_BYTES // _LARGER_LEAST)


def encode_larger(pixels, allowed):
    """Encode a picture as a JPEG, which takes a tenth of a WebP's time; see `encode`."""
    picture = Image.fromarray(pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2))
    for quality in (85, 75, 60, 45, 30, 15):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= allowed:
            break
    return file.getvalue()


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


class Pictures(NamedTuple):
    """An image as a WebP and, larger, as a JPEG; that is None for most."""

    small: bytes
    larger: Optional[bytes] = None


def make_thumbnails(items, read, processors=None, larger=()):
    """Make small pictures on several threads, with progress on stderr.

    Args:
        items: the pictures, such as paths.
        read: called with an item and the least length of the longer side; returns uint8 `(height, width, 3)`, or 1 for
            grey, or raises `ImageError`.
        processors: how many cores to use; None for all.
        larger: the places of those items that get a larger picture, too; at most `larger_count`.

    Yields:
        For each item its `Pictures`, or the `ImageError` that says why there is none.
    """
    allowed, larger = allowance(len(items)), frozenset(larger)
    allowed_larger = min(_LARGER_LARGEST, LARGER_BYTES // max(1, len(larger)))
    side_larger = side_of(allowed_larger, _LARGER_SIDES)

    def work(numbered):
        place, item = numbered
        try:
            if place not in larger:
                return Pictures(encode(read(item, side_of(allowed)), allowed))
            pixels = read(item, side_larger)
        except ImageError as error:
            return error
        return Pictures(encode(pixels, allowed), encode_larger(pixels, allowed_larger))

    threads = reading_threads(processors)
    results = in_order(work, list(enumerate(items)), threads, 4 * threads)
    with contextlib.closing(results), progress(len(items), "thumbnails") as advance:
        for _, result in results:
            advance(1)
            yield result

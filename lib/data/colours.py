"""Colours by the profile (ICC) that a picture brings along, as those of sRGB, which the models were trained on."""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

MOST_BYTES = 4 << 20  # of a profile; those of offset presses have up to 3 MB
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}  # by Pillow's modes
_SAME = 3  # levels of 255 by which a profile may differ from sRGB without being another

_SRGB = ImageCms.createProfile("sRGB")


def to_rgb(colours, mode, profile=None):
    """Colours as a screen shows them.

    Args:
        colours: float32 `(rows, columns, bands)`, 0-255.
        mode: Pillow's name of what they are: L, RGB, CMYK or LAB.
        profile: the bytes of an ICC profile, or None. One that is broken, of other colours or hardly different from
            sRGB is ignored.

    Returns:
        float32 `(rows, columns, 3)`, 0-255, in sRGB by perceptual intent.
    """
    transform = _transform(profile, mode) if profile or mode == "LAB" else None
    if transform is not None:
        return _apply(transform, np.rint(colours).astype("uint8"), mode).astype("float32")
    if mode == "L":
        return np.repeat(colours, 3, axis=2)
    if mode == "CMYK":
        return (255 - colours[..., 3:]) * (1 - colours[..., :3] / 255)
    return colours


@functools.lru_cache(maxsize=16)
def _transform(profile, mode):
    """What converts pixels of a mode to sRGB; None if a profile isn't to be used."""
    try:
        if mode == "LAB":
            source = ImageCms.createProfile("LAB")
        elif len(profile) > MOST_BYTES:
            return None
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if source.profile.xcolor_space.strip() != _SPACES[mode]:
                return None
        transform = ImageCms.buildTransform(source, _SRGB, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
        if mode in ("L", "RGB"):
            bands = len(Image.new(mode, (1, 1)).getbands())
            grid = np.linspace(0, 255, 18).astype("uint8")
            grid = np.stack(np.meshgrid(*[grid] * bands), axis=-1).reshape(1, -1, bands)
            if np.abs(_apply(transform, grid, mode).astype(int) - grid).max() <= _SAME:
                return None
        return transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _apply(transform, pixels, mode):
    """uint8 `(rows, columns, bands)` -> uint8 `(rows, columns, 3)`."""
    image = Image.frombytes(mode, pixels.shape[1::-1], np.ascontiguousarray(pixels).tobytes())
    return np.asarray(ImageCms.applyTransform(image, transform))

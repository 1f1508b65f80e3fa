"""Many small pictures on one sheet."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 96  # of each picture in a sheet, in pixels

_MARGIN = 4
_LINE, _LETTERS = 24, 18  # pixels of height for a caption, and of its letters: sheets are often shown smaller


def contact_sheet(rows):
    """Lay pictures out in rows.

    Args:
        rows: pairs of a caption and a list of pictures, uint8 `(height, width, 3)`, which are resized to 96 x 96.

    Returns:
        A Pillow image: under each caption its row of pictures.
    """
    longest = max((len(pictures) for _, pictures in rows), default=0)
    font = ImageFont.load_default(_LETTERS)
    # In the characters that Pillow's own font has.
    captions = [caption.encode("latin-1", "replace").decode("latin-1") for caption, _ in rows]
    words = max((math.ceil(font.getlength(caption)) for caption in captions), default=0)
    width = max(longest * (SIDE + _MARGIN), words + _MARGIN, 200) + _MARGIN
    height = len(rows) * (_LINE + SIDE + _MARGIN) + _MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (caption, (_, pictures)) in enumerate(zip(captions, rows)):
        top = _MARGIN + number * (_LINE + SIDE + _MARGIN)
        pen.text((_MARGIN, top), caption, fill="black", font=font)
        for place, pixels in enumerate(pictures):
            picture = Image.fromarray(fitted(pixels))
            sheet.paste(picture, (_MARGIN + place * (SIDE + _MARGIN), top + _LINE))
    return sheet


def fitted(pixels):
    """A picture, uint8 `(height, width, 3)`, as it is in a sheet: uint8 `(96, 96, 3)`."""
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.LANCZOS))

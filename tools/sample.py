"""A sample collection: drawn pictures of all 17 categories, for trying the toolkit and for its tests.

    python -m tools.sample OUT --count 60 --seed 1

writes 60 JPEGs into each of 17 folders in OUT, named by the categories' labels. They are varied enough that a small
model needs some epochs to tell them apart, and the same seed gives the same pictures.
"""

import concurrent.futures
import dataclasses
import itertools
import logging
import os
import re
from typing import Optional

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from lib.cli.program import parser, run
from lib.cli.types import whole_number
from lib.data.categories import LABELS
from lib.errors import UsageError
from lib.storage.files import whole_file
from lib.system.parallel import cores
from lib.system.progress import progress
from lib.system.words import counted

log = logging.getLogger("tools.sample")  # as a program its `__name__` is another

WIDTH, HEIGHT = 384, 512  # of a sheet; other pictures have their own sides

WORDS = (
    *("Flora", "of", "the", "northern", "coast", "leg", "det", "Herbarium", "No", "Date", "Rosa", "Quercus", "Salix"),
    *("Carex", "alba", "montana", "rubra", "L", "Mill"),
)

PAPERS = ((240, 233, 214), (232, 222, 196), (246, 243, 232), (225, 217, 200))
GREENS = ((92, 104, 58), (120, 116, 70), (104, 88, 54), (78, 92, 66), (134, 122, 84))
VIVID = ((196, 40, 52), (226, 150, 30), (90, 60, 170), (220, 90, 150), (240, 214, 60), (60, 110, 200))
FRESH = ((40, 122, 38), (70, 150, 50), (28, 96, 52), (104, 160, 48))


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a sample collection.

    Attributes:
        out: the folder to write to.
        count: how many pictures of each category.
        seed: of the pictures.
        processors: how many cores to use; None for all.
    """

    out: str
    count: int = 60
    seed: int = 1
    processors: Optional[int] = None


def draw(label, rng):
    """Draw a picture.

    Args:
        label: a category's short label.
        rng: a numpy Generator, from which all variation comes.

    Returns:
        A Pillow image in RGB.
    """
    picture = DRAWERS[label](rng)
    if label not in ("Corrupted", "EM"):  # which bring disturbances of their own
        picture = _photographed(picture, rng)
    return picture


# Parts that several categories share.


def _pick(rng, values):
    return values[int(rng.integers(len(values)))]


def _shade(colour, rng, spread=14):
    """A colour somewhat like another."""
    return tuple(int(value) for value in np.clip(np.add(colour, rng.normal(0, spread, 3)), 0, 255))


def _page(rng, colour=None, width=WIDTH, height=HEIGHT):
    """An empty page and its pen."""
    picture = Image.new("RGB", (width, height), _shade(colour or _pick(rng, PAPERS), rng, 6))
    return picture, ImageDraw.Draw(picture)


def _cloud(rng, width, height, grain):
    """Smooth noise: float32 `(height, width)` of about standard normal values, `grain` pixels wide."""
    coarse = rng.standard_normal((height // grain + 3, width // grain + 3)).astype("float32")
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.BICUBIC))


def _coloured(values, dark, light):
    """Values of 0 to 1 `(height, width)` as a picture between two colours."""
    mixed = np.clip(values, 0, 1)[:, :, None]
    return Image.fromarray((np.array(dark) * (1 - mixed) + np.array(light) * mixed).astype("uint8"))


def _leaf(pen, x, y, angle, length, width, fill, outline=None, line=1):
    """A leaf that starts at a point and points along an angle."""
    along = np.linspace(0, 1, 9)
    across = np.sin(np.pi * along**0.8) * width / 2
    forth = np.stack([along * length, across], axis=1)
    back = np.stack([along[::-1] * length, -across[::-1]], axis=1)
    outline_points = np.concatenate([forth, back])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = [tuple(point) for point in outline_points @ turn + (x, y)]
    pen.polygon(points, fill=fill, outline=outline or fill)
    if outline:
        pen.line([*points, points[0]], fill=outline, width=line)
        pen.line([(x, y), tuple(np.array([length, 0]) @ turn + (x, y))], fill=outline, width=1)


def _disc(pen, x, y, radius, **options):
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], **options)


def _flower(pen, x, y, radius, colour, rng, outline=None):
    petals = int(rng.integers(4, 9))
    for petal in range(petals):
        angle = 2 * np.pi * petal / petals + rng.uniform(0, 0.3)
        _leaf(pen, x, y, angle, radius, radius * 0.7, colour, outline)
    heart = radius * 0.25
    _disc(pen, x, y, heart, fill="white" if outline else (230, 190, 50), outline=outline)


def _plant(pen, rng, x, y, size, greens, flowers=(), outline=None, line=3):
    """A branching plant that grows upwards from a point."""
    colour = _shade(_pick(rng, greens), rng)
    stem = outline or _shade((96, 78, 48), rng)
    length, slim = size * rng.uniform(0.08, 0.2), rng.uniform(0.2, 0.6)
    opposite, spread = rng.random() < 0.5, rng.uniform(0.5, 1.2)
    ends = [(x, y, -np.pi / 2 + rng.normal(0, 0.15), size * rng.uniform(0.8, 1), line)]
    while ends:
        x, y, angle, rest, thick = ends.pop()
        bend = rng.normal(0, 0.06)
        while rest > length * 0.6:
            step = length * rng.uniform(0.4, 0.7)
            angle += bend + rng.normal(0, 0.05)
            ahead = x + step * np.cos(angle), y + step * np.sin(angle)
            pen.line([(x, y), ahead], fill=stem, width=max(1, int(thick)))
            x, y = ahead
            rest -= step
            side = _pick(rng, (-1, 1))
            for turn in (side, -side) if opposite else (side,):
                turned = angle + turn * spread * rng.uniform(0.7, 1.3)
                long, fill = length * rng.uniform(0.7, 1.2), None if outline else _shade(colour, rng, 8)
                _leaf(pen, x, y, turned, long, length * slim, fill, outline)
            if thick > 1.5 and rng.random() < 0.25:
                ends.append((x, y, angle + side * rng.uniform(0.4, 0.9), rest * 0.7, thick * 0.6))
        if flowers:
            _flower(pen, x, y, length * rng.uniform(0.4, 0.8), _shade(_pick(rng, flowers), rng), rng, outline)


def _text(pen, rng, box, size, fill=(40, 38, 36), fullness=0.9):
    """Lines of words in a box."""
    left, top, right, bottom = box
    font = ImageFont.load_default()
    for y in np.arange(top, bottom - size, size * 1.35):
        line, end = "", left + (right - left) * fullness * rng.uniform(0.6, 1)
        while font.getlength(line) < end - left:
            line += _pick(rng, WORDS) + " "
        pen.text((left, y), line[:-1], fill=fill, font=font)


def _label(pen, rng, x, y, width, height):
    pen.rectangle([x, y, x + width, y + height], fill=_shade((250, 248, 240), rng, 5), outline=(120, 110, 100))
    _text(pen, rng, (x + 4, y + 3, x + width - 14, y + height), 9, fullness=0.75)


def _ruler(pen, rng, x, y, length, upright=False):
    """A scale with black and white centimetres."""
    parts = int(rng.integers(6, 12))
    for part in range(parts):
        start, end = length * part / parts, length * (part + 1) / parts
        box = [x, y + start, x + 10, y + end] if upright else [x + start, y, x + end, y + 10]
        pen.rectangle(box, fill="black" if part % 2 else "white", outline="black")


def _colour_card(pen, rng, x, y):
    """The patches that photographers put beside a sheet."""
    for row, column in itertools.product(range(4), range(3)):
        colour = _shade(_pick(rng, (*VIVID, *FRESH, (20, 20, 20), (128, 128, 128), (240, 240, 240))), rng, 5)
        pen.rectangle([x + 11 * column, y + 11 * row, x + 11 * column + 10, y + 11 * row + 10], fill=colour)


def _sheet_with_furniture(rng):
    """A herbarium sheet with its label and scale, but nothing on it."""
    picture, pen = _page(rng)
    if rng.random() < 0.5:
        pen.rectangle([0, 0, WIDTH - 1, HEIGHT - 1], outline=_shade((90, 84, 76), rng), width=int(rng.integers(2, 9)))
    width, height = int(rng.integers(110, 160)), int(rng.integers(60, 95))
    left = 12 if rng.random() < 0.3 else WIDTH - width - 12
    _label(pen, rng, left, HEIGHT - height - 12, width, height)
    if rng.random() < 0.6:
        _ruler(pen, rng, int(rng.integers(10, 60)), int(rng.integers(8, 20)), int(rng.integers(120, 220)))
    if rng.random() < 0.5:
        _colour_card(pen, rng, _pick(rng, (14, WIDTH - 50)), int(rng.integers(14, 60)))
    return picture, pen


def _photographed(picture, rng):
    """A picture as a camera sees it: light, colour cast, a little noise and blur."""
    pixels = np.asarray(picture, "float32")
    height, width = pixels.shape[:2]
    light = 1 + 0.04 * _cloud(rng, width, height, 200)[:, :, None]
    pixels = pixels * light * rng.normal(1, 0.02, 3).astype("float32") * rng.uniform(0.85, 1.08)
    pixels = pixels + rng.standard_normal((height, width, 1)).astype("float32") * rng.uniform(1, 7)
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype("uint8"))
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))


# The categories.


def _animal(rng):
    picture, pen = _page(rng, _pick(rng, ((226, 226, 222), (205, 200, 186), (238, 236, 228))), 420, 420)
    x, y, size = 210 + rng.normal(0, 15), 190 + rng.normal(0, 15), rng.uniform(90, 140)
    body, dark = _shade(_pick(rng, ((70, 44, 24), (30, 28, 30), (120, 70, 20), (40, 60, 40))), rng), (30, 24, 20)
    for side, place in itertools.product((-1, 1), (-0.3, 0, 0.3)):
        knee = x + side * size * 0.45, y + place * size - size * 0.1 * rng.random()
        foot = x + side * size * rng.uniform(0.6, 0.8), y + (place * 1.8 + 0.1) * size
        pen.line([(x, y + place * size * 0.5), knee, foot], fill=dark, width=3)
    if rng.random() < 0.6:
        wing = _shade(_pick(rng, ((200, 120, 40), (210, 200, 180), (70, 90, 190), (160, 150, 120))), rng)
        for side, lift in itertools.product((0, np.pi), (-0.5, 0.45)):
            angle = lift if side == 0 else np.pi - lift
            _leaf(pen, x, y, angle, size * rng.uniform(0.9, 1.2), size * rng.uniform(0.45, 0.7), wing, dark, 2)
    for place, width, height in ((-0.5, 0.15, 0.14), (-0.22, 0.2, 0.2), (0.3, 0.22, 0.42)):
        middle = y + place * size
        box = [x - width * size, middle - height * size, x + width * size, middle + height * size]
        pen.ellipse(box, fill=body, outline=dark)
    for side in (-1, 1):
        pen.line([(x, y - 0.6 * size), (x + side * size * 0.3, y - size * rng.uniform(0.85, 1))], fill=dark, width=2)
    pen.ellipse([x - 4, y - 0.25 * size, x + 4, y - 0.25 * size + 8], fill=(200, 200, 210))
    if rng.random() < 0.7:
        _label(pen, rng, 130 + rng.uniform(-40, 40), 350, 150, 50)
    return picture


def _biocultural(rng):
    ground = _pick(rng, ((60, 62, 68), (120, 124, 130), (200, 202, 206)))
    picture, pen = _page(rng, ground, 460, 400)
    tan = _shade(_pick(rng, ((176, 132, 78), (140, 98, 56), (196, 164, 110))), rng)
    dark = tuple(int(value * 0.55) for value in tan)
    top, bottom = rng.uniform(70, 120), rng.uniform(280, 330)
    upper, lower = rng.uniform(90, 150), rng.uniform(60, 150)
    points = [(230 - upper, top), (230 + upper, top), (230 + lower, bottom), (230 - lower, bottom)]
    pen.polygon(points, fill=tan)
    rows = int(rng.integers(7, 14))
    for row in range(rows + 1):  # the weave
        share = row / rows
        half, y = upper + (lower - upper) * share, top + (bottom - top) * share
        for column in range(-8, 8):
            if (row + column) % 2:
                x = 230 + half * column / 8
                pen.rectangle([x, y, x + half / 8, y + (bottom - top) / rows], fill=_shade(dark, rng, 10))
    pen.ellipse([230 - upper, top - 24, 230 + upper, top + 24], fill=dark, outline=tan, width=5)
    if rng.random() < 0.5:
        pen.arc([230 - upper, top - rng.uniform(60, 110), 230 + upper, top + 60], 180, 360, fill=tan, width=8)
    _ruler(pen, rng, 140, 365, 180)
    return picture


def _corrupted(rng):
    pixels = np.array(DRAWERS[_pick(rng, ("Ordinary", "Fragmentary", "Mixed", "Color", "Text"))](rng))
    height, width = pixels.shape[:2]
    start = int(height * rng.uniform(0.1, 0.6))
    kind = int(rng.integers(4))
    if kind == 0:  # the rest never came
        pixels[start:] = rng.integers(100, 150)
    elif kind == 1:  # bands that slipped aside
        while start < height:
            band = int(rng.integers(8, 50))
            pixels[start : start + band] = np.roll(pixels[start : start + band], int(rng.integers(width)), axis=1)
            start += band
    elif kind == 2:  # one line for ever, in wrong colours
        pixels[start:] = np.roll(pixels[start], 1, axis=1) ^ np.uint8(rng.integers(256))
    else:  # blocks of nothing and of colour
        for _ in range(int(rng.integers(60, 200))):
            y, x = int(rng.integers(start, height)) // 16 * 16, int(rng.integers(width)) // 16 * 16
            pixels[y : y + 16, x : x + 16 * int(rng.integers(1, 8))] = rng.integers(0, 256, 3)
    if rng.random() < 0.5:
        band = int(rng.integers(3))
        pixels[start // 2 :, :, band] = np.roll(pixels[start // 2 :, :, band], int(rng.integers(10, 60)), axis=1)
    return Image.fromarray(pixels)


def _fragmentary(rng):
    picture, pen = _sheet_with_furniture(rng)
    if rng.random() < 0.4:
        x, y = rng.uniform(60, 180), rng.uniform(100, 250)
        pen.rectangle([x, y, x + 130, y + 100], fill=_shade((214, 196, 160), rng), outline=(150, 130, 100))
    for _ in range(int(rng.integers(3, 9))):
        x, y, angle = rng.uniform(50, WIDTH - 60), rng.uniform(60, 380), rng.uniform(0, 2 * np.pi)
        if rng.random() < 0.3:
            pen.line([(x, y), (x + 40 * np.cos(angle), y + 40 * np.sin(angle))], fill=(96, 78, 48), width=3)
        else:
            _leaf(pen, x, y, angle, rng.uniform(18, 48), rng.uniform(6, 24), _shade(_pick(rng, GREENS), rng))
    return picture


def _colour_plate(rng):
    picture, pen = _page(rng, _pick(rng, ((244, 232, 200), (238, 220, 178), (250, 244, 226))))
    if rng.random() < 0.6:
        pen.rectangle([16, 16, WIDTH - 17, HEIGHT - 40], outline=(90, 80, 60), width=2)
    colours = (_pick(rng, VIVID),)
    for _ in range(int(rng.integers(1, 3))):
        x = WIDTH / 2 + rng.normal(0, 50)
        _plant(pen, rng, x, HEIGHT - 80, rng.uniform(250, 350), FRESH, colours, line=5)
    for _ in range(int(rng.integers(0, 4))):
        _flower(pen, rng.uniform(50, 330), rng.uniform(60, 420), rng.uniform(16, 34), _shade(colours[0], rng), rng)
    _text(pen, rng, (130, HEIGHT - 32, 270, HEIGHT - 8), 12)
    return picture


def _line_drawing(rng):
    picture, pen = _page(rng, (252, 252, 250))
    ink = (int(rng.integers(0, 60)),) * 3
    flowers = VIVID if rng.random() < 0.6 else ()
    _plant(pen, rng, WIDTH / 2 + rng.normal(0, 30), HEIGHT - 70, rng.uniform(280, 390), GREENS, flowers, ink)
    for _ in range(int(rng.integers(1, 5))):  # details beside it
        x, y = _pick(rng, (50, WIDTH - 60)) + rng.normal(0, 10), rng.uniform(60, 420)
        _leaf(pen, x, y, rng.uniform(0, 6.3), rng.uniform(30, 60), rng.uniform(10, 30), None, ink, 2)
    _text(pen, rng, (40, HEIGHT - 36, 340, HEIGHT - 20), 12, ink)
    grey = np.asarray(picture.convert("L"))
    return Image.fromarray(np.repeat(grey[:, :, None], 3, axis=2))


def _live(rng):
    width, height = 480, 400
    depth = 0.5 + 0.25 * _cloud(rng, width, height, int(rng.integers(40, 90)))
    picture = _coloured(depth, _shade((18, 40, 16), rng), _shade((120, 168, 84), rng))
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(10, 30))):
        place = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 6.3)
        _leaf(pen, *place, rng.uniform(60, 150), rng.uniform(20, 60), _shade(_pick(rng, FRESH), rng, 20))
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(2, 6)))
    pen = ImageDraw.Draw(picture)
    colour = _pick(rng, VIVID)
    for _ in range(int(rng.integers(1, 5))):
        place = rng.uniform(100, 380), rng.uniform(80, 320)
        _flower(pen, *place, rng.uniform(40, 110), _shade(colour, rng), rng)
    return picture.filter(ImageFilter.GaussianBlur(1))


def _electron_micrograph(rng):
    width, height = 460, 400
    ridges = 1 - np.abs(_cloud(rng, width, height, int(rng.integers(10, 40)))) * rng.uniform(0.8, 1.6)
    texture = 0.55 * ridges + 0.2 * _cloud(rng, width, height, 4) * 0.5 + 0.3 + 0.05 * rng.standard_normal(ridges.shape)
    picture = _coloured(texture * rng.uniform(0.6, 1), (8, 8, 8), (245, 245, 245))
    pen = ImageDraw.Draw(picture)
    if rng.random() < 0.8:
        pen.rectangle([0, height - 34, width, height], fill="black")
        pen.line([(300, height - 14), (300 + rng.uniform(50, 120), height - 14)], fill="white", width=4)
        _text(pen, rng, (10, height - 28, 220, height - 8), 12, (230, 230, 230))
    return picture


def _reflected_light(rng):
    width, height = 440, 400
    relief = _cloud(rng, width, height, int(rng.integers(14, 50))) + 0.4 * _cloud(rng, width, height, 8)
    slope = relief - np.roll(relief, (2, 2), (0, 1))
    warm = _shade(_pick(rng, ((150, 96, 46), (176, 130, 60), (96, 110, 50), (140, 60, 50))), rng)
    picture = _coloured(0.45 + slope * rng.uniform(0.6, 1.2), (20, 12, 6), warm)
    pixels = np.asarray(picture, "float32") * 1.3
    pixels[slope > np.quantile(slope, 0.985)] = 250  # where it shines
    if rng.random() < 0.6:  # through the eyepiece
        y, x = np.mgrid[:height, :width]
        pixels[(x - width / 2) ** 2 + (y - height / 2) ** 2 > (height * rng.uniform(0.42, 0.55)) ** 2] = 12
    return Image.fromarray(np.clip(pixels, 0, 255).astype("uint8"))


def _transmitted_light(rng):
    ground = _pick(rng, ((236, 214, 222), (216, 232, 206), (234, 232, 214), (240, 238, 240)))
    picture, pen = _page(rng, ground, 440, 400)
    stain = _shade(_pick(rng, ((176, 40, 110), (60, 130, 50), (90, 60, 150), (190, 90, 60))), rng)
    wall = tuple(int(value * 0.6) for value in stain)
    pale = tuple(int(0.6 * one + 0.4 * other) for one, other in zip(ground, stain))
    if rng.random() < 0.5:  # tissue: cells side by side
        size = int(rng.integers(36, 70))
        for row, column in itertools.product(range(-1, 400 // size + 2), range(-1, 440 // size + 2)):
            x, y = column * size + (row % 2) * size / 2, row * size * 0.9
            angles = np.arange(6) * np.pi / 3 + 0.5
            corners = [(x + size * 0.56 * np.cos(angle), y + size * 0.56 * np.sin(angle)) for angle in angles]
            pen.polygon([tuple(np.add(corner, rng.normal(0, 3, 2))) for corner in corners], fill=_shade(pale, rng, 8))
            pen.line([*corners, corners[0]], fill=wall, width=3)
            _disc(pen, x, y, 6, fill=stain)
    else:  # grains
        for _ in range(int(rng.integers(3, 14))):
            x, y, radius = rng.uniform(20, 420), rng.uniform(20, 380), rng.uniform(20, 70)
            _disc(pen, x, y, radius, fill=_shade(stain, rng), outline=wall, width=5)
            _disc(pen, x, y, radius * 0.5, fill=_shade(pale, rng))
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2)))


def _slide(rng):
    picture, pen = _page(rng, _pick(rng, ((30, 30, 34), (90, 92, 96), (236, 236, 234))), 512, 320)
    left, top, length, height = 30 + rng.normal(0, 8), 90 + rng.normal(0, 12), 450, 140 + rng.normal(0, 8)
    glass = _shade((206, 218, 220), rng, 8)
    pen.rectangle([left, top, left + length, top + height], fill=glass, outline=(150, 160, 164), width=3)
    side = left + length - 120 if rng.random() < 0.4 else left
    _label(pen, rng, side + 5, top + 5, 110, height - 10)
    if rng.random() < 0.4:
        _label(pen, rng, left + (5 if side > left else length - 115), top + 5, 110, height - 10)
    x, y, half = left + 225 + rng.normal(0, 20), top + height / 2, height * rng.uniform(0.3, 0.42)
    cover = pen.ellipse if rng.random() < 0.5 else pen.rectangle
    colours = {"fill": _shade((222, 230, 226), rng, 6), "outline": (140, 150, 150)}
    cover([x - half, y - half, x + half, y + half], width=2, **colours)
    for _ in range(int(rng.integers(1, 6))):
        colour = _shade(_pick(rng, ((160, 60, 90), (110, 120, 60), (130, 90, 60))), rng)
        place = x + rng.normal(0, half / 4), y + rng.normal(0, half / 4), rng.uniform(0, 6.3)
        _leaf(pen, *place, half * rng.uniform(0.3, 0.8), half * rng.uniform(0.1, 0.4), colour)
    return picture


def _mixed(rng):
    picture, pen = _sheet_with_furniture(rng)
    count = int(rng.integers(3, 6))
    for number in range(count):
        x = WIDTH * (number + 0.5) / count + rng.normal(0, 8)
        y = HEIGHT - 120 if number % 2 else HEIGHT / 2 + 10
        _plant(pen, rng, x, y + rng.normal(0, 12), rng.uniform(110, 180), GREENS, VIVID if rng.random() < 0.3 else ())
        _label(pen, rng, x - 32, y + 14, 64, 30)
    return picture


def _occluded(rng):
    picture, pen = _ordinary_parts(rng)
    cover = _shade(_pick(rng, ((214, 190, 140), (250, 250, 246), (120, 90, 60), (206, 206, 200))), rng)
    edge = tuple(int(value * 0.7) for value in cover)
    share = rng.uniform(0.45, 0.75)
    kind = int(rng.integers(3))
    if kind == 0:  # a sheet of paper, askew
        x, y = rng.uniform(10, 80), rng.uniform(30, 110)
        slant = rng.normal(0, 25)
        points = [(x, y), (x + 280, y + slant), (x + 280, y + slant + 400 * share), (x, y + 400 * share)]
        pen.polygon(points, fill=cover, outline=edge)
    elif kind == 1:  # the folder's flap
        side = WIDTH * share
        points = [(0, 0), (side, 0), (side + rng.normal(0, 30), HEIGHT), (0, HEIGHT)]
        pen.polygon(points, fill=cover, outline=edge)
    else:  # an envelope
        x, y = rng.uniform(40, 90), rng.uniform(80, 180)
        pen.rectangle([x, y, x + 240, y + 240], fill=cover, outline=edge, width=3)
        pen.line([(x, y), (x + 120, y + 100), (x + 240, y)], fill=edge, width=3)
    return picture


def _ordinary_parts(rng):
    picture, pen = _sheet_with_furniture(rng)
    for _ in range(2 if rng.random() < 0.15 else 1):
        place = WIDTH / 2 + rng.normal(0, 35), HEIGHT - 110 + rng.normal(0, 15)
        _plant(pen, rng, *place, rng.uniform(240, 350), GREENS, VIVID if rng.random() < 0.25 else (), line=5)
    return picture, pen


def _ordinary(rng):
    return _ordinary_parts(rng)[0]


def _reproduction(rng):
    grey = np.asarray(_ordinary(rng).convert("L"), "float32")
    width = grey.shape[1]
    grey = 128 + (grey - rng.uniform(120, 180)) * rng.uniform(1.8, 3.2)  # a hard copy
    grey += 14 * rng.standard_normal(grey.shape)
    specks = rng.random(grey.shape) < 0.004
    grey[specks] = 0
    border = int(rng.integers(4, 30))
    if rng.random() < 0.7:
        grey[:border], grey[-border:], grey[:, :border], grey[:, width - border :] = 8, 8, 8, 8
    if rng.random() < 0.25:
        grey = 255 - grey  # a negative
    return Image.fromarray(np.repeat(np.clip(grey, 0, 255).astype("uint8")[:, :, None], 3, axis=2))


def _text_page(rng):
    colours = ((252, 250, 244), (244, 238, 220), (240, 214, 120), (200, 222, 214), (250, 250, 250))
    landscape = rng.random() < 0.4
    picture, pen = _page(rng, _pick(rng, colours), 460 if landscape else WIDTH, 300 if landscape else HEIGHT)
    ink = _shade((36, 34, 40), rng, 10)
    y = int(rng.integers(16, 50))
    while y < picture.height - 60:
        height = int(rng.integers(50, 180))
        box = (24, y, picture.width - 24, min(y + height, picture.height - 16))
        _text(pen, rng, box, int(rng.integers(10, 17)), ink, 1)
        y += height + int(rng.integers(8, 30))
    if landscape:
        pen.rectangle([6, 6, picture.width - 7, picture.height - 7], outline=ink, width=2)
    return picture


def _unpressed(rng):
    width, height = 440, 400
    ground = _pick(rng, ((24, 24, 28), (208, 208, 206), (120, 130, 140), (244, 244, 242)))
    picture, pen = _page(rng, ground, width, height)
    y, x = np.mgrid[:height, :width].astype("float32")
    pixels = np.asarray(picture, "float32").copy()
    count = 1 if rng.random() < 0.5 else int(rng.integers(2, 10))
    brown = _pick(rng, ((130, 84, 40), (176, 60, 40), (196, 150, 80), (96, 70, 46)))
    for _ in range(count):
        size = rng.uniform(90, 140) if count == 1 else rng.uniform(25, 50)
        middle = (220 + rng.normal(0, 20), 190 + rng.normal(0, 15)) if count == 1 else rng.uniform(60, 340, 2)
        wide, angle = size * rng.uniform(0.5, 0.95), rng.uniform(0, np.pi)
        along = ((x - middle[0]) * np.cos(angle) + (y - middle[1]) * np.sin(angle)) / size
        across = (-(x - middle[0]) * np.sin(angle) + (y - middle[1]) * np.cos(angle)) / wide
        inside = along**2 + across**2 < 1
        light = np.sqrt(np.clip(1 - along**2 - across**2, 0, 1)) * 0.8 + 0.3 - 0.15 * (x - middle[0]) / size
        if rng.random() < 0.6:  # a cone's scales
            scales = np.sin(along * rng.uniform(14, 24) + 3 * across) * np.sin(across * rng.uniform(10, 18))
            light = light * (1 + 0.35 * scales)
        pixels[inside] = (light[:, :, None] * np.array(_shade(brown, rng), "float32"))[inside]
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype("uint8"))
    pen = ImageDraw.Draw(picture)
    if rng.random() < 0.6:
        _ruler(pen, rng, 60, 376, 200)
    return picture


_IN_ORDER = (
    *(_animal, _biocultural, _corrupted, _fragmentary, _colour_plate, _line_drawing, _live),
    *(_electron_micrograph, _reflected_light, _transmitted_light, _slide),
    *(_mixed, _occluded, _ordinary, _reproduction, _text_page, _unpressed),
)
DRAWERS = dict(zip(LABELS, _IN_ORDER))


def write_picture(folder, label, number, seed):
    """Draw the picture of a number and write it to `FOLDER/LABEL/NUMBER.jpg`."""
    rng = np.random.default_rng([seed, LABELS.index(label), number])
    picture = draw(label, rng)
    with whole_file(os.path.join(folder, label, f"{number:05d}.jpg"), "wb") as file:
        picture.save(file, "JPEG", quality=int(rng.integers(75, 96)))


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    made.prog = "python -m tools.sample"
    add, count, seed = made.add_argument, whole_number(1), whole_number(0, 2**32)
    add("out", metavar="OUT", help="the folder to write to, created if missing")
    add("--count", type=count, metavar="N", help="pictures per category (%(default)s)")
    add("--seed", type=seed, metavar="S", help="seed of the pictures (%(default)s)")
    add("-p", "--processors", type=count, metavar="COUNT", help="number of CPU cores to use (all)")
    return made


def main(argv=None):
    """Run the command line; returns its exit status."""
    return run(options(), draw_collection, Settings, argv)


def draw_collection(settings):
    """Draw the pictures of all categories.

    Raises:
        UsageError: there are more pictures in the folder than these.
    """
    for label in LABELS:
        folder = os.path.join(settings.out, label)
        os.makedirs(folder, exist_ok=True)
        drawn = re.compile(r"(\d{5,})\.jpg").fullmatch
        for name in filter(drawn, sorted(os.listdir(folder))):
            if int(drawn(name).group(1)) >= settings.count:
                message = f"{folder} holds more than {settings.count} pictures, such as {name}; choose another OUT."
                raise UsageError(message, "count")
    names, numbers = zip(*itertools.product(LABELS, range(settings.count)))
    folders, seeds = itertools.repeat(settings.out), itertools.repeat(settings.seed)
    # Processes, since drawing holds Python's lock.
    pool = concurrent.futures.ProcessPoolExecutor(cores(settings.processors))
    with pool, progress(len(names), "pictures") as advance:
        for _ in pool.map(write_picture, folders, names, numbers, seeds, chunksize=16):
            advance(1)
    log.info(f"{counted(len(names), 'picture')} in {settings.out}")


if __name__ == "__main__":
    raise SystemExit(main())

"""Fractals in space: random iterated function systems, the points of their attractors, and pictures of these.

As in 3D-OFDB (arXiv:2307.14710), with the differences that `find_system` and `draw_view` mention. Only operations
whose results IEEE 754 fixes to the last bit are used (no float sums by numpy, no sines, no matrix products), and only
the bits of numpy's random generator: so a picture is the same with every numpy, on every machine.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

MAPS = range(2, 8)  # numbers of maps of a system
VARIANCE = 0.05  # the least along each axis, as in the published script
CELLS = 500  # of 32 x 32 x 32; an attractor in fewer looks like a few threads
CAMERA = 4.0  # its distance, where the attractor spans 2
VIEWS = 12  # around the attractor; further ones come between them
SHARE = 0.92  # of the picture's side that the attractor takes
TRIMMED = 400  # one point in 400, on each side, may lie outside

CANVAS = 224  # the side of the published pictures, with 10,000 points
_WALKERS, _BEFORE, _STEPS = 256, 32, 40  # 256 · 40 = 10,240 points
_LEVELS = 1 << 16  # of a coordinate, and of a map's probability
_CANDIDATES = 128  # maps drawn at once, of which 3.5 % are contractive


class System(NamedTuple):
    """An iterated function system.

    Attributes:
        maps: float32 `(maps, 3, 4)`: matrices and, in the last column, translations.
        chances: int64 `(maps,)`: the probability of each, in 65,536ths.
    """

    maps: np.ndarray
    chances: np.ndarray


def bits_of(seed, category, purpose=0):
    """Random bits, different for each purpose."""
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(category, purpose)))


def _uniform(bits, count):
    """Random numbers of -1 to 1, which float32 holds exactly: float64 `(count,)`."""
    return (bits.random_raw(count) >> np.uint64(40)).astype("float64") * 2.0**-23 - 1


def contractive(maps):
    """Whether affine maps bring all points closer together: their matrices' spectral norms are below 1.

    Args:
        maps: float64 `(maps, 3, 3 or more)`.

    Returns:
        bool `(maps,)`.
    """
    columns = [[maps[:, row, column] for row in range(3)] for column in range(3)]
    products = [[a[0] * b[0] + a[1] * b[1] + a[2] * b[2] for b in columns] for a in columns]
    # That is, 1 - MᵀM is positive definite, by Sylvester's criterion.
    a, b, c = 1 - products[0][0], -products[0][1], -products[0][2]
    d, e, f = 1 - products[1][1], -products[1][2], 1 - products[2][2]
    return (a > 0) & (a * d - b * b > 0) & (a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d) > 0)


def random_system(bits):
    """Draw a system: 2 to 7 contractive maps, their entries uniform from -1 to 1.

    A map's probability is in proportion to its determinant, so to the volume that it keeps.
    """
    count = MAPS[int(bits.random_raw() % len(MAPS))]
    maps = np.empty((0, 3, 4))
    while len(maps) < count:
        drawn = _uniform(bits, _CANDIDATES * 12).reshape(_CANDIDATES, 3, 4)
        maps = np.concatenate([maps, drawn[contractive(drawn)]])
    maps = maps[:count]
    (a, b, c), (d, e, f), (g, h, i) = maps[:, :, :3].transpose(1, 2, 0)
    volumes = np.abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)).tolist()
    before = list(itertools.accumulate(volumes))  # not `sum`, which newer Pythons round otherwise
    bounds = [0, *(math.floor(part / before[-1] * _LEVELS + 0.5) for part in before)]
    return System(maps.astype("float32"), np.diff(bounds))


def play(system, bits, steps=_STEPS, start=None):
    """Play the chaos game: in each step each walker moves by a random map of the system.

    Args:
        system: the `System`.
        bits: the source of randomness.
        steps: how many to return.
        start: float32 `(3, 256)`: points of the attractor where 256 walkers start; None to start at the origin, with
            32 more steps to reach the attractor.

    Returns:
        float32 `(3, steps * 256)`, the last 256 being the walkers' last positions.
    """
    skipped = _BEFORE if start is None else 0
    position = np.zeros((3, _WALKERS), "float32") if start is None else start
    map_of = np.repeat(np.arange(len(system.chances)), system.chances)
    raw = bits.random_raw((skipped + steps) * _WALKERS // 4).astype("<u8").view("<u2")
    choices = map_of[raw].reshape(-1, _WALKERS)
    columns = np.ascontiguousarray(system.maps.transpose(2, 1, 0))
    points = np.empty((skipped + steps, 3, _WALKERS), "float32")
    for choice, place in zip(choices, points):
        x, y, z, translation = columns.take(choice, axis=2)  # of each walker's map
        np.multiply(x, position[0], out=place)
        place += np.multiply(y, position[1], out=y)
        place += np.multiply(z, position[2], out=z)
        place += translation
        position = place
    return points[skipped:].transpose(1, 0, 2).reshape(3, -1)


def levels(points):
    """Points as whole numbers: all coordinates together span 0 to 65,535, so the shape is kept.

    Args:
        points: float32 `(3, points)`.

    Returns:
        int64 `(3, points)`.
    """
    lowest, highest = float(points.min()), float(points.max())
    scale = (_LEVELS - 1) / (highest - lowest) if highest > lowest else 0.0
    return ((points.astype("float64") - lowest) * scale).astype("int64")


def degenerate(points):
    """Whether an attractor looks like a point, a line or a few threads.

    The published criterion: where all coordinates together span 2, the variance along an axis is at most 0.05. And one
    more, since threads that lie across the axes pass it: of 32 x 32 x 32 cells fewer than 500 have a point.

    Args:
        points: int64 `(3, points)`, as of `levels`.
    """
    count = points.shape[1]
    for sum_, squares in zip(points.sum(axis=1).tolist(), (points * points).sum(axis=1).tolist()):
        if (count * squares - sum_ * sum_) * 4 <= VARIANCE * (count * count * _LEVELS * _LEVELS):
            return True
    x, y, z = points * 32 // _LEVELS
    return np.count_nonzero(np.bincount((x * 32 + y) * 32 + z)) < CELLS


def find_system(seed, category):
    """A category's system: the first drawn for it that is not degenerate.

    The published script drops systems whose points overflow; here all maps are contractive, so every system has an
    attractor.

    Returns:
        The `System`, and 10,240 points of its attractor: float32 `(3, 10240)`.
    """
    bits = bits_of(seed, category)
    while True:
        system = random_system(bits)
        points = play(system, bits)
        if not degenerate(levels(points)):
            return system, points


def draw_category(seed, category, views, size):
    """Draw views of a category's attractor.

    Args:
        seed: 0 or more.
        category: its number.
        views: numbers of views from 0: the first 12 go round the attractor in steps of 30 degrees, from a random start;
            12 more lie halfway between these, 24 more halfway between all those, and so on.
        size: height and width of a picture.

    Returns:
        A list of uint8 `(size, size, 3)`, grey on black.
    """
    system, points = find_system(seed, category)
    bits = bits_of(seed, category, 1)
    first = _direction(bits)
    side = _canvas(size)
    steps = -(-_STEPS * side * side // CANVAS**2)
    if steps > _STEPS:
        further = play(system, bits, steps - _STEPS, points[:, -_WALKERS:])
        points = np.concatenate([points, further], axis=1)
    points = levels(points)
    return [draw_view(points, _product(first, turn_of(view)), size) for view in views]


def _canvas(size):
    """The side of the canvas of a picture, which is then shrunk to `size`: a multiple of it."""
    return size * max(1, -(-CANVAS // size))


def _direction(bits):
    """A random direction: cosine and sine of its angle."""
    while True:
        x, y = _uniform(bits, 2).tolist()
        square = x * x + y * y
        if 0.01 < square <= 1:
            return x / math.sqrt(square), y / math.sqrt(square)


def turn_of(view):
    """Cosine and sine of the angle from the first view to a view, see `draw_category`."""
    turn = (1.0, 0.0)
    twelfth = math.sqrt(3) / 2, 0.5
    for _ in range(view % VIEWS):
        turn = _product(turn, twelfth)
    part, number = twelfth, view // VIEWS
    while number:
        cosine = math.sqrt((1 + part[0]) / 2)
        part = cosine, part[1] / (2 * cosine)  # half the angle
        if number & 1:
            turn = _product(turn, part)
        number >>= 1
    return turn


def _product(one, other):
    """Cosine and sine of the sum of two angles."""
    return one[0] * other[0] - one[1] * other[1], one[0] * other[1] + one[1] * other[0]


def draw_view(points, turn, size):
    """Draw points from one side, in perspective, centred and filling the picture.

    As in the published pictures a point is a white pixel on black, of a canvas of at least 224 x 224. That is shrunk to
    `size` by averaging, and brightened until the brightest pixel is white. (In the published ones the camera is fixed,
    and a span of 2 takes about 0.6 of the picture's side.)

    Args:
        points: int64 `(3, points)`, as of `levels`.
        turn: cosine and sine of the angle by which to turn them about the vertical axis.
        size: height and width in pixels.

    Returns:
        uint8 `(size, size, 3)`.
    """
    count = points.shape[1]
    x, y, z = ((axis - axis.sum() / count) * (2 / _LEVELS) for axis in points)
    distance = CAMERA - (turn[0] * z - turn[1] * x)
    across, down = (turn[0] * x + turn[1] * z) / distance, -y / distance
    side = _canvas(size)
    (left, right), (top, bottom) = _span(across), _span(down)
    scale = SHARE * side / max(right - left, bottom - top)
    columns = np.floor((across - (left + right) / 2) * scale + side / 2).astype("int64")
    rows = np.floor((down - (top + bottom) / 2) * scale + side / 2).astype("int64")
    seen = (columns >= 0) & (columns < side) & (rows >= 0) & (rows < side)
    canvas = np.zeros((side, side), "int64")
    canvas[rows[seen], columns[seen]] = 1
    factor = side // size
    counts = canvas.reshape(size, factor, size, factor).sum(axis=(1, 3))
    most = int(counts.max())
    grey = ((2 * 255 * counts + most) // (2 * most)).astype("uint8")
    return np.repeat(grey[:, :, None], 3, axis=2)


def _span(values):
    """The lowest and highest value, a few outliers at each end aside."""
    last = len(values) - 1
    ends = last // TRIMMED, last - last // TRIMMED
    return np.partition(values, ends)[list(ends)].tolist()

"""Fractals in space: random iterated function systems, the points of their attractors, and pictures of these.

As in 3D-OFDB (arXiv:2307.14710), but for what `find_system` and `draw_view` say. Only operations whose results IEEE 754
fixes to the last bit are used (no sums over floats, no sines, no matrix products), and of numpy's random numbers the
bits alone: so a picture is the same with every numpy, on every machine.
"""

import math
from typing import NamedTuple

import numpy as np

MAPS = range(2, 8)  # how many a system has
VARIANCE = 0.05  # what the published script demands along each axis
CELLS = 500  # of 32 x 32 x 32: with fewer only a few threads are seen
CAMERA = 4.0  # its distance, where the attractor spans 2
VIEWS = 12  # around the attractor; further ones come between them
SHARE = 0.92  # of the picture's side that the attractor takes
TRIMMED = 400  # one point in so many, on each side, doesn't count for that

CANVAS = 224  # the side of the published pictures, with 10,000 points
_WALKERS, _BEFORE, _STEPS = 256, 32, 40  # 256 · 40 = 10,240 points
_LEVELS = 1 << 16  # of a coordinate, and of a map's probability
_CANDIDATES = 128  # maps that are drawn at once, of which 3.5 % are contractive


class System(NamedTuple):
    """An iterated function system.

    Attributes:
        maps: float32 `(maps, 3, 4)`: matrices and, in the last column, translations.
        chances: int64 `(maps,)`: of 65,536 steps about how many each is applied in.
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
    """Draw a system: 2 to 7 maps, their entries uniform from -1 to 1, those that are not contractive left out.

    A map is applied the more often the more volume it keeps, in proportion to its determinant.
    """
    count = MAPS[int(bits.random_raw() % len(MAPS))]
    maps = np.empty((0, 3, 4))
    while len(maps) < count:
        drawn = _uniform(bits, _CANDIDATES * 12).reshape(_CANDIDATES, 3, 4)
        maps = np.concatenate([maps, drawn[contractive(drawn)]])
    maps = maps[:count]
    (a, b, c), (d, e, f), (g, h, i) = maps[:, :, :3].transpose(1, 2, 0)
    volumes = np.abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)).tolist()
    total, before, bounds = sum(volumes), 0.0, [0]
    for volume in volumes:
        before += volume
        bounds.append(math.floor(before / total * _LEVELS + 0.5))
    bounds[-1] = _LEVELS
    return System(maps.astype("float32"), np.diff(bounds))


def play(system, bits, steps=_STEPS, start=None):
    """Play the chaos game: walkers jump about on the attractor, each by a map that it draws for each step.

    Args:
        system: the `System`.
        bits: where the choices come from.
        steps: how many to keep.
        start: float32 `(3, 256)`: where 256 walkers stand on the attractor; None for walkers that first have to find
            it, on which the first 32 steps are spent.

    Returns:
        float32 `(3, steps * 256)`, the last 256 being where the walkers stand at the end.
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
    """Points as whole numbers: the span of all coordinates together is 0 to 65,535, so that the shape is kept.

    Args:
        points: float32 `(3, points)`.

    Returns:
        int64 `(3, points)`.
    """
    lowest, highest = float(points.min()), float(points.max())
    scale = (_LEVELS - 1) / (highest - lowest) if highest > lowest else 0.0
    return ((points.astype("float64") - lowest) * scale).astype("int64")


def degenerate(points):
    """Whether too little of an attractor can be seen.

    The published criterion: where all coordinates together span 2, their variance along an axis is at most 0.05. And
    one more, since threads across the axes meet that: of 32 x 32 x 32 cells fewer than 500 have a point.

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
    """A category's system, the first that is drawn for it and not degenerate.

    The published script draws the same maps and drops what leaves the range of numbers; here all are contractive, so
    that every system has an attractor.

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
    """Draw a category's attractor from some sides.

    Args:
        seed: 0 or more.
        category: its number.
        views: numbers of views from 0: the first 12 go round the attractor in steps of 30 degrees, beginning anywhere;
            12 more lie in the middle between these, 24 more in the middle between all those, and so on.
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
    """The side of what a picture is drawn on before it is shrunk: a multiple of `size`."""
    return size * max(1, -(-CANVAS // size))


def _direction(bits):
    """A random direction: cosine and sine of its angle."""
    while True:
        x, y = _uniform(bits, 2).tolist()
        square = x * x + y * y
        if 0.01 < square <= 1:
            return x / math.sqrt(square), y / math.sqrt(square)


def turn_of(view):
    """Cosine and sine of the angle between a view, of which `draw_category` says where it lies, and the first one."""
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
    """Draw points as they look from one side, in perspective, in the middle of the picture and filling it.

    As in the published pictures a point is a white pixel on black, of 224 x 224 where `size` is smaller than that; such
    a picture is shrunk, its pixels the means of the points' and brightened until the brightest is white. (There the
    camera stands still, and what spans 2 takes about 0.6 of the picture's side.)

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
    """From where to where values reach, a few at the ends left out."""
    last = len(values) - 1
    ends = last // TRIMMED, last - last // TRIMMED
    return np.partition(values, ends)[list(ends)].tolist()

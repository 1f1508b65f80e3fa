"""Fractals as one would write them first: `plain_fractals.py COUNT OUTPUT.tfr`, two views of each category.

Point by point, on one core, with the rules of the published script for 3D-OFDB (arXiv:2307.14710) but for maps that are
not contractive, which are left out as in fractals.py.
"""

import io
import sys

import numpy as np
from PIL import Image

from lib.data.record_format import make_record

SIZE, POINTS, VARIANCE = 224, 10_000, 0.05


def random_system(rng):
    """Matrices, translations and probabilities of a system."""
    count = rng.integers(2, 8)
    matrices = []
    while len(matrices) < count:
        matrix = rng.uniform(-1, 1, (3, 3))
        if np.linalg.norm(matrix, 2) < 1:
            matrices.append(matrix)
    volumes = np.abs(np.linalg.det(matrices))
    return matrices, rng.uniform(-1, 1, (count, 3)), volumes / volumes.sum()


def play(rng, matrices, translations, probabilities):
    """Points of the attractor."""
    point = np.zeros(3)
    points = []
    for chosen in rng.choice(len(matrices), POINTS, p=probabilities):
        point = matrices[chosen] @ point + translations[chosen]
        points.append(point)
    points = np.array(points)
    points = (points - points.min()) / (points.max() - points.min()) * 2 - 1
    return points - points.mean(axis=0)


def draw(points, angle):
    """A picture from one side, as a JPEG."""
    x, y, z = points.T
    distance = 4 - (np.cos(angle) * z - np.sin(angle) * x)
    across, down = (np.cos(angle) * x + np.sin(angle) * z) / distance, -y / distance
    scale = 0.92 * SIZE / max(np.ptp(across), np.ptp(down))
    middle, height = (across.min() + across.max()) / 2, (down.min() + down.max()) / 2
    columns = ((across - middle) * scale + SIZE / 2).astype(int)
    rows = ((down - height) * scale + SIZE / 2).astype(int)
    pixels = np.zeros((SIZE, SIZE, 3), "uint8")
    pixels[rows, columns] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=94)
    return file.getvalue()


def main(count, path):
    """Draw and write."""
    with open(path, "wb") as file:
        for category in range(int(count)):
            rng = np.random.default_rng([1, category])
            points = np.zeros((1, 3))
            while points.var(axis=0).min() <= VARIANCE:
                points = play(rng, *random_system(rng))
            for _ in range(2):
                file.write(make_record(category, draw(points, rng.uniform(0, 2 * np.pi))))


if __name__ == "__main__":
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""Find planted copies among a collection's images: how many are found, and what is joined that should not be.

    .venv/bin/python benchmarks/leaks.py images [--copies 3] [--seed 1]

Each image below the folder gets copies as collections have them: shrunk, and saved again at another JPEG quality.
Prints, for the hashes alone and with the second look at pixels that `imagesToTFR.py` takes, how many pairs of copies
are in one group, and how many pairs of different images are, which may be near-duplicates that the folder has anyway.
"""

import argparse
import os
import sys
import tempfile

import numpy as np
from PIL import Image, ImageOps

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import machine, print_table
from lib.cli.types import existing_directory
from lib.data.duplicates import difference_hash, group_alike
from lib.data.images import ImageError, read_image
from lib.data.listing import find_images

BITS, SIDE = 4, 96  # as by default


def copy_of(picture, rng, path):
    """Save a copy of a picture: at most 600 to 1,200 pixels long, in a quality of 60 to 95."""
    small = picture.copy()
    small.thumbnail((int(rng.integers(600, 1201)),) * 2)
    small.save(path, "JPEG", quality=int(rng.integers(60, 96)))


def read(path):
    """A file's pixels as records have them: uint8 `(96, 96, 3)`."""
    return np.rint(read_image(path, SIDE)).astype("uint8")


def collect(folder, copies, seed, scratch):
    """The pixels of all images and copies, and the number of the image that each is of."""
    rng, pixels, origin = np.random.default_rng(seed), [], []
    for number, path in enumerate(find_images(folder).paths):
        try:
            with Image.open(path) as opened:
                picture = ImageOps.exif_transpose(opened).convert("RGB")
            pixels.append(read(path))
        except (ImageError, OSError) as error:
            print(f"left out: {path} ({error})", file=sys.stderr)
            continue
        origin.append(number)
        for _ in range(copies):
            copy_of(picture, rng, scratch)
            pixels.append(read(scratch))
            origin.append(number)
    return pixels, np.array(origin)


def count(groups, origin):
    """How many pairs of copies, and of different images, are in one group; each two images count once."""
    together, same = groups[:, None] == groups[None, :], origin[:, None] == origin[None, :]
    apart = {tuple(sorted((origin[one], origin[other]))) for one, other in zip(*np.nonzero(together & ~same))}
    return int(np.triu(together & same, 1).sum()), int(np.triu(same, 1).sum()), len(apart)


def main(argv=None):
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=existing_directory)
    parser.add_argument("--copies", type=int, default=3, help="of each image (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        pixels, origin = collect(options.folder, options.copies, options.seed, os.path.join(folder, "copy.jpg"))
    hashes, names = [difference_hash(each) for each in pixels], range(len(pixels))
    print(f"{machine()}\n")
    rows = []
    for title, look in (("hashes", None), ("hashes, then pixels", lambda index: pixels[index])):
        found, pairs, joined = count(group_alike(names, hashes, BITS, look), origin)
        rows.append([title, f"{found:,} of {pairs:,} ({found / pairs:.1%})", f"{joined:,}"])
    print_table([f"{len(set(origin.tolist())):,} images, {options.copies} copies each", "copies", "others"], rows)


if __name__ == "__main__":
    main()

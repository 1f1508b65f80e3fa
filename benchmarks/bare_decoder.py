"""The floor for categorising scans: `bare_decoder.py FOLDER` decodes them on two threads, shrunk in the decoder."""

import glob
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from lib.data.images import SHORTER_SIDE


def decode(path):
    """Decode one image and forget it."""
    with Image.open(path) as image:
        image.draft(None, (SHORTER_SIDE, SHORTER_SIDE))
        image.load()


def main(folder):
    """Decode all."""
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(decode, sorted(glob.glob(os.path.join(folder, "*.jpg")))):
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])

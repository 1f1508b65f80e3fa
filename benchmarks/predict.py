#!/usr/bin/env python3
"""Measure predictImages.py with both engines against the plain Keras way and the bare decoder: whole processes.

    .venv/bin/python benchmarks/predict.py [--quick]

The pictures are drawn here: 50 different small ones and 8 different scans, the rest hard links to them. `--quick` takes
a tenth of them, to see that it works. Prints the tables of benchmarks/README.md.
"""

import argparse
import os
import sys
import tempfile

import numpy as np
from PIL import Image, ImageFilter

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import ROOT, hand_over, machine, measure, print_table
from lib.models.published import find_model
from lib.prediction.settings import ENGINES

COLUMNS = (
    *("images", "OpenVINO", "TensorFlow", "plain", "times plain", "times TensorFlow"),
    *("peak", "peak TensorFlow", "peak plain", "bare decoder", "of it reached"),
)


def draw(path, width, height, seed):
    """Draw a picture about as detailed as a photographed sheet and save it as a JPEG of quality 85."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), (236, 230, 215), "float32")
    for scale, strength in ((8, 12), (64, 40), (400, 60)):
        coarse = rng.normal(0, strength, (height // scale + 2, width // scale + 2, 3)).astype("float32")
        image = [Image.fromarray(coarse[:, :, band]) for band in range(3)]
        picture += np.stack([np.asarray(band.resize((width, height), Image.BICUBIC)) for band in image], axis=-1)
    image = Image.fromarray(np.clip(picture, 0, 255).astype("uint8")).filter(ImageFilter.SHARPEN)
    image.save(path, quality=85)


def folder_of(parent, name, count, different, width, height):
    """A folder of `count` JPEGs, `different` of them drawn, the others hard links."""
    folder = os.path.join(parent, name)
    os.mkdir(folder)
    for number in range(count):
        path = os.path.join(folder, f"{number:06d}.jpg")
        if number < different:
            draw(path, width, height, number)
        else:
            os.link(os.path.join(folder, f"{number % different:06d}.jpg"), path)
    return folder


def ours(folder, output, engine):
    """Measure predictImages.py."""
    command = [sys.executable, os.path.join(ROOT, "predictImages.py"), "-d", folder, "-o", output, "-c", "--overwrite"]
    return measure([*command, "-b", "1024", "--engine", engine])


def work_on(scratch, folder, name, scans, model):
    """A row of the table, all of it measured on the same files, one after the other."""
    count, here = len(os.listdir(folder)), os.path.join(ROOT, "benchmarks")
    openvino, tensorflow = (ours(folder, os.path.join(scratch, "ours.tsv"), engine) for engine in ENGINES)
    program, output = os.path.join(here, "plain_predict.py"), os.path.join(scratch, "plain.tsv")
    plain = measure([sys.executable, program, model, folder, output])
    floor = measure([sys.executable, os.path.join(here, "bare_decoder.py"), folder]) if scans else None
    row = [f"{count:,} {name}"]
    row += [f"{count / each.seconds:.0f}/s" for each in (openvino, tensorflow, plain)]
    row += [f"{plain.seconds / openvino.seconds:.2f}", f"{tensorflow.seconds / openvino.seconds:.2f}"]
    row += [f"{each.peak_mib:.0f} MiB" for each in (openvino, tensorflow, plain)]
    row += [f"{count / floor.seconds:.0f}/s", f"{100 * floor.seconds / openvino.seconds:.0f} %"] if floor else ["", ""]
    if os.path.basename(folder) in ("many", "more"):
        speed, ratio = f"{count / openvino.seconds:,.0f} images/s", f"{plain.seconds / openvino.seconds:.2f}"
        hand_over("predict", __file__, row[0], speed, openvino.peak_mib, ratio)
    return row


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the images")
    share = 10 if parser.parse_args().quick else 1
    model = find_model("ConvNeXt-N")
    with tempfile.TemporaryDirectory() as scratch:
        workloads = [
            ("JPEGs of 320 × 240", folder_of(scratch, "few", 5000 // share, 50, 320, 240), False),
            ("JPEGs of 320 × 240", folder_of(scratch, "many", 20000 // share, 50, 320, 240), False),
            ("scans of 24 megapixels", folder_of(scratch, "scans", 600 // share, 8, 6000, 4000), True),
            ("scans of 24 megapixels", folder_of(scratch, "more", 2400 // share, 8, 6000, 4000), True),
            ("scans of 64 megapixels", folder_of(scratch, "large", 200 // share, 4, 8000, 8000), True),
        ]
        rows = []
        for name, folder, scans in workloads:
            rows.append(work_on(scratch, folder, name, scans, model))
            print(rows[-1], file=sys.stderr)
        ten = folder_of(scratch, "ten", 10, 10, 320, 240)
        table = os.path.join(scratch, "ten.tsv")
        starts = [min(ours(ten, table, engine).seconds for _ in range(3)) for engine in ENGINES]
    print(machine() + "\n")
    print_table(COLUMNS, rows)
    print("\nTen JPEGs of 320 × 240, from the start to the table: {:.1f} s, by TensorFlow {:.1f} s.".format(*starts))


if __name__ == "__main__":
    main()

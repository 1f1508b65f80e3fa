#!/usr/bin/env python3
"""Measure imagesToTFR.py against the bare decoder on the same files, and the search for near-duplicates.

    .venv/bin/python benchmarks/records.py [--quick]

`--quick` takes a tenth of the images, to see that it works. Prints the tables of benchmarks/README.md.
"""

import argparse
import os
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import ROOT, hand_over, machine, measure, print_table
from benchmarks.predict import folder_of
from lib.data.duplicates import near_groups


def conversions(scratch, share):
    """Rows of the first table."""
    rows = []
    for kind, count, different, width, height, telling in (
        ("JPEGs of 320 × 240", 20000 // share, 50, 320, 240, False),
        ("JPEGs of 320 × 240", 100000 // share, 50, 320, 240, True),
        ("scans of 24 megapixels", 600 // share, 8, 6000, 4000, False),
        ("scans of 24 megapixels", 2400 // share, 8, 6000, 4000, True),
    ):
        name = f"{count:,} {kind}"
        parent = os.path.join(scratch, name.replace(" ", ""))
        os.mkdir(parent)
        folder = folder_of(parent, "sheets", count, different, width, height)
        command = [sys.executable, os.path.join(ROOT, "imagesToTFR.py"), "-d", parent, "-o"]
        ours = measure([*command, os.path.join(scratch, "records")])
        floor = measure([sys.executable, os.path.join(ROOT, "benchmarks", "bare_decoder.py"), folder])
        rows.append(
            [
                name,
                f"{count / ours.seconds:.0f}/s",
                f"{count / floor.seconds:.0f}/s",
                f"{100 * floor.seconds / ours.seconds:.0f} %",
                f"{ours.peak_mib:.0f} MiB",
            ]
        )
        print(rows[-1], file=sys.stderr)
        if telling:
            speed, ratio = f"{count / ours.seconds:,.0f} images/s", f"{floor.seconds / ours.seconds:.2f} of the decoder"
            hand_over("records", __file__, name, speed, ours.peak_mib, ratio)
    return rows


def searches():
    """Rows of the second table: 200,000 hashes of several kinds."""
    rng = np.random.default_rng(1)
    even = rng.integers(0, 1 << 63, 200_000, dtype="uint64")
    copies = np.repeat(rng.integers(0, 1 << 63, 2_000, dtype="uint64"), 100)
    for _ in range(3):
        copies ^= np.uint64(1) << rng.integers(0, 64, len(copies)).astype("uint64")
    blank = np.packbits(rng.random((20_000, 64)) < 0.1, axis=1).view("uint64")[:, 0]
    kinds = (
        ("random", even),
        ("2,000 pictures, each 100 times with 3 bits changed", copies),
        ("random, but 20,000 of nearly blank pictures", np.concatenate([even[:180_000], blank])),
    )
    for name, hashes in kinds:
        for bits in (4, 8):
            start = time.perf_counter()
            groups = len(np.unique(near_groups(hashes, bits)))
            yield [name, str(bits), f"{groups:,}", f"{time.perf_counter() - start:.1f} s"]


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the images")
    share = 10 if parser.parse_args().quick else 1
    print(machine() + "\n")
    with tempfile.TemporaryDirectory() as scratch:
        print_table(["images", "here", "bare decoder", "of it reached", "peak here"], conversions(scratch, share))
    print()
    print_table(["200,000 hashes", "bits", "groups", "time"], searches())


if __name__ == "__main__":
    main()

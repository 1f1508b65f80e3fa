#!/usr/bin/env python3
"""Measure testImages.py against the plain Keras way (`plain_evaluate.py`): whole processes, the same model and records.

    .venv/bin/python benchmarks/evaluate.py [--quick]

The model is ConvNeXt-N, drawn pictures the records. `--quick` takes fewer, to see that it works. Prints the table of
benchmarks/README.md.
"""

import argparse
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import ROOT, hand_over, machine, measure, print_table
from benchmarks.train import CLASSES, prepare
from lib.models.published import find_model

BATCH, SIZE = 256, 96


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer images, and each way once")
    quick = parser.parse_args().quick
    model, rows = find_model("ConvNeXt-N"), []
    with tempfile.TemporaryDirectory() as scratch:
        for of_each in (5, 10) if quick else (20, 100):
            shares = f"{of_each}:0:0"
            records, _ = prepare(scratch, str(of_each), of_each, SIZE, "--herbariograph", "--per-class", shares)
            ours = [sys.executable, os.path.join(ROOT, "testImages.py"), "-c", "-a", str(CLASSES), "-b", str(BATCH)]
            plain = [sys.executable, os.path.join(ROOT, "benchmarks", "plain_evaluate.py"), model, records, str(BATCH)]
            # In turn, since the machine's other work changes.
            runs = [(measure([*ours, "-m", model, "-t", records]), measure(plain)) for _ in range(1 if quick else 3)]
            rows.append(row(f"{CLASSES * of_each:,} images of {SIZE} × {SIZE}", *zip(*runs)))
    print(machine() + "\n")
    print_table(["records", "here", "plain", "times faster", "time of the cores", "plain", "peak", "peak plain"], rows)


def row(records, ours, plain):
    """A row: of each way the fastest run, and the highest peak."""
    best, other = (min(runs, key=lambda run: run.seconds) for runs in (ours, plain))
    peaks = [max(run.peak_mib for run in runs) for runs in (ours, plain)]
    ratio = f"{other.seconds / best.seconds:.2f}"
    hand_over("test", __file__, records, f"{best.seconds:.1f} s", peaks[0], ratio)
    times = [f"{seconds:.1f} s" for seconds in (best.seconds, other.seconds, best.cpu_seconds, other.cpu_seconds)]
    return [records, *times[:2], ratio, *times[2:], *(f"{peak:,.0f} MiB" for peak in peaks)]


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Measure trainImagesC.py's loop against the plain Keras way (`plain_train.py`) on the sample collection.

    .venv/bin/python benchmarks/train.py [--quick]

`--quick` takes fewer images and epochs, to see that it works. Prints the tables of benchmarks/README.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import ROOT, hand_over, machine, measure, print_table

CLASSES = 17


def prepare(scratch, name, count, size, *more):
    """Draw a sample collection and make records of it; the paths of train and validation."""
    folder, prefix = os.path.join(scratch, name), os.path.join(scratch, f"{name}-{size}")
    environment = dict(os.environ, PYTHONPATH=ROOT)
    for command in (
        [sys.executable, "-m", "tools.sample", folder, "--count", str(count), "--seed", "1"],
        [sys.executable, os.path.join(ROOT, "imagesToTFR.py"), "-d", folder, "-o", prefix, "-s", str(size), *more],
    ):
        subprocess.run(command, check=True, stdout=sys.stderr, env=environment)
    return f"{prefix}-train.tfr", f"{prefix}-validation.tfr"


def make_model(scratch, name, *options):
    """Make a model of the sample's categories; its path."""
    path = os.path.join(scratch, f"{name}.keras")
    command = [sys.executable, os.path.join(ROOT, "convnext.py"), "-a", str(CLASSES), "-o", path, *options]
    subprocess.run(command, check=True, capture_output=True)
    return path


def child(scratch, way, *arguments):
    """Run one of the two ways; what it found, and its peak memory in MiB."""
    result = os.path.join(scratch, "result.json")
    measured = measure([sys.executable, os.path.join(ROOT, "benchmarks", f"{way}.py"), result, *arguments])
    with open(result) as file:
        return json.load(file), measured.peak_mib


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    print(machine() + "\n")
    with tempfile.TemporaryDirectory() as scratch:
        speed(scratch, 20 if quick else 300)
        quality(scratch, 20 if quick else 60, 2 if quick else 40, 1 if quick else 3)


def speed(scratch, count):
    """The table of the input's rate, an epoch's time and the memory, for ConvNeXt-N at 96 × 96."""
    files = prepare(scratch, "speed", count, 96)
    model = make_model(scratch, "N", "-x", "24", "-e", "2", "-i", "96")
    options = ["--size", "96", "--batch", "64", "--seed", "1", "--classes", str(CLASSES)]
    images = int(count * 0.8) * CLASSES // 64 * 64
    plain, _ = child(scratch, "plain_train", model, *files, *options, "--input")
    ours, _ = child(scratch, "our_train", model, *files, *options, "--input")
    rows = [
        ["input, second epoch", *rates(images, ours["seconds"][1], plain["seconds"][1])],
        ["the same with crop and mixup", *rates(images, ours["seconds"][2], plain["seconds"][1])],
    ]
    ratios, peaks = [], []
    for _ in range(2):
        plain, plain_peak = child(scratch, "plain_train", model, *files, *options, "--epochs", "3")
        ours, our_peak = child(scratch, "our_train", model, *files, *options, "--epochs", "3")
        ratios.append([min(found["seconds"][1:]) for found in (ours, plain)])
        peaks.append((our_peak, plain_peak))
    for ours, plain in ratios:
        rows.append(["a whole epoch, ConvNeXt-N", f"{ours:.1f} s", f"{plain:.1f} s", f"{ours / plain:.2f} of the time"])
    cached = (int(count * 0.8) + int(count * 0.1)) * CLASSES * 96 * 96 * 3 / 2**20
    best, other = (min(seconds) for seconds in zip(*ratios))
    ours, plain = max(peaks)
    work = f"an epoch of ConvNeXt-N on {images:,} images of 96 × 96"
    hand_over("train", __file__, work, f"{best:.1f} s", ours, f"{other / best:.2f}")
    rows.append(["peak memory", f"{ours:.0f} MiB, cached images {cached:.0f} MiB", f"{plain:.0f} MiB", ""])
    print_table([f"{images:,} images of 96 × 96, batch 64", "here", "plain", "ratio"], rows)
    print()


def rates(images, ours, plain):
    """A row's two rates and their ratio."""
    return [f"{images / ours:,.0f}/s", f"{images / plain:,.0f}/s", f"{plain / ours:.1f} times"]


def quality(scratch, count, epochs, seeds):
    """The table of the validation F1 that both reach."""
    files = prepare(scratch, "quality", count, 64)
    model = make_model(scratch, "small", "-x", "16", "-n", "1:1:1:1", "-i", "64")
    options = ["--size", "64", "--batch", "32", "--epochs", str(epochs), "--classes", str(CLASSES)]
    rows = []
    for seed in range(1, seeds + 1):
        found = [
            child(scratch, f"{way}_train", model, *files, *options, "--seed", str(seed))[0]["f1"]
            for way in ("our", "plain")
        ]
        rows.append([str(seed), *(f"{max(scores):.4f}" for scores in found)])
    if seeds > 1:
        rows.append(["mean", *(f"{statistics.mean(float(row[column]) for row in rows):.4f}" for column in (1, 2))])
    print_table([f"seed, {epochs} epochs of {int(count * 0.8) * CLASSES:,} images", "best val_f1 here", "plain"], rows)


if __name__ == "__main__":
    main()

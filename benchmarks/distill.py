#!/usr/bin/env python3
"""Measure distillOptimizeImagesR.py's loop against the plain Keras way (`plain_distill.py`) on the sample collection.

    .venv/bin/python benchmarks/distill.py [--quick]

The teacher is a SavedModel of a ConvNeXt with fresh weights: what it answers costs the same as if it knew anything.
`--quick` takes fewer images and epochs, to see that it works. Prints the table of benchmarks/README.md.
"""

import argparse
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import ROOT, hand_over, machine, print_table
from benchmarks.train import CLASSES, child, make_model, prepare, rates

EXPORT = """
import sys, tensorflow as tf
from lib.models.keras_files import load_model
module = tf.Module()
module.model = load_model(sys.argv[1])
@tf.function(input_signature=[tf.TensorSpec((None, 3, 96, 96), tf.float32, name="input")])
def serve(pixels):
    return {"output": module.model(tf.transpose(pixels, [0, 2, 3, 1]) * 255, training=False)}
tf.saved_model.save(module, sys.argv[2], signatures={"serving_default": serve})
"""


def make_teacher(scratch):
    """Make a SavedModel of a ConvNeXt twice as wide as the student; its path."""
    path, environment = os.path.join(scratch, "teacher"), dict(os.environ, PYTHONPATH=ROOT, CUDA_VISIBLE_DEVICES="-1")
    model = make_model(scratch, "teacher", "-x", "48", "-i", "96")
    subprocess.run([sys.executable, "-c", EXPORT, model, path], check=True, capture_output=True, env=environment)
    return path


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    count = 20 if parser.parse_args().quick else 120
    print(machine() + "\n")
    with tempfile.TemporaryDirectory() as scratch:
        files = prepare(scratch, "distill", count, 96)
        models = make_model(scratch, "student", "-x", "24", "-e", "2", "-i", "96"), make_teacher(scratch)
        options = ["--size", "96", "--batch", "32", "--seed", "1", "--classes", str(CLASSES)]
        images = int(count * 0.8) * CLASSES // 32 * 32
        rows = []
        for chance, name in (("0", "published log"), ("0.3", "all changes at 0.3")):
            given = [*models, *files, *options, "--changes", chance]
            plain, _ = child(scratch, "plain_distill", *given, "--input")
            ours, _ = child(scratch, "our_distill", *given, "--input")
            once, again = ours["seconds"][1:]
            rows.append([f"input, second epoch, {name}", *rates(images, once, plain["seconds"][1])])
            rows.append([f"the same with what the step does, {name}", *rates(images, again, plain["seconds"][1])])
        peaks, epochs = [], {}
        for chance, name in (("0", "published log"), ("0.3", "all changes at 0.3"), ("0", "published log")):
            given = [*models, *files, *options, "--changes", chance, "--epochs", "3"]
            plain, plain_peak = child(scratch, "plain_distill", *given)
            ours, our_peak = child(scratch, "our_distill", *given)
            one, other = (min(found["seconds"][1:]) for found in (ours, plain))
            rows.append([f"a whole epoch, {name}", f"{one:.1f} s", f"{other:.1f} s", f"{one / other:.2f} of the time"])
            peaks.append((our_peak, plain_peak))
            epochs.setdefault(name, []).append((one, other))
        ours, plain = max(peaks)
        for name, found in epochs.items():
            best, slow = (min(seconds) for seconds in zip(*found))
            work = f"an epoch of ConvNeXt-N on {images:,} images of 96 × 96, {name}"
            hand_over("distill", __file__, work, f"{best:.1f} s", ours, f"{slow / best:.2f}")
        rows.append(["peak memory", f"{ours:.0f} MiB", f"{plain:.0f} MiB", f"{ours / plain:.2f}"])
    print_table([f"{images:,} images of 96 × 96, batch 32", "here", "plain", "ratio"], rows)


if __name__ == "__main__":
    main()

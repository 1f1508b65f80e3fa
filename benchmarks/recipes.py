#!/usr/bin/env python3
"""Compare the augmentation recipes of trainImagesC.py on small collections, over several seeds.

    .venv/bin/python benchmarks/recipes.py --model ConvNeXt-distilled.keras drawn=sample real=images both=sample,images

A collection is a folder with a subfolder for each category, or several such folders, separated by commas; with
`--herbariograph` the folders of one category may be named differently. For each seed, a collection is divided anew, the
model's encoder goes into a fresh classifier, whose last layers and then all layers are trained with each recipe, and
the result is tested. `--quick` does little of all, to see that it works. Prints a table: mean and range over the seeds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import ROOT, machine, print_table
from lib.cli.types import existing_directory, existing_file, parsed
from lib.storage.names import escape_name
from lib.training.hyperparameters import PRESETS, parse_augmentation

RATE = 0.0005  # for all layers


def collection(text):
    """NAME=FOLDER,FOLDER,… -> the name and the folders."""
    name, _, folders = text.partition("=")
    return name, [existing_directory(folder) for folder in folders.split(",")]


def augment(text):
    """A text that trainImagesC.py takes, unchanged."""
    parse_augmentation(text)
    return text


def stage(script, *arguments):
    """Run a stage without a GPU, its messages discarded unless it fails; returns the last line of its stdout."""
    command = [sys.executable, os.path.join(ROOT, script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
    return (done.stdout.splitlines() or [""])[-1]


def make_records(scratch, folders, seed, options):
    """Records of some folders; returns their prefix and the number of categories."""
    table, prefix = os.path.join(scratch, "collection.tsv"), os.path.join(scratch, "r")
    with open(table, "w", encoding="utf-8") as file:
        print("FILE", "CATEGORY", sep="\t", file=file)
        for parent, _, names in (found for folder in folders for found in os.walk(folder) if found[0] != folder):
            for name in sorted(names):
                path = os.path.abspath(os.path.join(parent, name))
                print(escape_name(path), os.path.basename(parent), sep="\t", file=file)
    published = ["--herbariograph"] if options.herbariograph else []
    stage("imagesToTFR.py", "-t", table, "-o", prefix, "--per-class", options.per_class, "-r", seed, *published)
    with open(f"{prefix}-categories.tsv", encoding="utf-8") as file:
        return prefix, len(file.readlines()) - 1


def measure(scratch, folders, seed, options):
    """Train and test with each recipe; returns recipe -> (accuracy, macro F1), and the number of test images."""
    prefix, count = make_records(scratch, folders, seed, options)
    fresh, start, found = (os.path.join(scratch, name) for name in ("fresh.keras", "start.keras", "found.json"))
    stage("convnext.py", "-a", count, "-e", 2, "-i", 96, "-x", 24, "-r", seed, "-o", fresh)
    stage("convnextClassifier.py", "-e", options.model, "-m", fresh, "-o", start)
    files = ["-t", f"{prefix}-train.tfr", "-v", f"{prefix}-validation.tfr", "-o", scratch, "-r", seed]
    results = {}
    for name in options.recipes:
        more = ["-c", "-a", count, "-b", options.batch, *files, "--augment", name]
        model = stage("trainImagesC.py", "-m", start, "-s", "output_gap", "-e", options.epochs[0], *more)
        model = stage("trainImagesC.py", "-m", model, "-s", "rescale", "-e", options.epochs[1], "-l", RATE, *more)
        stage("testImages.py", "-c", "-a", count, "-m", model, "-t", f"{prefix}-test.tfr", "--json", found)
        with open(found, encoding="utf-8") as file:
            tested = json.load(file)
        results[name] = tested["accuracy"], tested["f1"]
        print(f"seed {seed}, {name}: accuracy {results[name][0]:.1%}", file=sys.stderr)
    return results, tested["images"]


def main(argv=None):
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collections", nargs="+", type=collection, metavar="NAME=FOLDER,…")
    parser.add_argument("--model", type=existing_file, required=True, help="whose encoder is taken")
    parser.add_argument("--recipes", nargs="+", type=parsed(augment), default=list(PRESETS), help="as of --augment")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--per-class", default="0.6:0.2:0.2", help="as of imagesToTFR.py")
    parser.add_argument("--herbariograph", action="store_true", help="as of imagesToTFR.py")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", nargs=2, type=int, default=[60, 60], help="for the last layers, for all layers")
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch")
    options = parser.parse_args(argv)
    if options.quick:
        options.seeds, options.epochs = options.seeds[:1], [1, 1]
    print(machine() + "\n")
    rows = []
    for name, folders in options.collections:
        found = {each: [] for each in options.recipes}
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as scratch:
                results, images = measure(scratch, folders, seed, options)
            for each, scores in results.items():
                found[each].append(scores)
        for each, scores in found.items():
            rows.append([name, f"{images}", each, *map(in_words, zip(*scores))])
    print_table(["collection", "test images", "recipe", "accuracy", "macro F1"], rows)


def in_words(shares):
    """The mean and the range of shares."""
    return f"{statistics.mean(shares):.1%} ({min(shares):.1%} to {max(shares):.1%})"


if __name__ == "__main__":
    main()

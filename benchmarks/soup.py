#!/usr/bin/env python3
"""Measure imageSoup.py against the plain Keras way (`plain_soup.py`): whole processes, the same models and records.

    .venv/bin/python benchmarks/soup.py [--quick]

The models are the epochs of a short training, drawn pictures its records. `--quick` takes fewer of all, to see that it
works. Prints the table of benchmarks/README.md.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import ROOT, hand_over, machine, measure, print_table
from benchmarks.train import CLASSES, make_model, prepare
from lib.storage.runs import runs_in

BATCH, PERCENTILE, SIZE = 256, 40, 96


def snapshots(scratch, model, train, validation, epochs):
    """Train for some epochs; the directory of their models."""
    script = os.path.join(ROOT, "trainImagesC.py")
    measure(
        [
            *(sys.executable, script, "-c", "-Q", "-a", str(CLASSES), "-b", "64", "-e", str(epochs), "-i", str(SIZE)),
            *("-m", model, "-o", scratch, "-t", train, "-v", validation),
        ]
    )
    (run,) = runs_in(scratch)
    return run.intermediate


def ours(scratch, folder, train, validation, *more):
    """Make the soup; what was measured, and the names of its ingredients."""
    output = tempfile.mkdtemp(dir=scratch)
    command = [
        *(sys.executable, os.path.join(ROOT, "imageSoup.py"), "-c", "-a", str(CLASSES), "-b", str(BATCH)),
        *("-d", train, "-v", validation, "-m", folder, "-o", output, "-T", str(PERCENTILE), *more),
    ]
    measured = measure(command)
    (run,) = runs_in(output)
    with open(run.settings) as file:
        taken = [os.path.basename(name) for name in json.load(file)["ingredients"]]
    shutil.rmtree(output)
    return measured, taken


def child(scratch, program, *arguments):
    """Run one of the programs beside this one; what was measured, and what it found."""
    result = os.path.join(scratch, "result.json")
    measured = measure([sys.executable, os.path.join(ROOT, "benchmarks", program), result, *map(str, arguments)])
    with open(result) as file:
        return measured, json.load(file)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer images, models and repetitions")
    quick = parser.parse_args().quick
    of_each, models, repetitions = (10, 4, 1) if quick else (100, 12, 3)
    runs = {"plain": [], "scores measured": [], "scores recorded": []}
    bare = []
    with tempfile.TemporaryDirectory() as scratch:
        per_class = ("--per-class", f"{of_each}:{of_each // 5}:0")
        train, validation = prepare(scratch, "soup", of_each * 6 // 5, SIZE, *per_class)
        model = make_model(scratch, "N", "-x", "24", "-e", "2", "-i", str(SIZE))
        folder = snapshots(scratch, model, train, validation, models)
        for _ in range(repetitions):  # in turn, since the machine's other work changes
            measured, plain = child(scratch, "plain_soup.py", folder, train, validation, BATCH, PERCENTILE)
            runs["plain"].append(measured)
            for name, more in (("scores measured", ["--rescore"]), ("scores recorded", [])):
                measured, taken = ours(scratch, folder, train, validation, *more)
                runs[name].append(measured)
                if taken != plain["taken"]:
                    print(f"Not the same soup: {taken} here, {plain['taken']} plain", file=sys.stderr)
            bare.append(child(scratch, "bare_model.py", model, SIZE)[1])
    count, ranking = CLASSES * of_each, CLASSES * (of_each // 5)
    scored = {"scores recorded": plain["scored"] * count + ranking}
    scored["scores measured"] = scored["scores recorded"] + models * ranking
    print(machine() + "\n")
    rates = {name: max(found[name] for found in bare) for name in ("plain", "folded", "OpenVINO")}
    seconds = {name: min(found[name] for found in bare) for name in ("loading", "compiling")}
    table(runs, scored, rates["folded"], f"{models} models, {count:,} + {ranking:,} images of {SIZE} × {SIZE}")
    of_both = f"{rates['folded']:.0f} images/s, {rates['plain']:.0f} with no scales folded"
    print(f"\nThe bare model: {of_both}; a candidate's weights are loaded in {seconds['loading']:.2f} s.")
    print(f"By OpenVINO: {rates['OpenVINO']:.0f} images/s; a candidate is compiled in {seconds['compiling']:.2f} s.")


def table(runs, scored, rate, title):
    """Print what was measured: of each way the fastest run, and the highest peak."""
    best = {name: min(measured, key=lambda one: one.seconds) for name, measured in runs.items()}
    rows = []
    for name, fastest in best.items():
        floor = scored[name] / rate if name in scored else None
        peak, ratio = max(one.peak_mib for one in runs[name]), f"{best['plain'].seconds / fastest.seconds:.2f}"
        if floor:
            hand_over("soup", __file__, f"{title}, {name}", f"{fastest.seconds:.1f} s", peak, ratio)
        rows.append(
            [
                name,
                f"{fastest.seconds:.1f} s",
                ratio if floor else "",
                f"{min(one.cpu_seconds for one in runs[name]):.1f} s",
                f"{peak:.0f} MiB",
                f"{floor:.1f} s" if floor else "",
                f"{100 * floor / fastest.seconds:.0f} %" if floor else "",
            ]
        )
    print_table([title, "time", "times faster", "time of the cores", "peak", "floor", "of it reached"], rows)


if __name__ == "__main__":
    main()

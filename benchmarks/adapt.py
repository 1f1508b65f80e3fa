#!/usr/bin/env python3
"""Measure adaptImages.py: what a replayed reader gains on real images, by ways to ask, and a million images' time.

    .venv/bin/python benchmarks/adapt.py [--quick]

The reader's images are `golden/adaptation.npz` in `../shared` (or $HERBARIOGRAPH_SHARED): features of real images of
several sources. Half of the sources, drawn at random again and again, are a folder; the way that is best on one half is
tried on the other, so that none is praised for the images that it was chosen by. The million's features are drawn.
Prints the tables of benchmarks/README.md. `--quick` takes fewer of all, to see that it works.
"""

import argparse
import json
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np

from benchmarks.common import ROOT, hand_over, machine, measure, print_table
from lib.data.categories import LABELS
from lib.measures.adaptation import least_sure, margins
from lib.storage.files import checksum
from tools.replay import replay

SHARED = os.environ.get("HERBARIOGRAPH_SHARED") or os.path.join(os.path.dirname(ROOT), "shared")
MARKS, MARKS_OF_ALL = (20, 50, 80), (20, 50, 100)  # decided images of a folder, and of all as one folder


def by(score):
    """A way to ask: about the images of the lowest score, from their probabilities."""

    def choose(probabilities, count, decided):
        order = np.argsort(score(probabilities), kind="stable")
        return order[~np.isin(order, decided)][:count]

    return choose


def entropy(probabilities):
    """The negative entropy of each image's probabilities."""
    return (probabilities * np.log(probabilities + 1e-12)).sum(axis=1)


def spread(features, factor=3):
    """A way to ask: of `factor` times as many least sure images those that differ most, also from the decided ones."""
    normal = (features - features.mean(axis=0)) / features.std(axis=0)

    def choose(probabilities, count, decided):
        candidates = least_sure(probabilities, factor * count, decided)
        chosen = [candidates[0]]
        apart = np.min([((normal[candidates] - normal[one]) ** 2).sum(axis=1) for one in (*decided, *chosen)], axis=0)
        while len(chosen) < min(count, len(candidates)):
            chosen.append(candidates[apart.argmax()])
            apart = np.minimum(apart, ((normal[candidates] - normal[chosen[-1]]) ** 2).sum(axis=1))
        return chosen

    return choose


def ways(features):
    """The ways to ask and to learn that are compared: words -> arguments of `replay`."""
    rng = np.random.default_rng(0)
    margin = "least margin"
    return {
        f"{margin}, ten a round": {"each": 10},
        f"{margin}, ten a round, of the 30 least sure those most apart": {"each": 10, "choose": spread(features)},
        f"{margin} of logits, ten a round": {"each": 10, "choose": by(lambda p: margins(np.log(p + 1e-30)))},
        "least probable answer, ten a round": {"each": 10, "choose": by(lambda p: p.max(axis=1))},
        "highest entropy, ten a round": {"each": 10, "choose": by(entropy)},
        "at random, ten a round": {"each": 10, "choose": by(lambda p: rng.random(len(p)))},
        f"{margin}, ten a round, ridge 0.01": {"each": 10, "ridge": 0.01},
        f"{margin}, ten a round, ridge 0.1": {"each": 10, "ridge": 0.1},
        f"{margin}, ten a round, logits halved": {"each": 10, "temperature": 2.0},
        f"{margin}, one a round": {},
        f"{margin}, one a round, ridge 0.01": {"ridge": 0.01},
    }


def learn(images, way, marks):
    """The share of the rest that is right after so many decisions, for images `(features, logits, categories)`."""
    features, logits, categories = images
    options = dict(ways(features)[way])
    logits = logits / options.pop("temperature", 1.0)
    found = {}
    for decided, adapted in replay(features, logits, categories, **options):
        rest = np.delete(np.arange(len(features)), decided)
        found[len(decided)] = (adapted.argmax(axis=1) == categories)[rest].mean() if len(rest) else 1
        if len(decided) >= marks[-1]:
            break
    return [found[mark] for mark in marks]


def read_golden():
    """The real images, `(features, logits, categories)`, and the source of each."""
    with np.load(os.path.join(SHARED, "golden", "adaptation.npz")) as golden:
        return (golden["features"], golden["logits"].astype("float64"), golden["category"]), golden["source"]


def learn_all():
    """Print what the reader gains on all images as one folder."""
    columns, _ = read_golden()
    rows = []
    for way in ("least margin, ten a round", "least margin, one a round"):
        rows.append([way, *(f"{100 * share:.1f} %" for share in learn(columns, way, MARKS_OF_ALL))])
    right = (columns[1].argmax(axis=1) == columns[2]).mean()
    print(f"All {len(columns[0])} images as one folder, of which {100 * right:.1f} % are right before:\n")
    print_table(["asked", *(f"after {mark}" for mark in MARKS_OF_ALL)], rows)
    print()


def compare_ways(draws):
    """Print what the reader gains in each way, on halves of the sources that are drawn so often."""
    columns, source = read_golden()
    names, rng, shares = list(ways(columns[0])), np.random.default_rng(7), []
    for _ in range(draws):
        drawn = rng.permutation(np.unique(source))
        halves = (np.isin(source, drawn[: len(drawn) // 2]), ~np.isin(source, drawn[: len(drawn) // 2]))
        shares.append([[learn([column[half] for column in columns], way, MARKS) for way in names] for half in halves])
    shares = 100 * np.array(shares)
    every = shares.reshape(-1, len(names), len(MARKS))
    rows = []
    for place, name in enumerate(names):
        gain = (every[:, place] - every[:, 0]).mean(axis=1)
        spelled = f"{gain.mean():+.1f} ± {gain.std(ddof=1) / np.sqrt(len(gain)):.1f}"
        rows.append([name, *(f"{share:.1f} %" for share in every[:, place].mean(axis=0)), spelled])
    print_table(["asked", *(f"after {mark}" for mark in MARKS), "points more than the first (standard error)"], rows)
    chosen = shares.mean(axis=3).argmax(axis=2)  # of each draw and half
    gains = [shares[d, 1 - h, chosen[d, h]] - shares[d, 1 - h, 0] for d in range(draws) for h in (0, 1)]
    print(f"\nThe best way of one half, on the other: {np.mean(gains):+.1f} points on average.\n")
    hand_over(
        "adapt", __file__, f"a reader's 50 decisions on {draws * 2} folders", f"{every[:, -2, 1].mean():.1f} % right"
    )


def measure_many(scratch, count):
    """Adapt to so many drawn images; what was measured."""
    model, rng = os.path.join(SHARED, "models", "ConvNeXt-distilled.keras"), np.random.default_rng(1)
    centres, categories = rng.normal(size=(len(LABELS), 192)), rng.integers(0, len(LABELS), count)
    drawn = centres[categories].astype("float32") + rng.normal(size=(count, 192)).astype("float32")
    names = [f"scans/{number // 1000:04d}/{number:08d}.jpg" for number in range(count)]
    about = {"model": "ConvNeXt-N", "model_sha256": checksum(model), "data": "scans/", "exact": False}
    features, corrections = (os.path.join(scratch, name) for name in ("features.npz", "corrections.tsv"))
    np.savez(features, embeddings=drawn, paths=np.array(names), settings=np.array(json.dumps(about)))
    with open(corrections, "w", encoding="utf-8") as file:
        file.write("FILE\tCATEGORY\tROLE\n")
        for place, number in enumerate(rng.choice(count, 700, replace=False)):
            role = "audit" if place < 200 else "teach"
            file.write(f"{names[number]}\t{LABELS[categories[number]]}\t{role}\n")
    script, output = os.path.join(ROOT, "adaptImages.py"), os.path.join(scratch, "adapted.keras")
    command = [sys.executable, script, "-m", model, "-e", features, "-t", corrections, "-o", output]
    return measure([*command, "--predict", os.path.join(scratch, "adapted.tsv")])


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer drawn halves and images")
    quick = parser.parse_args().quick
    count = 20_000 if quick else 1_000_000
    print(machine() + "\n")
    learn_all()
    compare_ways(1 if quick else 12)
    with tempfile.TemporaryDirectory() as scratch:
        measured = measure_many(scratch, count)
    hand_over("adapt", __file__, f"features of {count:,} images", f"{measured.seconds:.0f} s", measured.peak_mib)
    time = f"{measured.seconds:.1f} s, of all cores {measured.cpu_seconds:.1f} s"
    print(f"{count:,} images: {time}, {measured.peak_mib:.0f} MiB.")


if __name__ == "__main__":
    main()

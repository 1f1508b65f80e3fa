"""Replay a reader who decides images whose right categories are the names of their folders, as Teach and Audit ask for.

    python -m tools.replay features.npz corrections.tsv -m model.keras --taught 60 --audited 40

writes what such a reader would have saved, for adaptImages.py, and prints after each round of decisions how much of the
rest the taught model has right.
"""

import dataclasses
import os
from typing import Optional

import numpy as np

from lib.cli.program import parser, run
from lib.cli.types import existing_file, output_file, whole_number
from lib.data.categories import CATEGORIES, LABELS, find_category
from lib.data.corrections import AUDIT, TEACH
from lib.data.embeddings import load_features
from lib.errors import UsageError
from lib.measures.adaptation import extend, fit, least_sure, measure, scale
from lib.measures.softmax import softmax
from lib.models.output_layer import read_output_layer
from lib.prediction.model import labels_of
from lib.prediction.settings import RIDGE
from lib.storage.files import whole_file


@dataclasses.dataclass(frozen=True)
class Settings:
    """The images, the model, and how much the reader does.

    Attributes:
        features: the images' features, as predicting writes them.
        corrections: the table to write.
        model: the `.keras` file that the features are of.
        labels: a table of its categories' labels; None for the default of `lib.prediction.model.labels_of`.
        taught: how many images the reader teaches.
        audited: how many others, drawn at random, are only measured with.
        round: how many images are decided between two learnings; the page learns after each.
        seed: of the audited images.
    """

    features: str
    corrections: str
    model: str
    labels: Optional[str] = None
    taught: int = 60
    audited: int = 40
    round: int = 1
    seed: int = 1


def replay(features, logits, categories, each=1, ridge=RIDGE, choose=least_sure):
    """Let a reader decide the images that the model, as taught so far, is least sure of.

    Args:
        features: float `(images, width)`.
        logits: the model's, `(images, categories)`.
        categories: int `(images,)`: the right ones.
        each: how many images are decided in a round.
        ridge: of `lib.measures.adaptation.fit`.
        choose: from the probabilities, a number, and the decided indices to the next ones, as `least_sure`.

    Yields:
        After each round the list of decided indices and the adapted logits, until all images are decided.
    """
    x, decided, adapted = scale(features, measure([features])), [], logits
    while len(decided) < len(x):
        decided += [int(index) for index in choose(softmax(adapted), each, decided)]
        adapted = logits + x @ fit(x[decided], logits[decided], categories[decided], ridge).T
        yield decided, adapted


def _category(folder, labels):
    """The category of a folder; of the published ones the label, as imagesToTFR.py finds it."""
    found = find_category(folder, CATEGORIES) if labels[: len(LABELS)] == list(LABELS) else None
    return folder if found is None else found.label


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    add, count = made.add_argument, {"metavar": "COUNT"}
    add("features", type=existing_file, help="what predictImages.py --embeddings wrote, .npz")
    add("corrections", type=output_file, help="the table to write")
    add("-m", "--model", type=existing_file, required=True, metavar="FILE", help="the .keras file of the features")
    add("--labels", type=existing_file, metavar="FILE", help="a TSV with the categories' INDEX and LABEL")
    add("--taught", type=whole_number(2), help="images that the reader teaches (%(default)s)", **count)
    add("--audited", type=whole_number(0), help="others, drawn at random, to measure with (%(default)s)", **count)
    add("--round", type=whole_number(1), help="decisions between two learnings (%(default)s)", **count)
    add("--seed", type=whole_number(0, 2**32), metavar="SEED", help="of the audited images (%(default)s)")
    return made


def work(settings):
    """Do what the settings say."""
    stored, layer = load_features(settings.features), read_output_layer(settings.model)
    labels = list(labels_of(settings.model, settings)[0])
    names, features = list(stored.names()), stored.embeddings.astype("float64")
    truth = [_category(os.path.basename(os.path.dirname(name)), labels) for name in names]
    new = sorted(set(truth) - set(labels))
    if len(names) < settings.taught + settings.audited:
        raise UsageError(f"{len(names)} images are fewer than are to be taught and audited.", "features")
    kernel, bias = extend(*layer, len(new))
    categories = np.array([[*labels, *new].index(category) for category in truth])
    audited = np.random.default_rng(settings.seed).permutation(len(names))[: settings.audited]
    rest = np.setdiff1d(np.arange(len(names)), audited)
    logits = features @ kernel + bias
    print("TAUGHT\tRIGHT OF THE REST")
    print(f"0\t{(logits.argmax(axis=1) == categories)[rest].mean():.2%}")
    for decided, adapted in replay(features[rest], logits[rest], categories[rest], settings.round):
        others = np.delete(np.arange(len(rest)), decided)
        if len(decided) % 10 == 0 and len(others):
            print(f"{len(decided)}\t{(adapted.argmax(axis=1) == categories[rest])[others].mean():.2%}")
        if len(decided) >= settings.taught:
            break
    rows = [(index, AUDIT) for index in audited] + [(rest[index], TEACH) for index in decided[: settings.taught]]
    with whole_file(settings.corrections) as file:
        file.write("FILE\tCATEGORY\tROLE\n")
        file.writelines(f"{names[index]}\t{truth[index]}\t{role}\n" for index, role in sorted(rows))


def main(argv=None):
    """Run the program; returns its exit status."""
    return run(options(), work, Settings, argv)


if __name__ == "__main__":
    raise SystemExit(main())

"""The model card: `README.md` beside a finished model, in the form that model hubs read.

It is made of the run's own records, the files beside it, and can be made again when these change.
"""

import contextlib
import datetime
import json
import os
import shlex

import numpy as np

from lib.data.outputs import categories_of_model, labels_or_neutral
from lib.display.figures import draw_confusion
from lib.errors import UsageError
from lib.measures.uncertainty import confusion_matrix, intervals, macro_f1
from lib.storage.files import whole_file
from lib.storage.runs import run_of
from lib.storage.untrusted import json_text, parse_json
from lib.training.verdict import f1_of_categories

_MOST_ROWS = 100  # in a table of categories
_MOST_IN_MATRIX = 1000  # categories of a confusion matrix in validation

_LICENCE = "other # fill in: the licence of this model, as the licences of the images that it learnt from allow"


def write_answers(folder, kind, true, answers, labels):
    """Write what a card reports of a model's answers: measurements, and a confusion matrix as a picture.

    Args:
        folder: the run's directory.
        kind: `validation` or `test`.
        true, answers: int `(images,)`: the true categories, and those answered.
        labels: the names of all categories.

    Returns:
        The confusion matrix.
    """
    matrix = confusion_matrix(true, answers, len(labels))
    accuracy, f1 = intervals(true, answers, len(labels))
    measured = {
        "images": len(true),
        "accuracy": float((true == answers).mean()),
        "accuracy_interval": accuracy,
        "macro_f1": float(macro_f1(matrix)),
        "macro_f1_interval": f1,
        "labels": list(labels),
        "matrix": matrix.tolist(),
    }
    draw_confusion(os.path.join(folder, f"{kind}-confusion.png"), matrix, labels)
    with whole_file(os.path.join(folder, f"{kind}.json")) as file:
        file.write(json_text(measured) + "\n")
    return matrix


def write_validation(model, true, answers, labels):
    """Write what the card of a model reports of its answers in validation.

    Args:
        model: the path of the `.keras` file, in its run's directory.
        true: int `(images,)`: the true categories.
        answers: the categories answered, an iterable of int arrays, each of some images, in order.
        labels: the names of all categories.

    Returns:
        The confusion matrix; None, and nothing is written or computed, if it would be too large.
    """
    if len(labels) > _MOST_IN_MATRIX:
        return None
    return write_answers(os.path.dirname(model), "validation", true, np.concatenate(list(answers)), labels)


def write_card(model):
    """Write the card of a trained model or soup, from the files beside it.

    Args:
        model: the path of the `.keras` file, in its run's directory.

    Raises:
        UsageError: it is not in a run's directory.
    """
    folder, recorded = os.path.dirname(model), settings_of_run(model)
    measured = {kind: _read(os.path.join(folder, f"{kind}.json")) for kind in ("validation", "test")}
    measured = {kind: found for kind, found in measured.items() if found is not None}
    count = recorded["settings"]["categories"]
    categories, _ = categories_of_model(model, count)
    labels = labels_or_neutral(categories, count)
    parts = [
        _front(model, recorded, measured),
        _summary(model, recorded, count),
        *(_scores(kind, found) for kind, found in measured.items()),
        _categories(labels, recorded, measured),
        _making(recorded),
        _use(model),
    ]
    with whole_file(card_of(model)) as file:
        file.write("\n\n".join(parts) + "\n")


def write_missing_card(model):
    """Write the card of a complete run that has none, since its process was killed in its last moment.

    Where the run's records are not whole, the model is still good, and goes without.
    """
    if not os.path.isfile(card_of(model)):
        with contextlib.suppress(UsageError):
            write_card(model)


def card_of(model):
    """The path of a model's card."""
    return os.path.join(os.path.dirname(model), "README.md")


def settings_of_run(model):
    """The recorded settings of the run that a model is the result of. UsageError: it is in no run's directory."""
    run = run_of(model)
    recorded = _read(run.settings) if run.best == os.path.dirname(model) else None  # an epoch's model is no result
    if recorded is None:
        raise UsageError(f"{model} is in no run's directory, where {os.path.basename(run.settings)} would be.", "model")
    return recorded


def _read(path):
    """A JSON file's content; None if there is none. UsageError if it is damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse_json(file.read())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read ({error}).", "model") from error


def _name(model, recorded):
    """What the model is called: by its user, else after its run."""
    return recorded.get("name") or os.path.basename(os.path.dirname(os.path.abspath(model)))[:12]


def _front(model, recorded, measured):
    """The head in YAML, which hubs read; JSON's texts are YAML's, too."""
    lines = [
        "---",
        f"license: {_LICENCE}",
        "library_name: keras",
        "pipeline_tag: image-classification",
        "tags: [herbarium, natural-history-collections]",
    ]
    if measured:
        lines += ["model-index:", f"- name: {json.dumps(_name(model, recorded))}", "  results:"]
    for kind, found in measured.items():
        lines += [
            "  - task: {type: image-classification}",
            f"    dataset: {{name: own images, type: image-folder, split: {kind}}}",
            "    metrics:",
            f"    - {{type: accuracy, value: {found['accuracy']:.4f}}}",
            f"    - {{type: f1, name: macro F1, value: {found['macro_f1']:.4f}}}",
        ]
    return "\n".join([*lines, "---"])


def _summary(model, recorded, count):
    """What the model is."""
    size = recorded.get("image_size") or recorded["settings"].get("student_size")
    images = f"images of {size} × {size} pixels" if size else "images"
    return (
        f"# {_escaped(_name(model, recorded))}\n\n"
        f"An image classifier of {count} categories, trained with Herbariograph on {images}. "
        f"`{os.path.basename(model)}` takes pixels from 0 to 255, height × width × bands, and returns a logit for each "
        "category.\n\nWhat it is for, and what not: *fill in*."
    )


def _scores(kind, found):
    """The metrics on one kind of records."""
    rows = [
        f"| {name} | {found[key]:.1%} | {found[f'{key}_interval'][0]:.1%} to {found[f'{key}_interval'][1]:.1%} |"
        for name, key in (("accuracy", "accuracy"), ("macro F1", "macro_f1"))
    ]
    chosen = " The model was chosen by these." if kind == "validation" else " They played no part in training."
    return (
        f"## In {kind}\n\n{found['images']:,} images.{chosen}\n\n"
        "| metric | value | 95 % interval |\n| --- | --- | --- |\n"
        + "\n".join(rows)
        + f"\n\n![Confusion matrix in {kind}: rows are the true categories]({kind}-confusion.png)"
    )


def _categories(labels, recorded, measured):
    """A table of the categories."""
    counts, kinds = recorded.get("class_counts"), list(measured)
    header = ["", "category", *(["training images"] if counts else []), *(f"F1 in {kind}" for kind in kinds)]
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header))]
    scores = {kind: f1_of_categories(np.array(found["matrix"])) for kind, found in measured.items()}
    for index, label in enumerate(labels[:_MOST_ROWS]):
        numbers = [f"{counts[index]:,.0f}"] if counts else []
        numbers += ["" if np.isnan(scores[kind][index]) else f"{scores[kind][index]:.3f}" for kind in kinds]
        lines.append("| " + " | ".join([str(index), _escaped(label), *numbers]) + " |")
    if len(labels) > _MOST_ROWS:
        lines.append(f"\nand {len(labels) - _MOST_ROWS:,} more.")
    return "## Categories\n\n" + "\n".join(lines)


def _making(recorded):
    """What it was made of, and how."""
    lines = [f"* `{path}`, SHA-256 `{digest}`" for path, digest in {**recorded["inputs"]}.items()]
    ingredients = recorded.get("ingredients", {}).items()  # of a soup
    lines += [f"* averaged: `{path}`, SHA-256 `{digest}`" for path, digest in ingredients]
    records = ""
    if "training_records" in recorded:
        training, validation = recorded["training_records"], recorded["validation_records"]
        records = (
            f"{training:,} images for training, {validation:,} for validation. Where they come from: *fill in*.\n\n"
        )
    versions = ", ".join(f"{name} {version}" for name, version in recorded["versions"].items())
    command = "./" + " ".join(map(shlex.quote, recorded["command"]))
    return (
        f"## How it was made\n\n{records}```bash\n{command}\n```\n\nfrom\n\n"
        + "\n".join(lines)
        + f"\n\nwith {versions}; this card is of {datetime.date.today().isoformat()}."
    )


def _use(model):
    """How it is used."""
    name = os.path.basename(model)
    return (
        "## How to use it\n\nWith [Herbariograph](https://github.com/dpl10/herbariograph), and `categories.tsv` beside "
        f"it:\n\n```bash\n./predictImages.py -d images -o predictions.tsv -m {name}\n```"
    )


def _escaped(text):
    """A text without signs that Markdown takes for its own."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>#|" else sign for sign in text)

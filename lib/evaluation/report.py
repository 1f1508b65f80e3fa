"""A page of a model's answers to labelled records."""

import glob
import hashlib
import itertools
import os

import numpy as np

from lib.data.thumbnails import make_thumbnails
from lib.display.pages import Card, Cell, Group, Measured, Subject, link_to, write_evaluation_page
from lib.errors import UsageError
from lib.measures.uncertainty import confusion_matrix
from lib.storage.names import escape_name, unescape_name
from lib.storage.tables import read_table

_MISTAKES = 24  # that are shown before all others


def write_report(settings, evaluation):
    """Make a page of a model's answers.

    Of each kind of mistake it shows the most confident, of the right answers the least confident.

    Args:
        settings: the evaluation's `Settings`, which name the page.
        evaluation: an `Evaluation`.
    """
    answers, labels = evaluation.answers, evaluation.labels
    true, chosen, records = answers.true, answers.chosen, answers.images.records
    confidence, most = answers.probabilities.max(axis=1), settings.report_images
    members = [np.flatnonzero(true == place) for place in range(len(labels))]
    shown = [most_telling(indices, true, chosen, confidence, most) for indices in members]
    wrong = np.flatnonzero(true != chosen)
    mistakes = wrong[np.argsort(-confidence[wrong], kind="stable")][:_MISTAKES].tolist()
    names, are_files = _names_of_records(records)
    cards = _cards([*itertools.chain(*shown), *mistakes], settings, evaluation, names)
    groups = [
        Group(label, len(indices), list(itertools.islice(cards, len(some))))
        for label, indices, some in zip(labels, members, shown)
    ]
    found = ", ".join(records.files)
    subject = Subject(
        f"Answers of {os.path.basename(settings.model)} to {', '.join(map(os.path.basename, records.files))}",
        [("Model", settings.model), ("Records", found)],
        labels,
        identity=_identity(settings, records, answers),
    )
    error, *calibration = evaluation.calibration
    measured = Measured(
        _figures(evaluation),
        _cells(evaluation),
        evaluation.rows,
        error,
        _bins(*calibration),
        evaluation.absent,
        settings.class_weights is not None,
    )
    write_evaluation_page(settings.report, subject, groups, measured, list(cards), corrected=are_files)


def _identity(settings, records, answers):
    """A text that only a page of the same files and answers has."""
    paths = map(os.path.abspath, (settings.model, *records.files))
    digest = hashlib.sha256(np.ascontiguousarray(answers.probabilities).tobytes())
    digest.update(np.ascontiguousarray(answers.true).tobytes())
    return " ".join([*paths, digest.hexdigest()])


def most_telling(indices, true, chosen, confidence, most):
    """Choose at most `most` images of one category for a page, mistakes first.

    The images of each answer are ranked, wrong ones from the most confident on, right ones from the least confident on;
    then the first of all answers are taken, then the second ones, and so on, so that each answer has some.

    Args:
        indices: of the images.
        true, chosen: int `(images,)`: the categories of all images, and those that were answered.
        confidence: float `(images,)`.
        most: how many.

    Returns:
        A list of indices.
    """
    right = true == chosen
    order = sorted(indices.tolist(), key=lambda index: confidence[index] if right[index] else -confidence[index])
    ranks, of_answer = {}, {}
    for index in order:
        ranks[index] = of_answer[chosen[index]] = of_answer.get(chosen[index], -1) + 1
    taken = set(sorted(order, key=ranks.get)[:most])
    return [index for index in order if index in taken]


def _cards(indices, settings, evaluation, names):
    """Yield the `Card` of each image."""
    answers, labels, probabilities = evaluation.answers, evaluation.labels, evaluation.answers.probabilities

    def read(index, side):
        return answers.images.take(np.array([index]))[0]

    for index, picture in zip(indices, make_thumbnails(indices, read, settings.processors)):
        first, second = np.argsort(-probabilities[index], kind="stable")[:2].tolist()
        ranked = [(labels[place], round(float(probabilities[index, place]), 4)) for place in (first, second)]
        link = link_to(names[index], settings.report) if os.path.isfile(unescape_name(names[index])) else ""
        true = labels[answers.true[index]]
        yield Card(names[index], *ranked[0], *ranked[1], picture.small, link=link, true=true)


def _names_of_records(records):
    """The escaped names of the images of records, and whether they are those of image files.

    An index beside the records, as imagesToTFR.py writes it, has these names. Other records have only a number.
    """
    found = {}
    for place, path in enumerate(records.files):
        own = records.number[records.file == place]
        for index in sorted(glob.glob(os.path.join(glob.escape(os.path.dirname(path)), "*-index.tsv"))):
            numbers = _index_of(index, os.path.basename(path))
            if all(number in numbers for number in own.tolist()):
                found.update({(place, number): name for number, name in numbers.items()})
                break
    keys = list(zip(records.file.tolist(), records.number.tolist()))
    if all(key in found for key in keys):
        return [found[key] for key in keys], True
    return [escape_name(records.name(index)) for index in range(len(records))], False


def _index_of(path, records):
    """The image files of a file of records, from an index: number -> name; empty if it is no index of these records."""
    try:
        rows = read_table(path)
        columns = next(rows)
        found = (dict(zip(columns, row)) for row in rows)
        return {int(row["RECORD"]): row["FILE"] for row in found if unescape_name(row["TFR"]) == records}
    except (UsageError, ValueError, KeyError, StopIteration):
        return {}


def _figures(evaluation):
    """The overall figures as pairs of text."""
    metrics = evaluation.weighted

    def percent(value, interval=None):
        text = f"{100 * value:.2f} %"
        return text if interval is None else f"{text} ({100 * interval.low:.2f} to {100 * interval.high:.2f} %)"

    return [
        ("Accuracy (95 % interval)", percent(metrics["accuracy"], evaluation.accuracy)),
        ("Macro F1 (95 % interval)", percent(metrics["f1"], evaluation.f1)),
        ("Top-3 accuracy", percent(evaluation.top3)),
        ("AUCPR", percent(metrics["auc"])),
        ("Loss", f"{metrics['loss']:.4f}"),
    ]


def _cells(evaluation):
    """The `Cell`s of the confusion matrix, which may have weights."""
    answers, matrix = evaluation.answers, evaluation.matrix
    counts = confusion_matrix(answers.true, answers.chosen, len(matrix))

    def cell(count, total, value):
        text = f"{value:,.0f}" if value == round(value) else f"{value:.3g}"
        return Cell(int(count), int(np.ceil(4 * count / total)) if count else 0, text)

    return [[cell(count, row.sum(), value) for count, value in zip(row, values)] for row, values in zip(counts, matrix)]


def _bins(shares, confidences, accuracies):
    """The bins of confidence that have images, in percent; see `lib.measures.uncertainty.calibration`."""
    width = 100 / len(shares)
    return [
        {
            "left": round(width * place, 3),
            "width": round(width, 3),
            "certainty": 100 * confidences[place],
            "right": round(100 * accuracies[place], 3),
            "share": 100 * shares[place],
        }
        for place in range(len(shares))
        if shares[place]
    ]

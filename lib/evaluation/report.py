"""A page of a model's answers to labelled records."""

import glob
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
    true, chosen, records = answers.labels, answers.chosen, answers.images.records
    confidence, most = answers.probabilities.max(axis=1), settings.report_images
    shown = [
        most_telling(np.flatnonzero(true == place), true, chosen, confidence, most) for place in range(len(labels))
    ]
    wrong = np.flatnonzero(true != chosen)
    mistakes = wrong[np.argsort(-confidence[wrong], kind="stable")][:_MISTAKES].tolist()
    names, are_files = _names_of_records(records)
    cards = _cards([*(index for members in shown for index in members), *mistakes], settings, evaluation, names)
    groups = [
        Group(label, int((true == place).sum()), [next(cards) for _ in shown[place]])
        for place, label in enumerate(labels)
    ]
    found = ", ".join(records.files)
    subject = Subject(
        f"Answers of {os.path.basename(settings.model)} to {', '.join(map(os.path.basename, records.files))}",
        [("Model", settings.model), ("Records", found)],
        labels,
        identity=f"{settings.model} {found}",
    )
    measured = Measured(
        _figures(evaluation),
        _cells(evaluation),
        evaluation.rows,
        evaluation.calibration[0],
        _bins(*evaluation.calibration[1:]),
        evaluation.absent,
        settings.class_weights is not None,
    )
    write_evaluation_page(settings.report, subject, groups, measured, list(cards), corrected=are_files)


def most_telling(indices, true, chosen, confidence, most):
    """Of some images, all of one category, at most `most` for a page, mistakes first.

    Each answer's images are ranked, wrong ones from the most confident on, right ones from the least confident on; then
    the first of all answers are taken, then the second ones, and so on, so that each answer has some.

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
    answers, labels = evaluation.answers, evaluation.labels
    probabilities = answers.probabilities
    pictures = make_thumbnails(
        indices, lambda index, side: answers.images.take(np.array([index]))[0], settings.processors
    )
    for index, picture in zip(indices, pictures):
        first, second = np.argsort(-probabilities[index], kind="stable")[:2].tolist()
        name = names[index]
        yield Card(
            name,
            labels[first],
            round(float(probabilities[index, first]), 4),
            labels[second],
            round(float(probabilities[index, second]), 4),
            picture,
            link=link_to(name, settings.report) if os.path.isfile(unescape_name(name)) else "",
            true=labels[answers.labels[index]],
        )


def _names_of_records(records):
    """What the images of records are called, and whether that is the names of files.

    Beside records that imagesToTFR.py wrote lies an index, which says what files they were made of; names are escaped
    as there. Other records have only a number.
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
    """What an index says of a file of records: number -> name; empty if it says nothing."""
    found = {}
    try:
        rows = read_table(path)
        columns = next(rows, [])
        name, number, file = (columns.index(column) for column in ("FILE", "RECORD", "TFR"))
        for row in rows:
            if unescape_name(row[file]) == records and row[number].isdecimal():
                found[int(row[number])] = row[name]
    except (UsageError, ValueError):
        return {}
    return found


def _figures(evaluation):
    """The overall figures as pairs of text."""
    metrics = evaluation.metrics

    def words(value, interval=None):
        text = f"{100 * value:.2f} %"
        return text if interval is None else f"{text} ({100 * interval.low:.2f} to {100 * interval.high:.2f} %)"

    return [
        ("Accuracy (95 % interval)", words(metrics["accuracy"], evaluation.accuracy)),
        ("Macro F1 (95 % interval)", words(metrics["f1"], evaluation.f1)),
        ("Top-3 accuracy", words(evaluation.top3)),
        ("AUCPR", words(metrics["auc"])),
        ("Loss", f"{metrics['loss']:.4f}"),
    ]


def _cells(evaluation):
    """The `Cell`s of the confusion matrix, which may have weights."""
    answers, matrix = evaluation.answers, evaluation.matrix
    counts = confusion_matrix(answers.labels, answers.chosen, len(matrix))
    totals = counts.sum(axis=1)
    return [
        [
            Cell(
                int(count),
                int(np.ceil(4 * count / totals[row])) if count else 0,
                f"{value:,.0f}" if value == round(value) else f"{value:.3g}",
            )
            for count, value in zip(counts[row], matrix[row])
        ]
        for row in range(len(matrix))
    ]


def _bins(shares, confidences, accuracies):
    """The steps of confidence that have images, in percent; see `lib.measures.uncertainty.calibration`."""
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

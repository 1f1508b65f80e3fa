"""A page of a model's answers to labelled records."""

import glob
import os

import numpy as np

from lib.data.thumbnails import make_thumbnails
from lib.display.pages import Card, Cell, Group, link_to, write_evaluation_page
from lib.errors import UsageError
from lib.storage.names import escape_name, unescape_name
from lib.storage.tables import read_table

_MISTAKES = 24  # that are shown before all others


def report_answers(page, model, answers, evaluation, labels, most=300, weighted=False, processors=None):
    """Make a page of a model's answers to labelled records.

    Args:
        page: the `.html` file to write.
        model: the path of its file.
        answers: its `lib.evaluation.evaluate.Answers`.
        evaluation: its `lib.evaluation.evaluate.Evaluation`.
        labels: the categories' names.
        most: of how many images of a category there are pictures: of each kind of mistake the most confident, of the
            right answers the least certain.
        weighted: whether the evaluation's matrix has weights.
        processors: how many cores to use; None for all.
    """
    true, chosen, probabilities, records = answers.labels, answers.chosen, answers.probabilities, answers.images.records
    certainty = probabilities.max(axis=1)
    indices = [_telling(np.flatnonzero(true == place), true, chosen, certainty, most) for place in range(len(labels))]
    wrong = np.flatnonzero(true != chosen)
    mistakes = wrong[np.argsort(-certainty[wrong], kind="stable")][:_MISTAKES].tolist()
    names, files = _names_of_records(records)
    pictures = make_thumbnails(
        [*(index for members in indices for index in members), *mistakes],
        lambda index, side: answers.images.take(np.array([index]))[0],
        processors,
    )

    def card(index, picture):
        first, second = np.argsort(-probabilities[index], kind="stable")[:2].tolist()
        return Card(
            names[index],
            labels[first],
            round(float(probabilities[index, first]), 4),
            labels[second],
            round(float(probabilities[index, second]), 4),
            picture,
            link=link_to(names[index], page) if files and os.path.isfile(unescape_name(names[index])) else "",
            true=labels[true[index]],
        )

    groups = [
        Group(label, int((true == place).sum()), [card(index, next(pictures)) for index in indices[place]])
        for place, label in enumerate(labels)
    ]
    found = ", ".join(records.files)
    write_evaluation_page(
        page,
        f"Answers of {os.path.basename(model)} to {', '.join(map(os.path.basename, records.files))}",
        [("Model", model), ("Records", found)],
        groups,
        labels,
        _figures(evaluation),
        _cells(evaluation.matrix, true, chosen),
        evaluation.rows,
        (evaluation.calibration[0], _bins(*evaluation.calibration[1:])),
        [card(index, next(pictures)) for index in mistakes],
        absent=evaluation.absent,
        weighted=weighted,
        corrected=files,
        identity=f"{model} {found}",
    )


def _telling(indices, true, chosen, certainty, most):
    """Of the images of a category the `most` telling ones, mistakes first.

    Each answer's images are ranked, wrong ones from the most certain on, right ones from the least certain on; then
    the first of all answers are taken, then the second ones, and so on, so that each answer has some.
    """
    order = sorted(indices.tolist(), key=lambda index: certainty[index] * (-1 if true[index] != chosen[index] else 1))
    ranks, of_answer = {}, {}
    for index in order:
        ranks[index] = of_answer[chosen[index]] = of_answer.get(chosen[index], -1) + 1
    taken = set(sorted(order, key=ranks.get)[:most])
    return [index for index in order if index in taken]


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


def _cells(matrix, true, chosen):
    """The `Cell`s of a confusion matrix `(classes, classes)`, which may have weights."""
    counts = np.zeros(matrix.shape, "int64")
    np.add.at(counts, (true, chosen), 1)
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


def _bins(parts, certainty, right):
    """The steps of certainty that have images, in percent; see `lib.measures.uncertainty.calibration`."""
    width = 100 / len(parts)
    return [
        {
            "left": round(width * place, 3),
            "width": round(width, 3),
            "certainty": 100 * certainty[place],
            "right": round(100 * right[place], 3),
            "share": 100 * parts[place],
        }
        for place in range(len(parts))
        if parts[place]
    ]

"""Writing an evaluation: lines, tables, JSON, arrays and figures."""

import logging
import os

import numpy as np

from lib.display.contact_sheet import contact_sheet
from lib.errors import option
from lib.evaluation.report import write_report
from lib.storage.files import whole_file
from lib.storage.formats import format_line, open_table, table_kind
from lib.storage.untrusted import json_text
from lib.training.cards import write_answers, write_card

log = logging.getLogger(__name__)

_COLUMNS = ("label", "precision", "recall", "f1", "support", "average_precision")
_HEADER = ("CATEGORY", *map(str.upper, _COLUMNS[1:]))
_MISTAKES = 60
_OF_A_ROW = 10


def four_lines(evaluation):
    """The lines that the published pipeline prints."""
    metrics = evaluation.metrics
    return [
        f"Test loss: {metrics['loss']:.4f}",
        f"Test accuracy: {metrics['accuracy']:.2%}",
        f"Test AUCPR: {metrics['auc']:.2%}",
        f"Test macro F1: {metrics['f1']:.2%}",
    ]


def write_files(settings, evaluation):
    """Write all files that the settings name, and log the other measurements."""
    answers = evaluation.answers
    if settings.answers:
        _write_arrays(settings.answers, answers, answers.chosen, matrix=evaluation.matrix)
    if settings.probabilities:
        _write_arrays(settings.probabilities, answers, answers.probabilities.astype("float32"))
    if settings.table:
        _write_table(settings.table, evaluation.rows)
    else:
        log.info(_table(evaluation.rows))
    for line in _sentences(settings, evaluation):
        log.info(line)
    if settings.json:
        with whole_file(settings.json) as file:
            file.write(json_text(_content(settings, evaluation)) + "\n")
    if settings.figures:
        draw(settings.figures, evaluation)
    if settings.card:
        folder = os.path.dirname(settings.model)
        write_answers(folder, "test", answers.true, answers.chosen, evaluation.labels)
        write_card(settings.model)
    if settings.report:
        write_report(settings, evaluation)


def _write_arrays(path, answers, predictions, **more):
    with whole_file(path, "wb") as file:
        np.savez_compressed(file, predictions=predictions, labels=answers.true, **more)


def _write_table(path, rows):
    with open_table(path, _HEADER) as add:
        for row in rows:
            add(format_line(table_kind(path), _HEADER, row))


def _table(rows):
    lines = [format_line("tsv", _HEADER, values) for values in (_HEADER, *rows)]
    return b"".join(lines).decode().rstrip("\n")


def _sentences(settings, evaluation):
    """Yield the measurements beyond the four lines, as sentences."""
    (low, high), f1, comparison = evaluation.accuracy, evaluation.f1, evaluation.comparison
    if settings.class_weights is not None:
        each = evaluation.weighted
        yield (
            f"With the weights of {option('class_weights')}, as in the table: loss {each['loss']:.4f}, accuracy "
            f"{each['accuracy']:.2%}, AUCPR {each['auc']:.2%}, macro F1 {each['f1']:.2%}"
        )
    yield f"95 % intervals: accuracy {low:.2%} to {high:.2%}, macro F1 {f1.low:.2%} to {f1.high:.2%}"
    yield f"top-3 accuracy {evaluation.top3:.2%}, expected calibration error {evaluation.calibration[0]:.4f}"
    if evaluation.absent:
        yield f"Not in the records, and 0 in the macro F1: {', '.join(evaluation.absent)}."
    if comparison is not None:
        low, high = comparison.interval
        yield (
            f"{settings.compare} against {settings.model}: macro F1 {100 * comparison.f1_difference:+.2f} points, 95 % "
            f"interval {100 * low:+.2f} to {100 * high:+.2f}; right only by {settings.model} "
            f"{comparison.only_first:,}, only by {settings.compare} {comparison.only_second:,}, p = "
            f"{comparison.p_value:.3g} (McNemar)"
        )


def _content(settings, evaluation):
    """All measurements, for JSON."""
    error, *calibration = evaluation.calibration
    steps = [dict(zip(("share", "certainty", "right"), map(float, step))) for step in zip(*calibration) if step[0]]
    content = {
        "model": settings.model,
        "records": list(settings.test),
        "images": len(evaluation.answers.true),
        "left_out": list(evaluation.answers.images.records.skipped),
        **({"compared_with": settings.compare} if settings.compare else {}),
        **evaluation.metrics,
        **({} if settings.class_weights is None else {"weighted": evaluation.weighted}),
        "accuracy_interval": evaluation.accuracy,
        "f1_interval": evaluation.f1,
        "top3_accuracy": evaluation.top3,
        "calibration_error": error,
        "calibration": steps,
        "categories": [dict(zip(_COLUMNS, row)) for row in evaluation.rows],
        "absent": evaluation.absent,
        "matrix": evaluation.matrix.tolist(),
    }
    if evaluation.comparison is not None:
        content["comparison"] = evaluation.comparison._asdict()
    return content


def draw(folder, evaluation):
    """Draw the confusion matrix, precision-recall curves, reliability and the most confident mistakes into a folder."""
    from lib.display.figures import draw_confusion, draw_precision_recall, draw_reliability

    os.makedirs(folder, exist_ok=True)
    draw_confusion(os.path.join(folder, "confusion.png"), evaluation.matrix, evaluation.labels)
    draw_precision_recall(os.path.join(folder, "precision-recall.png"), *_curves(evaluation))
    draw_reliability(os.path.join(folder, "reliability.png"), *evaluation.calibration)
    with whole_file(os.path.join(folder, "mistakes.png"), "wb") as file:
        contact_sheet(rows_of_mistakes(evaluation)).save(file, "PNG")


def _curves(evaluation):
    """The arguments of `draw_precision_recall`: the curve of each category, and that of all together."""
    from scipy.special import expit
    from sklearn.metrics import precision_recall_curve

    true, labels, weights = evaluation.answers.true, evaluation.labels, evaluation.weights
    probabilities, curves = evaluation.answers.probabilities, []
    for row in evaluation.rows:
        index = labels.index(row[0])
        if weights[true == index].any():
            precision, recall, _ = precision_recall_curve(true == index, probabilities[:, index], sample_weight=weights)
            curves.append((row[0], recall, precision, row[5]))
    one_hot = np.eye(len(labels), dtype=bool)[true]
    sigmoids, repeated = expit(evaluation.answers.logits.astype("float64")), np.repeat(weights, len(labels))
    precision, recall, _ = precision_recall_curve(one_hot.ravel(), sigmoids.ravel(), sample_weight=repeated)
    return curves, (recall, precision, evaluation.weighted["auc"])


def rows_of_mistakes(evaluation):
    """Rows of a contact sheet: the most confident mistakes, each under its true and its predicted category."""
    answers, labels = evaluation.answers, evaluation.labels
    true, chosen, probabilities = answers.true, answers.chosen, answers.probabilities
    wrong = np.flatnonzero(chosen != true)
    wrong = wrong[np.argsort(-probabilities[wrong, chosen[wrong]], kind="stable")][:_MISTAKES]
    if not len(wrong):
        return [("There are no mistakes.", [])]
    pairs = {}
    for index in wrong:
        pair = f"{labels[true[index]]} taken for {labels[chosen[index]]}"
        (picture,) = answers.images.take(np.array([index]))
        picture = np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else picture
        pairs.setdefault(pair, []).append((f"{probabilities[index, chosen[index]]:.2f}", picture))
    rows = []
    for pair, found in pairs.items():
        for start in range(0, len(found), _OF_A_ROW):
            confidences, pictures = zip(*found[start : start + _OF_A_ROW])
            rows.append((f"{pair} ({', '.join(confidences)})", pictures))
    return rows

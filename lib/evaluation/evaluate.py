"""Measuring a model on labelled records it was not trained on."""

import os
from typing import Any, NamedTuple, Optional, Tuple

import numpy as np

from lib.display.contact_sheet import contact_sheet
from lib.errors import UsageError, WorkError
from lib.measures.softmax import softmax
from lib.measures.uncertainty import calibration, compare, confusion_matrix, intervals, percent
from lib.storage.files import whole_file
from lib.storage.untrusted import json_text
from lib.system.devices import select_device
from lib.system.parallel import cores

SMOOTHING = 0.1  # of the labels, in the test loss

_MISTAKES = 60
_OF_A_ROW = 10


class Answers(NamedTuple):
    """What a model answered.

    Attributes:
        images: the `lib.data.records.Images`.
        labels: int64 `(images,)`: the true categories.
        logits: float32 `(images, classes)`.
        penalty: the sum of the penalties that the model's layers carry.
    """

    images: Any
    labels: np.ndarray
    logits: np.ndarray
    penalty: float

    @property
    def chosen(self):
        """int64 `(images,)`: the category of the largest logit."""
        return self.logits.argmax(axis=1)

    @property
    def probabilities(self):
        """float64 `(images, classes)`: the softmax of the logits."""
        return softmax(self.logits)


class Evaluation(NamedTuple):
    """What was measured.

    Attributes:
        metrics: `loss accuracy auc f1` to floats.
        accuracy, f1: their 95 % `Interval`s.
        top3: the share of images whose category is among the three most probable.
        calibration: of `lib.measures.uncertainty.calibration`.
        matrix: `(classes, classes)`: rows are the true categories; weighted if weights were given.
        rows: for each category that the records contain: label, precision, recall, F1, support, average precision.
        absent: the labels of those that they don't contain.
    """

    metrics: dict
    accuracy: Tuple[float, float]
    f1: Tuple[float, float]
    top3: float
    calibration: tuple
    matrix: np.ndarray
    rows: list
    absent: tuple


def answer_records(
    models,
    records,
    outputs,
    number_map=None,
    batch=64,
    cpu=False,
    gpu=0,
    processors=None,
    skip_bad=False,
    report=print,
):
    """Have models answer all images of records, each image decoded once.

    Args:
        models: paths of `.keras` files, each with the option that names it.
        records: record files.
        outputs: how many categories there are.
        number_map: the path of a table that gives categories other numbers.
        batch: at most how many images a model is given at once.
        cpu, gpu, processors: see `lib.system.devices.select_device`.
        skip_bad: whether bad records are left out.
        report: called with each message for the user.

    Returns:
        An `Answers` for each model.

    Raises:
        UsageError: a model or records that don't fit.
        WorkError: bad records, or answers that are no numbers.
    """
    # One core for each operation: several batches are answered side by side instead.
    device = select_device(cpu, gpu, processors or cores(), threads_per_operation=1)

    from lib.cli import legacy as cli
    from lib.data.records import check_bands, load_images, open_records, read_number_map, tell_left_out
    from lib.measures.losses import penalties
    from lib.models.inference import compile_logits
    from lib.models.keras_files import load_model
    from lib.training.validation import answer, check_size, side_by_side

    loaded = []
    for option, path in models:
        with cli.naming(option):
            loaded.append(load_model(path, outputs))
            check_bands(loaded[-1], path)
    mapping = None if number_map is None else read_number_map(number_map)
    opened = open_records(records, "test", outputs, mapping, skip_bad)
    bands = {model.input_shape[-1] for model in loaded}
    if len(bands) > 1:
        raise UsageError(f"--compare: {models[1][1]} takes images with another number of bands than {models[0][1]}.")
    images = load_images(opened, bands.pop(), None, processors, skip_bad)
    tell_left_out((images,))
    for (option, path), model in zip(models, loaded):
        check_size(model, images, f"{option}: {path}", "-t/--test")
    step, threads = side_by_side(device, batch, processors)
    labels = images.records.category.astype("int64")
    found = []
    for (option, path), model in zip(models, loaded):
        compute = compile_logits(model, (step, *images.shape), named=f"{option}: {path}")
        logits = np.concatenate(list(answer(images, compute, step, threads)))
        wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(wrong):
            raise WorkError(
                f"{option}: {path} answers {len(wrong):,} of {len(images):,} images with NaN or infinite logits, such "
                f"as {images.records.name(wrong[0])}."
            )
        found.append(Answers(images, labels, logits, float(penalties(model))))
    return found


def evaluate(answers, labels, weights=None):
    """Measure a model's answers.

    Args:
        answers: `Answers`.
        labels: the categories' names.
        weights: `(classes,)`: what an image of each category counts; None for 1.

    Returns:
        An `Evaluation`.

    Raises:
        UsageError: all weights of the categories that the records contain are 0.
    """
    from lib.measures import metrics
    from lib.measures.losses import build_loss

    classes = len(labels)
    if weights is not None and not np.asarray(weights)[answers.labels].any():
        raise UsageError("-w/--weight: at least one category in the records needs a number above 0.")
    one_hot = np.eye(classes, dtype="float32")[answers.labels]
    losses = np.asarray(build_loss("ce", label_smoothing=SMOOTHING)(one_hot, answers.logits))
    counting = None if weights is None else np.asarray(weights, "float32")[answers.labels]
    measured = metrics.summarise(metrics.count(one_hot, answers.logits, losses + answers.penalty, counting))
    chosen, probabilities = answers.chosen, answers.probabilities
    of_each = np.ones(len(answers.labels)) if counting is None else counting.astype("float64")
    top3 = (np.argsort(-answers.logits, axis=1, kind="stable")[:, :3] == answers.labels[:, None]).any(axis=1)
    accuracy, f1 = intervals(answers.labels, chosen, classes, weights)
    there = np.bincount(answers.labels, minlength=classes) > 0
    return Evaluation(
        metrics=measured,
        accuracy=accuracy,
        f1=f1,
        top3=float(np.average(top3, weights=of_each)),
        calibration=calibration(probabilities, answers.labels, of_each),
        matrix=confusion_matrix(answers.labels, chosen, classes, weights),
        rows=_rows(answers.labels, chosen, probabilities, of_each, labels, there),
        absent=tuple(label for label, is_there in zip(labels, there) if not is_there),
    )


def _rows(true, chosen, probabilities, of_each, labels, there):
    """A row for each category that the records contain; see `Evaluation`."""
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    indices = np.flatnonzero(there)
    figures = precision_recall_fscore_support(
        true, chosen, labels=indices, sample_weight=of_each, average=None, zero_division=0
    )
    support = np.bincount(true, minlength=len(labels))
    rows = []
    for index, precision, recall, f1 in zip(indices, *figures[:3]):
        of_index = true == index
        average = 0.0  # of a category that counts nothing
        if of_each[of_index].any():
            average = average_precision_score(of_index, probabilities[:, index], sample_weight=of_each)
        rows.append((labels[index], float(precision), float(recall), float(f1), int(support[index]), float(average)))
    return rows


def compare_answers(first, second, weights=None):
    """Compare two models' `Answers` to the same records: `lib.measures.uncertainty.Comparison`."""
    classes = first.logits.shape[1]
    return compare(first.labels, first.chosen, second.chosen, classes, weights)


def four_lines(evaluation):
    """What the published pipeline prints."""
    metrics = evaluation.metrics
    return [
        f"Test loss: {metrics['loss']:.4f}",
        f"Test accuracy: {percent(metrics['accuracy'])}",
        f"Test AUCPR: {percent(metrics['auc'])}",
        f"Test macro F1: {percent(metrics['f1'])}",
    ]


def table_of(evaluation):
    """The table for each category, as text with tabs."""
    lines = ["CATEGORY\tPRECISION\tRECALL\tF1\tSUPPORT\tAVERAGE_PRECISION"]
    for label, precision, recall, f1, support, average in evaluation.rows:
        lines.append(f"{label}\t{precision:.4f}\t{recall:.4f}\t{f1:.4f}\t{support}\t{average:.4f}")
    return "\n".join(lines) + "\n"


def write_table(path, evaluation):
    """Write that table."""
    with whole_file(path) as file:
        file.write(table_of(evaluation))


def words_of(evaluation, comparison: Optional[Any] = None, others=("-m", "--compare")):
    """What was measured beyond the four lines, in sentences for people."""
    accuracy, f1 = evaluation.accuracy, evaluation.f1
    lines = [
        f"95 % intervals: accuracy {percent(accuracy.low)} to {percent(accuracy.high)}, macro F1 {percent(f1.low)} to "
        f"{percent(f1.high)}",
        f"top-3 accuracy {percent(evaluation.top3)}, expected calibration error {evaluation.calibration[0]:.4f}",
    ]
    if evaluation.absent:
        lines.append(f"Not in the records, and 0 in the macro F1: {', '.join(evaluation.absent)}.")
    if comparison is not None:
        low, high = comparison.interval
        lines.append(
            f"{others[1]} against {others[0]}: macro F1 {100 * comparison.f1_difference:+.2f} points, 95 % interval "
            f"{100 * low:+.2f} to {100 * high:+.2f}; right only by {others[0]} {comparison.only_first:,}, only by "
            f"{others[1]} {comparison.only_second:,}, p = {comparison.p_value:.3g} (McNemar)"
        )
    return lines


def write_json(path, evaluation, about, comparison=None):
    """Write all figures as JSON; `about` is recorded with them."""
    error, parts, certainty, right = evaluation.calibration
    content = {
        **about,
        **evaluation.metrics,
        "accuracy_interval": evaluation.accuracy,
        "f1_interval": evaluation.f1,
        "top3_accuracy": evaluation.top3,
        "calibration_error": error,
        "calibration": [
            {"share": share, "certainty": mean, "right": rate}
            for share, mean, rate in zip(parts.tolist(), certainty.tolist(), right.tolist())
            if share
        ],
        "categories": [
            dict(zip(("label", "precision", "recall", "f1", "support", "average_precision"), row))
            for row in evaluation.rows
        ],
        "absent": evaluation.absent,
        "matrix": evaluation.matrix.tolist(),
    }
    if comparison is not None:
        content["comparison"] = comparison._asdict()
    with whole_file(path) as file:
        file.write(json_text(content) + "\n")


def write_arrays(path, **arrays):
    """Write arrays as `.npz`."""
    with whole_file(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def draw(folder, evaluation, answers, labels, weights=None):
    """Draw the confusion matrix, precision-recall curves, reliability and the most confident mistakes into a folder.

    The arguments are those of `evaluate` and what it gave.
    """
    from sklearn.metrics import precision_recall_curve

    from lib.display.figures import draw_confusion, draw_precision_recall, draw_reliability

    os.makedirs(folder, exist_ok=True)
    draw_confusion(os.path.join(folder, "confusion.png"), evaluation.matrix, labels)
    probabilities = answers.probabilities
    of_each = np.ones(len(answers.labels)) if weights is None else np.asarray(weights, "float64")[answers.labels]
    curves = []
    for row in evaluation.rows:
        index = labels.index(row[0])
        there = answers.labels == index
        if of_each[there].any():
            precision, recall, _ = precision_recall_curve(there, probabilities[:, index], sample_weight=of_each)
            curves.append((row[0], recall, precision, row[5]))
    one_hot = np.eye(len(labels), dtype=bool)[answers.labels]
    sigmoids = 1 / (1 + np.exp(-answers.logits.astype("float64").clip(-700, 700)))
    precision, recall, _ = precision_recall_curve(
        one_hot.ravel(), sigmoids.ravel(), sample_weight=np.repeat(of_each, len(labels))
    )
    overall = recall, precision, evaluation.metrics["auc"]
    draw_precision_recall(os.path.join(folder, "precision-recall.png"), curves, overall)
    draw_reliability(os.path.join(folder, "reliability.png"), *evaluation.calibration)
    with whole_file(os.path.join(folder, "mistakes.png"), "wb") as file:
        contact_sheet(_mistakes(answers, probabilities, labels)).save(file, "PNG")


def _mistakes(answers, probabilities, labels):
    """Rows of a contact sheet: the most confident mistakes, each under what it was taken for."""
    chosen = answers.chosen
    wrong = np.flatnonzero(chosen != answers.labels)
    wrong = wrong[np.argsort(-probabilities[wrong, chosen[wrong]], kind="stable")][:_MISTAKES]
    if not len(wrong):
        return [("There are no mistakes.", [])]
    pairs = {}
    for index in wrong:
        pair = f"{labels[answers.labels[index]]} taken for {labels[chosen[index]]}"
        (picture,) = answers.images.take(np.array([index]))
        picture = np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else picture
        pairs.setdefault(pair, []).append((f"{probabilities[index, chosen[index]]:.2f}", picture))
    rows = []
    for pair, found in pairs.items():
        for start in range(0, len(found), _OF_A_ROW):
            certainties, pictures = zip(*found[start : start + _OF_A_ROW])
            rows.append((f"{pair} ({', '.join(certainties)})", pictures))
    return rows

"""Measuring a model on labelled records it was not trained on."""

from typing import Any, NamedTuple, Optional, Tuple

import numpy as np

from lib.errors import UsageError, WorkError, concerning
from lib.measures.recipes import per_class
from lib.measures.softmax import softmax
from lib.measures.uncertainty import Comparison, Interval, calibration, compare, confusion_matrix, intervals
from lib.system.devices import select_device
from lib.system.parallel import cores

SMOOTHING = 0.1  # of the labels, in the test loss


class Answers(NamedTuple):
    """What a model answered.

    Attributes:
        images: the `Images`.
        labels: int64 `(images,)`: the true categories.
        logits: float32 `(images, categories)`.
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
        """float64 `(images, categories)`."""
        return softmax(self.logits)


class Evaluation(NamedTuple):
    """What was measured.

    Attributes:
        labels: the categories' names.
        answers: the model's `Answers`.
        weights: float64 `(images,)`: what each image counts.
        metrics: `loss accuracy auc f1` to floats.
        accuracy, f1: their 95 % intervals.
        top3: the share of images whose category is among the three most probable.
        calibration: of `lib.measures.uncertainty.calibration`.
        matrix: `(categories, categories)`: rows are the true categories; weighted if weights were given.
        rows: for each category that the records contain: label, precision, recall, F1, support, average precision.
        absent: the labels of those that they don't contain.
        comparison: with another model; None without one.
    """

    labels: Tuple[str, ...]
    answers: Answers
    weights: np.ndarray
    metrics: dict
    accuracy: Interval
    f1: Interval
    top3: float
    calibration: tuple
    matrix: np.ndarray
    rows: list
    absent: tuple
    comparison: Optional[Comparison] = None


def evaluate(settings):
    """Have a model answer all images of records, and measure how well.

    Args:
        settings: `Settings`.

    Returns:
        An `Evaluation`.

    Raises:
        UsageError: models, labels, weights or records that don't fit.
        WorkError: bad records, or answers that are not finite.
    """
    from lib.data.categories import labels_of_outputs

    weights = settings.class_weights
    if weights is not None:
        weights = per_class(weights, settings.categories, "class_weights")
    with concerning("labels"):
        labels = labels_of_outputs(settings.categories, settings.model, settings.labels)
    answers, *others = answer_records(settings)
    evaluation = measure(answers, labels, weights)
    for other in others:
        chosen = answers.chosen, other.chosen
        evaluation = evaluation._replace(comparison=compare(answers.labels, *chosen, len(labels), weights))
    return evaluation


def answer_records(settings):
    """Have models answer all images of records, each image decoded once.

    Returns:
        The `Answers` of the model, and of the one that it is compared with.
    """
    # One core for each operation: several batches are answered side by side instead.
    device = select_device(settings.cpu, settings.gpu, settings.processors or cores(), threads_per_operation=1)

    from lib.data.records import check_bands
    from lib.models.keras_files import load_model
    from lib.training.validation import check_size, side_by_side

    loaded = {}
    for setting in ("model", "compare") if settings.compare else ("model",):
        path = getattr(settings, setting)
        with concerning(setting):
            loaded[setting] = load_model(path, settings.categories)
            check_bands(loaded[setting], path)
    bands = {model.input_shape[-1] for model in loaded.values()}
    if len(bands) > 1:
        raise UsageError(
            f"{settings.compare} takes images with another number of bands than {settings.model}.", "compare"
        )
    images = _load_images(settings, bands.pop())
    for setting, model in loaded.items():
        with concerning(setting):
            check_size(model, images, getattr(settings, setting), "test")
    step, threads = side_by_side(device, settings.batch, settings.processors)
    return [_answer(model, images, step, threads, settings, setting) for setting, model in loaded.items()]


def _load_images(settings, bands):
    """The records' `Images`, with their categories mapped."""
    from lib.data.records import load_images, open_records, read_number_map, tell_left_out

    mapping = None if settings.number_map is None else read_number_map(settings.number_map)
    records = open_records(settings.test, "test", settings.categories, mapping, settings.skip_bad)
    images = load_images(records, bands, None, settings.processors, settings.skip_bad)
    tell_left_out((images,))
    return images


def _answer(model, images, step, threads, settings, setting):
    """The `Answers` of the model that a setting names."""
    from lib.measures.losses import penalties
    from lib.models.inference import compile_logits
    from lib.training.validation import answer

    path = getattr(settings, setting)
    with concerning(setting):
        compute = compile_logits(model, (step, *images.shape), named=path)
    logits = np.concatenate(list(answer(images, compute, step, threads)))
    wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(wrong):
        raise WorkError(
            f"{path} answers {len(wrong):,} of {len(images):,} images with NaN or infinite logits, such as "
            f"{images.records.name(wrong[0])}.",
            setting,
        )
    return Answers(images, images.records.category.astype("int64"), logits, float(penalties(model)))


def measure(answers, labels, weights=None):
    """Measure a model's answers.

    Args:
        answers: `Answers`.
        labels: the categories' names.
        weights: `(categories,)`: what an image of each category counts; None for 1.

    Returns:
        An `Evaluation`.

    Raises:
        UsageError: all weights of the categories that the records contain are 0.
    """
    from lib.measures import metrics
    from lib.measures.losses import build_loss

    true, chosen, categories = answers.labels, answers.chosen, len(labels)
    counting = np.ones(categories, "float32") if weights is None else np.asarray(weights, "float32")
    counting = counting[true]
    if not counting.any():
        raise UsageError("at least one category in the records needs a number above 0.", "class_weights")
    one_hot = np.eye(categories, dtype="float32")[true]
    losses = np.asarray(build_loss("ce", label_smoothing=SMOOTHING)(one_hot, answers.logits))
    counts = metrics.count(one_hot, answers.logits, losses + answers.penalty, counting)
    of_each = counting.astype("float64")
    top3 = (np.argsort(-answers.logits, axis=1, kind="stable")[:, :3] == true[:, None]).any(axis=1)
    accuracy, f1 = intervals(true, chosen, categories, weights)
    support = np.bincount(true, minlength=categories)
    return Evaluation(
        labels=tuple(labels),
        answers=answers,
        weights=of_each,
        metrics=metrics.summarise(counts),
        accuracy=accuracy,
        f1=f1,
        top3=float(np.average(top3, weights=of_each)),
        calibration=calibration(answers.probabilities, true, of_each),
        matrix=confusion_matrix(true, chosen, categories, weights),
        rows=_rows(answers, labels, of_each, support),
        absent=tuple(label for label, count in zip(labels, support) if not count),
    )


def _rows(answers, labels, weights, support):
    """A row for each category that the records contain; see `Evaluation`."""
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    true, probabilities = answers.labels, answers.probabilities
    indices = np.flatnonzero(support)
    figures = precision_recall_fscore_support(
        true, answers.chosen, labels=indices, sample_weight=weights, average=None, zero_division=0
    )
    rows = []
    for index, precision, recall, f1 in zip(indices, *figures[:3]):
        of_index = true == index
        average = 0.0  # of a category that counts nothing
        if weights[of_index].any():
            average = average_precision_score(of_index, probabilities[:, index], sample_weight=weights)
        rows.append((labels[index], float(precision), float(recall), float(f1), int(support[index]), float(average)))
    return rows

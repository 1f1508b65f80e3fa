"""Measuring a model on labelled records that it was not trained on."""

import dataclasses
from typing import Any, NamedTuple, Optional, Tuple

import numpy as np

from lib.errors import StageError, UsageError, WorkError, concerning
from lib.measures.category_numbers import numbers_of_categories
from lib.measures.softmax import probabilities_of
from lib.measures.uncertainty import Comparison, Interval, calibration, compare, confusion_matrix, intervals
from lib.system.devices import select_device
from lib.system.parallel import cores

SMOOTHING = 0.1  # of the labels, in the test loss


class Answers(NamedTuple):
    """A model's answers to images.

    Attributes:
        images: the `Images`.
        true: int64 `(images,)`: the true categories.
        logits: float32 `(images, categories)`.
        penalty: the sum of the regularization penalties of the model's layers.
        activation: the model's `output_activation`.
    """

    images: Any
    true: np.ndarray
    logits: np.ndarray
    penalty: float
    activation: Optional[str] = None

    @property
    def chosen(self):
        """int64 `(images,)`: the category of the largest logit."""
        return self.logits.argmax(axis=1)

    @property
    def probabilities(self):
        """float64 `(images, categories)`."""
        return probabilities_of(self.logits, self.activation)


class Evaluation(NamedTuple):
    """The measurements of a model.

    Attributes:
        labels: the categories' names.
        answers: the model's `Answers`.
        weights: float64 `(images,)`: the weight of each image.
        metrics: `loss accuracy auc f1` to floats, each image counting as one, as in the published pipeline.
        weighted: the same with the weights of the images, if categories were given any, else `metrics`.
        accuracy, f1: their 95 % intervals, weighted like all that follows.
        top3: the share of images whose category is among the three most probable.
        calibration: of `lib.measures.uncertainty.calibration`.
        matrix: `(categories, categories)`: rows are the true categories; weighted if weights were given.
        rows: for each category in the records: label, precision, recall, F1, support, average precision.
        absent: the labels of the other categories.
        comparison: with another model; None without one.
    """

    labels: Tuple[str, ...]
    answers: Answers
    weights: np.ndarray
    metrics: dict
    weighted: dict
    accuracy: Interval
    f1: Interval
    top3: float
    calibration: tuple
    matrix: np.ndarray
    rows: list
    absent: tuple
    comparison: Optional[Comparison] = None


def with_files(settings):
    """Settings whose models are files, of which those of published models are fetched where they are missing.

    Raises:
        UsageError: no such model.
        WorkError: it can't be fetched.
    """
    from lib.models.published import find_model

    found = {}
    for setting in ("model", "compare") if settings.compare else ("model",):
        try:
            found[setting] = find_model(getattr(settings, setting), settings.models)
        except StageError as error:
            error.setting = setting
            raise
    return dataclasses.replace(settings, **found)


def evaluate(settings):
    """Apply a model to all images of records, and measure its answers.

    Args:
        settings: `Settings`, of `with_files`.

    Returns:
        An `Evaluation`.

    Raises:
        UsageError: models, labels, weights or records that don't fit.
        WorkError: bad records, or answers that are not finite.
    """
    from lib.data.outputs import labels_of_outputs
    from lib.training.cards import settings_of_run

    if settings.card:
        settings_of_run(settings.model)
    weights = settings.class_weights
    if weights is not None:
        weights = numbers_of_categories(weights, settings.categories, "class_weights")
    labels = labels_of_outputs(settings, "test")
    answers, *other = answer_records(settings)
    evaluation = measure(answers, labels, weights)
    if other:
        comparison = compare(answers.true, answers.chosen, other[0].chosen, len(labels), weights)
        evaluation = evaluation._replace(comparison=comparison)
    return evaluation


def answer_records(settings):
    """Apply the model and the one to compare with, if any, to all images of records, each image decoded once.

    Returns:
        A list of their `Answers`.
    """
    # One core for each operation: several batches are answered side by side instead.
    threads = {"processors": settings.processors or cores(), "threads_per_operation": 1}
    device = select_device(settings.cpu, settings.gpu, **threads, exact=True)

    from lib.data.records import check_bands, load_images, open_records, read_number_map, tell_left_out
    from lib.models.keras_files import load_model
    from lib.training.validation import check_size, side_by_side

    models = {}
    for setting in ("model", "compare") if settings.compare else ("model",):
        path = getattr(settings, setting)
        with concerning(setting):
            models[setting] = load_model(path, settings.categories)
            check_bands(models[setting], path)
    bands = models["model"].input_shape[-1]
    if any(model.input_shape[-1] != bands for model in models.values()):
        reason = f"takes images with another number of bands than {settings.model}"
        raise UsageError(f"{settings.compare} {reason}.", "compare")
    mapping = None if settings.number_map is None else read_number_map(settings.number_map)
    records = open_records(settings.test, "test", settings.categories, mapping, settings.skip_bad)
    images = load_images(records, bands, None, settings.processors, settings.skip_bad)
    tell_left_out((images,))
    for setting, model in models.items():
        with concerning(setting):
            check_size(model, images, getattr(settings, setting), "test")
    work = side_by_side(device, settings.batch, settings.processors)
    return [_answer(model, images, getattr(settings, setting), setting, *work) for setting, model in models.items()]


def _answer(model, images, path, setting, step, threads):
    """The `Answers` of the model in a file that a setting names."""
    from lib.measures.losses import penalties
    from lib.models.inference import compile_logits
    from lib.training.validation import answer

    with concerning(setting):
        compute = compile_logits(model, (step, *images.shape), named=path)
    logits = np.concatenate(list(answer(images, compute, step, threads)))
    wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(wrong):
        example = f"NaN or infinite logits, such as {images.records.name(wrong[0])}"
        raise WorkError(f"{path} answers {len(wrong):,} of {len(images):,} images with {example}.", setting)
    true = images.records.category.astype("int64")
    return Answers(images, true, logits, float(penalties(model)), model.output_activation)


def measure(answers, labels, weights=None):
    """Measure a model's answers.

    Args:
        answers: `Answers`.
        labels: the categories' names.
        weights: `(categories,)`: the weight of an image of each category; None for 1.

    Returns:
        An `Evaluation`.

    Raises:
        UsageError: all weights of the categories that the records contain are 0.
    """
    from lib.measures import metrics
    from lib.measures.losses import build_loss

    true, chosen, categories = answers.true, answers.chosen, len(labels)
    of_each = np.asarray(np.ones(categories) if weights is None else weights, "float32")[true]
    if not of_each.any():
        raise UsageError("at least one category in the records needs a number above 0.", "class_weights")
    one_hot = np.eye(categories, dtype="float32")[true]
    losses = np.asarray(build_loss("ce", label_smoothing=SMOOTHING)(one_hot, answers.logits))
    plain, weighted = (
        metrics.summarise(metrics.count(one_hot, answers.logits, losses + answers.penalty, each))
        for each in (None, of_each)
    )
    of_each = of_each.astype("float64")
    top3 = (np.argsort(-answers.logits, axis=1, kind="stable")[:, :3] == true[:, None]).any(axis=1)
    accuracy, f1 = intervals(true, chosen, categories, weights)
    support = np.bincount(true, minlength=categories)
    return Evaluation(
        labels=tuple(labels),
        answers=answers,
        weights=of_each,
        metrics=plain,
        weighted=weighted,
        accuracy=accuracy,
        f1=f1,
        top3=float(np.average(top3, weights=of_each)),
        calibration=calibration(answers.probabilities, true, of_each),
        matrix=confusion_matrix(true, chosen, categories, weights),
        rows=_rows(answers, labels, of_each, support),
        absent=tuple(label for label, count in zip(labels, support) if not count),
    )


def _rows(answers, labels, weights, support):
    """The rows of an `Evaluation`."""
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    true, probabilities, indices = answers.true, answers.probabilities, np.flatnonzero(support)
    options = {"labels": indices, "sample_weight": weights, "average": None, "zero_division": 0}
    rows = []
    for index, precision, recall, f1, _ in zip(
        indices, *precision_recall_fscore_support(true, answers.chosen, **options)
    ):
        average = 0.0  # of a category with the weight 0
        if weights[true == index].any():
            average = average_precision_score(true == index, probabilities[:, index], sample_weight=weights)
        rows.append((labels[index], float(precision), float(recall), float(f1), int(support[index]), float(average)))
    return rows

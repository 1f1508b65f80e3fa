"""What a page needs to learn from its reader: which images it is to show, and their features."""

import hashlib
import os
import shlex

import numpy as np

from lib.data.categories import LABELS
from lib.data.embeddings import load_features
from lib.display.pages import Teaching
from lib.errors import StageError, UsageError
from lib.measures.adaptation import extend, fit, measure, scale
from lib.measures.softmax import softmax
from lib.models.output_layer import read_output_layer
from lib.models.published import find_model
from lib.prediction.settings import MOST_RIDGE, RIDGE
from lib.storage.names import unescape_name
from lib.storage.tables import settings_of

# A table's probabilities have four decimals, and engines differ a little.
_TOLERANCE = 0.01
_FITTING = 0.98  # of the rows

_ADAPTED = "-adapted"  # what the page's command adds to a table's name


def draw(names, count):
    """Draw names at random: the same ones each time, and mostly the same ones when names were added.

    Args:
        names: the escaped names of all images.
        count: how many to draw; at most a quarter of them are drawn.

    Returns:
        A list of names.
    """
    ranked = sorted(names, key=lambda name: hashlib.sha256(b"audit " + name.encode()).digest())
    return ranked[: min(count, len(ranked) // 4)]


def can_be_taught(path):
    """Whether a model file has a last layer that learns from features."""
    try:
        return read_output_layer(path) is not None
    except UsageError:
        return False


def find_teaching(settings, rows, labels, audited, corrections):
    """The `Teaching` of a page, or the reason why there is none.

    The page learns from the answers of the model that the features are of. A table of a model that was adapted from
    that one has to follow from the corrections.

    Args:
        settings: `Settings`.
        rows: the `Predicted` of the images that the page shows, in its order; among them all that were decided.
        labels: of the categories, the model's first.
        audited: the names of the images to measure with.
        corrections: `Corrections`.

    Returns:
        A `Teaching` and "", or None and a clause.
    """
    if not os.path.isfile(settings.features):
        return None, f"there is no {settings.features}, the features of its images"
    try:
        stored = load_features(settings.features)
        scaling = measure(features for _, features in stored.parts())
    except (StageError, ValueError):
        return None, f"{settings.features} can't be read"
    features = _features_of(stored, [row.name for row in rows])
    ridge = _ridge_of(settings.table)
    for named in _models_of(stored, settings):
        try:
            layer = read_output_layer(find_model(named, settings.models))
        except StageError:
            continue
        known = layer.kernel.shape[1]
        if layer.kernel.shape[0] != features.shape[1]:
            continue
        logits = features @ layer.kernel + layer.bias
        try:
            adapted = _learn(features, layer, scaling, rows, labels, corrections.taught, ridge)
        except StageError:  # there is no solution, so these are not the features of the table
            continue
        if _fits(logits, rows, labels[:known], corrections.decided) or _fits(*adapted, corrections.decided):
            break
    else:
        return None, f"no model is found that gives the table's answers for the features in {settings.features}"
    standard = scale(features, scaling)[:, :-1] * np.sqrt(features.shape[1] + 1)
    kernel = np.vstack([layer.kernel * scaling.deviation[:, None], layer.bias + scaling.mean @ layer.kernel])
    probabilities = np.where(np.isnan(logits), -1, softmax(logits))
    stem = os.path.splitext(settings.table)[0]
    stem = stem[: -len(_ADAPTED)] if stem.endswith(_ADAPTED) else stem  # to adapt again, with more decisions
    command = {"model": named, "features": settings.features, "stem": stem}
    command = {name: shlex.quote(value) for name, value in command.items()}
    command.update(ridge="" if ridge == RIDGE else repr(ridge), published=tuple(labels[:known]) == LABELS)
    numbers = (standard.astype("<f2"), kernel.T.astype("<f4"))
    return Teaching(*numbers, ridge, command, audited, probabilities, _count(stored, layer)), ""


def _models_of(stored, settings):
    """The models that a page may learn from: that of the features, and the table's, which may be adapted from it."""
    names = (stored.settings.get("model"), settings_of(settings.table)[0].get("model"), settings.model)
    return list(dict.fromkeys(unescape_name(name) for name in names if isinstance(name, str)))


def _ridge_of(table):
    """The ridge that the model of a table was adapted with, and that its page goes on with."""
    ridge = settings_of(table)[0].get("ridge")
    known = isinstance(ridge, (int, float)) and not isinstance(ridge, bool) and 0 < ridge <= MOST_RIDGE
    return float(ridge) if known else RIDGE


def _learn(features, layer, scaling, rows, labels, taught, ridge):
    """The logits of a model that learnt from what was taught, the rows, and the labels of its categories."""
    known = list(labels[: layer.kernel.shape[1]])
    own = [*known, *(label for label in labels[len(known) :] if label in taught.values())]
    kernel, bias = extend(*layer, len(own) - len(known))
    logits, scaled = features @ kernel + bias, scale(features, scaling)
    places = [
        place for place, row in enumerate(rows) if taught.get(row.name) in own and np.isfinite(features[place]).all()
    ]
    if not places:
        return logits, rows, own
    wanted = np.array([own.index(taught[rows[place].name]) for place in places])
    return logits + scaled @ fit(scaled[places], logits[places], wanted, ridge).T, rows, own


def _count(stored, layer):
    """How many images of the whole folder have each answer."""
    counts = np.zeros(layer.kernel.shape[1], int)
    for _, features in stored.parts():
        answers = (features @ layer.kernel + layer.bias).argmax(axis=1)
        counts += np.bincount(answers, minlength=len(counts))
    return counts


def _features_of(stored, names):
    """The features of some images, float32 `(images, width)`; NaN for those that are not in the file."""
    places = {name: place for place, name in enumerate(names)}
    found = np.full((len(names), stored.embeddings.shape[1]), np.nan, "float32")
    for number, name in enumerate(stored.paths.tolist()):
        if name in places:
            found[places[name]] = stored.embeddings[number]
    return found


def _fits(logits, rows, labels, decided):
    """Whether a model's logits, NaN for unknown ones, give the table's answers but those that a person decided."""
    places = [place for place, row in enumerate(rows) if row.name not in decided and not np.isnan(logits[place]).any()]
    right = 0
    for place, chances in zip(places, softmax(logits[places]) if places else ()):
        row = rows[place]
        if row.category in labels:
            expected = chances.max() if row.probability is None else row.probability
            right += abs(chances[labels.index(row.category)] - expected) <= _TOLERANCE
    return right >= _FITTING * len(places) and bool(places or decided or not rows)

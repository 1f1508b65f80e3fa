"""What a page needs to learn from its reader: which images it is to show, and their features."""

import hashlib
import os
import shlex

import numpy as np

from lib.data.embeddings import load
from lib.display.pages import Teaching
from lib.errors import StageError, UsageError
from lib.measures.adaptation import measure, scale
from lib.measures.softmax import softmax
from lib.models.output_layer import read_output_layer
from lib.models.published import find_model
from lib.storage.names import unescape_name
from lib.storage.tables import decisions_in, settings_of

# A table's probabilities have four decimals, and engines differ a little.
_TOLERANCE = 0.01
_FITTING = 0.98  # of the rows

_CHUNK = 65536  # rows of features


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


def find_teaching(settings, rows, model, labels, audited):
    """The `Teaching` of a page, or the reason why there is none.

    Args:
        settings: `Settings`.
        rows: the `Predicted` of the images that the page shows, in its order.
        model: the table's model or models, None if unknown.
        labels: of the categories, the model's first.
        audited: the names of the images to measure with.

    Returns:
        A `Teaching` and "", or None and a clause.
    """
    if not os.path.isfile(settings.features):
        return None, f"there is no {settings.features}, the features of its images"
    recorded = settings_of(settings.table)[0]
    named = unescape_name(str(recorded.get("model") or model or settings.model))
    try:
        stored = load(settings.features)
        layer = read_output_layer(find_model(named, settings.models))
        scaling = measure(_chunks(stored.embeddings))
    except (StageError, ValueError):
        return None, f"{settings.features} or the model {named} can't be read, or don't go together"
    if layer.kernel.shape[0] != stored.embeddings.shape[1]:
        return None, f"{settings.features} has other features than the last layer of {named} takes"
    features = _features_of(stored, [row.name for row in rows])
    logits = features @ layer.kernel + layer.bias
    decided = decisions_in(settings.table) or {}
    answered = [place for place, row in enumerate(rows) if row.name not in decided]
    if not _fits(logits[answered], [rows[place] for place in answered], list(labels[: logits.shape[1]])):
        return None, f"the table's answers are not those of {named} for {settings.features}"
    standard = scale(features, scaling)[:, :-1] * np.sqrt(features.shape[1] + 1)
    kernel = np.vstack([layer.kernel * scaling.deviation[:, None], layer.bias + scaling.mean @ layer.kernel])
    stem = os.path.splitext(settings.table)[0]
    command = {"model": named, "features": settings.features, "stem": stem, "table": settings.table}
    command = {name: shlex.quote(value) for name, value in command.items()}
    return Teaching(standard.astype("<f2"), kernel.T.astype("<f4"), command, audited), ""


def _features_of(stored, names):
    """The features of some images, float32 `(images, width)`; NaN for those that are not in the file."""
    places = {name: place for place, name in enumerate(names)}
    found = np.full((len(names), stored.embeddings.shape[1]), np.nan, "float32")
    for number, name in enumerate(stored.paths.tolist()):
        if name in places:
            found[places[name]] = stored.embeddings[number]
    return found


def _fits(logits, rows, labels):
    """Whether a model's logits, NaN for unknown ones, give the table's answers: it is the table's model."""
    known = np.flatnonzero(~np.isnan(logits).any(axis=1))
    right = 0
    for place, chances in zip(known, softmax(logits[known])):
        row = rows[place]
        if row.category in labels:
            chance = chances[labels.index(row.category)]
            expected = chances.max() if row.probability is None else row.probability
            right += abs(chance - expected) <= _TOLERANCE
    return right >= _FITTING * len(known) and (right > 0 or not rows)


def _chunks(features):
    return (features[start : start + _CHUNK] for start in range(0, len(features), _CHUNK))

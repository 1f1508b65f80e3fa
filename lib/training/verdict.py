"""What a finished training amounts to, in words: whether it was long enough or too long, and what it is weak on."""

import numpy as np

from lib.measures.uncertainty import divide
from lib.training.history import best_epoch, epochs_of

_LATE = 0.1  # a best epoch in the last tenth means that more epochs would have gone on to improve it
_WORSE = 0.02  # by how much the loss in validation has to rise, as a share of its lowest
_WEAK = 0.8  # an F1 below this share of the mean
_MOST_NAMED = 3


def trend(history, monitor):
    """Sentences about the course of a training.

    Args:
        history: metric -> its values of all epochs, at least one.
        monitor: the metric whose best epoch is the result.
    """
    epochs, best = epochs_of(history), best_epoch(history, monitor)
    said = []
    if best > (1 - _LATE) * epochs:
        said.append(f"It was still improving in the last of its {epochs} epochs: more may make it better.")
    elif epochs - best >= 5:
        said.append(f"It has not improved since epoch {best}, in {epochs - best} further epochs.")
    validation, training = (np.array(history[name], "float64") for name in ("val_loss", "loss"))
    lowest = int(validation.argmin())
    rises = validation[-1] > validation[lowest] + _WORSE * abs(validation[lowest])
    if rises and epochs - lowest > 2 and training[-1] < training[lowest]:
        said.append(
            f"It overfits from epoch {lowest + 1}: since then the loss has been rising in validation, and falling in "
            "training. More images, stronger augmentation or fewer trained layers help."
        )
    return " ".join(said)


def f1_of_categories(matrix):
    """The F1 of each category, float64 `(categories,)`, NaN for absent ones.

    Args:
        matrix: a confusion matrix `(categories, categories)`: rows are the true categories.
    """
    counts = matrix.sum(axis=1)
    scores = divide(2.0 * np.diagonal(matrix), counts + matrix.sum(axis=0))
    return np.where(counts > 0, scores, np.nan)


def weakest(matrix, labels):
    """A sentence about the categories that are answered worst in validation, and what they are taken for.

    Args:
        matrix: a confusion matrix `(categories, categories)`: rows are the true categories.
        labels: the categories' names.
    """
    scores = f1_of_categories(matrix)
    weak = [index for index in np.argsort(scores, kind="stable") if scores[index] < _WEAK * np.nanmean(scores)]
    if not weak:
        return "No category is much weaker than the others."
    said = []
    for index in weak[:_MOST_NAMED]:
        others = np.where(np.arange(len(labels)) == index, 0, matrix[index])
        taken = f", most often taken for {labels[others.argmax()]}" if others.any() else ""
        said.append(f"{labels[index]} (F1 {scores[index]:.2f}{taken})")
    more = f", and {len(weak) - _MOST_NAMED} more" if len(weak) > _MOST_NAMED else ""
    return f"Weakest in validation: {'; '.join(said)}{more}."

"""From logits to probabilities."""

import numpy as np


def softmax(logits):
    """The probabilities of categories.

    Args:
        logits: float `(…, categories)`.

    Returns:
        float64 `(…, categories)`, which add up to 1.
    """
    exponentials = np.exp(logits.astype("float64") - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def probabilities_of(logits, activation=None):
    """The probabilities that a model gives.

    Args:
        logits: float `(…, categories)`.
        activation: the model's `output_activation`: `softmax`, `sigmoid` (whose probabilities need not add up to 1), or
            None, which is taken for a softmax.

    Returns:
        float64 `(…, categories)`.
    """
    if activation != "sigmoid":
        return softmax(logits)
    with np.errstate(over="ignore"):  # of exp(-z) where the probability is 0
        return 1 / (1 + np.exp(-logits.astype("float64")))

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

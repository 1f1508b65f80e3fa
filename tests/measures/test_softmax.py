"""Probabilities: those of SciPy, also of logits whose exponentials overflow."""

import numpy as np
import pytest
from scipy.special import softmax as theirs

from lib.measures.softmax import softmax


@pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 3, 5)])
@pytest.mark.parametrize("scale", [1, 1e4])
def test_they_are_those_of_scipy(shape, scale):
    logits = (np.random.default_rng(1).normal(size=shape) * scale).astype("float32")
    found = softmax(logits)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, theirs(logits.astype("float64"), axis=-1), rtol=1e-12)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-12)

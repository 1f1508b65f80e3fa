"""The optimizers' cyclical learning rate: golden values, and it serialises."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from lib.training.optimizers import CyclicalLearningRate


def test_golden_rates(shared):
    cases = json.loads((shared / "golden" / "cyclical_rate.json").read_text())
    assert len(cases) >= 4
    for case in cases:
        rate = CyclicalLearningRate(case["learning_rate"] / 4, case["learning_rate"], case["step_size"])
        compiled = tf.function(rate)
        for step, expected in zip(case["steps"], case["values"]):
            assert float(rate(step)) == pytest.approx(expected, rel=1e-5)
            assert float(compiled(tf.constant(step, "int64"))) == pytest.approx(expected, rel=1e-5)


def test_it_serialises_and_steers_an_optimizer():
    schedule = CyclicalLearningRate(0.1, 0.5, 2)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert again.get_config() == schedule.get_config()
    weight = keras.Variable([0.0]) if hasattr(keras, "Variable") else tf.Variable([0.0])
    optimizer = keras.optimizers.SGD(schedule)
    moved = []
    for _ in range(4):
        before = np.array(weight)
        optimizer.apply_gradients([(tf.constant([-1.0]), weight)])
        moved.append(float((np.array(weight) - before)[0]))
    np.testing.assert_allclose(moved, [0.1, 0.3, 0.5, 0.3], rtol=1e-5)

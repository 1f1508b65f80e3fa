"""Learning from a reader: the optimum is that of the formula, and a replayed reader gains what was promised."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from lib.measures.adaptation import extend, fit, fold, least_sure, margins, measure, scale
from lib.prediction.settings import RIDGE


@pytest.fixture(scope="module")
def folder():
    """Features of 300 images of 4 categories that the model's logits tell apart badly, and those logits."""
    rng = np.random.default_rng(5)
    categories = rng.integers(0, 4, 300)
    features = (rng.normal(size=(4, 12))[categories] + rng.normal(size=(300, 12))).astype("float32") * 3 + 1
    kernel, bias = rng.normal(size=(12, 4)).astype("float32") / 9, rng.normal(size=4).astype("float32")
    return features, kernel, bias, categories


def taught(folder, count=40, ridge=RIDGE):
    """W of the first images, and what it was learnt from."""
    features, kernel, bias, categories = folder
    x, logits = scale(features, measure([features])), features.astype("float64") @ kernel + bias
    return fit(x[:count], logits[:count], categories[:count], ridge), x, logits, categories


def gradient(weights, x, logits, categories, ridge):
    """Of the objective, as the definition has it."""
    return (softmax(logits + x @ weights.T, axis=1) - np.eye(len(weights))[categories]).T @ x + ridge * weights


@pytest.mark.parametrize("ridge", [1e-3, RIDGE, 10.0])
@pytest.mark.parametrize("count", [2, 40, 300])
def test_the_gradient_is_zero_at_what_was_learnt(folder, count, ridge):
    weights, x, logits, categories = taught(folder, count, ridge)
    assert np.linalg.norm(gradient(weights, x[:count], logits[:count], categories[:count], ridge)) <= 1e-6


def test_what_was_learnt_is_what_another_search_finds(folder):
    weights, x, logits, categories = taught(folder)

    def loss(flat):
        adapted = logits[:40] + x[:40] @ flat.reshape(4, 13).T
        return -log_softmax(adapted, axis=1)[range(40), categories[:40]].sum() + RIDGE / 2 * (flat**2).sum()

    found = minimize(loss, np.zeros(52), method="BFGS", options={"gtol": 1e-5})
    np.testing.assert_allclose(weights.ravel(), found.x, atol=2e-3)
    assert loss(weights.ravel()) <= found.fun + 1e-9


def test_the_scaling_is_over_all_images_in_any_parts(folder):
    features = folder[0].copy()
    features[:, 3] = 0.1  # which float32 has not exactly
    features[:, 4] = 1e4 + np.arange(300) % 2 / 128
    scaling = measure(iter([features[:1], features[1:1], features[1:200], features[200:]]))
    np.testing.assert_allclose(scaling.mean, features.mean(axis=0, dtype="float64"), rtol=1e-12)
    others = np.delete(np.arange(12), [3, 4])
    np.testing.assert_allclose(scaling.deviation[others], features.std(axis=0, dtype="float64")[others], rtol=1e-12)
    assert scaling.deviation[3] == scaling.deviation[4] == 1, "features that hardly vary are constants"
    x = scale(features, scaling)
    assert np.allclose(x[:, -1], 1 / np.sqrt(13)) and np.allclose((x[:, others] ** 2).mean(), 1 / 13)


@pytest.mark.parametrize("blocks", [[], [np.zeros((0, 3), "float32")], [np.array([[1, np.nan]], "float32")]])
def test_features_that_nothing_can_be_learnt_from(blocks):
    with pytest.raises(ValueError):
        measure(blocks)


def test_what_was_learnt_becomes_a_part_of_the_last_layer(folder):
    features, kernel, bias, _ = folder
    weights, x, logits, _ = taught(folder)
    new_kernel, new_bias = fold(kernel, bias, measure([features]), weights)
    np.testing.assert_allclose(features @ new_kernel + new_bias, logits + x @ weights.T, atol=1e-10)


def test_a_category_that_the_model_never_had_is_learnt(folder):
    features, kernel, bias, categories = folder
    fewer, less = extend(kernel[:, :3], bias[:3], 1)
    logits = features @ fewer + less
    np.testing.assert_allclose(logits[:, 3], logits[:, :3].mean(axis=1), atol=1e-6)
    x = scale(features, measure([features]))
    adapted = logits + x @ fit(x[:80], logits[:80], categories[:80], RIDGE).T
    rest = np.arange(80, 300)
    recall = (adapted.argmax(axis=1) == categories)[rest][categories[rest] == 3].mean()
    assert (logits.argmax(axis=1) != 3).all() and recall > 0.8


def test_the_least_sure_are_asked_about_first():
    probabilities = np.array([[0.5, 0.4, 0.1], [0.9, 0.05, 0.05], [0.4, 0.2, 0.4], [0.1, 0.5, 0.4], [1, 0, 0]])
    np.testing.assert_allclose(margins(probabilities), [0.1, 0.85, 0, 0.1, 1], atol=1e-12)
    assert least_sure(probabilities, 3).tolist() == [2, 0, 3]
    assert least_sure(probabilities, 9, known=[2, 1]).tolist() == [0, 3, 4]


def replay(features, logits, categories, rounds, each=10):
    """Replay a reader who decides `each` images a round; yields the known and how much of the rest is right."""
    x, known, adapted = scale(features, measure([features])), [], logits
    for _ in range(rounds):
        known += least_sure(softmax(adapted, axis=1), each, known).tolist()
        adapted = logits + x @ fit(x[known], logits[known], categories[known], RIDGE).T
        rest = np.delete(np.arange(len(x)), known)
        yield len(known), (adapted.argmax(axis=1) == categories)[rest].mean()


def test_a_reader_who_looks_at_a_hundred_real_images_repairs_nearly_all_others(shared):
    with np.load(shared / "golden" / "adaptation.npz") as golden:
        features, logits, categories = golden["features"], golden["logits"].astype("float64"), golden["category"]
    assert (logits.argmax(axis=1) == categories).mean() == pytest.approx(0.641, abs=5e-4)
    right = dict(replay(features, logits, categories, 10))
    assert right[20] >= 0.74 and right[50] >= 0.90 and right[100] >= 0.95
    assert dict(replay(features, logits, categories, 2)) == {10: right[10], 20: right[20]}, "the same each time"

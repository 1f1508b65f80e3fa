"""The verdict on a training, in words."""

import numpy as np

from lib.training.verdict import f1_of_categories, trend, weakest


def history(f1, val_loss, loss):
    return {"loss": loss, "val_loss": val_loss, "val_f1": f1}


def falling(count):
    return list(np.linspace(2, 1, count))


def test_one_that_still_improves_says_so():
    assert trend(history([0.1 * n for n in range(10)], falling(10), falling(10)), "val_f1") == (
        "It was still improving in the last of its 10 epochs: more may make it better."
    )


def test_one_that_is_flat_says_since_when():
    f1 = [0.5, 0.9, *[0.8] * 10]
    assert trend(history(f1, falling(12), falling(12)), "val_f1") == (
        "It has not improved since epoch 2, in 10 further epochs."
    )
    assert trend(history(f1[:5], falling(5), falling(5)), "val_f1") == ""


def test_overfitting_has_its_epoch():
    f1, val_loss = [0.5, 0.9, *[0.8] * 10], [1.0, 0.9, 0.8, *np.linspace(0.85, 1.2, 9)]
    assert "It overfits from epoch 3: since then the loss" in trend(history(f1, val_loss, falling(12)), "val_f1")
    assert "overfits" not in trend(history(f1, val_loss, [1.0] * 12), "val_f1"), "the training loss does not fall"
    slightly = [0.8, 0.8, 0.79, *[0.795] * 9]
    assert "overfits" not in trend(history(f1, slightly, falling(12)), "val_f1")


def test_weak_categories_are_named_with_what_they_are_taken_for():
    matrix = np.array([[10, 0, 0, 0], [0, 9, 1, 0], [0, 6, 4, 0], [0, 0, 0, 0]])
    labels = ["Fern", "Moss", "Palm", "Absent"]
    np.testing.assert_allclose(f1_of_categories(matrix), [1, 18 / 25, 8 / 15, np.nan])
    assert weakest(matrix, labels) == "Weakest in validation: Palm (F1 0.53, most often taken for Moss)."
    assert weakest(np.diag([3, 4, 0, 1]), labels) == "No category is much weaker than the others."

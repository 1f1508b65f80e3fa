"""Which epoch is the best, and when a training stops early."""

import types

from lib.storage.runs import Run
from lib.training.history import best_epoch, epochs_of, ranked_epochs, read_history, write_history
from lib.training.loop import early_stopping

HISTORY = {"val_f1": [0.2, 0.5, 0.5, 0.1], "val_loss": [3.0, 1.0, 0.5, 0.5], "learning_rate": [0.1, 1 / 3, 0.1, 1e-9]}


def test_the_best_is_the_highest_of_a_metric_and_the_lowest_of_a_loss_and_of_equal_ones_the_first():
    assert ranked_epochs(HISTORY, "val_f1") == [2, 3, 1, 4] and best_epoch(HISTORY, "val_f1") == 2
    assert ranked_epochs(HISTORY, "val_loss") == [3, 4, 2, 1] and best_epoch(HISTORY, "val_loss") == 3
    assert (epochs_of(HISTORY), epochs_of({}), best_epoch({}, "val_f1")) == (4, 0, 0)


def test_early_stopping_after_patience_epochs_without_improvement():
    stopped = [early_stopping(HISTORY, "val_f1", types.SimpleNamespace(patience=number)) for number in (1, 2, 3)]
    assert stopped == [True, True, False]
    assert not early_stopping({}, "val_f1", types.SimpleNamespace(patience=1))


def test_a_history_is_read_as_it_was_written(tmp_path):
    run = Run(str(tmp_path), str(tmp_path), "training")
    write_history(run, HISTORY)
    found = read_history(run.history)
    assert list(found) == list(HISTORY) and found["val_f1"] == HISTORY["val_f1"]
    assert abs(found["learning_rate"][1] - 1 / 3) < 1e-9

"""The metrics of a run's epochs: the best epoch, and files for programs and people.

A history is a dictionary: metric -> list of its values, one for each epoch.
"""

import contextlib
import os
import time

import numpy as np

from lib.display.figures import new_figure, save_figure
from lib.storage.files import whole_file


def write_history(run, history):
    """Write `history.npy` and `history.tsv` of a run.

    Args:
        run: a `lib.storage.runs.Run`.
        history: what to write.
    """
    with whole_file(run.file("history.npy"), "wb") as file:
        np.save(file, history, allow_pickle=True)
    write_table(run.history, history)


def write_table(path, history, files=None):
    """Write a table of all epochs.

    Args:
        path: the file to write.
        history: see `write_history`.
        files: epoch from 1 -> its model's file name, for a second column; None for none.
    """
    columns = ["EPOCH", *(["FILE"] if files is not None else []), *map(str.upper, history)]
    with whole_file(path) as file:
        file.write("\t".join(columns) + "\n")
        for epoch, values in enumerate(zip(*history.values()), start=1):
            name = [files.get(epoch, "")] if files is not None else []
            file.write("\t".join([str(epoch), *name, *(f"{value:.9g}" for value in values)]) + "\n")


def read_history(path):
    """The history in a run's `history.tsv`."""
    with open(path, encoding="utf-8") as file:
        names, *rows = (line.rstrip("\n").split("\t") for line in file)
    return {name.lower(): [float(row[place]) for row in rows] for place, name in enumerate(names) if place}


def epochs_of(history):
    """The number of epochs."""
    return len(next(iter(history.values()), ()))


def ranked_epochs(history, monitor):
    """The epochs, counted from 1, the best first: lowest for a loss, else highest; the earlier one of equals."""
    sign = 1 if monitor.endswith("loss") else -1
    values = history.get(monitor, ())
    return sorted(range(1, len(values) + 1), key=lambda epoch: (sign * values[epoch - 1], epoch))


def best_epoch(history, monitor):
    """The first of `ranked_epochs`; 0 if there are none."""
    return next(iter(ranked_epochs(history, monitor)), 0)


@contextlib.contextmanager
def tensorboard_events(run):
    """A function `write(epoch, values)` that writes an epoch's metrics for TensorBoard, into the run's directory."""
    # tf.summary needs the package tensorboard, which TensorFlow no longer brings along.
    import tensorflow as tf

    folder = os.path.join(run.best, "tensorboard")
    os.makedirs(folder, exist_ok=True)
    event = tf.compat.v1.Event
    with tf.io.TFRecordWriter(os.path.join(folder, f"events.out.tfevents.{time.time():.0f}.{os.getpid()}")) as writer:
        writer.write(event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())

        def write(epoch, values):
            scalars = [tf.compat.v1.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
            summary = tf.compat.v1.Summary(value=scalars)
            writer.write(event(wall_time=time.time(), step=epoch, summary=summary).SerializeToString())
            writer.flush()

        yield write


def draw_history(run, history, monitor="val_f1"):
    """Draw `history.png` of a run: loss, F1, perhaps the agreement with a teacher, and learning rate over the epochs.

    Args:
        run, history: as of `write_history`.
        monitor: the metric whose best epoch is marked.
    """
    epochs = np.arange(1, epochs_of(history) + 1)
    titles = [("loss", "loss"), ("f1", "macro F1"), ("agreement", "agreement with the teacher")]
    shown = [(name, title) for name, title in [*titles, ("learning_rate", "learning rate")] if name in history]
    figure, all_axes = new_figure((8, 3 * len(shown)), len(shown), 1, sharex=True)
    for axes, (name, title) in zip(all_axes, shown):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if key in history:
                axes.plot(epochs, history[key], marker="." if len(epochs) < 50 else None, label=label)
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        if f"val_{name}" in history:
            axes.legend()
        else:
            axes.set_ylim(bottom=0)
        if monitor == f"val_{name}":
            best = best_epoch(history, monitor)
            axes.axvline(best, color="black", linestyle=":", linewidth=1)
            axes.set_title(f"best: {history[monitor][best - 1]:.4f} in epoch {best}", fontsize=10)
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    save_figure(figure, run.file("history.png"))

"""This project's distillation, measured from within: the same calls and results as `plain_distill.py`.

With `--input` the seconds of two passes over what the distillation reads, and of one that changes, crops and mixes it,
too, in a compiled function of its own, as the step does.
"""

import argparse
import functools
import json
import os
import tempfile
import time

import numpy as np
import tensorflow as tf

from lib.augmentation import CHANGES, draw, epoch_order
from lib.batches import feeds, mixed_examples, stacked, training_feed
from lib.distillation import Settings, distill
from lib.means import Means
from lib.optimization_log import Hyperparameters
from lib.records import load_images, open_records


def input_seconds(path, search, size, batch, seed, classes):
    """Seconds of two passes over the input and of one that changes, crops and mixes it, too."""
    images = load_images(open_records([path], "-t"), report=lambda message: None)
    strategy = tf.distribute.OneDeviceStrategy("/CPU:0")
    mix = tf.function(functools.partial(mixed_examples, size=size, classes=classes, search=search))

    def make(step, *replica):
        order = epoch_order(seed, 0, len(images))
        indices = order[step * batch : (step + 1) * batch]
        return stacked([training_feed(images, indices, draw(seed, 0, step, batch, search=search), *replica)])

    seconds = []
    for mixed in (False, False, True):
        start = time.perf_counter()
        for feed in feeds(strategy, range(len(images) // batch), make):
            if mixed:
                mix(type(feed)(*(values[0] for values in feed)))
        seconds.append(time.perf_counter() - start)
    return seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs=5)
    for name in ("size", "batch", "epochs", "seed", "classes"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--changes", type=float, default=0.0)
    parser.add_argument("--input", action="store_true")
    arguments = parser.parse_args()
    result, student, teacher, train, validation = arguments.files
    power = arguments.batch.bit_length() - 1
    search = Hyperparameters(batch_power=power, **dict.fromkeys(CHANGES, arguments.changes))
    if arguments.input:
        options = (arguments.size, arguments.batch, arguments.seed, arguments.classes)
        found = {"seconds": input_seconds(train, search, *options)}
    else:
        settings = Settings(
            student=student,
            teacher=teacher,
            outputs=arguments.classes,
            train=(train,),
            validate=(validation,),
            search=search,
            teacher_size=arguments.size,
            student_size=arguments.size,
            epochs=arguments.epochs,
            seed=arguments.seed,
        )
        times = []

        def report(message):
            if message.startswith(("Epoch", "The teacher answers")):
                times.append(time.perf_counter())

        with tempfile.TemporaryDirectory() as folder:
            model = distill(settings, folder, Means(cpu=True), report=report)
            history = np.load(os.path.join(os.path.dirname(model), "training-history.npy"), allow_pickle=True).item()
        found = {
            "seconds": [end - start for start, end in zip(times, times[1:])],
            "agreement": history["val_agreement"],
        }
    with open(result, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()

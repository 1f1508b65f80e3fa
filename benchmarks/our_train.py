"""This project's training, measured from within: the same calls and results as `plain_train.py`.

With `--input` the seconds of two passes over what the training reads, and of one that crops and mixes it, too, in a
compiled function of its own, as the step does.
"""

import functools
import json
import tempfile
import time

import numpy as np
import tensorflow as tf

from benchmarks.common import child_arguments, message_times
from lib.data.records import load_images, open_records
from lib.storage.runs import run_of
from lib.training.augmentation import draw, epoch_order
from lib.training.batches import feeds, mixed_examples, stacked, training_feed
from lib.training.classifier import Settings, train
from lib.training.hyperparameters import PUBLISHED


def input_seconds(path, size, batch, seed, categories, settings=PUBLISHED):
    """Seconds of two passes over the input and of one that changes, crops and mixes it, too."""
    images = load_images(open_records([path], "train"))
    strategy = tf.distribute.OneDeviceStrategy("/CPU:0")
    mix = tf.function(functools.partial(mixed_examples, size=size, categories=categories, settings=settings))

    def make(step, *replica):
        order = epoch_order(seed, 0, len(images))
        indices = order[step * batch : (step + 1) * batch]
        return stacked([training_feed(images, indices, draw(seed, 0, step, batch, settings), *replica)])

    seconds = []
    for mixed in (False, False, True):
        start = time.perf_counter()
        for feed in feeds(strategy, range(len(images) // batch), make):
            if mixed:
                mix(type(feed)(*(values[0] for values in feed)))
        seconds.append(time.perf_counter() - start)
    return seconds


def main():
    arguments = child_arguments(4)
    result, path, records, validation = arguments.files
    if arguments.input:
        found = {"seconds": input_seconds(records, arguments.size, arguments.batch, arguments.seed, arguments.classes)}
    else:
        with tempfile.TemporaryDirectory() as folder, message_times("Epoch ", " pixels") as times:
            settings = Settings(
                model=path,
                categories=arguments.classes,
                train=(records,),
                validate=(validation,),
                output=folder,
                batch=arguments.batch,
                epochs=arguments.epochs,
                size=arguments.size,
                seed=arguments.seed,
                cpu=True,
            )
            model = train(settings)
            history = np.load(run_of(model).file("history.npy"), allow_pickle=True).item()
        found = {
            "seconds": [end - start for start, end in zip(times[1:], times[2:])],
            "f1": history["val_f1"],
        }
    with open(result, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()

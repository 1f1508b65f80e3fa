"""The plain Keras way of training, to compare with: records decoded, cropped and mixed in `tf.data`, Keras's `fit`.

    plain_train.py RESULT MODEL TRAIN VALIDATION --size PIXELS --batch COUNT --epochs COUNT --seed SEED [--input]

Writes the seconds and the validation F1 of each epoch as JSON; with `--input` only the seconds of two passes over what
the training reads. Only the model is opened by this project's `load_model`.
"""

import json
import math
import time

import keras
import tensorflow as tf

from benchmarks.common import child_arguments
from lib.models.keras_files import load_model
from lib.training.optimizers import CyclicalLearningRate

FEATURES = {"category": tf.io.FixedLenFeature([], tf.int64), "image": tf.io.FixedLenFeature([], tf.string)}


def parse(record, classes):
    """A record as float32 pixels and a one-hot label."""
    parsed = tf.io.parse_single_example(record, FEATURES)
    image = tf.cast(tf.io.decode_jpeg(parsed["image"], channels=3), tf.float32)
    return image, tf.one_hot(parsed["category"], classes)


def crop(image, label, size):
    """A random resized crop, area 0.08 to 1, aspect 3/4 to 4/3."""
    area = tf.random.uniform([], 0.08, 1.0)
    aspect = tf.exp(tf.random.uniform([], math.log(3 / 4), math.log(4 / 3)))
    height = tf.minimum(tf.sqrt(area / aspect), 1.0)
    width = tf.minimum(tf.sqrt(area * aspect), 1.0)
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    pixels = tf.maximum(tf.cast(tf.stack([height, width]) * sides, tf.int32), 1)
    window = tf.image.random_crop(image, [pixels[0], pixels[1], 3])
    return tf.image.resize(window, [size, size]), label


def mixup(images, labels):
    """Each image and its label mixed with those of another one of the batch."""
    count = tf.shape(images)[0]
    shares = tf.random.uniform([count])
    partners = tf.random.uniform([count], 0, count, tf.int32)
    other = shares[:, None, None, None]
    images = (1 - other) * images + other * tf.gather(images, partners)
    return images, (1 - shares[:, None]) * labels + shares[:, None] * tf.gather(labels, partners)


def batches(path, batch, prepare):
    """Shuffled and mixed batches of records, each prepared."""
    many = tf.data.AUTOTUNE
    records = tf.data.TFRecordDataset(path).shuffle(48 * batch).map(prepare, num_parallel_calls=many)
    return records.batch(batch, drop_remainder=True).map(mixup, num_parallel_calls=many).prefetch(many)


def plain_batches(path, batch, classes):
    """Batches of records as they are."""
    many = tf.data.AUTOTUNE
    records = tf.data.TFRecordDataset(path).map(lambda record: parse(record, classes), num_parallel_calls=many)
    return records.batch(batch).prefetch(many)


def seconds_of_two_passes(dataset):
    """How long reading a dataset takes, twice."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        for _ in dataset:
            pass
        seconds.append(time.perf_counter() - start)
    return seconds


def label_metrics():
    """Keras's own of what is reported."""
    return [
        keras.metrics.CategoricalAccuracy(name="accuracy"),
        keras.metrics.AUC(curve="PR", from_logits=True, name="auc"),
        keras.metrics.F1Score(average="macro", name="f1"),
    ]


def main():
    arguments = child_arguments(4)
    result, path, train, validation = arguments.files
    keras.utils.set_random_seed(arguments.seed)
    batch = arguments.batch
    training = batches(train, batch, lambda record: crop(*parse(record, arguments.classes), arguments.size))
    if arguments.input:
        found = {"seconds": seconds_of_two_passes(training)}
    else:
        plain = plain_batches(validation, batch, arguments.classes)
        model = load_model(path)
        model.compile(
            keras.optimizers.AdamW(CyclicalLearningRate(0.005 / 4, 0.005, 4 * batch), weight_decay=0.0001),
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2),
            metrics=label_metrics(),
        )
        times = [time.perf_counter()]
        watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: times.append(time.perf_counter()))
        history = model.fit(training, validation_data=plain, epochs=arguments.epochs, callbacks=[watch], verbose=0)
        found = {
            "seconds": [end - start for start, end in zip(times, times[1:])],
            "f1": [float(value) for value in history.history["val_f1"]],
        }
    with open(result, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()

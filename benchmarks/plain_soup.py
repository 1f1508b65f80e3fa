"""The plain Keras way of making a soup, to compare with.

    plain_soup.py RESULT MODELS DATA VALIDATION BATCH PERCENTILE

Each model loaded with Keras, compiled and evaluated for the ranking; then for each candidate its weights loaded and
`predict` over the records batch by batch, which are decoded once, in `tf.data`. Writes what it found as JSON.
"""

import glob
import json
import os
import sys

import keras
import numpy as np
import tensorflow as tf

FEATURES = {"category": tf.io.FixedLenFeature([], tf.int64), "image": tf.io.FixedLenFeature([], tf.string)}


def read(path, batch, classes):
    """Records as batches of float32 pixels and one-hot labels; decoded once."""

    def parse(record):
        parsed = tf.io.parse_single_example(record, FEATURES)
        return tf.io.decode_jpeg(parsed["image"], channels=3), tf.one_hot(parsed["category"], classes)

    many = tf.data.AUTOTUNE
    kept = tf.data.TFRecordDataset(path).map(parse, num_parallel_calls=many).batch(batch).cache()
    return kept.map(lambda images, labels: (tf.cast(images, tf.float32), labels)).prefetch(1)


def macro_f1():
    """The metric."""
    return keras.metrics.F1Score(average="macro", name="f1")


def main(result, folder, data, validation, batch, percentile, classes=17):
    """Rank, cook greedily, save."""
    paths = sorted(glob.glob(os.path.join(folder, "*.keras")))
    validation = read(validation, int(batch), classes)
    scores = {}
    for path in paths:
        keras.backend.clear_session()
        model = keras.models.load_model(path, compile=False)
        model.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True), metrics=[macro_f1()])
        scores[path] = model.evaluate(validation, verbose=0, return_dict=True)["f1"]
    least = np.percentile(list(scores.values()), int(percentile))
    ranked = sorted((path for path in paths if scores[path] >= least), key=lambda path: -scores[path])

    keras.backend.clear_session()
    model = keras.models.load_model(paths[0], compile=False)
    data = read(data, int(batch), classes)
    labels = np.concatenate([labels for _, labels in data])
    total, taken, best = None, [], -1.0
    for path in ranked:
        model.load_weights(path)
        weights = [weight.astype("float64") for weight in model.get_weights()]
        together = weights if total is None else [one + other for one, other in zip(total, weights)]
        model.set_weights([values / (len(taken) + 1) for values in together])
        metric = macro_f1()
        metric.update_state(labels, model.predict(data, verbose=0))
        score = float(metric.result())
        if score >= best:
            total, best = together, score
            taken.append(path)
    model.set_weights([values / len(taken) for values in total])
    model.compile(metrics=[macro_f1()])
    f1 = model.evaluate(validation, verbose=0, return_dict=True)["f1"]
    model.save(os.path.join(os.path.dirname(result), "plain-soup.keras"))
    with open(result, "w") as file:
        json.dump({"scored": len(ranked), "taken": [os.path.basename(path) for path in taken], "f1": f1}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The plain Keras way of testing a model, to compare with: `plain_evaluate.py MODEL RECORDS BATCH`.

The model compiled with the metrics that are wanted, `evaluate` over the records, decoded in `tf.data`, then `predict`
over them for scikit-learn's table of the categories. Only the model is opened by this project's `load_model`, since no
current Keras opens the published file.
"""

import sys

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import classification_report

from benchmarks.plain_soup import macro_f1, read
from lib.models.keras_files import load_model


def main(path, records, batch, classes=17):
    """Test and print."""
    model, data = load_model(path), read(records, int(batch), classes)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    area = keras.metrics.AUC(curve="PR", from_logits=True, name="auc")
    model.compile(loss=loss, metrics=["accuracy", area, macro_f1()])
    print(model.evaluate(data, verbose=0, return_dict=True))
    labels = np.concatenate([labels for _, labels in data]).argmax(axis=1)
    print(classification_report(labels, tf.argmax(model.predict(data, verbose=0), axis=1), zero_division=0))


if __name__ == "__main__":
    main(*sys.argv[1:])

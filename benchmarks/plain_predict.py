"""The plain Keras way of categorising a folder, to compare with: `plain_predict.py MODEL FOLDER OUTPUT`.

`tf.io.decode_image` in `Dataset.map`, `tf.image.resize`, `model.predict` a batch of 1,024. Only the model is opened by
this project's `load_model`, since no current Keras opens the published file.
"""

import glob
import os
import sys

import tensorflow as tf

from lib.data.categories import LABELS
from lib.models.keras_files import load_model


def main(model_path, folder, output):
    """Write a table of the files' names and categories."""
    model = load_model(model_path)
    paths = sorted(glob.glob(os.path.join(folder, "*.jpg")))

    def pixels(path):
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        image = tf.image.resize(image, (96, 96))
        image.set_shape((96, 96, 3))
        return image

    images = tf.data.Dataset.from_tensor_slices(paths).map(pixels, num_parallel_calls=tf.data.AUTOTUNE)
    logits = model.predict(images.batch(1024).prefetch(1), verbose=0)
    with open(output, "w") as table:
        for path, row in zip(paths, logits):
            table.write(f"{path}\t{LABELS[row.argmax()]}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The plain Keras way of distilling, to compare with: a `Model` subclass with `train_step`, its input from `tf.data`.

    plain_distill.py RESULT STUDENT TEACHER TRAIN VALIDATION --size PIXELS --batch COUNT --epochs COUNT --seed SEED
        --classes COUNT [--changes P] [--input]

Writes the seconds and the agreement of each epoch as JSON; with `--input` only the seconds of two passes over what the
training reads. Only the student is opened by this project's `load_model`.
"""

import argparse
import functools
import json
import time

import keras
import tensorflow as tf

from benchmarks.plain_train import crop, mixup, parse
from lib.keras_files import load_model
from lib.schedules import CyclicalLearningRate

TEMPERATURE = 12.5


class Distiller(keras.Model):
    """A student that learns from a teacher."""

    def __init__(self, student, teacher):
        super().__init__()
        self.student, self.teacher = student, teacher
        self.agreement = keras.metrics.Mean(name="agreement")

    def call(self, images, training=False):
        return self.student(images, training=training)

    def train_step(self, data):
        images, labels = data
        expected = self.teacher(input=tf.transpose(images, [0, 3, 1, 2]) / 255)["output"]
        with tf.GradientTape() as tape:
            logits = self.student(images, training=True)
            loss = keras.losses.KLDivergence()(
                tf.nn.softmax(expected / TEMPERATURE), tf.nn.softmax(logits / TEMPERATURE)
            )
        gradients = tape.gradient(loss, self.student.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.student.trainable_variables))
        return self.measure(expected, logits, labels, loss)

    def test_step(self, data):
        images, labels = data
        expected = self.teacher(input=tf.transpose(images, [0, 3, 1, 2]) / 255)["output"]
        return self.measure(expected, self.student(images, training=False), labels, 0.0)

    def measure(self, expected, logits, labels, loss):
        """Update the metrics; their values."""
        self.agreement.update_state(tf.cast(tf.argmax(expected, -1) == tf.argmax(logits, -1), tf.float32))
        for metric in self.own:
            metric.update_state(labels, logits)
        return {"loss": loss, "agreement": self.agreement.result(), **{m.name: m.result() for m in self.own}}

    @property
    def metrics(self):
        return [self.agreement, *self.own]


def change(image, label, chance):
    """Each change of the log with a probability, one image at a time."""

    def maybe(changed):
        return tf.cond(tf.random.uniform([]) < chance, changed, lambda: image)

    def warp(*coefficients):
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=image[None],
            transforms=tf.stack([*coefficients, 0.0, 0.0])[None],
            output_shape=tf.shape(image)[:2],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )[0]

    amount, side = tf.random.uniform([], -0.1, 0.1), tf.cast(tf.shape(image)[0], tf.float32)
    image = maybe(lambda: tf.image.flip_left_right(image))
    for turns in (1, 3, 2):
        image = maybe(functools.partial(tf.image.rot90, image, turns))
    image = maybe(lambda: warp(1.0, amount, 0.0, 0.0, 1.0, 0.0))
    image = maybe(lambda: warp(1.0, 0.0, 0.0, amount, 1.0, 0.0))
    image = maybe(lambda: warp(1.0, 0.0, amount * side, 0.0, 1.0, 0.0))
    image = maybe(lambda: warp(1.0, 0.0, 0.0, 0.0, 1.0, amount * side))
    image = maybe(lambda: tf.image.flip_up_down(image))
    noise = tf.random.uniform([], 0, 0.1) * 255
    image = maybe(lambda: tf.clip_by_value(image + tf.random.normal(tf.shape(image), 0, noise), 0, 255))
    image = maybe(lambda: 255 - image)
    image = maybe(lambda: tf.where(image < 25.5, image + 25.5, image))
    return image, label


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs=5)
    for name in ("size", "batch", "epochs", "seed", "classes"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--changes", type=float, default=0.0)
    parser.add_argument("--input", action="store_true")
    arguments = parser.parse_args()
    result, student, teacher, train, validation = arguments.files
    keras.utils.set_random_seed(arguments.seed)
    batch, size, many = arguments.batch, arguments.size, tf.data.AUTOTUNE

    def prepare(record):
        image, label = parse(record, arguments.classes)
        if arguments.changes:
            image, label = change(image, label, arguments.changes)
        image = tf.ensure_shape(image, (None, None, 3))
        return crop(image, label, size)

    training = (
        tf.data.TFRecordDataset(train)
        .shuffle(48 * batch)
        .map(prepare, num_parallel_calls=many)
        .batch(batch, drop_remainder=True)
        .map(mixup, num_parallel_calls=many)
        .prefetch(many)
    )
    if arguments.input:
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            for _ in training:
                pass
            seconds.append(time.perf_counter() - start)
        found = {"seconds": seconds}
    else:
        records = tf.data.TFRecordDataset(validation)
        plain = records.map(lambda record: parse(record, arguments.classes), num_parallel_calls=many).batch(batch)
        loaded = tf.saved_model.load(teacher)
        model = Distiller(load_model(student), loaded.signatures["serving_default"])
        model.own = [
            keras.metrics.CategoricalAccuracy(name="accuracy"),
            keras.metrics.AUC(curve="PR", from_logits=True, name="auc"),
            keras.metrics.F1Score(average="macro", name="f1"),
        ]
        schedule = CyclicalLearningRate(0.005 / 4, 0.005, 4 * batch)
        model.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-5))
        times = [time.perf_counter()]
        watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: times.append(time.perf_counter()))
        history = model.fit(
            training, validation_data=plain.prefetch(many), epochs=arguments.epochs, callbacks=[watch], verbose=0
        )
        found = {
            "seconds": [end - start for start, end in zip(times, times[1:])],
            "agreement": [float(value) for value in history.history["val_agreement"]],
        }
    with open(result, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()

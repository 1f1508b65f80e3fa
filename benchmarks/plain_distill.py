"""The plain Keras way of distilling, to compare with: a `Model` subclass with `train_step`, its input from `tf.data`.

    plain_distill.py RESULT STUDENT TEACHER TRAIN VALIDATION --size PIXELS --batch COUNT --epochs COUNT --seed SEED
        --classes COUNT [--changes P] [--input]

Writes the seconds and the agreement of each epoch as JSON; with `--input` only the seconds of two passes over what the
training reads. Only the student is opened by this project's `load_model`.
"""

import functools
import json
import time

import keras
import tensorflow as tf

from benchmarks.common import child_arguments
from benchmarks.plain_train import batches, crop, label_metrics, parse, plain_batches, seconds_of_two_passes
from lib.models.keras_files import load_model
from lib.training.optimizers import CyclicalLearningRate

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
    arguments = child_arguments(5)
    result, student, teacher, train, validation = arguments.files
    keras.utils.set_random_seed(arguments.seed)
    batch = arguments.batch

    def prepare(record):
        image, label = parse(record, arguments.classes)
        if arguments.changes:
            image, label = change(image, label, arguments.changes)
        image = tf.ensure_shape(image, (None, None, 3))
        return crop(image, label, arguments.size)

    training = batches(train, batch, prepare)
    if arguments.input:
        found = {"seconds": seconds_of_two_passes(training)}
    else:
        plain = plain_batches(validation, batch, arguments.classes)
        loaded = tf.saved_model.load(teacher)
        model = Distiller(load_model(student), loaded.signatures["serving_default"])
        model.own = label_metrics()
        schedule = CyclicalLearningRate(0.005 / 4, 0.005, 4 * batch)
        model.compile(keras.optimizers.AdamW(schedule, weight_decay=1e-5))
        times = [time.perf_counter()]
        watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: times.append(time.perf_counter()))
        history = model.fit(training, validation_data=plain, epochs=arguments.epochs, callbacks=[watch], verbose=0)
        found = {
            "seconds": [end - start for start, end in zip(times, times[1:])],
            "agreement": [float(value) for value in history.history["val_agreement"]],
        }
    with open(result, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()

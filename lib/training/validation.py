"""A model's answers to labelled images, and its metrics."""

import contextlib

import numpy as np
import tensorflow as tf

from lib.errors import UsageError
from lib.measures import metrics
from lib.measures.losses import Batch, penalties
from lib.system.parallel import STEP, cores, in_order
from lib.training.batches import feeds, over_replicas


def build_scorer(strategy, model, loss, count, classes, batch, feed, examples, penalised=True, taught=False):
    """Prepare to score a model on images; its weights may change between one time and the next.

    Args:
        strategy: the `tf.distribute.Strategy` in whose scope the model was made.
        model: the Keras model.
        loss: from `lib.training.batches.Examples`, logits and the whole `lib.measures.losses.Batch` to float32 `(B,)`.
        count: how many images there are.
        classes: how many classes there are.
        batch: how many images at once; every replica gets the same share.
        feed: called with the number of a batch's first image, a replica and how many there are; returns its part as a
            `NamedTuple` of arrays, among them `kept`: float32 `(B,)`, 0 for what only fills the batch.
        examples: from those as tensors to `Examples`, on the device; labels of 0 for what only fills the batch.
        penalised: whether the penalties of the model's layers are part of the loss.
        taught: whether the examples hold a teacher's logits.

    Returns:
        A function `score(stopped=None)` that gives a dictionary of `lib.measures.metrics.summarise`, or None if
        `stopped`, which is asked from time to time, says so.
    """
    counters = metrics.Counters(strategy, classes)
    replicas = strategy.num_replicas_in_sync

    def score_part(part):
        given = examples(part)
        logits = tf.cast(model(given.pixels, training=False), "float32")
        whole = Batch(tf.reduce_sum(given.labels, axis=0), tf.reduce_sum(part.kept))
        if replicas > 1:
            whole = over_replicas(whole)
        losses = loss(given, logits, whole)
        if penalised:
            losses += penalties(model)
        counters.add(metrics.count(given.labels, logits, losses, part.kept, given.teacher))

    @tf.function
    def score_batch(part):
        strategy.run(score_part, args=(part,))

    def score(stopped=None):
        counters.assign(metrics.no_counts(classes))
        with contextlib.closing(feeds(strategy, range(0, count, batch), feed)) as made:
            for part in made:
                if stopped is not None and stopped():
                    return None
                score_batch(part)
        return metrics.summarise(counters.read(), taught)

    return score


def side_by_side(device, batch, processors=None):
    """How many images a model is given at once, and how many such batches are in work at once.

    Args:
        device: a `lib.system.devices.Device`, selected with one thread for each operation.
        batch: at most how many images.
        processors: how many cores to use; None for all.
    """
    if device.kind == "gpu":
        return batch, 1
    return min(batch, STEP), min(processors or cores(), cores())


def check_size(model, images, named, option):
    """Raise UsageError if a model takes images of another size.

    Args:
        model: the Keras model.
        images: `lib.data.records.Images`.
        named: the model in words, with its option.
        option: the option of the images.
    """
    height, width = model.input_shape[1:3]
    if (height or images.shape[0], width or images.shape[1]) != images.shape[:2]:
        theirs = f"{images.shape[1]} x {images.shape[0]}"
        raise UsageError(f"{named} takes {width} x {height} images, but those of {option} are {theirs}.")


def answer(images, compute, batch, threads):
    """The logits of all images.

    Args:
        images: `lib.data.records.Images`.
        compute: from float32 pixels `(batch, height, width, bands)` to float32 logits `(batch, outputs)`; several
            threads may call it at once.
        batch: how many images it is given.
        threads: how many batches are in work at once.

    Yields:
        Float32 logits `(batch or less, outputs)`, in the images' order.
    """

    def work(start):
        indices = np.arange(start, min(start + batch, len(images)))
        pixels = np.zeros((batch, *images.shape), "float32")
        pixels[: len(indices)] = images.take(indices)
        return np.asarray(compute(tf.constant(pixels)))[: len(indices)]

    with contextlib.closing(in_order(work, range(0, len(images), batch), threads, 2 * threads)) as results:
        for _, logits in results:
            yield logits

"""A model's answers to labelled images, and its metrics."""

import contextlib

import numpy as np
import tensorflow as tf

from lib.errors import UsageError, option
from lib.measures import metrics
from lib.measures.losses import Batch, penalties
from lib.system.parallel import STEP, cores, in_order
from lib.training.batches import feeds, over_replicas


def build_scorer(strategy, model, phase, taught=False):
    """Build a function that scores a model, with its current weights, on images.

    Args:
        strategy: the `tf.distribute.Strategy` in whose scope the model was made.
        model: the Keras model.
        phase: a `lib.training.batches.Phase` of the images as they are. Its arrays have a `mask`, float32 `(B,)`, 0 for
            the padding of the last batch, whose labels are 0.
        taught: whether the examples hold a teacher's logits. If not, the loss includes the model's penalties.

    Returns:
        A function `score(stopped=None)` that returns the dictionary of `lib.measures.metrics.summarise`, or None as
        soon as `stopped()` is true, which is called before each batch.
    """
    categories = model.output_shape[-1]
    counters = metrics.Counters(strategy, categories)
    replicas = strategy.num_replicas_in_sync

    def score_part(part):
        given = phase.examples(part)
        logits = tf.cast(model(given.pixels, training=False), "float32")
        whole = Batch(tf.reduce_sum(given.labels, axis=0), tf.reduce_sum(part.mask))
        if replicas > 1:
            whole = over_replicas(whole)
        losses = phase.loss(given, logits, whole)
        if not taught:
            losses += penalties(model)
        counters.add(metrics.count(given.labels, logits, losses, part.mask, given.teacher))

    @tf.function
    def score_batch(part):
        strategy.run(score_part, args=(part,))

    def score(stopped=None):
        counters.assign(metrics.no_counts(categories))
        with contextlib.closing(feeds(strategy, range(phase.steps), phase.feed)) as made:
            for part in made:
                if stopped is not None and stopped():
                    return None
                score_batch(part)
        return metrics.summarise(counters.read(), taught)

    return score


def side_by_side(device, batch, processors=None):
    """The batch size, and the number of batches to compute in parallel.

    Args:
        device: a `lib.system.devices.Device`, selected with one thread per operation.
        batch: the maximum batch size.
        processors: the number of cores to use; None for all.
    """
    if device.kind == "gpu":
        return batch, 1
    return min(batch, STEP), cores(processors)


def check_size(model, images, path, setting):
    """Raise UsageError if a model takes images of another size.

    Args:
        model: the Keras model.
        images: `lib.data.records.Images`.
        path: the model's file.
        setting: the name of the setting that names the images.
    """
    height, width = model.input_shape[1:3]
    if (height or images.shape[0], width or images.shape[1]) != images.shape[:2]:
        theirs = f"{images.shape[1]} x {images.shape[0]}"
        raise UsageError(f"{path} takes {width} x {height} images, but those of {option(setting)} are {theirs}.")


def answers_of(model, images, batch, prepare=None):
    """The logits of all images by a Keras model, as of `answer`.

    Args:
        model: the Keras model.
        images, batch: see `answer`.
        prepare: from float32 pixels `(batch, height, width, bands)` to those that the model takes; None to take them as
            they are.
    """
    compute = tf.function(lambda pixels: model(prepare(pixels) if prepare else pixels, training=False))
    return answer(images, compute, batch, threads=1)


def answer(images, compute, batch, threads):
    """The logits of all images.

    Args:
        images: `lib.data.records.Images`.
        compute: from float32 pixels `(batch, height, width, bands)` to float32 logits `(batch, outputs)`; several
            threads may call it at once.
        batch: images per call.
        threads: the number of calls at once.

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

"""The input of a training step: each replica's part of a batch of records, in plain arrays."""

import contextlib
import functools
from typing import Any, Callable, NamedTuple

import numpy as np
import tensorflow as tf

from lib.system.parallel import in_order
from lib.training import augmentation


class Examples(NamedTuple):
    """What a replica's step learns from, or is scored on.

    Attributes:
        pixels: float32 `(B, height, width, bands)`, 0-255.
        labels: float32 `(B, categories)`.
        teacher: float32 `(B, categories)`: a teacher's logits; None without one.
    """

    pixels: Any
    labels: Any
    teacher: Any = None


class Phase(NamedTuple):
    """A pass over images, for training or validation.

    Attributes:
        steps: the number of batches.
        feed: called with the number of a step from 0 (in training after that of the epoch), the number of a replica
            and the number of replicas; returns that replica's part of the batch, a `Feed` or `Plain`.
        examples: from those as tensors to `Examples`, on the device.
        loss: from `Examples`, logits and the whole `lib.measures.losses.Batch` to float32 `(B,)`.
    """

    steps: int
    feed: Callable
    examples: Callable
    loss: Callable


class Feed(NamedTuple):
    """A replica's part of a training batch: its B images and the partners that they are mixed with.

    Attributes:
        images: uint8 `(N, height, width, bands)`, the B images first.
        categories: int32 `(N,)`.
        windows, changes, noises: `(N, …)`, of `lib.training.augmentation.Draws`.
        partners: int32 `(B,)`: the index among the N of each image's partner.
        shares: float32 `(B,)`: the partner's share of the mixture.
    """

    images: Any
    categories: Any
    windows: Any
    changes: Any
    noises: Any
    partners: Any
    shares: Any


class Plain(NamedTuple):
    """A replica's part of a batch of unchanged images.

    Attributes:
        images: uint8 `(B, height, width, bands)`.
        categories: int32 `(B,)`.
        mask: float32 `(B,)`: 1 for an image, 0 for the padding of a last batch.
        teacher: float32 `(B, categories)`: a teacher's logits; `(B, 0)` without them.
    """

    images: Any
    categories: Any
    mask: Any
    teacher: Any


def training_feed(images, indices, draws, replica=0, replicas=1):
    """A replica's part of a training batch.

    Args:
        images: `lib.data.records.Images`.
        indices: int64 `(batch,)`: the records of the whole batch; replicas share it evenly.
        draws: the whole batch's `Draws`.
        replica, replicas: the replica's number, from 0, and their number.

    Returns:
        A `Feed` of arrays.
    """
    if replicas == 1:
        places, partners = np.arange(len(indices)), draws.partners
    else:
        # A partner may be an image of another replica.
        own = part(len(indices), replica, replicas)
        places = np.concatenate([np.arange(len(indices))[own], draws.partners[own]])
        partners = np.arange(len(places) // 2, len(places), dtype="int32")
    return Feed(
        images=images.take(indices[places]),
        categories=images.records.category[indices[places]],
        windows=draws.windows[places],
        changes=draws.changes[places],
        noises=draws.noises[places],
        partners=partners,
        shares=draws.shares[part(len(indices), replica, replicas)],
    )


def training_phase(images, seed, batch, examples, loss, settings):
    """The `Phase` of training: all images, in a new random order each epoch, without a last partial batch.

    Args:
        images: `lib.data.records.Images`.
        seed: of the order and the draws.
        batch: images per step.
        examples, loss: of the `Phase`.
        settings: of `augmentation.draw`.
    """
    order = functools.lru_cache(maxsize=1)(functools.partial(augmentation.epoch_order, seed, count=len(images)))

    def feed(epoch, step, *replica):
        draws = augmentation.draw(seed, epoch, step, batch, settings)
        return training_feed(images, order(epoch)[step * batch : (step + 1) * batch], draws, *replica)

    return Phase(len(images) // batch, feed, examples, loss)


def validation_phase(images, batch, examples, loss, answers=None):
    """The `Phase` of validation: all images in their order; arguments as of `training_phase` and `plain_feed`."""

    def feed(step, *replica):
        return plain_feed(images, step * batch, batch, *replica, answers=answers)

    return Phase(-(-len(images) // batch), feed, examples, loss)


def plain_feed(images, start, batch, replica=0, replicas=1, answers=None):
    """A replica's part of the batch of images that begins with record `start`.

    Args:
        images, replica, replicas: as of `training_feed`.
        start, batch: the first record, and the number of images of the whole batch.
        answers: float32 `(images, categories)`: a teacher's logits of all images; None for none.

    Returns:
        A `Plain` of arrays, padded with the last image.
    """
    places = np.arange(start, start + batch)[part(batch, replica, replicas)]
    indices = np.minimum(places, len(images) - 1)
    mask = (places < len(images)).astype("float32")
    teacher = np.zeros((len(indices), 0), "float32") if answers is None else answers[indices]
    return Plain(images.take(indices), images.records.category[indices], mask, teacher)


def part(batch, replica, replicas):
    """A replica's part of a batch, a slice."""
    size = batch // replicas
    return slice(replica * size, (replica + 1) * size)


def mixed_examples(feed, size, categories, remix=None, settings=None):
    """Augment, crop and mix the images of a feed, on the device.

    Args:
        feed: a `Feed` of tensors.
        size: the height and width of the result.
        categories: their number.
        remix: a function (labels, partners' labels, shares) -> labels; None to mix them like the images.
        settings: the `lib.training.hyperparameters.Augmentation` of the feed's changes; None for none.

    Returns:
        `Examples`: float32 `(B, size, size, bands)` pixels and `(B, categories)` labels.
    """
    count = tf.shape(feed.shares)[0]
    images = feed.images
    if settings is not None:
        images = augmentation.change(images, feed.changes, feed.noises, settings)
    cropped = augmentation.crop(images, feed.windows, size)
    labels = tf.one_hot(feed.categories, categories)
    pixels = augmentation.mix(cropped[:count], tf.gather(cropped, feed.partners), feed.shares)
    mixed = (remix or augmentation.mix)(labels[:count], tf.gather(labels, feed.partners), feed.shares)
    return Examples(pixels, mixed)


def plain_examples(feed, categories):
    """The `Examples` of a `Plain` of tensors, without a teacher; padding has a label of zeros."""
    return Examples(tf.cast(feed.images, "float32"), tf.one_hot(feed.categories, categories) * feed.mask[:, None])


def supervised(loss, weights=None):
    """The `loss` of a `Phase` from one of `build_loss`, perhaps times the weight of an image's largest label.

    Args:
        loss: a function of labels, logits and a `Batch`.
        weights: float32 `(categories,)`; None for 1.
    """

    def compute(examples, logits, batch):
        losses = loss(examples.labels, logits, batch)
        return losses if weights is None else losses * tf.gather(weights, tf.argmax(examples.labels, axis=-1))

    return compute


def feeds(strategy, items, make):
    """Make the inputs of a strategy's replicas, ahead of their use, in another thread.

    Args:
        strategy: a `tf.distribute.Strategy`.
        items: what to make inputs of.
        make: called with an item, the number of a replica and the number of replicas; returns that replica's
            `NamedTuple` of arrays.

    Yields:
        Arguments for `strategy.run`, in the order of the items.
    """
    replicas = strategy.num_replicas_in_sync
    local = []  # the replicas of this process
    strategy.experimental_distribute_values_from_function(
        lambda context: local.append(context.replica_id_in_sync_group) or tf.constant(0)
    )

    def work(item):
        made = {}
        for replica in local:
            feed = make(item, replica, replicas)
            made[replica] = type(feed)(*map(tf.convert_to_tensor, feed))
        return made

    with contextlib.closing(in_order(work, items, threads=1, ahead=2)) as results:
        for _, made in results:
            yield strategy.experimental_distribute_values_from_function(
                lambda context, made=made: made[context.replica_id_in_sync_group]
            )


def stacked(parts):
    """Feeds of several steps as one, with the steps as a new first axis of each array."""
    return type(parts[0])(*map(np.stack, zip(*parts)))


def over_replicas(values):
    """In a step that a strategy runs: a `NamedTuple` of tensors, added up over the replicas."""
    context = tf.distribute.get_replica_context()
    return type(values)(*context.all_reduce(tf.distribute.ReduceOp.SUM, list(values)))

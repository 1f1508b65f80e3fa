"""What a training step is fed with: each replica's part of a batch of records, in plain arrays."""

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
        labels: float32 `(B, classes)`.
        teacher: float32 `(B, classes)`: a teacher's logits; None without one.
    """

    pixels: Any
    labels: Any
    teacher: Any = None


class Phase(NamedTuple):
    """What a pass over images is made of, in training or in validation.

    Attributes:
        steps: how many batches it has.
        feed: called with the number of a step from 0 (in training after that of the epoch), the number of a replica
            and the number of replicas; returns that replica's part of the batch as a `NamedTuple` of arrays.
        examples: from those as tensors to `Examples`, on the device.
        loss: from `Examples`, logits and the whole `lib.measures.losses.Batch` to float32 `(B,)`.
    """

    steps: int
    feed: Callable
    examples: Callable
    loss: Callable


class Feed(NamedTuple):
    """A replica's part of a training batch: B of its images, and all those that they are mixed from.

    Attributes:
        images: uint8 `(N, height, width, bands)`, the B images first.
        categories: int32 `(N,)`.
        windows: float32 `(N, 4)`: their crops, see `lib.training.augmentation.Draws`.
        changes: float32 `(N, 12 or 0)` and
        noises: int32 `(N, 2)`: likewise.
        partners: int32 `(B,)`: which of the N is mixed into each of the B.
        shares: float32 `(B,)`: how much of the mixture it is.
    """

    images: Any
    categories: Any
    windows: Any
    changes: Any
    noises: Any
    partners: Any
    shares: Any


class Plain(NamedTuple):
    """A replica's part of a batch of images as they are.

    Attributes:
        images: uint8 `(B, height, width, bands)`.
        categories: int32 `(B,)`.
        mask: float32 `(B,)`: 1 for an image, 0 for the padding of a last batch.
    """

    images: Any
    categories: Any
    mask: Any


class Taught(NamedTuple):
    """The same with a teacher's answers.

    Attributes:
        images, categories, mask: as of `Plain`.
        teacher: float32 `(B, classes)`: its logits.
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
        replica, replicas: which of how many.

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


def shuffled(images, seed, batch, **drawing):
    """The `feed` of a `Phase` of training: all images in another order in each epoch, with what is drawn for them.

    Args:
        images: `lib.data.records.Images`.
        seed: what order and draws follow from.
        batch: images of a step; what is left over of an epoch's is dropped.
        drawing: more arguments of `augmentation.draw`.
    """
    order = functools.lru_cache(maxsize=1)(functools.partial(augmentation.epoch_order, seed, count=len(images)))

    def feed(epoch, step, *replica):
        draws = augmentation.draw(seed, epoch, step, batch, **drawing)
        return training_feed(images, order(epoch)[step * batch : (step + 1) * batch], draws, *replica)

    return feed


def plain_feed(images, start, batch, replica=0, replicas=1):
    """A replica's part of the batch of images, in their order, that begins with record `start`.

    Returns:
        A `Plain` of arrays. Where the records end the last one fills the batch.
    """
    places = np.arange(start, start + batch)[part(batch, replica, replicas)]
    indices = np.minimum(places, len(images) - 1)
    return Plain(images.take(indices), images.records.category[indices], (places < len(images)).astype("float32"))


def taught_feed(images, answers, start, batch, replica=0, replicas=1):
    """The same as `plain_feed` as a `Taught`, with a teacher's logits of all images, float32 `(images, classes)`."""
    plain = plain_feed(images, start, batch, replica, replicas)
    places = np.arange(start, start + batch)[part(batch, replica, replicas)]
    return Taught(*plain, answers[np.minimum(places, len(images) - 1)])


def part(batch, replica, replicas):
    """The part of a batch that is a replica's, as a slice."""
    size = batch // replicas
    return slice(replica * size, (replica + 1) * size)


def mixed_examples(feed, size, classes, remix=None, hyperparameters=None):
    """Change, crop and mix what a feed holds, on the device.

    Args:
        feed: a `Feed` of tensors.
        size: the height and width of the result.
        classes: their number.
        remix: a function (labels, partners' labels, shares) -> labels; None for mixtures like the images'.
        hyperparameters: the `Hyperparameters` that the feed's changes were drawn by; None for none.

    Returns:
        `Examples`: float32 `(B, size, size, bands)` pixels and `(B, classes)` labels.
    """
    count = tf.shape(feed.shares)[0]
    images = feed.images
    if hyperparameters is not None:
        images = augmentation.change(images, feed.changes, feed.noises, hyperparameters)
    cropped = augmentation.crop(images, feed.windows, size)
    labels = tf.one_hot(feed.categories, classes)
    pixels = augmentation.mix(cropped[:count], tf.gather(cropped, feed.partners), feed.shares)
    mixed = (remix or augmentation.mix)(labels[:count], tf.gather(labels, feed.partners), feed.shares)
    return Examples(pixels, mixed)


def plain_examples(feed, classes):
    """What a `Plain` of tensors holds, as `Examples`; padding has a label of zeros."""
    return Examples(tf.cast(feed.images, "float32"), tf.one_hot(feed.categories, classes) * feed.mask[:, None])


def feeds(strategy, items, make):
    """Make what a strategy's replicas are fed with, one ahead of its use on a thread of its own.

    Args:
        strategy: a `tf.distribute.Strategy`.
        items: what to make a feed of, each.
        make: called with an item, the number of a replica and the number of replicas; returns that replica's
            `NamedTuple` of arrays.

    Yields:
        What `strategy.run` takes as an argument, in the order of the items.
    """
    replicas = strategy.num_replicas_in_sync
    here = []  # the replicas that are this process's
    strategy.experimental_distribute_values_from_function(
        lambda context: here.append(context.replica_id_in_sync_group) or tf.constant(0)
    )

    def work(item):
        made = {}
        for replica in here:
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

"""The model that predictions are made with, as a function of pixels, and the labels of its outputs."""

import contextlib
import logging
import os

from lib.data.categories import LABELS, read_labels
from lib.data.outputs import neutral_labels, unknown_outputs
from lib.errors import UsageError, concerning, option
from lib.models.published import MODELS, PUBLISHED_SIZE, is_published
from lib.system.devices import select_device
from lib.system.parallel import cores

log = logging.getLogger(__name__)


def labels_of(path, settings):
    """The labels of a model's outputs: of the setting, of a `categories.tsv` beside a model given as a path, else the
    17 of a published model, else `category 0` and so on, which is said.

    Args:
        path: the model's file.
        settings: `Settings`.

    Returns:
        The labels and their source, for messages.
    """
    from lib.models.keras_archives import count_outputs

    file = settings.labels
    if file is None and settings.model not in MODELS:
        beside = os.path.join(os.path.dirname(path), "categories.tsv")
        file = beside if os.path.isfile(beside) else None
    if file is not None:
        return read_labels(file), file
    count = None
    if settings.model not in MODELS and not is_published(path):
        with contextlib.suppress(Exception):  # of a file that is damaged, which is said when it is opened
            count = count_outputs(path)
    if count is None:
        return LABELS, "the published categories"
    log.info(unknown_outputs(path, count))
    return neutral_labels(count), "unknown"


def open_model(path, settings, step, pooled, labels=None, source=None):
    """Start TensorFlow and open a model.

    Args:
        path: the `.keras` file.
        settings: `Settings`.
        step: how many images it is given at once.
        pooled: whether features are wanted.
        labels, source: of `labels_of`; the model must have an output for each label. None for any model.

    Returns:
        The height and width of its images in pixels, and a function from float32 pixels `(step, size, size, 3)`, 0-255,
        to float32 logits `(step, outputs)` and the features `(step, width)` that they follow from, None if these are
        not wanted; several threads may call it at once.

    Raises:
        UsageError: it can't be used.
    """
    # One core for each operation: several steps run side by side instead, which is twice as fast.
    select_device(settings.cpu, settings.gpu, settings.processors or cores(), threads_per_operation=1)

    import tensorflow as tf

    from lib.models.inference import NoFeaturesError, compile_features, compile_logits
    from lib.models.keras_files import load_model

    with concerning("model"):
        model = load_model(path)
        outputs = model.output_shape[-1]
        if labels is not None and outputs != len(labels):
            raise UsageError(
                f"{path} has {outputs} outputs where {len(labels)} are needed. The labels are {source}; pass others "
                f"with {option('labels')}."
            )
        shape = model.input_shape if isinstance(model.input_shape, tuple) else ()
        sides = {side for side in shape[1:3] if side is not None}
        if len(shape) != 4 or shape[3] != 3 or len(sides) > 1:
            raise UsageError(f"{path} takes {shape or 'several inputs'}; it must take square images of 3 bands.")
        size = sides.pop() if sides else model.image_size or PUBLISHED_SIZE
        try:
            apply = (compile_features if pooled else compile_logits)(model, (step, size, size, 3), named=path)
        except NoFeaturesError as error:
            raise UsageError(f"{path} {error}.", "embeddings") from error

    def compute(pixels):
        with concerning("model"):
            found = apply(tf.constant(pixels))
        return tuple(part.numpy() for part in found) if pooled else (found.numpy(), None)

    return size, compute

"""The model that predictions are made with, as a function of pixels, and the labels of its outputs.

Two engines can compute: OpenVINO on a CPU, for the models that `lib.models.openvino_networks` knows, and TensorFlow for
all others and on a GPU.
"""

import contextlib
import logging
import os
from typing import Any, NamedTuple

from lib.data.categories import LABELS, read_labels
from lib.data.outputs import neutral_labels, table_of_model, unknown_outputs
from lib.errors import UsageError, concerning, option
from lib.measures.softmax import probabilities_of
from lib.models.published import MODELS, PUBLISHED_SIZE, is_published
from lib.system.devices import has_gpu, import_tensorflow, select_device
from lib.system.packages import installed
from lib.system.parallel import cores

log = logging.getLogger(__name__)

_INSTALL = "“make setup” installs it"


class Model(NamedTuple):
    """A model that is ready.

    Attributes:
        size: height and width of its images in pixels.
        compute: a function from float32 pixels `(step, size, size, 3)`, 0-255, red, green and blue, to float64
            probabilities `(step, outputs)` and the float32 features `(step, width)` that they follow from, None if
            these are not wanted. Several threads may call it at once.
        engine: which of `lib.prediction.settings.ENGINES` computes.
    """

    size: int
    compute: Any
    engine: str


def labels_of(path, settings):
    """The labels of a model's outputs: of the setting, of a `categories.tsv` beside a model given as a path, else the
    17 of a published model, else `category 0` and so on, which is said.

    Args:
        path: the model's file.
        settings: `Settings`.

    Returns:
        The labels, and the path of the table that they are from; None if there is none.
    """
    from lib.models.keras_archives import count_outputs

    file = settings.labels
    if file is None and settings.model not in MODELS:
        beside = table_of_model(path)
        file = beside if os.path.isfile(beside) else None
    if file is not None:
        return read_labels(file), file
    count = None
    if settings.model not in MODELS and not is_published(path):
        with contextlib.suppress(Exception):  # of a file that is damaged, which is said when it is opened
            count = count_outputs(path)
    if count is None:
        return LABELS, None
    log.info(unknown_outputs(path, count))
    return neutral_labels(count), None


def check_labels(path, outputs, labels, table):
    """Raise UsageError unless a model has an output for each label; labels and table are those of `labels_of`."""
    if outputs != len(labels):
        needed = f"{path} has {outputs} outputs where {len(labels)} are needed"
        source = table or "the published categories"
        raise UsageError(f"{needed}. The labels are {source}; pass others with {option('labels')}.")


def open_model(path, settings, step, pooled, labels=None, table=None):
    """Open a model with the engine of the settings, or else the faster one; which one is logged.

    Args:
        path: the `.keras` file.
        settings: `Settings`, or others with `engine`, `exact`, `cpu`, `gpu` and `processors`.
        step: how many images it is given at once.
        pooled: whether features are wanted.
        labels, table: of `labels_of`; the model must have an output for each label. None for any model.

    Returns:
        A `Model`.

    Raises:
        UsageError: it can't be used, or what it needs isn't installed.
    """
    from lib.models.keras_descriptions import NoFeaturesError

    network = _network(path, settings)
    if network is None and not installed("tensorflow"):
        raise UsageError(f"TensorFlow is not installed; {_INSTALL}.", "engine" if settings.engine else None)
    open_with = _open_tensorflow if network is None else _open_openvino
    with concerning("model"):
        try:
            model, outputs = open_with(network or path, settings, step, pooled)
        except NoFeaturesError as error:
            raise UsageError(f"{path} {error}.", "embeddings") from error
        if labels is not None:
            check_labels(path, outputs, labels, table)
    return model


def _network(path, settings):
    """The model as a `Network` for OpenVINO; None if TensorFlow computes. Logs which, unless a setting says it."""
    if settings.exact and not installed("tensorflow"):
        raise UsageError(f"it reads images with TensorFlow, which is not installed; {_INSTALL}.", "exact")
    if settings.engine == "openvino" and not installed("openvino"):
        raise UsageError(f"OpenVINO is not installed; {_INSTALL}.", "engine")
    if settings.engine == "tensorflow":
        return None
    reason = None if settings.engine else _reason_for_tensorflow(settings)
    if reason:
        log.info(f"TensorFlow computes, since {reason}.")
        return None

    from lib.models.openvino_networks import UnknownLayersError, read_network

    try:
        with concerning("model"):
            network = read_network(path)
    except UnknownLayersError as error:
        if settings.engine or not installed("tensorflow"):
            missing = "" if installed("tensorflow") else f" It is not installed; {_INSTALL}."
            raise UsageError(f"{error}{missing}", "engine" if settings.engine else "model") from error
        log.info(error)
        return None
    if not settings.engine and not settings.cpu and installed("tensorflow"):
        log.warning("There is no GPU that TensorFlow can use: OpenVINO computes on the CPU.")
    elif not settings.engine:
        log.info("OpenVINO computes on the CPU.")
    return network


def _reason_for_tensorflow(settings):
    """Why TensorFlow computes, whatever the model is; None if it need not."""
    if not installed("openvino"):
        return "OpenVINO is not installed"
    if settings.exact:
        return f"{option('exact')} needs it anyway"
    return "this machine has a GPU" if not settings.cpu and has_gpu() else None


def _open_openvino(network, settings, step, pooled):
    """A `Network` as a `Model`, and the number of its outputs."""
    from lib.models.openvino_networks import compile_network

    if settings.exact:
        import_tensorflow()  # now, since threads that read images must not import
    size = _size_of(network.path, network.input_shape, network.image_size)
    # One core for each batch: several side by side are faster than one on all, and their numbers are always the same.
    compiled = compile_network(network, size, step, cores(settings.processors), pooled)

    def compute(pixels):
        logits, features = compiled.compute(pixels)
        return probabilities_of(logits, network.output_activation), features

    return Model(size, compute, "openvino"), compiled.outputs


def _open_tensorflow(path, settings, step, pooled):
    """A file as a `Model`, and the number of its outputs."""
    # One core for each operation: several steps run side by side instead, which is twice as fast.
    select_device(settings.cpu, settings.gpu, settings.processors or cores(), threads_per_operation=1, exact=True)

    import tensorflow as tf

    from lib.models.inference import compile_features, compile_logits
    from lib.models.keras_files import load_model

    model = load_model(path)
    size = _size_of(path, model.input_shape, model.image_size)
    apply = (compile_features if pooled else compile_logits)(model, (step, size, size, 3), named=path)

    def compute(pixels):
        with concerning("model"):
            found = apply(tf.constant(pixels))
        logits, features = (part.numpy() for part in found) if pooled else (found.numpy(), None)
        return probabilities_of(logits, model.output_activation), features

    return Model(size, compute, "tensorflow"), model.output_shape[-1]


def _size_of(path, shape, image_size):
    """The side of a model's images, of the shape of its input and of what its file says."""
    shape = shape if isinstance(shape, tuple) else ()
    sides = {side for side in shape[1:3] if side is not None}
    if len(shape) != 4 or shape[3] != 3 or len(sides) > 1:
        raise UsageError(f"{path} takes {shape or 'several inputs'}; it must take square images of 3 bands.")
    return sides.pop() if sides else image_size or PUBLISHED_SIZE

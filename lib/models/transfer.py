"""Moving weights from one model into another by the layers' names, and freezing layers by name."""

import dataclasses
import difflib
import logging
from typing import NamedTuple, Tuple

from lib.errors import UsageError, WorkError, concerning, option

log = logging.getLogger(__name__)

# The layers that depend on the categories: they keep their own weights and are trained.
OWN = ("normalization", "output_gap", "output_layerNormalization", "gap_resolve_dense", "output_dense")

POLISH = "gap_resolve_dense"
HIDDEN = "hidden_output"  # what an encoder may call its own layer of that kind


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a classifier.

    Attributes:
        encoder: the `.keras` file to take weights from.
        model: the `.keras` file of the fresh classifier.
        output: the `.keras` file to write.
        standard: whether `gap_resolve_dense` keeps its weights though the encoder has a layer `hidden_output`.
        partial: whether layers that don't fit are left out, rather than an error.
    """

    encoder: str
    model: str
    output: str
    standard: bool = False
    partial: bool = False


class Transfer(NamedTuple):
    """The layers that have weights, and where these are from.

    Attributes:
        moved: names of the model's layers that have an encoder's weights now.
        fresh: names of those that kept their own.
        frozen: names of those that will not be trained.
        unmoved: what could not be moved: name -> the shapes of its weights in the encoder and in the model, None
            where there is no such layer.
    """

    moved: Tuple[str, ...]
    fresh: Tuple[str, ...]
    frozen: Tuple[str, ...]
    unmoved: dict


def make_classifier(settings):
    """Write a classifier with an encoder's weights.

    Args:
        settings: `Settings`.

    Returns:
        A `Transfer`.

    Raises:
        UsageError: a file can't be used.
        WorkError: layers don't fit.
    """
    from lib.system.devices import select_device

    select_device(cpu=True)  # a GPU may be busy, and there is nothing to compute

    from lib.models.keras_files import load_model, save_model

    with concerning("encoder"):
        encoder = load_model(settings.encoder)
    with concerning("model"):
        model = load_model(settings.model)
    transfer = move_weights(encoder, model, settings.standard)
    for name, (theirs, ours) in transfer.unmoved.items():
        log.info(f"{name}: {theirs or 'no weights'} in the encoder, {ours or 'no weights'} in the model")
    check_transfer(transfer, settings.encoder, settings.model, settings.partial)
    save_model(model, settings.output)
    return transfer


def move_weights(encoder, model, standard=False):
    """Give a model an encoder's weights, layer by layer of the same name, and freeze the layers that get them.

    The layers `OWN` keep the model's weights and can be trained; so do layers that nothing fits, which are reported.

    Args:
        encoder: the Keras model to take weights from; left as it is.
        model: the Keras model to put them into.
        standard: whether `gap_resolve_dense` keeps its weights, too, when the encoder has a layer `hidden_output`.

    Returns:
        A `Transfer`.
    """
    sources = {layer.name: layer for layer in encoder.layers if layer.weights}
    hidden = None if standard else sources.get(HIDDEN)
    moved, unmoved = [], {}
    model.trainable = True  # else nothing in it would be, whatever its layers say
    for layer in model.layers:
        layer.trainable = layer.name in OWN
        if not layer.weights or (layer.name in OWN and (layer.name != POLISH or hidden is None)):
            continue
        name = HIDDEN if layer.name == POLISH else layer.name
        source = sources.get(name)
        if source is not None and _shapes(source) == _shapes(layer):
            layer.set_weights(source.get_weights())
            moved.append(layer.name)
        else:
            unmoved[name] = (_shapes(source), _shapes(layer))
            layer.trainable = True
    names = {layer.name for layer in model.layers}
    expected = {*names, *OWN, *([HIDDEN] if standard or POLISH in names else [])}
    unmoved.update({name: (_shapes(source), None) for name, source in sources.items() if name not in expected})
    weighted = [layer for layer in model.layers if layer.weights]
    fresh = tuple(layer.name for layer in weighted if layer.name not in moved)
    frozen = tuple(layer.name for layer in weighted if not layer.trainable)
    return Transfer(tuple(moved), fresh, frozen, unmoved)


def check_transfer(transfer, encoder, model, partial=False):
    """Raise WorkError unless every layer could be moved or, if `partial`, any at all; the arguments name the files."""
    cure = "make the model by convnext.py with the encoder's options"
    if not transfer.moved:
        raise WorkError(f"{encoder} does not fit {model}: no layer can be moved; {cure}.")
    if transfer.unmoved and not partial:
        if list(transfer.unmoved) == [HIDDEN]:
            cure = f"use {option('standard')} to leave {POLISH} as it is"
        cure += f", or use {option('partial')} to leave out what does not fit"
        raise WorkError(f"{encoder} does not fit {model}: {_count(transfer.unmoved)} can't be moved; {cure}.")


def freeze_before(model, name):
    """Freeze the layers before one, in the model's order; that one and all after it are trained.

    Args:
        model: a Keras model, changed in place.
        name: of the first layer to be trained.

    Raises:
        UsageError: the model has no such layer; the message names the nearest ones.
    """
    names = [layer.name for layer in model.layers]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0)
        raise UsageError(f"the model has no layer {name!r}; the nearest are {', '.join(near)}.", "train_from")
    first = names.index(name)
    model.trainable = True  # else nothing in it would be, whatever its layers say
    for number, layer in enumerate(model.layers):
        layer.trainable = number >= first


def _count(names):
    return f"the layer {next(iter(names))}" if len(names) == 1 else f"{len(names)} layers"


def _shapes(layer):
    return None if layer is None else [tuple(weight.shape) for weight in layer.weights]

"""The images that are most similar to one, by their features."""

import logging

import numpy as np

from lib.data.embeddings import load_features, nearest
from lib.data.images import ImageError, read_image
from lib.errors import UsageError, option
from lib.models.published import find_model
from lib.prediction.model import open_model
from lib.storage.files import checksum
from lib.storage.fingerprints import has_changed
from lib.storage.names import escape_name, unescape_name
from lib.system.words import counted

log = logging.getLogger(__name__)


def similar_images(settings):
    """Find the images of a file of features that are most similar to one.

    Args:
        settings: `Settings`; the features of an image that is in the file are looked up there, those of any other
            computed by the model, which has to be the one that the file is of.

    Returns:
        Pairs of a name as in the table and the cosine of the angle between the features, the most similar first;
        without the image itself.

    Raises:
        UsageError: no such file, an image that can't be read, or another model.
    """
    stored, count = load_features(settings.embeddings), settings.top or 10
    name = escape_name(settings.similar)
    place = np.flatnonzero(stored.paths == name)
    changed = len(place) and has_changed(settings.similar, stored.fingerprint(place[0]))
    if changed:
        log.info(f"{name} changed since it was put into {settings.embeddings}, so it is read again.")
    elif len(place):
        found = nearest(stored, stored.embeddings[place[0]], count, without=name)
        _log_changed(found, stored, settings)
        return found
    path = find_model(settings.model, settings.models)
    if checksum(path) != stored.settings.get("model_sha256"):
        raise UsageError(
            f"{settings.embeddings} has the features of a model other than {settings.model}; pass that one with "
            f"{option('model')}.",
            "similar",
        )
    model = open_model(path, settings, 1, pooled=True)
    try:
        exact = bool(stored.settings.get("exact"))
        pixels = read_image(settings.similar, model.size, exact, settings.max_pixels)
    except ImageError as error:
        raise UsageError(f"{settings.similar}: {error}.", "similar") from None
    found = nearest(stored, model.compute(pixels[None])[1][0], count, without=name)
    _log_changed(found, stored, settings)
    return found


def _log_changed(found, stored, settings):
    """Say which of the images found are others than those that the features are of."""
    places = {name: number for number, name in enumerate(stored.names())}
    changed = [name for name, _ in found if has_changed(unescape_name(name), stored.fingerprint(places[name]))]
    if changed:
        those = f"{counted(len(changed), 'image')} listed changed since {settings.embeddings} was made"
        log.info(f"{those}, such as {changed[0]}; run the prediction again with {option('embeddings')}.")

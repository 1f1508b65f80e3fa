"""Adapting a model to a folder of images: from their features and a person's decisions to a model and a table."""

import os

import numpy as np

from lib.adaptation.answers import Folder, answer, check_table, open_join
from lib.data.categories import CATEGORIES, LABELS, Category, read_categories, write_categories
from lib.data.corrections import find_new_categories, read_corrections
from lib.data.embeddings import load_features
from lib.data.outputs import table_of_model
from lib.errors import StageError, UsageError, WorkError, concerning, option
from lib.measures.adaptation import extend, fit, fold, measure, scale
from lib.models.output_layer import OutputLayer, have_equal_features, read_output_layer, write_output_layer
from lib.models.published import find_model, is_published
from lib.prediction.model import check_labels, labels_of
from lib.storage.files import checksum
from lib.storage.formats import check_rows
from lib.storage.journal import OtherSettingsError
from lib.storage.names import unescape_name

_DEVICE = ("cpu", "gpu", "processors")


def adapt(settings):
    """Adapt a model and write it, and the folder's new table if that is wanted.

    Args:
        settings: `lib.adaptation.settings.Settings`.

    Returns:
        `lib.adaptation.answers.Adapted`.

    Raises:
        UsageError: decisions, features or the model don't go together.
        WorkError: something can't be written.
    """
    with concerning("table"):
        corrections = read_corrections(settings.table)
    path = find_model(settings.model, settings.models)
    if os.path.exists(settings.output) and os.path.samefile(path, settings.output):
        raise UsageError(
            f"{settings.output} is the model itself, which will be needed again; choose another.", "output"
        )
    with concerning("model"):
        layer = read_output_layer(path)
    labels, source = labels_of(path, settings)
    with concerning("model"):
        check_labels(path, layer.kernel.shape[1], labels, source)
    with concerning("table"):
        new = find_new_categories(corrections, labels, settings.new_categories or ())
        _check_taught(corrections)
    labels = (*labels, *new)
    table, categories = _choose_categories(settings, source, labels)
    check_table(settings, labels)
    stored = _load_features(settings, path, layer)
    if settings.predict:
        with concerning("predict"):
            check_rows(settings.predict, len(stored.paths))
    join = open_join(settings, labels, stored.settings)
    before = OutputLayer(*extend(*layer, len(new)))
    after = _learn(stored, corrections, labels, before, settings.ridge)
    _write_model(path, settings.output, after, table, categories)
    return answer(Folder(stored, corrections, labels, before, after, join), settings)


def make_page(settings):
    """Make the page of the table that `adapt` wrote."""
    from lib.prediction.report import report_table
    from lib.prediction.settings import Settings

    wanted = {name: getattr(settings, name) for name in ("report", "report_images", "models", "processors")}
    source = {"report_from": settings.predict, "corrections": settings.table, "embeddings": settings.features}
    report_table(Settings(model=settings.output, **source, **wanted))


def _check_taught(corrections):
    """Raise UsageError unless something can be learnt."""
    found = set(corrections.taught.values())
    if not found:
        raise UsageError(f"{corrections.path} has only audited images, which are never learnt from; add taught ones.")
    if len(found) == 1:
        raise UsageError(f"{corrections.path} teaches one category only, {found.pop()}; it takes at least two.")


def _choose_categories(settings, source, labels):
    """The categories of an adapted model, and where to write them.

    Args:
        settings: `Settings`.
        source: the table that the former labels are from; None for none.
        labels: of the categories.

    Returns:
        The path of their table, which other models in the folder must not take for theirs, and which replaces none but
        this model's; and a tuple of `Category`, None if the table is right as it is.
    """
    output = settings.output
    folder, table = os.path.dirname(output) or ".", table_of_model(output)
    if os.path.isfile(table):
        with concerning("output"):
            if tuple(category.label for category in read_categories(table)) == tuple(labels):
                return table, None
    others = {name for name in os.listdir(folder) if name.endswith(".keras")} - {os.path.basename(output)}
    if tuple(labels) == LABELS:
        others = {name for name in others if not is_published(os.path.join(folder, name))}
    known = [*CATEGORIES, *(read_categories(source) if source else ())]
    names = {category.label: category.name for category in known}
    categories = tuple(Category(index, label, names.get(label) or label) for index, label in enumerate(labels))
    given = source is not None and os.path.isfile(table) and os.path.samefile(source, table)
    own = bool(others) or given or (os.path.isfile(table) and not os.path.isfile(output))
    written = table_of_model(output, own)
    if source is not None and os.path.isfile(written) and os.path.samefile(source, written):
        raise UsageError(f"{source} is the table that the new model's categories would replace; copy it.", "labels")
    return written, categories


def _load_features(settings, path, layer):
    """The features of the images, `Stored`; of a folder they are computed, and its table before is written beside."""
    if settings.data:
        from lib.prediction.predict import predict
        from lib.prediction.settings import Settings

        same = {name: getattr(settings, name) for name in ("data", "model", "models", "labels", *_DEVICE)}
        try:
            predict(Settings(output=settings.before, embeddings=settings.features, **same))
        except OtherSettingsError as error:
            other = "folder or model" if error.key in ("data", "model", "model_sha256") else option(error.key)
            begun = f"{settings.features} and {settings.before} were made with another {other}"
            raise UsageError(f"{begun}; choose another FILE.", "embeddings") from error
    stored = load_features(settings.features)
    with concerning("embeddings"):
        if checksum(path) != stored.settings.get("model_sha256") and not _is_adapted(path, stored.settings, settings):
            theirs = stored.settings.get("model") or "unknown"
            which = f"another model ({theirs}) than {path}"
            raise UsageError(f"{settings.features} has the features of {which}; pass that one with {option('model')}.")
        width, needed = stored.embeddings.shape[1], layer.kernel.shape[0]
        if not len(stored.paths):
            raise UsageError(f"{settings.features} has the features of no images.")
        if width != needed:
            raise UsageError(f"{settings.features} has {width} features of an image, but {path} takes {needed}.")
    return stored


def _is_adapted(path, of_features, settings):
    """Whether a model is an adapted one of that which features are of, which has to be found: it has the same ones."""
    try:
        theirs = find_model(unescape_name(str(of_features.get("model"))), settings.models)
        return checksum(theirs) == of_features.get("model_sha256") and have_equal_features(path, theirs)
    except (StageError, OSError):
        return False


def _learn(stored, corrections, labels, before, ridge):
    """The adapted `OutputLayer`, in float32 as files have it."""
    places = _find(stored, corrections)
    try:
        scaling = measure(features for _, features in stored.parts())
    except ValueError as error:
        raise UsageError(f"it can't be learnt from: {error}.", "embeddings") from None
    features = stored.take(places[name] for name in corrections.taught).astype("float64")
    wanted = np.array([labels.index(category) for category in corrections.taught.values()])
    weights = fit(scale(features, scaling), features @ before.kernel + before.bias, wanted, ridge)
    return OutputLayer(*(part.astype("float32") for part in fold(*before, scaling, weights)))


def _find(stored, corrections):
    """The rows of the images that a person decided about: name -> row. UsageError if one has no features."""
    decided = corrections.decided
    found = {name: row for row, name in enumerate(stored.names()) if name in decided}
    missing = [name for name in decided if name not in found]
    if missing:
        more = f" (nor of {len(missing) - 1:,} others)" if len(missing) > 1 else ""
        raise UsageError(f"{corrections.path} has {missing[0]}, of which there are no features{more}.", "table")
    return found


def _write_model(source, output, layer, table, categories):
    """Write the adapted model and, unless they are None, its categories to their table."""
    try:
        write_output_layer(source, output, *layer)
        if categories is not None:
            write_categories(table, categories)
    except OSError as error:
        raise WorkError(f"{output} can't be written ({error.strerror or error}).", "output") from error

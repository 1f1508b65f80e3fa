"""The models that a soup may be made of, and how well one does on records.

Only one model is ever built: the weights of each candidate, and of each mean, are put into it in turn.
"""

import logging
import os
import zipfile
from typing import Any, Callable, NamedTuple, Tuple

import numpy as np

from lib.errors import UsageError, WorkError, concerning, option
from lib.storage.files import check_regular
from lib.system.devices import select_device
from lib.system.parallel import cores

CROP = 0.875  # the side of each of the five crops, of the image's

log = logging.getLogger(__name__)


class Candidates(NamedTuple):
    """What a soup is made with.

    Attributes:
        paths: the files of models that have one architecture.
        opened: the one model, as of `lib.models.keras_files.open_model`.
        score: called with `data` or `validate`; gives the score, a float, of the model's present weights on these
            records.
        left_out: sentences about the bad records that it is scored without.
    """

    paths: Tuple[str, ...]
    opened: Any
    score: Callable
    left_out: Tuple[str, ...]


def find_models(folder):
    """The `.keras` files in and below a folder.

    Args:
        folder: the directory, searched through links, too; what can't be read is logged and left out.

    Returns:
        A dictionary: path -> what is in the file, as JSON: the names, checksums and sizes in its zip.

    Raises:
        WorkError: there is none.
    """
    found, seen = {}, {os.path.realpath(folder)}

    def leave_out(error):
        log.info(f"Left out: {error.filename} can't be read ({error.strerror}).")

    for parent, folders, names in os.walk(folder, onerror=leave_out, followlinks=True):
        places = {name: os.path.realpath(os.path.join(parent, name)) for name in sorted(folders)}
        folders[:] = [name for name, place in places.items() if not (name.startswith(".") or place in seen)]
        seen.update(places.values())
        for path in (os.path.join(parent, name) for name in sorted(names) if not name.startswith(".")):
            if not path.endswith(".keras"):
                continue
            try:
                check_regular(path)
                with zipfile.ZipFile(path) as archive:
                    found[path] = [[member.filename, member.CRC, member.file_size] for member in archive.infolist()]
            except OSError as error:
                leave_out(error)
            except Exception:  # zipfile raises whatever it likes at a damaged file
                log.info(f"Left out: {path} is not a complete .keras file.")
    if not found:
        raise WorkError(f"there is no complete .keras file in {folder} or its subfolders.", "models")
    return found


def open_candidates(settings, class_weights, paths, needed):
    """Build the one model, and load the records that it is scored on.

    Args:
        settings: `Settings`.
        class_weights: float32 `(categories,)`; None for 1.
        paths: of `find_models`; what does not fit is logged and left out.
        needed: which records: of `data` and `validate`.

    Returns:
        `Candidates`.

    Raises:
        UsageError: settings that don't fit models or records.
        WorkError: fewer than two models of one architecture, or bad records.
    """
    # One core for each operation: several batches are answered side by side instead.
    device = select_device(settings.cpu, settings.gpu, settings.processors or cores(), threads_per_operation=1)

    from lib.data.records import check_bands, read_number_map, tell_left_out
    from lib.models.keras_files import check_outputs
    from lib.training.validation import side_by_side

    opened, paths = _open_first(_of_one_kind(paths))
    bands = opened.model.input_shape[-1]
    with concerning("models"):
        check_outputs(opened.model, settings.categories, paths[0])
        check_bands(opened.model, paths[0])
    for setting in ("means", "variances"):
        numbers = getattr(settings, setting)
        if numbers is not None and len(numbers) != bands:
            raise UsageError(f"{len(numbers)} numbers, but the models take {bands} bands.", setting)
    mapping = None if settings.number_map is None else read_number_map(settings.number_map)
    images = {name: _load_images(settings, name, opened.model, paths[0], mapping, class_weights) for name in needed}
    left_out = tell_left_out(images.values())
    step, threads = side_by_side(device, settings.batch, settings.processors)
    score = _build_score(settings, class_weights, opened.model, paths[0], images, step, threads)
    return Candidates(paths, opened, score, tuple(left_out))


def _of_one_kind(paths):
    """Those of some models that have the architecture that most of them have."""
    from lib.models.keras_files import read_outline

    kinds = {}
    for path in paths:
        try:
            kinds.setdefault(repr(read_outline(path)), []).append(path)
        except UsageError as error:
            log.info(f"Left out: {error}")
    most = max(kinds.values(), key=len, default=[])
    if len(most) < 2:
        raise WorkError("no two of the .keras files have the same architecture, and a soup needs two.", "models")
    for found in kinds.values():
        for path in found if found is not most else ():
            log.info(f"Left out: {path} has another architecture.")
    return most


def _open_first(paths):
    """The first model that can be read, and the paths from it on."""
    from lib.models.keras_files import open_model

    for place, path in enumerate(paths):
        try:
            return open_model(path), tuple(paths[place:])
        except UsageError as error:
            log.info(f"Left out: {error}")
    raise WorkError("none of the .keras files can be read.", "models")


def _load_images(settings, setting, model, path, mapping, class_weights):
    """The `Images` of the records that a setting names."""
    from lib.data.records import load_images, open_records
    from lib.training.validation import check_size

    bands, skip_bad = model.input_shape[-1], settings.skip_bad
    records = open_records(getattr(settings, setting), setting, settings.categories, mapping, skip_bad)
    images = load_images(records, bands, None, settings.processors, skip_bad)
    if class_weights is not None and not class_weights[images.records.category].any():
        raise UsageError(f"at least one category in {option(setting)} needs a number above 0.", "class_weights")
    with concerning("models"):
        check_size(model, images, path, setting)
    return images


def _build_score(settings, class_weights, model, path, images, step, threads):
    """The function `score` of `Candidates`."""
    from lib.measures import metrics
    from lib.training.validation import answer

    shapes = {each.shape for each in images.values()}
    with concerning("models"):
        compute = {shape: _compile(model, (step, *shape), settings, path) for shape in shapes}

    def score(name):
        pictures, categories = images[name], settings.categories
        counts, start = metrics.no_counts(categories), 0
        for logits in answer(pictures, compute[pictures.shape], step, threads):
            category = pictures.records.category[start : start + len(logits)]
            start += len(logits)
            one_hot = np.eye(categories, dtype="float32")[category]
            weights = None if class_weights is None else class_weights[category]
            losses = np.zeros(len(logits), "float32")
            counts = metrics.add(counts, metrics.count(one_hot, logits, losses, weights))
        return metrics.summarise(counts)[settings.metric]

    return score


def _compile(model, shape, settings, path):
    """Compile a function from float32 pixels of a shape to a model's logits, with the settings' normalising and crops.

    Raises:
        UsageError: the model can't be applied to such images; so does the function.
    """
    import tensorflow as tf

    from lib.models.inference import applied, compile_logits

    height, width = shape[1:3]
    inner = max(1, round(height * CROP)), max(1, round(width * CROP))
    free = height - inner[0], width - inner[1]
    corners = ((0, 0), (0, free[1]), (free[0], 0), free, (free[0] // 2, free[1] // 2))
    apply = compile_logits(model, shape, changing=True, named=path)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False)
    def logits(pixels):
        if settings.means is not None:
            pixels -= tf.constant(settings.means, "float32")
        if settings.variances is not None:
            pixels /= tf.sqrt(tf.constant(settings.variances, "float32"))
        if not settings.crops:
            return apply(pixels)
        crops = [pixels[:, top : top + inner[0], left : left + inner[1]] for top, left in corners]
        return tf.add_n([apply(tf.image.resize(crop, (height, width))) for crop in crops]) / len(crops)

    logits.get_concrete_function()
    return applied(logits, path, shape)

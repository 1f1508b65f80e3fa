"""The models that a soup may be made of, and their scores.

Only one model is ever built: the weights of each candidate, and of each mean, are loaded into it in turn.
"""

import functools
import logging
import os
import zipfile
from typing import Any, Callable, NamedTuple, Tuple

import numpy as np

from lib.errors import UsageError, WorkError, concerning, option
from lib.measures.category_numbers import numbers_of_categories
from lib.storage.untrusted import one_line
from lib.system.devices import select_device
from lib.system.parallel import cores

CROP = 0.875  # the side of each of the five crops, as a share of the image's

log = logging.getLogger(__name__)


class Candidates(NamedTuple):
    """Models of one architecture.

    Attributes:
        paths: their files.
        opened: the one model, as of `lib.models.keras_files.open_model`.
        answer: called with `data` or `validate`; returns the true categories of these records, int `(images,)`, and an
            iterable of their logits by the model's present weights, as of `lib.training.validation.answer`.
        score: called with what `answer` returned; returns its score, a float.
        left_out: sentences about the bad records that were left out.
    """

    paths: Tuple[str, ...]
    opened: Any
    answer: Callable
    score: Callable
    left_out: Tuple[str, ...]


def find_models(folder):
    """The `.keras` files in and below a folder.

    Args:
        folder: the directory, searched through links, too; what can't be read is logged and left out.

    Returns:
        A dictionary: path -> the file's content, for JSON: the names, checksums and sizes in its zip.

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
        for name in sorted(names):
            if name.startswith(".") or not name.endswith(".keras"):
                continue
            path = os.path.join(parent, name)
            try:
                with zipfile.ZipFile(path) as archive:
                    found[path] = [[member.filename, member.CRC, member.file_size] for member in archive.infolist()]
            except Exception as error:  # zipfile raises whatever it likes at a damaged file
                log.info(f"Left out: {path} is not a complete .keras file ({one_line(error)}).")
    if not found:
        raise WorkError(f"there is no complete .keras file in {folder} or its subfolders.", "models")
    return found


def open_candidates(settings, paths, needed):
    """Build the one model, and load the records that it is scored on.

    Args:
        settings: `Settings`.
        paths: of `find_models`; files that don't fit are logged and left out.
        needed: the settings whose records are needed, of `data` and `validate`.

    Returns:
        `Candidates`.

    Raises:
        UsageError: settings that don't fit models or records.
        WorkError: fewer than two models of one architecture, or bad records.
    """
    class_weights = settings.class_weights
    if class_weights is not None:
        class_weights = np.array(numbers_of_categories(class_weights, settings.categories, "class_weights"), "float32")
    # One core for each operation: several batches are answered side by side instead.
    device = select_device(settings.cpu, settings.gpu, settings.processors or cores(), threads_per_operation=1)

    from lib.data.records import check_bands, tell_left_out
    from lib.models.keras_files import check_outputs
    from lib.training.validation import answer, side_by_side

    opened, paths = _open_first(paths)
    bands = opened.model.input_shape[-1]
    with concerning("models"):
        check_outputs(opened.model, settings.categories, paths[0])
        check_bands(opened.model, paths[0])
    for setting in ("means", "variances"):
        numbers = getattr(settings, setting)
        if numbers is not None and len(numbers) != bands:
            raise UsageError(f"{len(numbers)} numbers, but the models take {bands} bands.", setting)
    images = _load_images(settings, needed, opened.model, paths[0], class_weights)
    left_out = tell_left_out(images.values())
    step, threads = side_by_side(device, settings.batch, settings.processors)
    with concerning("models"):
        shapes = {each.shape for each in images.values()}
        compute = {shape: _compile(opened.model, (step, *shape), settings, paths[0]) for shape in shapes}

    def answers(setting):
        chosen = images[setting]
        return chosen.records.category, answer(chosen, compute[chosen.shape], step, threads)

    return Candidates(paths, opened, answers, functools.partial(_score, settings, class_weights), tuple(left_out))


def _load_images(settings, needed, model, path, class_weights):
    """The `Images` of the records that some settings name: setting -> images."""
    from lib.data.records import load_images, open_records, read_number_map
    from lib.training.validation import check_size

    mapping = None if settings.number_map is None else read_number_map(settings.number_map)
    images, skip_bad = {}, settings.skip_bad
    for setting in needed:
        records = open_records(getattr(settings, setting), setting, settings.categories, mapping, skip_bad)
        images[setting] = load_images(records, model.input_shape[-1], None, settings.processors, skip_bad)
        if class_weights is not None and not class_weights[images[setting].records.category].any():
            raise UsageError(f"at least one category in {option(setting)} needs a number above 0.", "class_weights")
        with concerning("models"):
            check_size(model, images[setting], path, setting)
    return images


def _open_first(paths):
    """The first model of the most frequent architecture that can be opened, and the paths of this kind from it on."""
    from lib.models.keras_files import open_model, read_outline

    kinds = {}
    for path in paths:
        try:
            kinds.setdefault(repr(read_outline(path)), []).append(path)
        except UsageError as error:
            log.info(f"Left out: {error}")
    most = max(kinds.values(), key=len, default=[])
    if len(most) < 2:
        raise WorkError("no two of the .keras files have the same architecture, and a soup needs two.", "models")
    for path in (path for found in kinds.values() if found is not most for path in found):
        log.info(f"Left out: {path} has another architecture.")
    for place, path in enumerate(most):
        try:
            return open_model(path), tuple(most[place:])
        except UsageError as error:
            log.info(f"Left out: {error}")
    raise WorkError("none of the .keras files can be read.", "models")


def _score(settings, class_weights, categories, answers):
    """The score of answers, float32 logits in the order of the images, of which these are the categories."""
    from lib.measures import metrics

    counts, start = metrics.no_counts(settings.categories), 0
    for logits in answers:
        category = categories[start : start + len(logits)]
        start += len(logits)
        one_hot = np.eye(settings.categories, dtype="float32")[category]
        weights = None if class_weights is None else class_weights[category]
        losses = np.zeros(len(logits), "float32")
        counts = metrics.add(counts, metrics.count(one_hot, logits, losses, weights))
    return metrics.summarise(counts)[settings.metric]


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

"""Categorising the images of a folder: from files to a table of categories and probabilities."""

import collections
import concurrent.futures
import contextlib
import os
import threading
import warnings
from importlib import metadata

import numpy as np

from lib.data.categories import LABELS, read_labels
from lib.data.embeddings import Embeddings, nearest
from lib.data.embeddings import load as load_embeddings
from lib.data.images import MAX_PIXELS, ImageError, is_image_name, limit_memory, list_images, read_image
from lib.data.shards import LISTED, SHARD, of_file, of_folder
from lib.errors import UsageError
from lib.models.published import MODELS, find_model
from lib.storage.files import checksum
from lib.storage.names import escape_name, path_order
from lib.storage.tables import ResumableTable, check_errors_table, settings_of, write_errors_table
from lib.system.parallel import STEP, cores, in_order, reading_threads
from lib.system.progress import progress

# What the published models were trained on; taken for models that accept any size and don't say theirs.
DEFAULT_SIZE = 96

_CHECKSUM = "the model's SHA-256"
# The settings that features follow from.
_OF_FEATURES = ("-m/--model", _CHECKSUM, "-d/--data", "--list", "--exact", SHARD, LISTED)


def labels_of(model, path, labels_file=None):
    """The labels of a model's outputs: of `--labels`, of a `categories.tsv` beside a model given as a path, or the 17.

    Args:
        model: the `-m` value.
        path: the model's file.
        labels_file: the `--labels` value.

    Returns:
        The labels and what they come from, for messages.
    """
    if labels_file is None and model not in MODELS:
        beside = os.path.join(os.path.dirname(path), "categories.tsv")
        labels_file = beside if os.path.isfile(beside) else None
    if labels_file is None:
        return LABELS, "the published categories"
    return read_labels(labels_file), labels_file


def columns_of(labels, top=1, probabilities=False):
    """The names of the table's columns."""
    columns = ["MODEL", "FILE", "PREDICTION", "PROBABILITY"]
    for rank in range(2, top + 1):
        columns += [f"PREDICTION_{rank}", f"PROBABILITY_{rank}"]
    if probabilities:
        columns += [f"PROBABILITY_{label}" for label in labels]
    return columns


def predict(
    data,
    model,
    output,
    models=None,
    labels_file=None,
    batch=1024,
    exact=False,
    max_pixels=MAX_PIXELS,
    top=None,
    probabilities=False,
    overwrite=False,
    runners_up=False,
    embeddings=None,
    list_file=None,
    shard=None,
    cpu=False,
    gpu=0,
    processors=None,
    report=print,
):
    """Categorise the images of a folder and write the table; go on where an earlier call was stopped.

    Args:
        data: the folder, searched with all below it; None with `list_file`.
        model: a published model's name or the path of a `.keras` file.
        output: the table to write, `.tsv`, `.csv` or `.jsonl`.
        models: where published models are kept; None for the default.
        labels_file: a table of labels; None for the default of `labels_of`.
        batch: at most how many images are held in memory at once.
        exact: the published pipeline's pixels, see `lib.data.images.read_image`.
        max_pixels: the largest picture that is decoded.
        top: for how many categories of an image the table has columns; None for as many as it was begun with, in a new
            one for one, or for two if there are to be `runners_up`.
        probabilities: whether it has a column for each category.
        overwrite: start anew though there be a table.
        runners_up: see `top`.
        embeddings: the file that the images' features are written to, see `lib.data.embeddings`; None for none.
        list_file: a file that lists the images instead, see `lib.data.shards.of_file`.
        shard: the `lib.data.shards.Shard` of the images that is done; None for all.
        cpu, gpu, processors: see `lib.system.devices.select_device`.
        report: called with each message for the user.

    Returns:
        How many files of the folder, or of the part, are in the table, and the errors: path -> reason.

    Raises:
        UsageError: no images, no such model, labels that don't match it, or a table of other settings.
        WorkError: the model can't be fetched or the table not be written.
    """
    if is_image_name(output):
        raise UsageError(f"-o/--output: {output} has an image file's ending; it must be .tsv, .csv or .jsonl.")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about files, but without their names
    path = find_model(model, models)
    labels, source = labels_of(model, path, labels_file)
    if top is None:
        begun = None if overwrite else settings_of(output)[0].get("--top")
        top = begun if type(begun) is int and begun > 0 else min(2, len(labels)) if runners_up else 1
    if top > len(labels):
        raise UsageError(f"--top: {top} is more than the {len(labels)} categories of the model.")
    paths, errors, first, about_list = _find_images(data, list_file, shard)
    names = [escape_name(name) for name in paths]
    settings = {
        "-m/--model": escape_name(model),
        _CHECKSUM: checksum(path),
        **({"--list": escape_name(list_file)} if list_file else {"-d/--data": escape_name(os.path.join(data, ""))}),
        "the labels": list(labels),
        "--exact": exact,
        "--top": top,
        "--probabilities": probabilities,
        **({} if shard is None else {SHARD: str(shard), LISTED: about_list}),
    }
    check_errors_table(output + ".errors.tsv", "-o/--output")
    with contextlib.ExitStack() as stack:
        table = ResumableTable(output, columns_of(labels, top, probabilities), settings, overwrite)
        stack.enter_context(table)
        features = None
        if embeddings is not None:
            about = {key: value for key, value in settings.items() if key in _OF_FEATURES}
            features = stack.enter_context(Embeddings(embeddings, about, overwrite))
        todo = [
            number
            for number, name in enumerate(names)
            if name not in table or (features is not None and name not in features)
        ]
        if len(todo) < len(paths):
            report(f"{len(paths) - len(todo):,} of {len(paths):,} images are already done.")
        if todo:
            # Before any thread starts: threads that import modules at once can wait for each other for ever.
            pooled = features is not None
            compute, size = _load(path, len(labels), source, min(STEP, batch), cpu, gpu, processors, pooled)
            read = _Reader(paths, size, exact, max_pixels, first)
            gone = 0
            with progress(len(todo), "images") as advance:
                for numbers, (logits, vectors), failed in _answers(todo, read, compute, batch, processors, first):
                    chances, good = _softmax(logits), []
                    for place, number in enumerate(numbers):
                        finite = np.isfinite(chances[place]).all()
                        if number not in failed and finite:
                            good.append(place)
                        elif names[number] in table:  # where only its features were missing
                            gone += 1
                        else:
                            errors[paths[number]] = failed.get(number, "the model's answer is no number")
                    if features is not None:
                        features.append([names[numbers[place]] for place in good], vectors[good])
                    table.append(
                        [
                            escape_name(model),
                            names[numbers[place]],
                            *_answer(chances[place], labels, top, probabilities),
                        ]
                        for place in good
                        if names[numbers[place]] not in table
                    )
                    advance(len(numbers))
            if gone:
                report(f"{gone:,} images in the table can no longer be read and are missing from {embeddings}.")
        if features is not None:
            features.finish(sorted(table, key=path_order))
        table.finish(_versions())
    write_errors_table(output + ".errors.tsv", errors)
    return len(paths) - sum(path in errors for path in paths), errors


def _find_images(data, list_file, shard):
    """The `lib.data.shards.Listing` of what is to be done. UsageError if there is no image in all parts together."""
    if list_file is not None:
        return of_file(list_file, is_image_name, shard)
    paths, problems = list_images(data)
    if not paths and problems:
        raise UsageError("-d/--data: {} {}.".format(*next(iter(problems.items()))))
    if not paths:
        raise UsageError(f"-d/--data: no images found in {data} (JPEG, PNG, BMP, GIF, TIFF, WebP, …).")
    return of_folder(paths, problems, shard)


def similar_images(image, embeddings, count, model, models=None, max_pixels=MAX_PIXELS, cpu=False, gpu=0):
    """Find the images of a file of features that are most like one.

    Args:
        image: the path of an image; of one that is in the file, the features are looked up there.
        embeddings: what `predict` wrote.
        count: how many to find.
        model, models, max_pixels, cpu, gpu: see `predict`; the model has to be the one that the features are of.

    Returns:
        Pairs of a name as in the table and the cosine of the angle between the features, the likest first; without the
        image itself.

    Raises:
        UsageError: no such file, an image that can't be read, or another model.
    """
    stored = load_embeddings(embeddings)
    name = escape_name(image)
    place = np.flatnonzero(stored.paths == name)
    if len(place):
        return nearest(stored, stored.embeddings[place[0]], count, without=name)
    path = find_model(model, models)
    if checksum(path) != stored.settings.get(_CHECKSUM):
        raise UsageError(
            f"--similar: {embeddings} has the features of a model other than {model}; pass that one with -m."
        )
    compute, size = _load(path, None, "", 1, cpu, gpu, None, pooled=True)
    try:
        pixels = read_image(image, size, bool(stored.settings.get("--exact")), max_pixels)
    except ImageError as error:
        raise UsageError(f"--similar: {image}: {error}.") from None
    return nearest(stored, compute(pixels[None])[1][0], count)


def _answer(chances, labels, top, probabilities):
    """The table's values for one image's probabilities `(categories,)`."""
    values = []
    for index in np.argsort(-chances, kind="stable")[:top]:
        values += [labels[index], float(chances[index])]
    return values + ([float(chance) for chance in chances] if probabilities else [])


def _softmax(logits):
    """float32 logits `(images, categories)` -> float64 probabilities."""
    exponentials = np.exp(logits.astype("float64") - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _load(path, outputs, source, step, cpu, gpu, processors, pooled=False):
    """Start TensorFlow and open the model.

    Returns:
        A function from float32 pixels `(step, size, size, 3)` to float32 logits `(step, outputs)` and, if `pooled`,
        the features `(step, width)` that they are made of, else None; several threads may call it at once. And the
        size.
    """
    from lib.system.devices import select_device

    # One core for each operation: several steps run side by side instead, which is twice as fast.
    select_device(cpu, gpu, processors or cores(), threads_per_operation=1)

    import tensorflow as tf

    from lib.models.inference import NoFeaturesError, compile_features, compile_logits
    from lib.models.keras_files import load_model

    try:
        model = load_model(path, outputs)
    except UsageError as error:
        if "outputs where" in str(error):
            raise UsageError(f"{error} The labels are {source}; pass others with --labels.") from error
        raise
    shape = model.input_shape if isinstance(model.input_shape, tuple) else ()
    sides = {side for side in shape[1:3] if side is not None}
    if len(shape) != 4 or shape[3] != 3 or len(sides) > 1:
        raise UsageError(f"{path} takes {shape or 'several inputs'}; it must take square images of 3 bands.")
    size = sides.pop() if sides else model.image_size or DEFAULT_SIZE
    compiled = compile_features if pooled else compile_logits
    try:
        answers = compiled(model, (step, size, size, 3), named=f"-m/--model: {path}")
    except NoFeaturesError as error:
        raise UsageError(f"--embeddings: {path} {error}.") from error

    def compute(pixels):
        found = answers(tf.constant(pixels))
        return tuple(part.numpy() for part in found) if pooled else (found.numpy(), None)

    return compute, size


def _versions():
    """The versions of the packages that an answer depends on, without importing them."""
    found = {}
    for package in ("tensorflow", "tensorflow-cpu", "keras", "numpy", "pillow", "simplejpeg"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


class _Reader:
    """Reads steps of images; a callable with settings, which can be told to stop."""

    def __init__(self, paths, size, exact, max_pixels, first=0):
        self._paths, self._size, self._exact, self._max_pixels = paths, size, exact, max_pixels
        self._first = first
        self.stopped = threading.Event()

    def __call__(self, numbers, step):
        """Read the images of the given numbers into their places of a step.

        Returns:
            float32 `(step, size, size, 3)`, zero where there is no image, and a dictionary: number -> reason why
            that image could not be read.
        """
        pixels = np.zeros((step, self._size, self._size, 3), "float32")
        failed = {}
        for number in numbers:
            if self.stopped.is_set():
                raise concurrent.futures.CancelledError
            try:
                pixels[(self._first + number) % step] = read_image(
                    self._paths[number], self._size, self._exact, self._max_pixels
                )
            except ImageError as error:
                failed[number] = str(error)
        return pixels, failed


def _answers(todo, read, compute, batch, processors, first=0):
    """Read and answer images on all cores.

    Args:
        todo: the ascending numbers of the images.
        read: a `_Reader`.
        compute: from float32 pixels `(step, size, size, 3)` to logits and features, see `_load`.
        batch: at most how many images are held in memory.
        processors: on how many cores images are read and answered; None for all.
        first: how many images of other parts come before.

    Yields:
        In order: a list of numbers, their logits and features as of `compute`, and the dictionary of those that could
        not be read: number -> reason.
    """
    # The place in a step follows from the place in the folder alone: a resumed run, and a part, computes the very same
    # numbers.
    step = min(STEP, batch)
    groups = collections.OrderedDict()
    for number in todo:
        groups.setdefault((first + number) // step, []).append(number)
    threads = reading_threads(processors)
    limit_memory(processors)

    def work(numbers):
        pixels, failed = read(numbers, step)
        places = [(first + number) % step for number in numbers]
        return tuple(None if part is None else part[places] for part in compute(pixels)), failed

    ahead = max(1, min(2 * threads, batch // step))
    with contextlib.closing(in_order(work, groups.values(), threads, ahead, read.stopped)) as answers:
        for numbers, (answered, failed) in answers:
            yield numbers, answered, failed

"""Categorising images: from files to a table of categories and probabilities."""

import concurrent.futures
import contextlib
import itertools
import logging
import os
import threading
import warnings
from importlib import metadata
from typing import NamedTuple, Optional

import numpy as np

from lib.data.embeddings import open_features, write_features
from lib.data.images import ImageError, limit_memory, read_image
from lib.data.listing import find_images, is_image_name
from lib.errors import UsageError
from lib.measures.softmax import softmax
from lib.models.published import find_model
from lib.prediction.model import labels_of, open_model
from lib.storage.files import checksum
from lib.storage.journal import look_up
from lib.storage.names import escape_name
from lib.storage.tables import (
    Table,
    check_errors_table,
    open_rows,
    settings_begun_with,
    write_errors_table,
    write_table,
)
from lib.system.parallel import STEP, cores, in_order, reading_threads
from lib.system.progress import progress

log = logging.getLogger(__name__)

# The settings that features follow from.
_OF_FEATURES = ("model", "model_sha256", "data", "list_file", "exact", "shard", "listed")

_ROW, _FEATURES = 1, 2  # what an image lacks, as bits


class Done(NamedTuple):
    """How many images of the folder, or of the part, are in the table; and the errors: path as bytes -> reason."""

    images: int
    errors: dict


class Image(NamedTuple):
    """An image to be answered: its path, its place among those that the model is given at once, and what it lacks."""

    path: bytes
    place: int
    lacks: int


class Answer(NamedTuple):
    """An image's answer.

    Attributes:
        image: the `Image`.
        problem: why there is none; None otherwise.
        probabilities: float64 `(categories,)`.
        features: float32 `(width,)`; None if they are not wanted.
    """

    image: Image
    problem: Optional[str]
    probabilities: np.ndarray
    features: Optional[np.ndarray]


def predict(settings):
    """Categorise images and write the table; go on where an earlier call was stopped.

    Args:
        settings: `Settings`.

    Returns:
        `Done`.

    Raises:
        UsageError: no images, no such model, labels that don't match it, or a table of other settings.
        WorkError: the model can't be fetched or the table not be written.
    """
    if is_image_name(settings.output):
        raise UsageError(f"{settings.output} has an image file's ending; it must be .tsv, .csv or .jsonl.", "output")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about files, but without their names
    path = find_model(settings.model, settings.models)
    labels = labels_of(path, settings)
    listing = find_images(settings.data, settings.list_file, settings.shard)
    table = _table(settings, checksum(path), labels[0], listing.about)
    check_errors_table(settings.output + ".errors.tsv")
    with contextlib.ExitStack() as stack:
        rows = stack.enter_context(open_rows(table, settings.overwrite))
        features, of_features = None, {key: table.settings[key] for key in _OF_FEATURES if key in table.settings}
        if settings.embeddings:
            features = stack.enter_context(open_features(settings.embeddings, of_features, settings.overwrite))
        lacks = _what_is_lacking(listing.paths, rows, features)
        if lacks.count(0):
            log.info(f"{lacks.count(0):,} of {len(lacks):,} images are already done.")
        errors = dict(listing.errors)
        if any(lacks):
            step = min(STEP, settings.batch)
            model = open_model(path, settings, step, features is not None, labels)
            answers = _answers(_steps(listing, lacks, step), model, settings)
            failed, gone = _add(answers, table, rows, features, lacks)
            errors.update(failed)
            if gone:
                missing = f"are missing from {settings.embeddings}"
                log.info(f"{gone:,} images in the table can no longer be read and {missing}.")
        if features is not None:
            write_features(settings.embeddings, of_features, features, rows.keys())
        write_table(table, rows, _versions())
    write_errors_table(settings.output + ".errors.tsv", errors)
    return Done(len(lacks) - sum(known for _, known in look_up(sorted(errors), listing.paths)), errors)


def columns_of(labels, top=1, probabilities=False):
    """The names of the table's columns."""
    columns = ["MODEL", "FILE", "PREDICTION", "PROBABILITY"]
    for rank in range(2, top + 1):
        columns += [f"PREDICTION_{rank}", f"PROBABILITY_{rank}"]
    if probabilities:
        columns += [f"PROBABILITY_{label}" for label in labels]
    return columns


def _table(settings, model_sha256, labels, listed):
    """The `Table` to be written."""
    top = settings.top
    if top is None:
        begun = None if settings.overwrite else settings_begun_with(settings.output).get("top")
        top = begun if type(begun) is int and begun > 0 else min(2, len(labels)) if settings.report else 1
    if top > len(labels):
        raise UsageError(f"{top} is more than the {len(labels)} categories of the model.", "top")
    about = {"model": escape_name(settings.model), "model_sha256": model_sha256}
    if settings.list_file:
        about["list_file"] = escape_name(settings.list_file)
    else:
        about["data"] = escape_name(os.path.join(settings.data, ""))
    about.update(labels=list(labels), exact=settings.exact, top=top, probabilities=settings.probabilities)
    if settings.shard is not None:
        about.update(shard=str(settings.shard), listed=listed)
    return Table(settings.output, columns_of(labels, top, settings.probabilities), about)


def _what_is_lacking(paths, rows, features):
    """For each path what it lacks, a `bytearray`."""
    lacks = bytearray(len(paths))
    for bit, journal in ((_ROW, rows), (_FEATURES, features)):
        if journal is not None:
            for number, (_, known) in enumerate(look_up(paths, journal.keys())):
                lacks[number] |= 0 if known else bit
    return lacks


def _steps(listing, lacks, size):
    """Yield the images that lack something, in lists of those that are answered at once."""
    # The place in a step follows from the place in the folder alone: a resumed run, and a part, computes the very same
    # numbers.
    numbers = (number for number, lack in enumerate(lacks) if lack)
    for _, group in itertools.groupby(numbers, lambda number: (listing.first + number) // size):
        yield [Image(listing.paths[number], (listing.first + number) % size, lacks[number]) for number in group]


def _answers(steps, model, settings):
    """Read and answer images on all cores.

    Args:
        steps: of `_steps`.
        model: `Answering`.
        settings: `Settings`.

    Yields:
        For each step, in order, a list of `Answer`s.
    """
    step, threads, stopped = min(STEP, settings.batch), reading_threads(settings.processors), threading.Event()
    limit_memory(settings.processors)
    computing = threading.Semaphore(cores(settings.processors))  # more only take more memory

    def answer(images):
        pixels, problems = np.zeros((step, model.size, model.size, 3), "float32"), {}
        for image in images:
            if stopped.is_set():
                raise concurrent.futures.CancelledError
            try:
                pixels[image.place] = read_image(
                    os.fsdecode(image.path), model.size, settings.exact, settings.max_pixels
                )
            except ImageError as error:
                problems[image.place] = str(error)
        with computing:
            logits, features = model.compute(pixels)
        probabilities = softmax(logits)
        for place in np.flatnonzero(~np.isfinite(probabilities).all(axis=1)).tolist():
            problems.setdefault(place, "the model's answer is no number")
        return [
            Answer(
                image,
                problems.get(image.place),
                probabilities[image.place],
                None if features is None else features[image.place],
            )
            for image in images
        ]

    ahead = max(1, min(2 * threads, settings.batch // step))
    with contextlib.closing(in_order(answer, steps, threads, ahead, stopped)) as answered:
        for _, answers in answered:
            yield answers


def _add(answers, table, rows, features, lacks):
    """Add answers to the journals of rows and features.

    Returns:
        The errors, path -> reason; and how many images in the table can no longer be read.
    """
    errors, gone = {}, 0
    with contextlib.closing(answers), progress(len(lacks) - lacks.count(0), "images") as advance:
        for step in answers:
            good = [answer for answer in step if answer.problem is None]
            errors.update((one.image.path, one.problem) for one in step if one.problem and one.image.lacks & _ROW)
            gone += sum(1 for one in step if one.problem and not one.image.lacks & _ROW)
            found = [(one.image.path, None, one.features.tobytes()) for one in good if one.image.lacks & _FEATURES]
            if found:
                features.extend(found)
            lines = [(one.image.path, None, _line(one, table)) for one in good if one.image.lacks & _ROW]
            if lines:
                rows.extend(lines)
            advance(len(step))
    return errors, gone


def _line(answer, table):
    """An answer as a line of the table."""
    about, chances = table.settings, answer.probabilities
    values = [about["model"], escape_name(os.fsdecode(answer.image.path))]
    for index in np.argsort(-chances, kind="stable")[: about["top"]]:
        values += [about["labels"][index], float(chances[index])]
    return table.line(values + (chances.tolist() if about["probabilities"] else []))


def _versions():
    """The versions of the packages that an answer depends on, without importing them."""
    found = {}
    for package in ("tensorflow", "tensorflow-cpu", "keras", "numpy", "pillow", "simplejpeg"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found

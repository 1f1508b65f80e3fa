"""Categorising images: from files to a table of categories and probabilities."""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import logging
import os
import threading
from importlib import metadata

import numpy as np

from lib.data.embeddings import open_features, write_features
from lib.data.images import ImageError, limit_memory, read_image
from lib.data.listing import find_images
from lib.errors import UsageError
from lib.measures.softmax import softmax
from lib.models.published import find_model
from lib.prediction.model import labels_of, open_model
from lib.prediction.teaching import can_be_taught
from lib.storage import tables
from lib.storage.files import checksum
from lib.storage.journal import look_up
from lib.storage.names import escape_name
from lib.system.parallel import STEP, cores, in_order, reading_threads
from lib.system.progress import progress

log = logging.getLogger(__name__)

# The settings that features depend on.
_OF_FEATURES = ("model", "model_sha256", "data", "list_file", "exact", "shard", "listed")

_ROW, _FEATURES = 1, 2  # what an image lacks, as bits


def predict(settings):
    """Categorise images and write the table; resume where an earlier call was stopped.

    Args:
        settings: `Settings`.

    Returns:
        How many images of the folder, or of the part, are in the table, and how many could not be read.

    Raises:
        UsageError: no images, no such model, labels that don't match it, or a table of other settings.
        WorkError: the model can't be fetched or the table can't be written.
    """
    path = find_model(settings.model, settings.models)
    if settings.report and not settings.embeddings and can_be_taught(path):
        settings = dataclasses.replace(settings, embeddings=settings.features)  # the page learns from them
    labels, source = labels_of(path, settings)
    listing = find_images(settings.data, settings.list_file, settings.shard)
    table = _table(settings, checksum(path), labels, listing.about)
    errors = dict(listing.errors)
    tables.check_errors_table(settings.output + ".errors.tsv")
    with contextlib.ExitStack() as stack:
        journals = {_ROW: stack.enter_context(tables.open_rows(table, settings.overwrite))}
        of_features = {key: table.settings[key] for key in _OF_FEATURES if key in table.settings}
        if settings.embeddings:
            features = open_features(settings.embeddings, of_features, settings.overwrite)
            journals[_FEATURES] = stack.enter_context(features)
        lacks = _lacks(listing.paths, journals)
        if lacks.count(0):
            log.info(f"{lacks.count(0):,} of {len(lacks):,} images are already done.")
        if any(lacks):
            model = open_model(path, settings, min(STEP, settings.batch), bool(settings.embeddings), labels, source)
            errors.update(_add_answers(listing, lacks, model, settings, table, journals))
        if settings.embeddings:
            write_features(settings.embeddings, of_features, features, journals[_ROW].keys())
        tables.write_table(table, journals[_ROW], _versions())
    tables.write_errors_table(settings.output + ".errors.tsv", errors)
    return len(lacks) - sum(known for _, known in look_up(sorted(errors), listing.paths)), len(errors)


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
        begun = {} if settings.overwrite else tables.settings_begun_with(settings.output)
        top = begun.get("top") or (min(2, len(labels)) if settings.report else 1)
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
    return tables.Table(settings.output, columns_of(labels, top, settings.probabilities), about)


def _lacks(paths, journals):
    """The bits of the journals that lack an image, a `bytearray` with a byte for each path."""
    lacks = bytearray(len(paths))
    for bit, journal in journals.items():
        for number, (_, known) in enumerate(look_up(paths, journal.keys())):
            lacks[number] |= 0 if known else bit
    return lacks


def _add_answers(listing, lacks, model, settings, table, journals):
    """Categorise the images that lack something, and add rows and features to the journals.

    Returns:
        The images that lack a row and get none: path -> reason.
    """
    errors, lost = {}, 0
    answers = _answers(listing, lacks, model, settings)
    with contextlib.closing(answers), progress(len(lacks) - lacks.count(0), "images") as advance:
        for batch in answers:
            rows, vectors = [], []
            for path, lack, problem, probabilities, features in batch:
                if problem and lack & _ROW:
                    errors[path] = problem
                elif problem:
                    lost += 1
                else:
                    if lack & _ROW:
                        rows.append((path, None, _line(table, path, probabilities)))
                    if lack & _FEATURES:
                        vectors.append((path, None, features.tobytes()))
            for kind, entries in ((_FEATURES, vectors), (_ROW, rows)):
                if entries:  # all at once: what waits for the next call may wait long
                    journals[kind].extend(entries)
            advance(len(batch))
    if lost:
        log.info(f"{lost:,} images in the table can no longer be read and are missing from {settings.embeddings}.")
    return errors


def _answers(listing, lacks, model, settings):
    """Read images and apply the model to them, on all cores.

    Args:
        listing: a `Listing`.
        lacks: of `_lacks`.
        model: of `open_model`.
        settings: `Settings`.

    Yields:
        Lists, one for each batch, of the images that lack something, in order: path, what it lacks, the reason why
        there is no answer or None, float64 probabilities `(categories,)`, and float32 features `(width,)` or None.
    """
    size = model.size
    step, threads, stopped = min(STEP, settings.batch), reading_threads(settings.processors), threading.Event()
    limit_memory(settings.processors)
    computing = threading.Semaphore(cores(settings.processors))  # more only take more memory
    # An image's place in its batch follows from its place in the folder alone, and so do its numbers, bit by bit: they
    # are the same in a resumed run and in a part.
    todo = (image for image in zip(itertools.count(listing.first), listing.paths, lacks) if image[2])
    batches = (list(batch) for _, batch in itertools.groupby(todo, lambda image: image[0] // step))

    def answer(batch):
        pixels, problems = np.zeros((step, size, size, 3), "float32"), {}
        for number, path, _ in batch:
            if stopped.is_set():
                raise concurrent.futures.CancelledError
            try:
                pixels[number % step] = read_image(os.fsdecode(path), size, settings.exact, settings.max_pixels)
            except ImageError as error:
                problems[number] = str(error)
        with computing:
            logits, features = model.compute(pixels)
        probabilities, answers = softmax(logits), []
        for number, path, lack in batch:
            chances, vector = (None if each is None else each[number % step] for each in (probabilities, features))
            problem = None if np.isfinite(chances).all() else "the model's logits are NaN or infinite"
            answers.append((path, lack, problems.get(number, problem), chances, vector))
        return answers

    ahead = max(1, min(2 * threads, settings.batch // step))
    with contextlib.closing(in_order(answer, batches, threads, ahead, stopped)) as answered:
        for _, answers in answered:
            yield answers


def _line(table, path, probabilities):
    """An image's answer as a line of the table."""
    about = table.settings
    values = [about["model"], escape_name(os.fsdecode(path))]
    for index in np.argsort(-probabilities, kind="stable")[: about["top"]]:
        values += [about["labels"][index], float(probabilities[index])]
    return table.line(values + (probabilities.tolist() if about["probabilities"] else []))


def _versions():
    """The versions of the packages that an answer depends on, without importing them."""
    found = {}
    for package in ("openvino", "tensorflow", "tensorflow-cpu", "keras", "numpy", "pillow", "simplejpeg"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found

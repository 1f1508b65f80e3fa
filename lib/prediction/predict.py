"""Categorising images: from files to a table of categories and probabilities."""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import logging
import os
import threading

import numpy as np

from lib.data.embeddings import OF_FEATURES, open_features, write_features
from lib.data.images import limit_memory
from lib.data.listing import find_images
from lib.errors import UsageError, concerning
from lib.models.published import find_model
from lib.prediction.decisions import find_decisions, report_decisions
from lib.prediction.model import labels_of, open_model
from lib.prediction.pending import FEATURES, KINDS, ROW, Answer, find_pending, read_pending
from lib.prediction.teaching import can_be_taught
from lib.storage import tables
from lib.storage.ascending import look_up
from lib.storage.decisions import SOURCE
from lib.storage.files import checksum
from lib.storage.fingerprints import check_fingerprints
from lib.storage.formats import check_rows
from lib.storage.joins import Join
from lib.storage.names import escape_name
from lib.system.packages import versions_of
from lib.system.parallel import STEP, cores, in_order, reading_threads
from lib.system.progress import progress
from lib.system.words import counted

log = logging.getLogger(__name__)


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
    labels, categories = labels_of(path, settings)
    listing = find_images(settings.data, settings.list_file, settings.shard, settings.exclude)
    table = _table(settings, checksum(path), labels, listing.about)
    errors = dict(listing.errors)
    tables.check_errors_table(settings.output + ".errors.tsv")
    check_fingerprints(settings.output)
    with concerning("output"):
        check_rows(settings.output, len(listing.paths))
    decided = find_decisions(settings, labels)
    with contextlib.ExitStack() as stack:
        journals = {ROW: stack.enter_context(tables.open_rows(table, settings.overwrite))}
        of_features = {key: table.settings[key] for key in OF_FEATURES if key in table.settings}
        if settings.embeddings:
            features = open_features(settings.embeddings, of_features, settings.overwrite)
            journals[FEATURES] = stack.enter_context(features)
        pending = find_pending(listing.paths, journals)
        if pending.done():
            log.info(f"{pending.done():,} of {counted(len(listing.paths), 'image')} are already done.")
        if any(pending.wanted):
            model = open_model(path, settings, min(STEP, settings.batch), bool(settings.embeddings), labels, categories)
            errors.update(_add_answers(listing, pending, model, settings, table, journals))
        if settings.embeddings:
            write_features(settings.embeddings, of_features, features, journals[ROW].keys())
        tables.write_table(table, journals[ROW], _versions(), decided)
    tables.write_errors_table(settings.output + ".errors.tsv", errors)
    images = len(listing.paths) - sum(known for _, known in look_up(sorted(errors), listing.paths))
    if decided is not None:
        report_decisions(settings.output, decided, images)
    return images, len(errors)


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
    if settings.exclude:
        about["exclude"] = sorted(settings.exclude)
    about.update(labels=list(labels), exact=settings.exact, top=top, probabilities=settings.probabilities)
    if settings.shard is not None:
        about.update(shard=str(settings.shard), listed=listed)
    columns = columns_of(labels, top, settings.probabilities)
    join = Join(settings.join, [*columns, SOURCE], settings.data) if settings.join else None
    return tables.Table(settings.output, columns, about, join)


_NO_NUMBER = "the model's logits are NaN or infinite"


def _add_answers(listing, pending, model, settings, table, journals):
    """Categorise the images of which something is to be made, and add rows and features to the journals.

    Returns:
        The images that should have a row and get none: path -> reason.
    """
    errors, lost, changed = {}, 0, 0
    answers = _answers(listing, pending, model, settings)
    with contextlib.closing(answers), progress(len(listing.paths) - pending.done(), "images") as advance:
        for batch in answers:
            for answer in batch:
                changed += bool(answer.wanted & answer.stale)
                if answer.problem and answer.wanted & ROW:
                    errors[answer.path] = answer.problem
                lost += bool(answer.problem and answer.wanted == FEATURES)
            for kind in (FEATURES, ROW):
                if kind in journals:
                    _add(journals[kind], kind, batch, table)
            advance(len(batch))
    if changed:
        it, was = ("it", "was") if changed == 1 else ("they", "were")
        log.info(f"{changed:,} changed since {it} {was} categorised, and {was} read again.")
    if lost:
        images, are = counted(lost, "image"), "is" if lost == 1 else "are"
        log.info(f"{images} in the table can no longer be read and {are} missing from {settings.embeddings}.")
    return errors


def _add(journal, kind, batch, table):
    """Add a batch of answers to the journal of a kind, `ROW` or `FEATURES`; all at once, since what waits for the next
    call may wait long.
    """
    entries, unchanged, gone = [], [], []
    for answer in batch:
        if answer.unchanged & kind:
            unchanged.append((answer.path, answer.file))
        elif answer.problem and answer.wanted & answer.stale & kind:
            gone.append(answer.path)  # rather than keep another picture's answer
        elif answer.wanted & kind and not answer.problem:
            content = answer.features.tobytes() if kind == FEATURES else _line(table, answer.path, answer.probabilities)
            entries.append((answer.path, answer.file, content))
    if entries:
        journal.extend(entries)
    if unchanged:
        journal.annotate(unchanged)
    if gone:
        journal.discard(gone)


def _answers(listing, pending, model, settings):
    """Read images and apply the model to them, on all cores.

    Args:
        listing: a `Listing`.
        pending: of `find_pending`.
        model: of `open_model`.
        settings: `Settings`.

    Yields:
        Lists of `Answer`s, one for each batch, of the images of which something is to be made, in order.
    """
    size = model.size
    step, threads, stopped = min(STEP, settings.batch), reading_threads(settings.processors), threading.Event()
    limit_memory(settings.processors)
    computing = threading.Semaphore(cores(settings.processors))  # more only take more memory
    # An image's place in its batch follows from its place in the folder alone, and so do its numbers, bit by bit: they
    # are the same in a resumed run and in a part.
    todo = (image for image in zip(itertools.count(), listing.paths, pending.wanted) if image[2])
    batches = (list(batch) for _, batch in itertools.groupby(todo, lambda image: (listing.first + image[0]) // step))

    def answer(batch):
        pixels, answers = np.zeros((step, size, size, 3), "float32"), []
        for number, path, wanted in batch:
            if stopped.is_set():
                raise concurrent.futures.CancelledError
            stale = pending.stale[number]
            crcs = {kind: pending.checksums[kind][number] for kind in KINDS if stale & kind}
            place = (listing.first + number) % step
            answers.append(read_pending(Answer(path, wanted, stale), crcs, pixels[place], settings))
        if all(one.problem or not one.wanted for one in answers):
            return answers
        with computing:
            probabilities, features = model.compute(pixels)
        places = [(listing.first + number) % step for number, _, _ in batch]
        return [
            one._replace(
                problem=one.problem or (None if np.isfinite(probabilities[place]).all() else _NO_NUMBER),
                probabilities=probabilities[place],
                features=None if features is None else features[place],
            )
            for one, place in zip(answers, places)
        ]

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
    """The versions of the packages that an answer depends on."""
    readers = ("pillow", "pillow-avif-plugin", "simplejpeg", "tifffile", "imagecodecs", "pi-heif", "rawpy")
    return versions_of("openvino", "tensorflow", "tensorflow-cpu", "keras", "numpy", *readers)

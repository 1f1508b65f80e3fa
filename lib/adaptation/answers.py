"""The answers of an adapted model to a folder's images, from their features: compared, and as a table and a page."""

import collections
import itertools
import logging
import os
from typing import NamedTuple, Optional, Sequence

import numpy as np

from lib.errors import UsageError, WorkError
from lib.measures.softmax import softmax
from lib.measures.uncertainty import mcnemar, share_interval
from lib.models.output_layer import OutputLayer
from lib.prediction.predict import columns_of
from lib.storage import tables
from lib.storage.decisions import SOURCE
from lib.storage.files import checksum
from lib.storage.fingerprints import write_fingerprints
from lib.storage.joins import Join
from lib.storage.names import escape_name, path_order, unescape_name
from lib.system.words import counted

log = logging.getLogger(__name__)


class Folder(NamedTuple):
    """The images that a model was adapted to.

    Attributes:
        stored: their features, `lib.data.embeddings.Stored`.
        corrections: `lib.data.corrections.Corrections`.
        labels: of the model's categories, new ones last.
        before, after: the model's last layer and the adapted one, of as many categories.
        join: a `lib.storage.joins.Join`, whose columns the table gets, too; None for none.
    """

    stored: NamedTuple
    corrections: NamedTuple
    labels: Sequence[str]
    before: OutputLayer
    after: OutputLayer
    join: Optional[Join] = None


class Count(NamedTuple):
    """Of a category: how many images a person taught and audited, and how many of these were and are right."""

    category: str
    taught: int
    audited: int
    right_before: int
    right_after: int


class Adapted(NamedTuple):
    """What came of adapting.

    Attributes:
        counts: a `Count` for each category that a person gave an image.
        images: how many there are.
        changed: how many of the model's answers to them are others than before.
        p_value: of McNemar's exact test of the audited images' answers, before against after; None without any.
    """

    counts: Sequence[Count]
    images: int
    changed: int
    p_value: Optional[float]

    def lines(self):
        """The result for people, as lines of text, the first ones of which are a table."""
        total = Count("all", *(sum(column) for column in list(zip(*self.counts))[1:]))
        rows = ["CATEGORY\tTAUGHT\tAUDITED\tRIGHT BEFORE\tRIGHT AFTER"]
        rows += ["\t".join(map(str, count)) for count in (*self.counts, total)]
        rows.append(f"Answers that change: {self.changed:,} of {self.images:,} ({self.changed / self.images:.2%})")
        if total.audited:
            for word, right in (("before", total.right_before), ("after", total.right_after)):
                low, high = share_interval(right, total.audited)
                interval = f"95% interval {low:.2%} to {high:.2%}"
                rows.append(f"Audited accuracy {word}: {right / total.audited:.2%} ({interval})")
            rows.append(f"McNemar's exact test: p = {self.p_value:.2g}")
        return rows


def check_table(settings, labels):
    """Raise UsageError if the table can't be written as the settings have it, or another command's would go."""
    if settings.top and settings.top > len(labels):
        raise UsageError(f"{settings.top} is more than the {len(labels)} categories of the model.", "top")
    table = settings.predict
    if table and os.path.exists(table) and tables.settings_of(table)[0].get("model") != escape_name(settings.output):
        raise UsageError(f"{table} exists and is no table of {settings.output}; choose another FILE.", "predict")


def open_join(settings, labels, about):
    """The `Join` of the table to be written; None if none is wanted.

    Args:
        settings: `lib.adaptation.settings.Settings`.
        labels: of the model's categories.
        about: the settings that the features were computed with.
    """
    if not settings.join:
        return None
    columns, images = columns_of(labels, _top(settings), settings.probabilities), about.get("data")
    return Join(settings.join, [*columns, SOURCE], unescape_name(images) if isinstance(images, str) else None)


def _top(settings):
    return settings.top or (2 if settings.report else 1)


def answer(folder, settings):
    """Compare the adapted model's answers with those before, and write the table that is wanted.

    Args:
        folder: `Folder`.
        settings: `lib.adaptation.settings.Settings`.

    Returns:
        `Adapted`.

    Raises:
        WorkError: the table can't be written.
    """
    right, changed = _compare(folder)
    images = len(folder.stored.paths)
    log.info(f"{len(folder.corrections.decided):,} of {counted(images, 'image')} looked at.")
    if settings.predict:
        _write_table(folder, settings)
    lost, won = (list(right.values()).count(verdicts) for verdicts in ([True, False], [False, True]))
    return Adapted(_counts(folder, right), images, changed, mcnemar(lost, won) if right else None)


def _compare(folder):
    """Whether each audited image was and is right, name -> two verdicts, and the number of answers that change."""
    audited, right, changed = folder.corrections.audited, {}, 0
    for names, before, probabilities in _answers(folder):
        after = probabilities.argmax(axis=1)
        changed += int((before != after).sum())
        for name, *places in zip(names, before.tolist(), after.tolist()):
            if name in audited:
                right[name] = [folder.labels[place] == audited[name] for place in places]
    return right, changed


def _answers(folder):
    """Yield, of a part of the images at a time, their names, the categories before, and the probabilities after."""
    for names, features in folder.stored.parts():
        features = features.astype("float64")
        before = features @ folder.before.kernel + folder.before.bias
        after = features @ folder.after.kernel.astype("float64") + folder.after.bias
        yield names, before.argmax(axis=1), softmax(after)


def _counts(folder, right):
    """A `Count` of each category; `right` says of an audited image whether it was and is right."""
    taught, audited = (collections.Counter(part.values()) for part in folder.corrections[1:])
    both = [collections.Counter(), collections.Counter()]
    for name, verdicts in right.items():
        for counter, verdict in zip(both, verdicts):
            counter[folder.corrections.audited[name]] += verdict
    others = sorted({*taught, *audited} - {*folder.labels})  # which only audited images have
    labels = [label for label in (*folder.labels, *others) if taught[label] or audited[label]]
    return [Count(label, taught[label], audited[label], *(counter[label] for counter in both)) for label in labels]


def _write_table(folder, settings):
    """Write the table, as predicting with the adapted model would, with a person's decisions."""
    about = {
        **folder.stored.settings,
        "model": escape_name(settings.output),
        "model_sha256": checksum(settings.output),
        "labels": list(folder.labels),
        "top": _top(settings),
        "probabilities": settings.probabilities,
        "ridge": settings.ridge,
    }
    columns = columns_of(folder.labels, about["top"], settings.probabilities)
    table = tables.Table(settings.predict, columns, about, folder.join)
    try:
        write_fingerprints(settings.predict, None if folder.stored.files is None else folder.stored.facts())
        entries = _entries(table, _answers(folder))
        tables.write_rows(table, entries, {"numpy": np.__version__}, folder.corrections.decided)
    except OSError as error:
        raise WorkError(f"{settings.predict} can't be written ({error.strerror or error}).", "predict") from error


def _entries(table, answers):
    """Yield the rows of images as `write_rows` takes them."""
    labels, top, model = (table.settings[name] for name in ("labels", "top", "model"))
    for names, _, probabilities in answers:
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        best = np.take_along_axis(probabilities, order, axis=1)
        every = probabilities.tolist() if table.settings["probabilities"] else itertools.repeat(())
        for name, places, chances, row in zip(names, order.tolist(), best.tolist(), every):
            ranking = itertools.chain(*((labels[place], chance) for place, chance in zip(places, chances)))
            yield path_order(name), None, table.line([model, name, *ranking, *row])

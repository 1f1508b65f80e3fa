"""The settings of predictions and of the pages, folders and searches made from them, and which go together."""

import dataclasses
import os
from typing import Optional, Sequence, Tuple

from lib.errors import UsageError, option
from lib.prediction.sorting import check_apart
from lib.system.memory import MAX_PIXELS
from lib.system.shard import Shard

ENGINES = ("openvino", "tensorflow")
RIDGE, MOST_RIDGE = 0.03, 1000  # how strongly a model holds on to what it knew when it is taught: usually, and at most


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of `predictImages.py`.

    Attributes:
        data: the folder of images, searched with all below it; None with `list_file`.
        output: the table to write, `.tsv`, `.csv`, `.xlsx` or `.jsonl`.
        model: a published model's name or the path of a `.keras` file.
        models: where published models are; None for the default.
        labels: a table of the categories' labels; None for the default of `lib.prediction.model.labels_of`.
        top: for how many categories of an image the table has columns; None for that of an existing table, else 1, or 2
            with `report`. With `similar`, how many images to list; None for 10.
        probabilities: whether it has a column for each category.
        overwrite: start over even if there is a table.
        corrections: what a person decided, see `lib.data.corrections`; None to keep what a table has of that.
        strict: whether a file that can't be read makes the exit status 1.
        report: the page to make, `.html`.
        report_images: at most how many images of a category it has.
        audit: how many images, drawn at random, it has besides to measure with; at most a quarter of all.
        report_from: a table to make `report` and `sort` from, instead of predicting.
        sort: the folder to sort the images into.
        copy, hardlink: whether to make copies or hard links there, instead of symbolic links.
        embeddings: the file for the images' features, see `lib.data.embeddings`; None for none or, with `report`, for
            one beside the table. With `merge`, those of the parts are beside their tables.
        similar: an image to find similar ones to among the `embeddings`.
        exclude: globs of files and folders of `data` that are left out, see `lib.data.left_out.LeftOut`.
        list_file: a file that lists the images instead of `data`, see `lib.data.listing.of_file`.
        shard: the part of the images to predict; None for all.
        merge: a table to write and those of all parts, to be merged instead of predicting.
        convert: a table to write in the format of `output`, instead of predicting.
        join: a table with a column `FILE`, whose other columns the table gets, too.
        exact: the published pipeline's pixels, see `lib.data.images.read_image`.
        max_pixels: the largest picture that is decoded.
        batch: at most how many images are in memory at once.
        engine: what computes, one of `ENGINES`; None for the faster one that can.
        cpu, gpu, processors: see `lib.system.devices.select_device`.
    """

    data: Optional[str] = None
    output: Optional[str] = None
    model: str = "ConvNeXt-N"
    models: Optional[str] = None
    labels: Optional[str] = None
    top: Optional[int] = None
    probabilities: bool = False
    overwrite: bool = False
    corrections: Optional[str] = None
    strict: bool = False
    report: Optional[str] = None
    report_images: int = 300
    audit: int = 200
    report_from: Optional[str] = None
    sort: Optional[str] = None
    copy: bool = False
    hardlink: bool = False
    embeddings: Optional[str] = None
    similar: Optional[str] = None
    exclude: Optional[Sequence[str]] = None
    list_file: Optional[str] = None
    shard: Optional[Shard] = None
    merge: Optional[Tuple[str, ...]] = None
    convert: Optional[str] = None
    join: Optional[str] = None
    exact: bool = False
    max_pixels: int = MAX_PIXELS
    batch: int = 1024
    engine: Optional[str] = None
    cpu: bool = False
    gpu: int = 0
    processors: Optional[int] = None

    @property
    def predicts(self):
        """Whether images are to be categorised; else existing tables or features are used."""
        only_similar = self.similar and not self.data and not self.list_file and not self.output
        return not self.report_from and not self.merge and not self.convert and not only_similar

    @property
    def features(self):
        """The file of features that the page learns from."""
        return self.embeddings or f"{self.table}.features.npz"

    @property
    def table(self):
        """The table that pages and folders are made from."""
        return self.report_from or (self.merge[0] if self.merge else self.output)


def check(settings):
    """Raise UsageError if something is missing, or does not go together."""
    source = "list_file" if settings.list_file else "data"
    if settings.data and settings.list_file:
        raise UsageError(f"it replaces {option('data')}; give only one of them.", "list_file")
    if settings.exclude and not settings.data:
        raise UsageError(f"it is about {option('data')} DIR; leave names out of a list.", "exclude")
    if settings.convert:
        others = ("data", "list_file", "merge", "embeddings", "similar", "report_from", "shard", "corrections")
        _refuse(settings, option("convert"), *others)
        if not settings.output:
            raise UsageError(f"give {option('output')} FILE, the table to write.", "convert")
    if settings.join and not settings.predicts and not settings.convert:
        raise UsageError(f"it needs {option('data')}, or {option('convert')} for a table that is there.", "join")
    if settings.merge:
        others = ("data", "list_file", "output", "similar", "report_from", "shard")
        _refuse(settings, option("merge"), *others)
        if len(settings.merge) < 2:
            raise UsageError("give the table to write and then the parts' tables.", "merge")
    if settings.shard:
        _check_part(settings, source)
    if settings.report_from:
        _refuse(settings, option("report_from"), source, "output", "similar")
        if settings.embeddings and not settings.report:
            raise UsageError(f"it is for the page; give {option('report')} FILE.html, too.", "embeddings")
        if settings.embeddings and not os.path.isfile(settings.embeddings):
            raise UsageError(f"{settings.embeddings} does not exist.", "embeddings")
        if not settings.report and not settings.sort:
            wanted = f"{option('report')} FILE.html, {option('sort')} DIR or both"
            raise UsageError(f"give {wanted}, to make from the table.", "report_from")
    if settings.similar and not settings.embeddings:
        raise UsageError(f"give {option('embeddings')} FILE.npz, the images to compare with.", "similar")
    if settings.similar and not settings.predicts:
        _refuse(settings, f"{option('similar')} without {option('data')}", "report", "sort", "corrections")
        if not os.path.isfile(settings.embeddings):
            both = f"{option('data')} and {option('output')}"
            raise UsageError(f"{settings.embeddings} does not exist; give {both} to make it.", "embeddings")
    missing = [name for name in (source, "output") if not getattr(settings, name)]
    if settings.predicts and missing:
        names = [f"{option('data')} (or {option('list_file')})" if name == "data" else option(name) for name in missing]
        raise UsageError(f"the following arguments are required: {', '.join(names)}")
    for kind in ("copy", "hardlink"):
        if getattr(settings, kind) and not settings.sort:
            raise UsageError(f"it needs {option('sort')} DIR.", kind)
    if settings.sort:
        check_apart([], settings.sort, settings.data)  # now rather than after hours
    if settings.report and settings.report in (settings.output, settings.report_from, *(settings.merge or ())):
        raise UsageError(f"{settings.report} is the table itself; choose another FILE.", "report")


def _check_part(settings, source):
    for name in ("report", "sort", "corrections"):
        if getattr(settings, name):
            whole = f"use it with {option('merge')}, which makes the whole table"
            used = "used" if name == "corrections" else "made"
            raise UsageError(f"can't be {used} for a part; {whole}.", name)
    if not getattr(settings, source):
        raise UsageError(f"it needs {option('data')} or {option('list_file')}.", "shard")


def _refuse(settings, reason, *others):
    for name in others:
        if getattr(settings, name):
            raise UsageError(f"can't be combined with {reason}, which predicts nothing.", name)

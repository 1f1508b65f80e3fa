"""The settings of adapting a model to a folder, and which go together."""

import dataclasses
import os
from typing import Optional, Tuple

from lib.errors import UsageError, option
from lib.prediction.settings import RIDGE


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of `adaptImages.py`.

    Attributes:
        table: what a person decided, see `lib.data.corrections`.
        output: the adapted model to write, `.keras`.
        embeddings: the images' features, as predicting writes them; with `data`, where to write them, None for a file
            beside the output.
        data: a folder of images to compute the features of; None for features that are there.
        model: a published model's name or the path of a `.keras` file: that which the features are of.
        models: where published models are; None for the default.
        labels: a table of the categories' labels; None for the default of `lib.prediction.model.labels_of`.
        new_categories: names of new categories that may be spelled almost like another one; None for none.
        ridge: how strongly the model holds on to what it knew, see `lib.measures.adaptation.fit`.
        predict: a table of the adapted model's answers to write.
        top, probabilities, join: which columns it has, see `lib.prediction.settings`.
        report, report_images: the page to make of it.
        cpu, gpu, processors: see `lib.system.devices.select_device`; for `data` and `report`.
    """

    table: str
    output: str
    embeddings: Optional[str] = None
    data: Optional[str] = None
    model: str = "ConvNeXt-N"
    models: Optional[str] = None
    labels: Optional[str] = None
    new_categories: Optional[Tuple[str, ...]] = None
    ridge: float = RIDGE
    predict: Optional[str] = None
    top: Optional[int] = None
    probabilities: bool = False
    join: Optional[str] = None
    report: Optional[str] = None
    report_images: int = 300
    cpu: bool = False
    gpu: int = 0
    processors: Optional[int] = None

    @property
    def features(self):
        """The file of features."""
        return self.embeddings or f"{self.output}.features.npz"

    @property
    def before(self):
        """The table of the answers before, which is written with the features of `data`."""
        return f"{os.path.splitext(self.features)[0]}.tsv"


def check(settings):
    """Raise UsageError if something is missing, or does not go together."""
    if not settings.embeddings and not settings.data:
        either = f"{option('embeddings')} FILE.npz, or {option('data')} DIR to compute them"
        raise UsageError(f"the features are missing: give {either}.")
    if not settings.data and not os.path.isfile(settings.embeddings):
        cure = f"give {option('data')} DIR to compute it"
        raise UsageError(f"{settings.embeddings} does not exist; {cure}.", "embeddings")
    for name in ("top", "probabilities", "join", "report"):
        if getattr(settings, name) and not settings.predict:
            raise UsageError(f"it needs {option('predict')} TABLE.", name)
    files = {name: getattr(settings, name) for name in ("table", "output", "features", "predict", "report")}
    for name in ("table", "predict") if settings.data else ():
        if files[name] and os.path.realpath(files[name]) == os.path.realpath(settings.before):
            raise UsageError(f"{files[name]} is the table of the answers before; choose another FILE.", name)
    seen = {}
    for name, path in files.items():
        other = seen.setdefault(os.path.realpath(path), name) if path else name
        if other != name:
            raise UsageError(f"{path} is that of {option(other)}, too; choose another FILE.", name)

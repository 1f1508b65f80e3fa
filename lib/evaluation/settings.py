"""The settings of an evaluation."""

import dataclasses
from typing import Dict, Optional, Tuple


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of `testImages.py`.

    Attributes:
        model: the `.keras` file to evaluate, or a published model's name.
        categories: how many there are.
        test: record files.
        number_map: a table that gives categories other numbers.
        class_weights: the weight of an image of each category; None for 1.
        batch: at most how many images a model is given at once.
        compare: another one to compare with.
        models: where published models are; None for the default.
        labels: a table of the categories' labels; None for what the model's outputs, else the records' numbers, are.
        skip_bad: whether bad records are left out.
        answers: an `.npz` file to write: predictions, labels, confusion matrix.
        probabilities: an `.npz` file to write: softmax values as predictions, labels.
        table: a file to write the per-category table to; None to log it.
        json: a file to write all metrics to.
        figures: a directory to draw figures into.
        card: whether to add the metrics to the model's card.
        report: an `.html` file to write.
        report_images: at most how many images of a category the report has.
        cpu, gpu, processors: see `lib.system.devices.select_device`.
    """

    model: str
    categories: int
    test: Tuple[str, ...]
    number_map: Optional[str] = None
    class_weights: Optional[Dict[int, float]] = None
    batch: int = 64
    compare: Optional[str] = None
    models: Optional[str] = None
    labels: Optional[str] = None
    skip_bad: bool = False
    answers: Optional[str] = None
    probabilities: Optional[str] = None
    table: Optional[str] = None
    json: Optional[str] = None
    figures: Optional[str] = None
    card: bool = False
    report: Optional[str] = None
    report_images: int = 300
    cpu: bool = False
    gpu: int = 0
    processors: Optional[int] = None

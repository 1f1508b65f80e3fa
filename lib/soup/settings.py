"""The settings of a soup."""

import dataclasses
from typing import Dict, Optional, Tuple

from lib.system.shard import Shard

# Settings that a soup does not depend on.
_EXECUTION = ("output", "fresh", "shard", "batch", "cpu", "gpu", "processors", "name", "command")

DECIDERS = ("data", "validation")


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of `imageSoup.py`.

    Attributes:
        models: the directory of the `.keras` files.
        categories: how many there are.
        data: record files that decide which models are added.
        validate: record files that rank the models.
        output: the directory for all runs.
        number_map: a table that gives categories other numbers.
        class_weights: the weight of an image of each category; None for 1.
        threshold: the score that a model must reach.
        percentile: the same as a percentile of the models' scores; None for `threshold`.
        method: `greedy` or `uniform`.
        decide: which records decide which models are added, one of `DECIDERS`.
        metric: `f1`, `accuracy` or `auc`.
        strict: whether a model is added only if it improves the mean, not if it is merely no worse.
        rescore: whether the scores that training recorded are not used.
        crops: whether the score is of the mean over five crops.
        means, variances: of each band, to normalise by; None for 0 and 1.
        skip_bad: whether bad records are left out.
        fresh: whether to start over.
        shard: only score this part of the models, for a later call that makes the soup; None for all.
        batch: at most how many images a model is given at once.
        cpu, gpu, processors: see `lib.system.devices.select_device`.
        name: what the user calls the soup; None for nothing.
        command: the command line, to be recorded.
    """

    models: str
    categories: int
    data: Tuple[str, ...]
    validate: Tuple[str, ...]
    output: str
    number_map: Optional[str] = None
    class_weights: Optional[Dict[int, float]] = None
    threshold: float = 0.98
    percentile: Optional[int] = None
    method: str = "greedy"
    decide: str = "data"
    metric: str = "f1"
    strict: bool = False
    rescore: bool = False
    crops: bool = False
    means: Optional[Tuple[float, ...]] = None
    variances: Optional[Tuple[float, ...]] = None
    skip_bad: bool = False
    fresh: bool = False
    shard: Optional[Shard] = None
    batch: int = 64
    cpu: bool = False
    gpu: int = 0
    processors: Optional[int] = None
    name: Optional[str] = None
    command: Tuple[str, ...] = ()

    @property
    def deciding(self):
        """The setting that names the records that decide."""
        return {"data": "data", "validation": "validate"}[self.decide]

    def determinants(self):
        """All settings that the result depends on: name -> value."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in _EXECUTION}

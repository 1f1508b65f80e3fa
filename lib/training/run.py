"""Runs of trainings, named after their settings and inputs: started, resumed, or found complete."""

import contextlib
import dataclasses
import logging
import os
import platform
from typing import Any, Dict, NamedTuple, Optional, Tuple

from lib.storage.files import checksum_of
from lib.storage.runs import Run, complete, find_run, reserved, run_name, write_settings

log = logging.getLogger(__name__)

_INPUTS = ("model", "student", "teacher", "train", "validate", "number_map")  # settings that name files


@dataclasses.dataclass(frozen=True)
class Execution:
    """The settings that don't affect a training's result, except for rounding.

    Attributes:
        cpu, gpu, processors: see `lib.system.devices.start_team`.
        cache: see `lib.data.records.load_images`.
        deterministic: whether each run gives the same bits.
        fresh: whether to discard an earlier run.
        steps_per_execution: steps per call to the device.
        jit: whether to compile the step with XLA.
        tensorboard: whether to write the metrics for TensorBoard, too.
        evaluate_first: whether to show the metrics before training.
        name: what the user calls the run; None for nothing.
        command: the command line, for the record.
    """

    cpu: bool = False
    gpu: Tuple[int, ...] = (0,)
    processors: Optional[int] = None
    cache: Optional[str] = None
    deterministic: bool = False
    fresh: bool = False
    steps_per_execution: int = 1
    jit: bool = False
    tensorboard: bool = False
    evaluate_first: bool = False
    name: Optional[str] = None
    command: Tuple[str, ...] = ()


class Start(NamedTuple):
    """A run that can start.

    Attributes:
        run: its paths.
        team: the devices to train on; None if the run is complete.
        inputs: the SHA-256 of each input, path -> hexadecimal.
        categories: a tuple of `lib.data.categories.Category`, what the outputs stand for; None if unknown.
    """

    run: Run
    team: Any
    inputs: Dict[str, str]
    categories: Optional[tuple]

    @property
    def result(self):
        """The path of the trained model; None on workers that don't write it."""
        return self.run.model if self.team is None or self.team.chief else None


def identify(settings, **contents):
    """What a run is named after: all settings except `output` and those of `Execution`, files by their content.

    Args:
        settings: a dataclass.
        contents: values in place of those of settings, such as the content of a file.

    Returns:
        The SHA-256 of each input, path -> hexadecimal, and a dictionary for JSON.
    """
    sums, identity = {}, {}
    left_out = {"output", *(field.name for field in dataclasses.fields(Execution))}
    for name, value in {**dataclasses.asdict(settings), **contents}.items():
        if name in _INPUTS:
            paths = [] if value is None else [value] if isinstance(value, str) else value
            sums.update((path, checksum_of(path)) for path in paths)
            value = [sums[path] for path in paths]
        if name not in left_out:
            identity[name] = value
    return sums, identity


@contextlib.contextmanager
def started(settings, **contents):
    """Reserve a training's run, and start the devices, while the block runs.

    Args:
        settings, contents: see `identify`.

    Yields:
        A `Start`.

    Raises:
        UsageError: another process has the same run, there are no such devices, or the records' categories are others.
    """
    from lib.data.outputs import write_beside_model
    from lib.training.cards import write_missing_card

    categories = _categories(settings)
    inputs, identity = identify(settings, **contents)
    run = find_run(settings.output, run_name(identity))
    if not settings.fresh and complete(run):
        log.info("The run is already complete.")
        write_beside_model(run.model, categories)
        write_missing_card(run.model)
        yield Start(run, None, inputs, categories)
        return

    from lib.system.devices import start_team, together

    team = start_team(settings.cpu, settings.gpu, settings.processors)
    if not team.chief:
        logging.getLogger("lib").setLevel(logging.ERROR)  # the chief speaks for all
    with reserved(run, settings.fresh) if team.chief else contextlib.nullcontext(), together(team):
        if team.workers == 1 and complete(run):
            log.info("Another process has just completed the run.")
            team = None
        yield Start(run, team, inputs, categories)


def _categories(settings):
    """What the outputs will stand for: what the records' numbers do or, if unknown, the outputs of the first model."""
    from lib.data.outputs import categories_of_model, categories_of_records

    found = categories_of_records(settings, "train", "validate")
    if found is None and getattr(settings, "number_map", None) is None:
        path = settings.student if hasattr(settings, "student") else settings.model
        found, _ = categories_of_model(path, settings.categories)
    return found


def record(start, settings, data, **about):
    """Write `settings.json` of a run, its settings, inputs, devices and versions, and its `categories.tsv`.

    Args:
        start: the `Start`.
        settings: the stage's.
        data: of `lib.training.inputs.open_data`.
        about: more to record, for JSON.
    """
    import keras
    import tensorflow as tf

    from lib.data.outputs import write_beside_model

    if not start.team.chief:
        return
    recorded = {
        "name": settings.name,
        "command": settings.command,
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "replicas": start.team.strategy.num_replicas_in_sync,
        "versions": {"Python": platform.python_version(), "TensorFlow": tf.__version__, "Keras": keras.__version__},
        "training_records": len(data.train),
        "validation_records": len(data.validate),
        "left_out": data.left_out,
        **about,
        "settings": dataclasses.asdict(settings),
        "inputs": start.inputs,
    }
    write_settings(start.run, recorded)
    write_beside_model(start.run.model, start.categories)
    if getattr(settings, "save_epochs", False):
        os.makedirs(start.run.intermediate, exist_ok=True)
        write_beside_model(start.run.epoch_model(1), start.categories)


def describe(start, settings, model, images, batch, prepare=None):
    """Write the card of a run that has just been completed, with the model's answers in validation.

    Args:
        start: the `Start`.
        settings: the stage's.
        model: the trained Keras model.
        images, batch, prepare: see `lib.training.validation.answers_of`.

    Returns:
        The confusion matrix, and the labels of its categories. It is None if the run isn't complete, if this is not the
        process that writes, or if there are too many categories.
    """
    from lib.data.outputs import labels_or_neutral
    from lib.training.cards import write_card, write_validation
    from lib.training.validation import answers_of

    labels = labels_or_neutral(start.categories, settings.categories)
    if not (start.team.chief and complete(start.run)):
        return None, labels
    answers = (logits.argmax(axis=1) for logits in answers_of(model, images, batch, prepare))
    matrix = write_validation(start.run.model, images.records.category, answers, labels)
    write_card(start.run.model)
    return matrix, labels

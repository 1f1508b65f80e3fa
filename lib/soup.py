"""Model soups: the mean of several models of one training, which is often better than each (arXiv:2203.05482)."""

import contextlib
import csv
import dataclasses
import json
import os
import platform
import zipfile
from typing import Dict, Optional, Tuple

import numpy as np

from lib.device import select_device
from lib.errors import UsageError, WorkError
from lib.files import checksum, escape_name
from lib.parallel import STEP, cores
from lib.recipes import cover
from lib.runs import complete, find_run, reserved, run_name, write_settings

CROP = 0.875  # the side of each of the five crops of --jcrop

_SCORES = "scores.tsv"
_LOG = "log.tsv"
_LOG_HEADER = ("MODEL", "VALIDATION", "WITH", "TAKEN")


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that a soup follows from; the options of `imageSoup.py` by other names.

    Attributes:
        models: the directory of the `.keras` files.
        outputs: how many categories there are.
        data: record files that decide what is taken in.
        validate: record files that the models are ranked by.
        number_map: a table that gives categories other numbers.
        weights: what an image of each category counts; None for 1.
        threshold: the score that a model must reach.
        percentile: the same as a percentile of the models' scores; None for `threshold`.
        method: `greedy` or `uniform`.
        metric: `f1`, `accuracy` or `auc`.
        strict: whether a model has to make the mean better.
        rescore: whether the scores that a training recorded are not used.
        crops: whether the score is of the mean over five crops.
        means, variances: of each band, to normalise by; None for 0 and 1.
        skip_bad: whether bad records are left out.
    """

    models: str
    outputs: int
    data: Tuple[str, ...]
    validate: Tuple[str, ...]
    number_map: Optional[str] = None
    weights: Optional[Dict[int, float]] = None
    threshold: float = 0.98
    percentile: Optional[int] = None
    method: str = "greedy"
    metric: str = "f1"
    strict: bool = False
    rescore: bool = False
    crops: bool = False
    means: Optional[Tuple[float, ...]] = None
    variances: Optional[Tuple[float, ...]] = None
    skip_bad: bool = False


def make_soup(
    settings,
    output,
    fresh=False,
    batch=64,
    cpu=False,
    gpu=0,
    processors=None,
    command=(),
    report=print,
    tell=print,
):
    """Make a soup, go on with it, or find that it is made already.

    Args:
        settings: `Settings`.
        output: the directory for the run's.
        fresh: whether to forget an earlier run.
        batch: at most how many images a model is given at once.
        cpu, gpu, processors: see `lib.device.select_device`.
        command: the command line, to be recorded.
        report: called with each message for the user.
        tell: called with each line of the result.

    Returns:
        The path of the soup.

    Raises:
        UsageError: settings that don't fit the records.
        WorkError: fewer than two models, none that is good enough, bad records.
    """
    weights = None
    if settings.weights is not None:
        try:
            weights = np.array(cover(settings.weights, settings.outputs), "float32")
        except ValueError as error:
            raise UsageError(f"-w/--weight: it {error}.") from None
    prints = _fingerprints(settings.models, report)
    files = [*settings.data, *settings.validate, *([settings.number_map] if settings.number_map else [])]
    inputs = {path: checksum(path) for path in files}
    run = find_run(output, run_name(_identity(settings, inputs, prints)), "soup")
    if not fresh and complete(run):
        report("The soup is made already.")
        with open(run.file("settings.json"), encoding="utf-8") as file:
            for line in json.load(file)["result"]:
                tell(line)
        return run.model
    with reserved(run, fresh):
        kitchen = _Kitchen(settings, weights, prints, batch, cpu, gpu, processors, report)
        scores = kitchen.rank(run, inputs)
        chosen = kitchen.good_enough(scores)
        ingredients = kitchen.cook(run, scores, chosen)
        result = [f"MODEL\t{settings.metric.upper()}"]
        result += [f"{escape_name(path)}\t{score:.4f}" for path, score in scores.items()]
        result.append(f"soup of {len(ingredients)}\t{kitchen.score_soup():.4f}")
        about = {
            "command": list(command),
            "settings": dataclasses.asdict(settings),
            "inputs": inputs,
            "ingredients": {path: checksum(path) for path in ingredients},
            "versions": {"Python": platform.python_version(), **kitchen.versions},
            "result": result,
        }
        write_settings(run, about)
        _draw(run, settings.metric)
        kitchen.save(run)
    for line in result:
        tell(line)
    return run.model


def _fingerprints(folder, report):
    """The `.keras` files in and below a folder with what is in them, by the checksums that a zip has: path -> text."""
    prints = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.endswith(".keras") or name.startswith("."):
                continue
            path = os.path.join(parent, name)
            try:
                with zipfile.ZipFile(path) as archive:
                    prints[path] = [[member.filename, member.CRC, member.file_size] for member in archive.infolist()]
            except (OSError, zipfile.BadZipFile):
                report(f"Left out: {path} is not a whole .keras file.")
    if not prints:
        raise WorkError(f"-m/--model: there is no whole .keras file in {folder} or below it.")
    return prints


def _identity(settings, inputs, prints):
    """What a run is named after."""
    identity = dataclasses.asdict(settings)
    for name in ("data", "validate"):
        identity[name] = [inputs[path] for path in identity[name]]
    identity["number_map"] = inputs.get(settings.number_map)
    identity["models"] = [[os.path.relpath(path, settings.models), found] for path, found in prints.items()]
    return identity


def _of_one_kind(paths, report):
    """Those of some models that have the architecture that most of them have; the others are named and left out."""
    from lib.keras_files import read_outline

    kinds = {}
    for path in paths:
        try:
            kinds.setdefault(repr(read_outline(path)), []).append(path)
        except UsageError as error:
            report(f"Left out: {error}")
    most = max(kinds.values(), key=len, default=[])
    if len(most) < 2:
        raise WorkError("-m/--model: no two of the .keras files have the same architecture, and a soup takes two.")
    for found in kinds.values():
        for path in found if found is not most else ():
            report(f"Left out: {path} has another architecture.")
    return most


class _Kitchen:
    """The one model that all weights are put into, and the images that it is scored on."""

    def __init__(self, settings, weights, prints, batch, cpu, gpu, processors, report):
        # One core for each operation: several batches are answered side by side instead.
        device = select_device(cpu, gpu, processors or cores(), threads_per_operation=1)

        import keras
        import tensorflow as tf

        from lib import cli
        from lib.keras_files import open_model
        from lib.records import load_images, open_records, read_number_map

        self._settings, self._weights, self._report = settings, weights, report
        self.versions = {"TensorFlow": tf.__version__, "Keras": keras.__version__}
        self._paths = _of_one_kind(prints, report)
        with cli.naming("-m/--model"):
            self._opened = open_model(self._paths[0], settings.outputs)
        self._model, self._loaded = self._opened.model, self._paths[0]
        bands = self._model.input_shape[-1]
        for option, numbers in (("-M/--means", settings.means), ("-V/--variances", settings.variances)):
            if numbers is not None and len(numbers) != bands:
                raise UsageError(f"{option}: {len(numbers)} numbers where the models take {bands} bands.")
        mapping = None if settings.number_map is None else read_number_map(settings.number_map)
        self._images = {}
        for name, files, option in (
            ("data", settings.data, "-d/--data"),
            ("validate", settings.validate, "-v/--validate"),
        ):
            records = open_records(files, option, settings.outputs, mapping, settings.skip_bad)
            self._images[name] = load_images(records, bands, None, processors, settings.skip_bad, report)
        self._step = batch if device.kind == "gpu" else min(batch, STEP)
        self._threads = 1 if device.kind == "gpu" else min(processors or cores(), cores())
        self._compute = tf.function(self._logits)
        self._sum, self._count = None, 0

    def _logits(self, pixels):
        """The model's logits for float32 pixels, after what `-M`, `-V` and `-j` ask for."""
        import tensorflow as tf

        settings = self._settings
        if settings.means is not None:
            pixels -= tf.constant(settings.means, "float32")
        if settings.variances is not None:
            pixels /= tf.sqrt(tf.constant(settings.variances, "float32"))
        if not settings.crops:
            return self._model(pixels, training=False)
        height, width = pixels.shape[1:3]
        inner = max(1, round(height * CROP)), max(1, round(width * CROP))
        free = height - inner[0], width - inner[1]
        corners = ((0, 0), (0, free[1]), (free[0], 0), free, (free[0] // 2, free[1] // 2))
        crops = [pixels[:, top : top + inner[0], left : left + inner[1]] for top, left in corners]
        resized = [tf.image.resize(crop, (height, width)) for crop in crops]
        return tf.add_n([self._model(crop, training=False) for crop in resized]) / len(resized)

    def _score(self, name):
        """The score, a float, of the weights that the model has now."""
        from lib import metrics
        from lib.scoring import answer

        images = self._images[name]
        logits = np.concatenate(list(answer(images, self._compute, self._step, self._threads)))
        category = images.records.category
        one_hot = np.eye(self._settings.outputs, dtype="float32")[category]
        counting = None if self._weights is None else self._weights[category]
        counted = metrics.count(one_hot, logits, np.zeros(len(images), "float32"), counting)
        return metrics.summarise(counted)[self._settings.metric]

    def _load(self, path):
        """Put a file's weights into the model."""
        from lib.keras_files import load_weights

        if path != self._loaded:
            self._loaded = None
            load_weights(self._opened, path)
            self._loaded = path

    def rank(self, run, inputs):
        """Score all models on `-v`: path -> score, the best first. What cannot be used is named and left out."""
        known = self._recorded(inputs) if not self._settings.rescore else {}
        if known:
            self._report(f"The scores of {len(known):,} models are those that their training recorded.")
        kept = _read_rows(run.file(_SCORES), ("MODEL", "SCORE"))
        known.update({row["MODEL"]: float(row["SCORE"]) for row in kept})
        scores = {}
        with open(run.file(_SCORES), "a", encoding="utf-8") as file:
            if not kept:
                _append(file, ("MODEL", "SCORE"))
            for path in self._paths:
                name = self._name(path)
                if name not in known:
                    try:
                        self._load(path)
                    except UsageError as error:
                        self._report(f"Left out: {error}")
                        continue
                    known[name] = self._score("validate")
                    _append(file, (name, repr(known[name])))
                    self._report(f"{path}: {known[name]:.4f}")
                scores[path] = known[name]
        if len(scores) < 2:
            raise WorkError(f"-m/--model: {self._settings.models} has {len(scores)} models that fit; a soup takes two.")
        return dict(sorted(scores.items(), key=lambda item: (-item[1], os.fsencode(item[0]))))

    def _name(self, path):
        return escape_name(os.path.relpath(path, self._settings.models))

    def _recorded(self, inputs):
        """The scores that trainings recorded of their epochs on the same validation records: name -> score."""
        settings, found = self._settings, {}
        if settings.weights or settings.crops or settings.means or settings.variances:
            return found
        for folder in {os.path.dirname(path) for path in self._paths}:
            beside = os.path.join(folder.replace("-intermediate", "-best"), "training-settings.json")
            try:
                with open(beside, encoding="utf-8") as file:
                    recorded = json.load(file)
                told, sums = recorded["settings"], recorded["inputs"]
                same = (
                    [sums[path] for path in told["validate"]] == [inputs[path] for path in settings.validate]
                    and sums.get(told["number_map"]) == inputs.get(settings.number_map)
                    and told["outputs"] == settings.outputs
                    and told["precision"] == "float32"
                )
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if same:
                column = f"VAL_{settings.metric.upper()}"
                for row in _read_rows(os.path.join(folder, "epochs.tsv"), ("EPOCH", "FILE", column)):
                    if row["FILE"]:
                        found[self._name(os.path.join(folder, row["FILE"]))] = float(row[column])
        return {name: found[name] for name in map(self._name, self._paths) if name in found}

    def good_enough(self, scores):
        """The models that reach `-t` or `-T`, the best first."""
        settings = self._settings
        least, option = settings.threshold, f"-t/--threshold {settings.threshold}"
        if settings.percentile is not None:
            least = float(np.percentile(list(scores.values()), settings.percentile))
            option = f"-T/--tile {settings.percentile}"
        chosen = [path for path, score in scores.items() if score >= least]
        if not chosen:
            best = next(iter(scores.values()))
            raise WorkError(f"{option}: no model reaches it; the best has {best:.4f}. -T/--tile is a percentile.")
        self._report(f"{len(chosen):,} of {len(scores):,} models reach {least:.4f} ({option}).")
        return chosen

    def cook(self, run, scores, chosen):
        """Take models in, one after the other; the paths of those that were. The model has the soup's weights then."""
        settings, taken, best = self._settings, [], -np.inf
        done = {row["MODEL"]: row for row in _read_rows(run.file(_LOG), _LOG_HEADER)}
        with open(run.file(_LOG), "a", encoding="utf-8") as file:
            if not done:
                _append(file, _LOG_HEADER)
            for path in chosen:
                name = self._name(path)
                row = done.get(name)
                if row is not None and row["TAKEN"] == "no":
                    continue
                try:
                    self._load(path)
                except UsageError as error:
                    self._report(f"Left out: {error}")
                    continue
                weights = [np.array(weight, "float64") for weight in self._model.get_weights()]
                total = weights if self._sum is None else [one + other for one, other in zip(self._sum, weights)]
                if row is not None:
                    score, take = float(row["WITH"]) if row["WITH"] else -np.inf, True
                elif settings.method == "uniform":
                    score, take = -np.inf, True
                else:
                    self._assign(total, len(taken) + 1)
                    score = self._score("data")
                    take = not taken or score > best or (score == best and not settings.strict)
                if take:
                    self._sum, best = total, score
                    taken.append(path)
                if row is None:
                    shown = repr(score) if np.isfinite(score) else ""
                    _append(file, (name, repr(scores[path]), shown, "yes" if take else "no"))
                    told = f"{score:.4f} with it, " if shown else ""
                    self._report(f"{path}: {told}{'taken in' if take else 'left out'}")
        self._assign(self._sum, len(taken))
        return taken

    def _assign(self, total, count):
        """Give the model the mean of `count` models with the sum `total`."""
        self._model.set_weights([(values / count).astype("float32") for values in total])
        self._loaded = None

    def score_soup(self):
        """The soup's score on `-v`."""
        return self._score("validate")

    def save(self, run):
        """Write the soup."""
        from lib.keras_files import save_model

        save_model(self._model, run.model)


def _append(file, values):
    """Append a line that is safe when this returns."""
    file.write("\t".join(values) + "\n")
    file.flush()
    os.fsync(file.fileno())


def _read_rows(path, columns):
    """The rows of a table that has these columns, as dictionaries; a line that was cut short is none."""
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", newline="") as file:
        text = file.read()
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            os.truncate(path, len(whole.encode()))
        rows = list(csv.DictReader(whole.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
        return [row for row in rows if all(row.get(column) is not None for column in columns)]
    return []


def _draw(run, metric):
    """Draw `soup.png`: the score with each candidate."""
    from lib.figures import new_figure, save_figure

    rows = _read_rows(run.file(_LOG), _LOG_HEADER)
    numbers = np.arange(1, len(rows) + 1)
    figure, axes = new_figure((9, 5))
    axes.plot(numbers, [float(row["VALIDATION"]) for row in rows], color="#999999", label="alone, on -v")
    shown = [(number, float(row["WITH"]), row["TAKEN"] == "yes") for number, row in zip(numbers, rows) if row["WITH"]]
    for taken, marker, label in ((True, "o", "the mean with it, on -d: taken in"), (False, "x", "left out")):
        points = [(number, score) for number, score, is_taken in shown if is_taken == taken]
        if points:
            axes.plot(*zip(*points), marker, color="#4477aa" if taken else "#cc6677", label=label)
    axes.set(xlabel="candidate, the best one first", ylabel={"f1": "macro F1"}.get(metric, metric))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, os.path.join(run.best, "soup.png"))

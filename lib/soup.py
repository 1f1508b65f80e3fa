"""Model soups: the mean of several models of one training, which is often better than each (arXiv:2203.05482)."""

import contextlib
import csv
import dataclasses
import glob
import os
import platform
import re
import zipfile
from typing import Dict, Optional, Tuple

import numpy as np

from lib.data.shards import WHOLE
from lib.errors import UsageError, WorkError
from lib.measures.recipes import cover
from lib.storage.files import check_regular, checksum
from lib.storage.names import escape_name
from lib.storage.runs import complete, find_run, reserved, run_name, write_settings
from lib.storage.untrusted import parse_json
from lib.system.devices import enough_memory, select_device
from lib.system.parallel import cores

CROP = 0.875  # the side of each of the five crops of --jcrop

_SCORES_HEADER = ("MODEL", "SCORE")
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
    shard=None,
):
    """Make a soup, go on with it, or find that it is made already.

    Args:
        settings: `Settings`.
        output: the directory for the run's.
        fresh: whether to forget an earlier run.
        batch: at most how many images a model is given at once.
        cpu, gpu, processors: see `lib.system.devices.select_device`.
        command: the command line, to be recorded.
        report: called with each message for the user.
        tell: called with each line of the result.
        shard: only score this `lib.data.shards.Shard` of the models, for a later call that makes the soup; None for
            all.

    Returns:
        The path of the soup; None of a part.

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
        report("The soup is already made.")
        for line in _former_result(run.file("settings.json")):
            tell(line)
        return run.model
    if shard is not None:
        os.makedirs(run.best, exist_ok=True)  # not for itself: other parts are at work there
        candidates = _Candidates(settings, weights, prints, batch, cpu, gpu, processors, report, ("validate",))
        with enough_memory("give a smaller -b/--batch"):
            done = _score(candidates, settings, run, inputs, report, shard)
        report(f"Scored the {len(done):,} models of part {shard}.")
        return None
    with reserved(run, fresh):
        candidates = _Candidates(settings, weights, prints, batch, cpu, gpu, processors, report)
        with enough_memory("give a smaller -b/--batch"):
            scores = _rank(candidates, settings, run, inputs, report)
            chosen = _good_enough(scores, settings, report)
            ingredients = _mix(candidates, settings, run, scores, chosen, report)
            soup = candidates.score("validate")
        result = [f"MODEL\t{settings.metric.upper()}"]
        result += [f"{escape_name(path)}\t{score:.4f}" for path, score in scores.items()]
        result.append(f"soup of {len(ingredients)}\t{soup:.4f}")
        about = {
            "command": list(command),
            "settings": dataclasses.asdict(settings),
            "inputs": inputs,
            "left_out": candidates.left_out,
            "ingredients": {path: checksum(path) for path in ingredients},
            "versions": {"Python": platform.python_version(), **candidates.versions},
            "result": result,
        }
        write_settings(run, about)
        _draw(run, settings.metric)
        candidates.save(run.model)
    for line in result:
        tell(line)
    return run.model


def _former_result(path):
    """The lines that a finished soup told, as its settings record them."""
    try:
        with open(path, encoding="utf-8") as file:
            return [str(line) for line in parse_json(file.read())["result"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkError(f"{path} is damaged ({error}); --fresh starts the soup over.") from error


def _fingerprints(folder, report):
    """The `.keras` files in and below a folder with what is in them, by the checksums that a zip has: path -> list."""
    prints, seen = {}, {os.path.realpath(folder)}

    def left_out(error):
        report(f"Left out: {error.filename} can't be read ({error.strerror}).")

    for parent, folders, names in os.walk(folder, onerror=left_out, followlinks=True):
        places = {name: os.path.realpath(os.path.join(parent, name)) for name in sorted(folders)}
        folders[:] = [name for name, place in places.items() if not (name.startswith(".") or place in seen)]
        seen.update(places.values())
        for name in sorted(names):
            if not name.endswith(".keras") or name.startswith("."):
                continue
            path = os.path.join(parent, name)
            try:
                check_regular(path)
                with zipfile.ZipFile(path) as archive:
                    prints[path] = [[member.filename, member.CRC, member.file_size] for member in archive.infolist()]
            except OSError as error:
                left_out(error)
            except Exception:  # a damaged file makes zipfile raise whatever it likes
                report(f"Left out: {path} is not a complete .keras file.")
    if not prints:
        raise WorkError(f"-m/--model: there is no complete .keras file in {folder} or its subfolders.")
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
    from lib.models.keras_files import read_outline

    kinds = {}
    for path in paths:
        try:
            kinds.setdefault(repr(read_outline(path)), []).append(path)
        except UsageError as error:
            report(f"Left out: {error}")
    most = max(kinds.values(), key=len, default=[])
    if len(most) < 2:
        raise WorkError("-m/--model: no two of the .keras files have the same architecture, and a soup needs two.")
    for found in kinds.values():
        for path in found if found is not most else ():
            report(f"Left out: {path} has another architecture.")
    return most


class _Candidates:
    """The one model that all weights are put into, and the images that it is scored on.

    Attributes:
        paths: the files of models that fit each other.
        model: the Keras model.
        versions: those of the packages.
        left_out: sentences about the bad records that it is scored without.
    """

    def __init__(self, settings, weights, prints, batch, cpu, gpu, processors, report, needed=("data", "validate")):
        # One core for each operation: several batches are answered side by side instead.
        device = select_device(cpu, gpu, processors or cores(), threads_per_operation=1)

        import keras
        import tensorflow as tf

        from lib.cli import legacy as cli
        from lib.data.records import check_bands, load_images, open_records, read_number_map, tell_left_out
        from lib.models.keras_files import check_outputs
        from lib.training.validation import check_size, side_by_side

        self._settings, self._weights = settings, weights
        self.versions = {"TensorFlow": tf.__version__, "Keras": keras.__version__}
        self.paths = _of_one_kind(prints, report)
        self._opened, self._loaded = self._open_first(report), None
        self.model = self._opened.model
        with cli.naming("-m/--model"):
            check_outputs(self.model, settings.outputs, self.paths[0])
        check_bands(self.model, f"-m/--model: {self.paths[0]}")
        bands = self.model.input_shape[-1]
        for option, numbers in (("-M/--means", settings.means), ("-V/--variances", settings.variances)):
            if numbers is not None and len(numbers) != bands:
                raise UsageError(f"{option}: {len(numbers)} numbers, but the models take {bands} bands.")
        mapping = None if settings.number_map is None else read_number_map(settings.number_map)
        self._step, self._threads = side_by_side(device, batch, processors)
        self._images, self._compute = {}, {}
        for name, files, option in (
            ("data", settings.data, "-d/--data"),
            ("validate", settings.validate, "-v/--validate"),
        ):
            if name not in needed:
                continue
            records = open_records(files, name, settings.outputs, mapping, settings.skip_bad)
            images = load_images(records, bands, None, processors, settings.skip_bad)
            if weights is not None and not weights[images.records.category].any():
                raise UsageError(f"-w/--weight: at least one category in {option} needs a number above 0.")
            check_size(self.model, images, f"-m/--model: {self.paths[0]}", option)
            self._images[name] = images
            if images.shape not in self._compute:
                shape, named = (self._step, *images.shape), f"-m/--model: {self.paths[0]}"
                self._compute[images.shape] = _compile(self.model, shape, settings, named)
        self.left_out = tell_left_out(self._images.values())

    def _open_first(self, report):
        """Build the model from the first file that can be read; those before it are named and left out."""
        from lib.models.keras_files import open_model

        while self.paths:
            try:
                return open_model(self.paths[0])
            except UsageError as error:
                report(f"Left out: {error}")
                del self.paths[0]
        raise WorkError("-m/--model: none of the .keras files can be read.")

    def load(self, path):
        """Put a file's weights into the model. UsageError if they can't be used."""
        from lib.models.keras_files import load_weights

        if path != self._loaded:
            self._loaded = None
            load_weights(self._opened, path)
            self._loaded = path

    def assign(self, weights):
        """Give the model other weights, arrays in the order of its own, of which only one at a time is there."""
        import tensorflow as tf

        self._loaded = None
        for variable, values in zip(self.model.weights, weights):
            variable.assign(tf.cast(values, variable.dtype))

    def score(self, name):
        """The score, a float, of the weights that the model has now on `data` or on `validate`."""
        from lib.measures import metrics
        from lib.training.validation import answer

        images, classes = self._images[name], self._settings.outputs
        counts, start = metrics.no_counts(classes), 0
        for logits in answer(images, self._compute[images.shape], self._step, self._threads):
            category = images.records.category[start : start + len(logits)]
            start += len(logits)
            one_hot = np.eye(classes, dtype="float32")[category]
            counting = None if self._weights is None else self._weights[category]
            losses = np.zeros(len(logits), "float32")
            counts = metrics.add(counts, metrics.count(one_hot, logits, losses, counting))
        return metrics.summarise(counts)[self._settings.metric]

    def save(self, path):
        """Write the model with the weights that it has now."""
        from lib.models.keras_files import save_model

        save_model(self.model, path)


def _compile(model, shape, settings, named):
    """Compile a function from float32 pixels of a shape to a model's logits, with what `-M`, `-V` and `-j` ask for.

    Raises:
        UsageError: the model, which is `named` so, can't be applied to such images; so does the function.
    """
    import tensorflow as tf

    from lib.models.inference import applied, compile_logits

    height, width = shape[1:3]
    inner = max(1, round(height * CROP)), max(1, round(width * CROP))
    free = height - inner[0], width - inner[1]
    corners = ((0, 0), (0, free[1]), (free[0], 0), free, (free[0] // 2, free[1] // 2))
    apply = compile_logits(model, shape, changing=True, named=named)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False)
    def logits(pixels):
        if settings.means is not None:
            pixels -= tf.constant(settings.means, "float32")
        if settings.variances is not None:
            pixels /= tf.sqrt(tf.constant(settings.variances, "float32"))
        if not settings.crops:
            return apply(pixels)
        crops = [pixels[:, top : top + inner[0], left : left + inner[1]] for top, left in corners]
        return tf.add_n([apply(tf.image.resize(crop, (height, width))) for crop in crops]) / len(crops)

    logits.get_concrete_function()
    return applied(logits, named, shape)


def _rank(candidates, settings, run, inputs, report):
    """Score all models on `-v`: path -> score, the best first. What can't be used is named and left out."""
    scores = _score(candidates, settings, run, inputs, report)
    if len(scores) < 2:
        raise WorkError(f"-m/--model: {settings.models} has {len(scores)} models that fit; a soup needs two.")
    return dict(sorted(scores.items(), key=lambda item: (-item[1], os.fsencode(item[0]))))


def _score(candidates, settings, run, inputs, report, shard=None):
    """Score models on `-v`, all or a part: path -> score. What can't be used is named and left out."""
    known = _recorded(candidates.paths, settings, inputs) if not settings.rescore else {}
    if known:
        report(f"Using the scores that training recorded for {len(known):,} models.")
    own = run.file("scores.tsv" if shard is None else f"scores-{shard.number:05d}-of-{shard.count:05d}.tsv")
    for path in () if shard is not None else sorted(glob.glob(f"{glob.escape(own[: -len('.tsv')])}-*-of-*.tsv")):
        with _whole(path):
            known.update({row["MODEL"]: float(row["SCORE"]) for row in _read_rows(path, _SCORES_HEADER)})
    scores = {}
    with _table(own, _SCORES_HEADER) as (rows, append):
        with _whole(own):
            known.update({row["MODEL"]: float(row["SCORE"]) for row in rows})
        places = (shard or WHOLE).range(len(candidates.paths))
        for path in candidates.paths[places.start : places.stop]:
            name = _name(path, settings)
            if name not in known:
                try:
                    candidates.load(path)
                except UsageError as error:
                    report(f"Left out: {error}")
                    continue
                known[name] = candidates.score("validate")
                append(name, repr(known[name]))
                report(f"{path}: {known[name]:.4f}")
            scores[path] = known[name]
    return scores


def _name(path, settings):
    """What a model is called in the run's tables."""
    return escape_name(os.path.relpath(path, settings.models))


def _recorded(paths, settings, inputs):
    """The scores that trainings recorded of their epochs on the same validation records: name -> score."""
    found = {}
    if settings.weights or settings.crops or settings.means or settings.variances:
        return found
    for folder in {os.path.dirname(path) for path in paths}:
        place = re.sub("-intermediate$", "-best", os.path.realpath(folder))
        try:
            with open(os.path.join(place, "training-settings.json"), encoding="utf-8") as file:
                recorded = parse_json(file.read())
            told, sums = recorded["settings"], recorded["inputs"]
            same = (
                [sums[path] for path in told["validate"]] == [inputs[path] for path in settings.validate]
                and sums.get(told["number_map"]) == inputs.get(settings.number_map)
                and told["outputs"] == settings.outputs
                and told["precision"] == "float32"
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        column = f"VAL_{settings.metric.upper()}"
        with contextlib.suppress(ValueError):  # a damaged table; the models are measured then
            for row in _read_rows(os.path.join(folder, "epochs.tsv"), ("EPOCH", "FILE", column)) if same else ():
                if row["FILE"]:
                    found[_name(os.path.join(folder, row["FILE"]), settings)] = float(row[column])
    return {name: found[name] for name in (_name(path, settings) for path in paths) if name in found}


def _good_enough(scores, settings, report):
    """The models that reach `-t` or `-T`, the best first."""
    least, option = settings.threshold, f"-t/--threshold {settings.threshold}"
    if settings.percentile is not None:
        least = float(np.percentile(list(scores.values()), settings.percentile))
        option = f"-T/--tile {settings.percentile}"
    chosen = [path for path, score in scores.items() if score >= least]
    if not chosen:
        best = next(iter(scores.values()))
        raise WorkError(
            f"{option}: no model reaches it; the best has {best:.4f}. Lower it, or use a percentile with -T/--tile."
        )
    report(f"{len(chosen):,} of {len(scores):,} models reach {least:.4f} ({option}).")
    return chosen


def _mix(candidates, settings, run, scores, chosen, report):
    """Take models in, one after the other; the paths of those that were. The model has the soup's weights then.

    In memory are the sum of those taken in and the weights of one more, beside the model itself.
    """
    taken, total, best = [], None, -np.inf
    with _table(run.file("log.tsv"), _LOG_HEADER) as (rows, append):
        done = {row["MODEL"]: row for row in rows}
        for path in chosen:
            name = _name(path, settings)
            row = done.get(name)
            if row is not None and row["TAKEN"] == "no":
                continue
            weights = None  # no more than one model's
            try:
                candidates.load(path)
            except UsageError as error:
                report(f"Left out: {error}")
                continue
            weights = candidates.model.get_weights()
            score, take = -np.inf, True
            if row is not None:
                with _whole(run.file("log.tsv")):
                    score = float(row["WITH"] or score)
            elif settings.method == "greedy":
                if taken:
                    candidates.assign((one + other) / (len(taken) + 1) for one, other in zip(total, weights))
                score = candidates.score("data")
                take = not taken or score > best or (score == best and not settings.strict)
            if row is None:
                shown = repr(score) if np.isfinite(score) else ""
                append(name, repr(scores[path]), shown, "yes" if take else "no")
                told = f"{score:.4f} with it, " if shown else ""
                report(f"{path}: {told}{'added' if take else 'left out'}")
            if take:
                taken.append(path)
                best = score
                if total is None:
                    total = [values.astype("float64") for values in weights]
                else:
                    for values, more in zip(total, weights):
                        values += more
    if not taken:
        raise WorkError("-m/--model: none of the models that are good enough can still be read.")
    candidates.assign(values / len(taken) for values in total)
    return taken


@contextlib.contextmanager
def _table(path, columns):
    """Go on with a table: its rows so far, see `_read_rows`, and a function that appends one, safe when it returns."""
    rows = _read_rows(path, columns, mend=True)
    with open(path, "a", encoding="utf-8") as file:

        def append(*values):
            file.write("\t".join(values) + "\n")
            file.flush()
            os.fsync(file.fileno())

        if file.tell() == 0:
            append(*columns)
        yield rows, append


def _read_rows(path, columns, mend=False):
    """The whole rows of a table with these columns, as dictionaries; `mend` removes a last one that was cut short."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return []
    whole = content[: content.rfind(b"\n") + 1]
    if mend and whole != content:
        os.truncate(path, len(whole))
    with _whole(path):
        rows = csv.DictReader(whole.decode().split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE)
        return [row for row in rows if all(row.get(column) is not None for column in columns)]


@contextlib.contextmanager
def _whole(path):
    """Raise WorkError where a run's table turns out to be damaged."""
    try:
        yield
    except (ValueError, csv.Error) as error:
        raise WorkError(f"{path} is damaged ({error}); --fresh starts the run over.") from error


def _draw(run, metric):
    """Draw `soup.png`: the score with each candidate."""
    from lib.display.figures import new_figure, save_figure

    rows = _read_rows(run.file("log.tsv"), _LOG_HEADER)
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

"""Model soups: the mean of several models of one training, which is often better than each (arXiv:2203.05482)."""

import contextlib
import glob
import logging
import os
import platform

import numpy as np

from lib.data.outputs import (
    categories_of_model,
    categories_of_records,
    check_same,
    labels_or_neutral,
    write_beside_model,
)
from lib.errors import UsageError, WorkError, concerning, option
from lib.soup.candidates import find_models, open_candidates
from lib.storage.files import checksum, whole_file
from lib.storage.formats import read_named_rows
from lib.storage.journal import Journal
from lib.storage.names import escape_name
from lib.storage.runs import complete, find_run, reserved, run_name, run_of, write_settings
from lib.storage.untrusted import parse_json
from lib.system.devices import enough_memory

log = logging.getLogger(__name__)


def make_soup(settings):
    """Make a soup, resume one, or find that it is already made.

    Args:
        settings: `Settings`.

    Returns:
        The lines of the result, a tuple; None where only a part of the models was to be scored.

    Raises:
        UsageError: settings that don't fit the models or records.
        WorkError: fewer than two models, none that is good enough, bad records.
    """
    if settings.shard and settings.fresh:
        raise UsageError(f"{option('fresh')} would discard the scores of other parts; leave it out.", "shard")
    found = find_models(settings.models)
    categories = _categories(settings, found)
    files = [*settings.data, *settings.validate, *([settings.number_map] if settings.number_map else [])]
    inputs = {path: checksum(path) for path in files}
    run = find_run(settings.output, run_name(_identity(settings, inputs, found)), "soup")
    if not settings.fresh and complete(run):
        for path in glob.glob(glob.escape(run.file("journal")) + "*"):
            os.unlink(path)  # of a process that was killed in its last moment
        from lib.training.cards import write_missing_card

        log.info("The soup is already made.")
        write_beside_model(run.model, categories)
        write_missing_card(run.model)
        lines = _former_result(run.settings)
    elif settings.shard:
        _score_part(settings, found, inputs, run)
        return None
    else:
        with reserved(run, settings.fresh):
            candidates = open_candidates(settings, found, sorted({"validate", settings.deciding}))
            with _journal(run) as journal, _enough_memory():
                write_beside_model(run.model, categories)
                lines = _make(settings, candidates, inputs, run, journal, categories)
                journal.remove()
    log.info(run.model)
    return lines


def _categories(settings, models):
    """What the soup's outputs stand for, those of the models and the numbers of the records; None if unknown."""
    recorded = categories_of_records(settings, "data", "validate")
    for folder in sorted({os.path.dirname(path) for path in models}):
        known, source = categories_of_model(os.path.join(folder, "any.keras"), settings.categories)
        if known and recorded and settings.number_map is None:
            with concerning("data"):
                check_same(known, source, recorded, "the table beside the records")
        recorded = recorded or known
    return recorded


def _identity(settings, inputs, found):
    """The values that a run is named after."""
    return {
        **settings.determinants(),
        "data": [inputs[path] for path in settings.data],
        "validate": [inputs[path] for path in settings.validate],
        "number_map": inputs.get(settings.number_map),
        "models": [[os.path.relpath(path, settings.models), content] for path, content in found.items()],
    }


def _former_result(path):
    """The lines of a finished soup's result, from its recorded settings."""
    try:
        with open(path, encoding="utf-8") as file:
            return tuple(str(line) for line in parse_json(file.read())["result"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkError(f"{path} is damaged ({error}); {option('fresh')} starts the soup over.") from error


def _journal(run, part=""):
    """The `Journal` of a run: a model's name -> its score and, later, the decision; see `_mix`."""
    return Journal(run.file(f"journal{part}.sqlite"), "soup", {}, output=run.best)


def _score_part(settings, found, inputs, run):
    """Score a part of the models, into a journal of its own."""
    shard = settings.shard
    candidates = open_candidates(settings, found, ("validate",))
    places = shard.range(len(candidates.paths))
    os.makedirs(run.best, exist_ok=True)  # not reserved: other parts are scored at the same time
    with _journal(run, f"-{shard.number:05d}-of-{shard.count:05d}") as journal, _enough_memory():
        scores = _score(settings, candidates, inputs, journal, candidates.paths[places.start : places.stop])
    log.info(f"Scored the {len(scores):,} models of part {shard}.")


def _enough_memory():
    return enough_memory(f"give a smaller {option('batch')}")


def _make(settings, candidates, inputs, run, journal, categories):
    """Make the soup and write the run's files, the model last; returns the lines of the result."""
    from lib.models.keras_files import save_model
    from lib.training.cards import write_card, write_validation

    _take_over_parts(run, journal)
    scores = _score(settings, candidates, inputs, journal, candidates.paths)
    decisions = _mix(settings, candidates, journal, scores, _good_enough(settings, scores))
    ingredients = [path for path, decision in decisions.items() if decision["taken"]]
    true, logits = candidates.answer("validate")
    answers, labels = [], labels_or_neutral(categories, settings.categories)
    soup = candidates.score(true, _noting(logits, answers))
    lines = _result(settings, scores, ingredients, soup)
    _tell_saturation(settings, inputs, list(decisions.values()))
    _write_settings(settings, candidates, inputs, run, ingredients, lines)
    _write_decisions(settings, decisions, run)
    _draw(settings.metric, list(decisions.values()), run)
    write_validation(run.model, true, answers, labels)
    save_model(candidates.opened.model, run.model)
    write_card(run.model)
    return tuple(lines)


def _noting(logits, answers):
    """Yield logits, and append to a list what each part of them answers, which takes less memory than they do."""
    for part in logits:
        answers.append(part.argmax(axis=1))
        yield part


def _result(settings, scores, ingredients, soup):
    """The lines of the result. The first one says so if the soup is worse than its best ingredient."""
    metric, best = settings.metric.upper(), max(ingredients, key=scores.get)
    lines = [f"MODEL\t{metric}"]
    lines += [f"{escape_name(path)}\t{score:.4f}" for path, score in scores.items()]
    lines.append(f"soup of {len(ingredients)}\t{soup:.4f}")
    if round(soup, 4) < round(scores[best], 4):
        against = f"{metric} {soup:.4f} against {scores[best]:.4f} on the records that rank"
        lines.insert(0, f"The soup is worse than its best ingredient, {escape_name(best)}: {against}.")
        if settings.deciding != "validate" or settings.method != "greedy":
            log.info(f"{option('decide')} validation makes a soup that is no worse on {option('validate')}.")
    return lines


def _tell_saturation(settings, inputs, decisions):
    """Say so if the records that decide did not tell the means apart, as those do that the models learnt by heart."""
    deciding, ranking = ({inputs[path] for path in paths} for paths in (settings.data, settings.validate))
    means = {decision["with"] for decision in decisions}
    if settings.method == "greedy" and len(decisions) > 2 and len(means) == 1:
        said = f"{option(settings.deciding)} decided nothing: every mean of models scores {means.pop():.4f} there"
        cure = f"; {option('decide')} validation decides by {option('validate')}"
        log.info(f"{said}{cure if settings.decide == 'data' and deciding != ranking else ''}.")


def _take_over_parts(run, journal):
    """Move the scores of parts into the journal."""
    known, prefix = set(journal.keys()), run.file("journal")
    for path in sorted(glob.glob(glob.escape(prefix) + "-*-of-*.sqlite")):
        with _journal(run, path[len(prefix) : -len(".sqlite")]) as part:
            journal.extend(entry for entry in part.entries() if entry[0] not in known)
            journal.save()
            part.remove()


def _score(settings, candidates, inputs, journal, paths):
    """Score models on `validate`: path -> score, the best first. Files that can't be used are left out."""
    known = {} if settings.rescore else _recorded(settings, inputs, candidates.paths)
    if known:
        log.info(f"Using the scores that training recorded for {len(known):,} models.")
    known.update((key.decode(), about["score"]) for key, about in journal.facts())
    scores = {}
    for path in paths:
        name = _name(settings, path)
        if name not in known:
            if not _load(candidates, path):
                continue
            known[name] = candidates.score(*candidates.answer("validate"))
            journal.add(name.encode(), b"", {"score": known[name]})
            log.info(f"{path}: {known[name]:.4f}")
        scores[path] = known[name]
    return dict(sorted(scores.items(), key=lambda item: (-item[1], os.fsencode(item[0]))))


def _load(candidates, path):
    """Load a file's weights into the model; returns whether they could be used."""
    from lib.models.keras_files import load_weights

    try:
        load_weights(candidates.opened, path)
    except UsageError as error:
        log.info(f"Left out: {error}")
        return False
    return True


def _name(settings, path):
    """A model's name in the run's files."""
    return escape_name(os.path.relpath(path, settings.models))


def _recorded(settings, inputs, paths):
    """The scores on the same records that trainings recorded of their epochs: name -> score."""
    if settings.class_weights or settings.crops or settings.means or settings.variances:
        return {}
    found, names, column = {}, {_name(settings, path) for path in paths}, f"VAL_{settings.metric.upper()}"
    for folder in {os.path.dirname(path) for path in paths}:
        run = run_of(os.path.realpath(folder))
        if not _validated_alike(run.settings, settings, inputs):
            continue
        with contextlib.suppress(UsageError, ValueError, KeyError):  # no such column: the models are scored
            for _, row in read_named_rows(run.epochs)[1]:
                name = _name(settings, os.path.join(folder, row["FILE"]))
                if name in names:
                    found[name] = float(row[column])
    return found


def _validated_alike(path, settings, inputs):
    """Whether a training, by its settings file, scored its epochs as this soup scores models."""
    try:
        with open(path, encoding="utf-8") as file:
            recorded = parse_json(file.read())
        theirs, sums = recorded["settings"], recorded["inputs"]
        return (
            [sums[name] for name in theirs["validate"]] == [inputs[name] for name in settings.validate]
            and sums.get(theirs["number_map"]) == inputs.get(settings.number_map)
            and theirs["categories"] == settings.categories
            and theirs["precision"] == "float32"
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _good_enough(settings, scores):
    """The models that reach the threshold or the percentile, the best first."""
    if len(scores) < 2:
        raise WorkError(f"{settings.models} has {len(scores)} models that fit; a soup needs two.", "models")
    least, setting = settings.threshold, "threshold"
    if settings.percentile is not None:
        least, setting = float(np.percentile(list(scores.values()), settings.percentile)), "percentile"
    chosen = [path for path, score in scores.items() if score >= least]
    if not chosen:
        advice = f"the best has {max(scores.values()):.4f}. Lower it, or use a percentile with {option('percentile')}."
        raise WorkError(f"no model reaches {least}; {advice}", setting)
    reached = f"{option(setting)} {getattr(settings, setting)}"
    log.info(f"{len(chosen):,} of {len(scores):,} models reach {least:.4f} ({reached}).")
    return chosen


def _mix(settings, candidates, journal, scores, chosen):
    """Add models one after the other, and give the model the soup's weights.

    In memory are the sum of those added and the weights of one more, beside the model itself.

    Returns:
        Path -> decision: `score`, of the model alone; `with`, of the mean with it, None in a uniform soup; whether it
        was `taken`.
    """
    decided = {key.decode(): about for key, about in journal.facts() if "taken" in about}
    decisions, total, count, best = {}, None, 0, None
    for path in chosen:
        name = _name(settings, path)
        decision, weights = decided.get(name), None  # rather than two models' weights while one is loaded
        if decision is None or decision["taken"]:
            if not _load(candidates, path):
                continue
            weights = candidates.opened.model.get_weights()
        if decision is None:
            together = None
            if settings.method == "greedy":
                if count:
                    _assign(candidates, ((one + other) / (count + 1) for one, other in zip(total, weights)))
                together = candidates.score(*candidates.answer(settings.deciding))
            taken = together is None or not count or together > best or (together == best and not settings.strict)
            decision = {"score": scores[path], "with": together, "taken": taken}
            journal.add(name.encode(), b"", decision)
            shown = "" if together is None else f"{together:.4f} with it, "
            log.info(f"{path}: {shown}{'added' if taken else 'left out'}")
        decisions[path] = decision
        if decision["taken"]:
            best, count = decision["with"], count + 1
            if total is None:
                total = [values.astype("float64") for values in weights]
            else:
                for values, more in zip(total, weights):
                    values += more
    if not count:
        raise WorkError("none of the models that are good enough can still be read.", "models")
    _assign(candidates, (values / count for values in total))
    return decisions


def _assign(candidates, weights):
    """Give the model weights from an iterator, so that only one array at a time is in memory."""
    import tensorflow as tf

    for variable, values in zip(candidates.opened.model.weights, weights):
        variable.assign(tf.cast(values, variable.dtype))


def _write_settings(settings, candidates, inputs, run, ingredients, lines):
    import keras
    import tensorflow as tf

    about = {
        "name": settings.name,
        "command": list(settings.command),
        "settings": settings.determinants(),
        "inputs": inputs,
        "left_out": candidates.left_out,
        "ingredients": {path: checksum(path) for path in ingredients},
        "versions": {"Python": platform.python_version(), "TensorFlow": tf.__version__, "Keras": keras.__version__},
        "result": lines,
    }
    write_settings(run, about)


def _write_decisions(settings, decisions, run):
    with whole_file(run.file("log.tsv")) as file:
        file.write("MODEL\tVALIDATION\tWITH\tTAKEN\n")
        for path, decision in decisions.items():
            together = "" if decision["with"] is None else repr(decision["with"])
            taken = "yes" if decision["taken"] else "no"
            file.write(f"{_name(settings, path)}\t{decision['score']!r}\t{together}\t{taken}\n")


def _draw(metric, decisions, run):
    """Draw `soup.png`: the score of each candidate alone and, on other records, that of the mean with it."""
    from lib.display.figures import new_figure, save_figure

    name = {"f1": "macro F1"}.get(metric, metric)
    tried = [(number, each) for number, each in enumerate(decisions, start=1) if each["with"] is not None]
    figure, (above, below) = new_figure((8, 6), 2, 1, sharex=True)
    scores = [decision["score"] for decision in decisions]
    above.plot(np.arange(1, len(scores) + 1), scores, marker=".", color="#555555")
    above.set(ylabel=name, title="each candidate alone, on the records that rank")
    for taken, label, style in (
        (True, "added", {"marker": "o", "color": "#4477aa"}),
        (False, "left out", {"marker": "x", "color": "#cc6677"}),
    ):
        points = [(number, each["with"]) for number, each in tried if each["taken"] == taken]
        if points:
            below.plot(*zip(*points), linestyle="", label=label, **style)
    below.set(xlabel="candidate, the best one first", ylabel=name)
    below.set_title("the mean of those added and the candidate, on the records that decide")
    below.xaxis.get_major_locator().set_params(integer=True)
    for axes in (above, below):
        axes.grid(alpha=0.3)
    if tried:
        below.legend(loc="lower right")
    save_figure(figure, os.path.join(run.best, "soup.png"))

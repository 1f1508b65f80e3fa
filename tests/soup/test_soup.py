"""The soup's parts on tiny models, in this process: what it takes in, remembers, leaves out and refuses."""

import dataclasses
import json
import logging
import os
import random
import re
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from toys import write_damaged_records, write_layers, write_model, write_records

from lib.errors import UsageError, WorkError
from lib.measures import metrics
from lib.models import keras_files
from lib.models.keras_files import load_model, save_model
from lib.soup.settings import Settings
from lib.soup.soup import make_soup
from lib.storage.files import checksum
from lib.storage.journal import Journal
from lib.system.shard import Shard


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records of two kinds, and three models of one architecture with weights of their own."""
    folder = tmp_path_factory.mktemp("files")
    write_records(folder / "data.tfr", 45, 1)
    write_records(folder / "validation.tfr", 30, 2)
    start = load_model(write_model(folder / "start.keras"))
    rng = np.random.default_rng(1)
    (folder / "models").mkdir()
    for name in "abc":
        start.set_weights([rng.normal(0, 0.3, weight.shape) for weight in start.get_weights()])
        save_model(start, folder / "models" / f"{name}.keras")
    return folder


def settings_of(folder, **changes):
    settings = Settings(
        models=str(folder / "models"),
        categories=3,
        data=(str(folder / "data.tfr"),),
        validate=(str(folder / "validation.tfr"),),
        output="",
        percentile=1,
        cpu=True,
    )
    return dataclasses.replace(settings, **changes)


def make(output, settings, **changes):
    """Make a soup: its path, the lines of the result, the messages."""
    messages, logger = [], logging.getLogger("lib")
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        lines = make_soup(dataclasses.replace(settings, output=str(output), **changes))
    finally:
        logger.removeHandler(handler)
    return messages[-1] if lines else None, lines or (), messages


def test_the_categories_are_those_of_the_models_and_agree_with_the_records(folder, tmp_path):
    shutil.copytree(folder / "models", tmp_path / "models")
    table = "CATEGORY\tINDEX\tLABEL\nfern\t0\tFern\nmoss\t1\tMoss\npalm\t2\tPalm\n"
    (tmp_path / "models" / "categories.tsv").write_text(table)
    settings = settings_of(folder, models=str(tmp_path / "models"), method="uniform")
    path, _, _ = make(tmp_path / "runs", settings)
    assert (Path(path).parent / "categories.tsv").read_text() == table
    shutil.copy(folder / "data.tfr", tmp_path / "own-train.tfr")
    (tmp_path / "own-categories.tsv").write_text(table.replace("fern", "x").replace("Fern", "X"))
    with pytest.raises(UsageError, match="has the category 'X' as number 0, .*categories.tsv 'Fern'") as caught:
        make(tmp_path / "runs", settings, data=(str(tmp_path / "own-train.tfr"),))
    assert caught.value.setting == "data"


def log_of(path):
    with open(os.path.join(os.path.dirname(path), "soup-log.tsv")) as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return [dict(zip(rows[0], row)) for row in rows[1:]]


def write_weights(start, values, path):
    """Write a model with the given value in all its weights."""
    model = load_model(start)
    model.set_weights([np.full(weight.shape, values, "float32") for weight in model.get_weights()])
    save_model(model, path)


def write_linear(kernel, path):
    """Write a model whose logits are the mean red, green and blue times a matrix: with a diagonal one it is right."""
    inputs = keras.Input((None, None, 3), name="input")
    x = keras.layers.GlobalAveragePooling2D(name="gap")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, name="output_dense")(x))
    model.set_weights([np.array(kernel, "float32"), np.zeros(3, "float32")])
    save_model(model, path)


@pytest.mark.parametrize("metric", ["f1", "accuracy"])
def test_the_best_mean_known_by_construction(folder, tmp_path, metric):
    (tmp_path / "models").mkdir()
    right, change, first_always = np.eye(3), np.zeros((3, 3)), np.zeros((3, 3))
    change[0, 1], first_always[:, 0] = 1.5, 50
    for name, kernel in (("a", right + change), ("b", right - change), ("c", first_always)):
        write_linear(kernel, tmp_path / "models" / f"{name}.keras")
    # Ranked by what decides, so that all scores are of the same records.
    records = (str(folder / "data.tfr"),)
    changes = {"data": records, "validate": records, "metric": metric, "percentile": None, "threshold": 0.01}
    path, lines, _ = make(tmp_path, settings_of(folder, models=str(tmp_path / "models"), **changes))
    rows = log_of(path)
    assert [(row["MODEL"], row["TAKEN"]) for row in rows] == [("b.keras", "yes"), ("a.keras", "yes"), ("c.keras", "no")]
    np.testing.assert_allclose(load_model(path).get_weights()[0], right, atol=1e-6)
    alone, best, worse = (float(row["WITH"]) for row in rows)
    assert alone < 0.8 and best == 1 and worse < 0.5
    assert lines[1].endswith(f"{alone:.4f}") and lines[-1] == "soup of 2\t1.0000"


def test_a_tie_is_added_unless_strict(folder, tmp_path):
    (tmp_path / "models").mkdir()
    for name in "ab":
        write_linear(np.eye(3), tmp_path / "models" / f"{name}.keras")
    settings = settings_of(folder, models=str(tmp_path / "models"))
    for strict, taken in ((False, ["yes", "yes"]), (True, ["yes", "no"])):
        path, _, _ = make(tmp_path, settings, strict=strict)
        assert [row["TAKEN"] for row in log_of(path)] == taken


def test_a_soup_that_is_worse_than_its_best_ingredient_says_so_first(folder, tmp_path):
    (tmp_path / "models").mkdir()
    first_always = np.eye(3)
    first_always[:, 0] = 50
    for name, kernel in (("a", np.eye(3)), ("b", first_always), ("c", first_always)):
        write_linear(kernel, tmp_path / "models" / f"{name}.keras")
    write_records(tmp_path / "one.tfr", 20, 1, categories=1)  # on which all models are right
    changes = {"models": str(tmp_path / "models"), "data": (str(tmp_path / "one.tfr"),), "threshold": 0.01}
    settings = settings_of(folder, percentile=None, **changes)
    path, lines, said = make(tmp_path, settings)
    told = (
        r"The soup is worse than its best ingredient, \S+/a\.keras: F1 0\.\d{4} against 1\.0000 on the records that .*"
    )
    assert re.fullmatch(told, lines[0])
    assert lines[1] == "MODEL\tF1" and lines[-1].startswith("soup of 3\t0.")
    assert "⟦decide⟧ validation makes a soup that is no worse on ⟦validate⟧." in said
    assert any(line.startswith("⟦data⟧ decided nothing: every mean of models scores 0.3333 there;") for line in said)
    with open(os.path.join(os.path.dirname(path), "soup-settings.json")) as file:
        assert json.load(file)["result"] == list(lines)
    copied = shutil.copy(tmp_path / "one.tfr", tmp_path / "same.tfr")  # to decide by the same images is no cure
    _, _, said = make(tmp_path, settings, validate=(str(copied),))
    assert [line for line in said if "decided nothing" in line] == [
        "⟦data⟧ decided nothing: every mean of models scores 0.3333 there."
    ]
    path, lines, said = make(tmp_path, settings, decide="validation")
    assert lines[0] == "MODEL\tF1" and lines[-1] == "soup of 1\t1.0000"
    assert [row["TAKEN"] for row in log_of(path)] == ["yes", "no", "no"] and "decided nothing" not in " ".join(said)
    assert make(tmp_path, settings, method="uniform")[1][0].startswith("The soup is worse than its best ingredient")


def test_crops_and_normalisation(folder, tmp_path):
    settings = settings_of(folder, method="uniform", metric="auc")
    plain, same, changed, cropped = (
        make(tmp_path, settings, **changes)[1]
        for changes in (
            {},
            {"means": (0.0, 0.0, 0.0), "variances": (1.0, 1.0, 1.0)},
            {"means": (90.0, 90.0, 90.0), "variances": (9.0, 9.0, 9.0)},
            {"crops": True},
        )
    )
    assert plain[0] == "MODEL\tAUC" and same == plain
    assert changed != plain and cropped != plain and cropped != changed


def test_the_mean_is_of_float64(folder, tmp_path):
    (tmp_path / "models").mkdir()
    for name, values in (("a", 2.0**24), ("b", 1.0), ("c", 1.0)):  # float32 has no 2^24 + 1
        write_weights(folder / "start.keras", values, tmp_path / "models" / f"{name}.keras")
    path, _, _ = make(tmp_path, settings_of(folder, models=str(tmp_path / "models"), method="uniform"))
    for weight in load_model(path).get_weights():
        np.testing.assert_array_equal(weight, np.float32((2**24 + 2) / 3))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_models(folder, tmp_path):
    inputs = keras.Input((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    for _ in range(8):  # 10 MB, which is more than the card's figures take, whatever the models are
        x = keras.layers.Dense(600)(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    size, peaks = 4 * model.count_params(), []
    for count in (3, 9):
        (tmp_path / str(count)).mkdir()
        for number in range(count):
            save_model(model, tmp_path / str(count) / f"{number}.keras")
        tracemalloc.start()
        make(tmp_path, settings_of(folder, models=str(tmp_path / str(count))))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + size / 2
    # The sum in float64 counts two, and a candidate's weights or the file that they are read from one. The model's own
    # are not traced.
    assert peaks[1] < 5.5 * size


@pytest.mark.parametrize("method", ["greedy", "uniform"])
@pytest.mark.slow
def test_stopped_again_and_again_it_makes_the_same_soup(folder, tmp_path, method, monkeypatch):
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # pytest shows it when the test fails
    settings = settings_of(folder, method=method, rescore=True)
    whole, lines, _ = make(tmp_path, settings)
    (tmp_path / "stopped").mkdir()
    draw, summarise, attempts = random.Random(seed), metrics.summarise, 0

    class StopError(BaseException):
        pass

    def summarise_or_stop(counts):
        nonlocal left
        left -= 1
        if left < 0:
            raise StopError
        return summarise(counts)

    with monkeypatch.context() as patch:
        patch.setattr(metrics, "summarise", summarise_or_stop)
        while True:
            left, attempts = draw.randrange(4), attempts + 1  # scores; a soup needs at least four
            try:
                path, again, _ = make(tmp_path / "stopped", settings)
            except StopError:
                assert attempts < 200
                continue
            break
    assert attempts > 1 and again == lines and log_of(path) == log_of(whole)
    with open(path, "rb") as one, open(whole, "rb") as other:
        assert one.read() == other.read()
    assert not [name for name in os.listdir(os.path.dirname(path)) if "journal" in name]


def test_a_damaged_journal_or_another_programs_is_named(folder, tmp_path, monkeypatch):
    settings = settings_of(folder, rescore=True)
    path, lines, _ = make(tmp_path, settings)
    journal = tmp_path / os.path.dirname(path) / "soup-journal.sqlite"
    os.unlink(path)
    journal.write_bytes(b"my own notes")
    with pytest.raises(UsageError, match=r"soup-journal\.sqlite was not written by this command"):
        make(tmp_path, settings)
    assert journal.read_bytes() == b"my own notes"
    journal.unlink()
    assert make(tmp_path, settings)[:2] == (path, lines)


def test_a_finished_soup_whose_settings_are_damaged(folder, tmp_path):
    settings = settings_of(folder)
    path, lines, _ = make(tmp_path, settings)
    recorded = tmp_path / os.path.dirname(path) / "soup-settings.json"
    whole = recorded.read_text()
    for text in ("", "[" * 100_000, "[]", '{"result": 5}'):
        recorded.write_text(text)
        with pytest.raises(WorkError, match="soup-settings.json is damaged .*⟦fresh⟧"):
            make(tmp_path, settings)
    recorded.write_text(whole)
    assert make(tmp_path, settings) == (path, lines, ["The soup is already made.", path])


def test_files_with_damaged_or_no_numbers_are_left_out(folder, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    for name in "bcd":
        write_weights(folder / "start.keras", np.nan if name == "c" else 0.1, models / f"{name}.keras")
    with zipfile.ZipFile(folder / "models" / "a.keras") as source, zipfile.ZipFile(models / "a.keras", "w") as target:
        for name in source.namelist():  # the first of the files, whose description is whole
            content = source.read(name)
            target.writestr(name, content[: len(content) // 2] if name.endswith("h5") else content)
    _, lines, messages = make(tmp_path, settings_of(folder, models=str(models)))
    assert [line.split("\t")[0] for line in lines[1:-1]] == [str(models / f"{name}.keras") for name in "bd"]
    left_out = [line for line in messages if line.startswith("Left out: ")]
    assert "a.keras is not a whole .keras file" in left_out[0] and len(left_out) == 2
    assert left_out[1].endswith("c.keras has infinite or NaN weights.")


def test_linked_folders_are_entered_once(folder, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "linked").symlink_to(folder / "models")
    (tmp_path / "models" / "again").symlink_to(tmp_path / "models")
    _, lines, _ = make(tmp_path, settings_of(folder, models=str(tmp_path / "models")))
    assert [os.path.relpath(line.split("\t")[0], tmp_path) for line in sorted(lines[1:-1])] == [
        f"models/linked/{name}.keras" for name in "abc"
    ]


@pytest.fixture
def trained(folder, tmp_path):
    """A folder of models as a training leaves it, with scores that no measuring would find."""
    models, best = tmp_path / "an-intermediate-place" / "0-intermediate", tmp_path / "an-intermediate-place" / "0-best"
    models.mkdir(parents=True)
    best.mkdir()
    lines = ["EPOCH\tFILE\tVAL_F1\tVAL_AUC"]
    for epoch, name in enumerate("abc", start=1):
        (models / f"epoch-{epoch}.keras").write_bytes((folder / "models" / f"{name}.keras").read_bytes())
        lines.append(f"{epoch}\tepoch-{epoch}.keras\t0.{epoch}\t0.5")
    (models / "epochs.tsv").write_text("\n".join([*lines, "4\t\t0.4\t0.5"]) + "\n")
    path = str(folder / "validation.tfr")
    settings = {"validate": [path], "number_map": None, "categories": 3, "precision": "float32"}
    recorded = {"settings": settings, "inputs": {path: checksum(path)}}
    (best / "training-settings.json").write_text(json.dumps(recorded))
    return models


def scores_of(lines):
    return [line.split("\t")[1] for line in lines if ".keras\t" in line]


def test_recorded_scores_are_found_whatever_the_folder_is_called(folder, trained, tmp_path, monkeypatch):
    _, lines, messages = make(tmp_path, settings_of(folder, models=str(trained)))
    assert scores_of(lines) == ["0.3000", "0.2000", "0.1000"]
    assert "Using the scores that training recorded for 3 models." in messages
    (tmp_path / "linked").symlink_to(trained)
    monkeypatch.chdir(trained)
    for place in (".", tmp_path / "linked"):
        again = make(tmp_path, settings_of(folder, models=str(place)), fresh=True)[1]
        assert scores_of(again) == ["0.3000", "0.2000", "0.1000"]


@pytest.mark.parametrize(
    "changes",
    [
        {"rescore": True},
        {"metric": "accuracy"},  # which that table lacks
        {"crops": True},
        {"class_weights": {0: 1, 1: 2, 2: 1}},
        {"means": (1.0, 1.0, 1.0)},
        {"validate": "data.tfr"},
    ],
)
def test_recorded_scores_are_ignored_if_they_are_of_something_else(folder, trained, tmp_path, changes):
    if "validate" in changes:
        changes = {"validate": (str(folder / changes["validate"]),)}
    _, lines, messages = make(tmp_path, settings_of(folder, models=str(trained), **changes))
    assert scores_of(lines) != ["0.3000", "0.2000", "0.1000"]
    assert not any("that training recorded" in line for line in messages)


def test_records_of_two_sizes(folder, tmp_path):
    write_records(tmp_path / "large.tfr", 30, 3, size=24)
    large = (str(tmp_path / "large.tfr"),)
    _, lines, _ = make(tmp_path, settings_of(folder, validate=large, crops=True))
    assert len(lines) == 5


def test_models_of_one_size_want_records_of_that(folder, tmp_path):
    (tmp_path / "models").mkdir()
    inputs = keras.Input((24, 24, 3))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))
    for name in "ab":
        save_model(model, tmp_path / "models" / f"{name}.keras")
    with pytest.raises(UsageError, match=r"a.keras takes 24 x 24 images, but those of ⟦data⟧ are"):
        make(tmp_path, settings_of(folder, models=str(tmp_path / "models")))


def test_images_of_other_bands_are_refused(folder, tmp_path):
    (tmp_path / "models").mkdir()
    for name in "ab":
        write_model(tmp_path / "models" / f"{name}.keras", bands=4)
    with pytest.raises(UsageError, match=r"a\.keras takes images of 4 bands; those of records have 1 or 3"):
        make(tmp_path, settings_of(folder, models=str(tmp_path / "models")))


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ((keras.layers.Reshape((-1, 16)), keras.layers.Embedding(10, 4)), r"\([^()]*(\[0, 10\)|out of)"),
        ((keras.layers.Conv2D(4, 20),), r"\(Negative dimension size"),
    ],
)
def test_models_that_cannot_be_applied(folder, tmp_path, layers, words):
    (tmp_path / "models").mkdir()
    write_layers(tmp_path / "models" / "a.keras", *layers)
    shutil.copy(tmp_path / "models" / "a.keras", tmp_path / "models" / "b.keras")
    with pytest.raises(UsageError, match=r"a\.keras can't be applied to images of 16 x 16 pixels " + words):
        make(tmp_path, settings_of(folder, models=str(tmp_path / "models")))


def test_weights_that_count_nothing(folder, tmp_path):
    with pytest.raises(UsageError, match="at least one category in ⟦data⟧ needs a number above 0"):
        make(tmp_path, settings_of(folder, class_weights={0: 0, 1: 0, 2: 0}))


def test_what_a_category_counts(folder, tmp_path):
    (tmp_path / "models").mkdir()
    model = load_model(folder / "start.keras")
    for category, name in enumerate("abc"):  # each answers with one category
        weights = [np.zeros(weight.shape) for weight in model.get_weights()]
        weights[-1][category] = 1
        model.set_weights(weights)
        save_model(model, tmp_path / "models" / f"{name}.keras")
    weights = {0: 1, 1: 5, 2: 2}
    _, lines, _ = make(
        tmp_path, settings_of(folder, models=str(tmp_path / "models"), class_weights=weights, metric="accuracy")
    )
    assert [re.search(r"(\w)\.keras\t(.*)", line).groups() for line in lines[1:-1]] == [
        ("b", "0.6250"),
        ("c", "0.2500"),
        ("a", "0.1250"),
    ]


def test_models_that_vanish_once_they_are_scored(folder, trained, tmp_path, monkeypatch):
    def vanished(opened, path):
        raise UsageError(f"{path} doesn't exist.")

    settings = settings_of(folder, models=str(trained))
    with monkeypatch.context() as patch, pytest.raises(WorkError, match="can still be read"):
        patch.setattr(keras_files, "load_weights", vanished)
        make(tmp_path, settings)
    assert len(scores_of(make(tmp_path, settings)[1])) == 3


def test_models_scored_in_parts_make_the_same_soup(folder, tmp_path):
    for name in ("one", "parts"):
        (tmp_path / name).mkdir()
    settings = settings_of(folder, rescore=True)
    path, lines, messages = make(tmp_path / "one", settings)
    for number in (2, 1):
        nowhere, none, said = make(tmp_path / "parts", settings, shard=Shard(number, 2))
        assert nowhere is None and none == () and f"models of part {number}/2" in said[-1]
    assert len(list((tmp_path / "parts").glob("*/soup-journal-*.sqlite"))) == 2
    other, same, said = make(tmp_path / "parts", settings)
    assert same == lines and log_of(other) == log_of(path)
    scored = [line for line in messages if re.search(r"[abc]\.keras: [\d.]+$", line)]
    assert len(scored) == 3 and not set(scored) & set(said), "they were scored again"
    assert not list((tmp_path / "parts").glob("*/soup-journal*"))
    assert make(tmp_path / "parts", settings, shard=Shard(1, 2))[2] == ["The soup is already made.", other]
    with pytest.raises(UsageError, match="⟦fresh⟧ would discard the scores of other parts") as caught:
        make(tmp_path / "parts", settings, shard=Shard(1, 2), fresh=True)
    assert caught.value.setting == "shard"


def test_a_part_that_is_missing_is_scored_by_the_one_that_decides(folder, tmp_path):
    settings = settings_of(folder, rescore=True)
    make(tmp_path, settings, shard=Shard(1, 3))
    (part,) = tmp_path.glob("*/soup-journal-00001-of-00003.sqlite")
    with Journal(str(part), "soup", {}), pytest.raises(UsageError, match="is being written by another process"):
        make(tmp_path, settings)
    _, lines, messages = make(tmp_path, settings)
    assert len(lines) == 5 and len([line for line in messages if re.search(r"[abc]\.keras: [\d.]+$", line)]) == 2


def test_bad_records_that_are_left_out_are_recorded(folder, tmp_path):
    damaged, words = write_damaged_records(tmp_path / "a.tfr"), "a.tfr, record 5, has a damaged length"
    settings = settings_of(folder, validate=(damaged,), skip_bad=True)
    path, _, messages = make(tmp_path, settings)
    assert any(line.startswith("Left out 1 bad record") and words in line for line in messages)
    with open(os.path.join(os.path.dirname(path), "soup-settings.json")) as file:
        (sentence,) = json.load(file)["left_out"]
    assert words in sentence
    with pytest.raises(WorkError, match=words):
        make(tmp_path, dataclasses.replace(settings, skip_bad=False))

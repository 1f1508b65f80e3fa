"""The soup's parts on tiny models, in this process: what it takes in, remembers, leaves out and refuses."""

import dataclasses
import json
import os
import re
import tracemalloc
import zipfile

import keras
import numpy as np
import pytest
from toys import write_model, write_records

from lib import soup
from lib.data.shards import Shard
from lib.errors import UsageError, WorkError
from lib.models.keras_files import load_model, save_model
from lib.soup import Settings, make_soup
from lib.storage.files import checksum


def nothing(message):
    """Reports to nobody."""


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
        outputs=3,
        data=(str(folder / "data.tfr"),),
        validate=(str(folder / "validation.tfr"),),
        percentile=1,
    )
    return dataclasses.replace(settings, **changes)


def make(output, settings, **more):
    """Make a soup: its path, the lines of the result, the messages."""
    told, reported = [], []
    path = make_soup(settings, str(output), cpu=True, report=reported.append, tell=told.append, **more)
    return path, told, reported


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
    path, told, _ = make(tmp_path, settings_of(folder, models=str(tmp_path / "models"), **changes))
    rows = log_of(path)
    assert [(row["MODEL"], row["TAKEN"]) for row in rows] == [("b.keras", "yes"), ("a.keras", "yes"), ("c.keras", "no")]
    np.testing.assert_allclose(load_model(path).get_weights()[0], right, atol=1e-6)
    alone, best, worse = (float(row["WITH"]) for row in rows)
    assert alone < 0.8 and best == 1 and worse < 0.5
    assert told[1].endswith(f"{alone:.4f}") and told[-1] == "soup of 2\t1.0000"


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
    for _ in range(8):
        x = keras.layers.Dense(300)(x)
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
def test_killed_again_and_again(folder, tmp_path, method, monkeypatch):
    whole, told, _ = make(tmp_path, settings_of(folder, method=method, rescore=True))
    rows = log_of(whole)
    (tmp_path / "killed").mkdir()

    class Killed(BaseException):
        pass

    def kill(function, calls):
        def counted(*arguments):
            calls.append(None)
            if len(calls) > 1:
                raise Killed
            return function(*arguments)

        return counted

    for attempt in range(20):
        with monkeypatch.context() as patch:
            calls = [None] if attempt in (0, 1) else []  # the first two do nothing at all
            patch.setattr(soup._Candidates, "score", kill(soup._Candidates.score, calls))
            patch.setattr(
                soup._Candidates, "load", kill(soup._Candidates.load, []) if attempt == 2 else soup._Candidates.load
            )
            try:
                path, again, _ = make(tmp_path / "killed", settings_of(folder, method=method, rescore=True))
            except Killed:
                continue
            break
    assert attempt >= 5
    assert again == told and log_of(path) == rows
    with open(path, "rb") as one, open(whole, "rb") as other:
        assert one.read() == other.read()


def test_a_line_that_was_cut_within_a_character_is_none(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_bytes("MODEL\tSCORE\nä.keras\t1.0\nöl".encode()[:-2])
    assert soup._read_rows(str(path), ("MODEL", "SCORE"), mend=True) == [{"MODEL": "ä.keras", "SCORE": "1.0"}]
    assert path.read_bytes().endswith(b"1.0\n")


def test_a_line_that_another_still_writes_is_not_removed(tmp_path):
    path = tmp_path / "epochs.tsv"
    path.write_bytes(b"EPOCH\tFILE\n1\ta.keras\n2\tb.ke")
    assert soup._read_rows(str(path), ("EPOCH", "FILE")) == [{"EPOCH": "1", "FILE": "a.keras"}]
    assert path.read_bytes().endswith(b"b.ke")


def test_files_with_damaged_or_no_numbers_are_left_out(folder, tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    for name in "bcd":
        write_weights(folder / "start.keras", np.nan if name == "c" else 0.1, models / f"{name}.keras")
    with zipfile.ZipFile(folder / "models" / "a.keras") as source, zipfile.ZipFile(models / "a.keras", "w") as target:
        for name in source.namelist():  # the first of the files, whose description is whole
            content = source.read(name)
            target.writestr(name, content[: len(content) // 2] if name.endswith("h5") else content)
    _, told, reported = make(tmp_path, settings_of(folder, models=str(models)))
    assert [line.split("\t")[0] for line in told[1:-1]] == [str(models / f"{name}.keras") for name in "bd"]
    left_out = [line for line in reported if line.startswith("Left out: ")]
    assert "a.keras is not a whole .keras file" in left_out[0] and len(left_out) == 2
    assert left_out[1].endswith("c.keras has infinite or NaN weights.")


def test_linked_folders_are_entered_once(folder, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "linked").symlink_to(folder / "models")
    (tmp_path / "models" / "again").symlink_to(tmp_path / "models")
    _, told, _ = make(tmp_path, settings_of(folder, models=str(tmp_path / "models")))
    assert [os.path.relpath(line.split("\t")[0], tmp_path) for line in sorted(told[1:-1])] == [
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
    told = {"validate": [path], "number_map": None, "outputs": 3, "precision": "float32"}
    recorded = {"settings": told, "inputs": {path: checksum(path)}}
    (best / "training-settings.json").write_text(json.dumps(recorded))
    return models


def scores_of(told):
    return [line.split("\t")[1] for line in told[1:-1]]


def test_recorded_scores_are_found_whatever_the_folder_is_called(folder, trained, tmp_path, monkeypatch):
    _, told, reported = make(tmp_path, settings_of(folder, models=str(trained)))
    assert scores_of(told) == ["0.3000", "0.2000", "0.1000"]
    assert "Using the scores that training recorded for 3 models." in reported
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
        {"weights": {0: 1, 1: 2, 2: 1}},
        {"means": (1.0, 1.0, 1.0)},
        {"validate": "data.tfr"},
    ],
)
def test_recorded_scores_are_ignored_if_they_are_of_something_else(folder, trained, tmp_path, changes):
    if "validate" in changes:
        changes = {"validate": (str(folder / changes["validate"]),)}
    _, told, reported = make(tmp_path, settings_of(folder, models=str(trained), **changes))
    assert scores_of(told) != ["0.3000", "0.2000", "0.1000"]
    assert not any("that training recorded" in line for line in reported)


def test_records_of_two_sizes(folder, tmp_path):
    write_records(tmp_path / "large.tfr", 30, 3, size=24)
    large = (str(tmp_path / "large.tfr"),)
    _, told, _ = make(tmp_path, settings_of(folder, validate=large, crops=True))
    assert len(told) == 5


def test_models_of_one_size_want_records_of_that(folder, tmp_path):
    (tmp_path / "models").mkdir()
    inputs = keras.Input((24, 24, 3))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))
    for name in "ab":
        save_model(model, tmp_path / "models" / f"{name}.keras")
    with pytest.raises(UsageError, match=r"a.keras takes 24 x 24 images, but those of -d/--data are"):
        make(tmp_path, settings_of(folder, models=str(tmp_path / "models")))


def test_images_of_other_bands_are_refused(folder, tmp_path):
    (tmp_path / "models").mkdir()
    for name in "ab":
        write_model(tmp_path / "models" / f"{name}.keras", bands=4)
    with pytest.raises(
        UsageError, match=r"-m/--model: .*a\.keras takes images of 4 bands; those of records have 1 or 3"
    ):
        make(tmp_path, settings_of(folder, models=str(tmp_path / "models")))


def test_weights_that_count_nothing(folder, tmp_path):
    with pytest.raises(UsageError, match="-w/--weight: at least one category in -d/--data needs a number above 0"):
        make(tmp_path, settings_of(folder, weights={0: 0, 1: 0, 2: 0}))


def test_what_a_category_counts(folder, tmp_path):
    (tmp_path / "models").mkdir()
    model = load_model(folder / "start.keras")
    for category, name in enumerate("abc"):  # each answers with one category
        weights = [np.zeros(weight.shape) for weight in model.get_weights()]
        weights[-1][category] = 1
        model.set_weights(weights)
        save_model(model, tmp_path / "models" / f"{name}.keras")
    weights = {0: 1, 1: 5, 2: 2}
    _, told, _ = make(
        tmp_path, settings_of(folder, models=str(tmp_path / "models"), weights=weights, metric="accuracy")
    )
    assert [re.search(r"(\w)\.keras\t(.*)", line).groups() for line in told[1:-1]] == [
        ("b", "0.6250"),
        ("c", "0.2500"),
        ("a", "0.1250"),
    ]


def test_models_that_vanish(folder, tmp_path, monkeypatch):
    def vanished(candidates, path):
        raise UsageError(f"{path} doesn't exist.")

    settings = settings_of(folder, rescore=True)
    with monkeypatch.context() as patch:
        patch.setattr(soup, "_good_enough", lambda scores, settings, report: [])
        with pytest.raises(WorkError, match="can still be read"):
            make(tmp_path, settings)
    monkeypatch.setattr(soup._Candidates, "load", vanished)
    with pytest.raises(WorkError, match="can still be read"):
        make(tmp_path, settings)


def test_models_scored_in_parts_make_the_same_soup(folder, tmp_path):
    for name in ("one", "parts"):
        (tmp_path / name).mkdir()
    settings = settings_of(folder, rescore=True)
    path, told, reported = make(tmp_path / "one", settings)
    for number in (2, 1):
        nowhere, none, said = make(tmp_path / "parts", settings, shard=Shard(number, 2))
        assert nowhere is None and none == [] and f"models of part {number}/2" in said[-1]
    assert len(list((tmp_path / "parts").glob("*/soup-scores-*.tsv"))) == 2
    other, same, said = make(tmp_path / "parts", settings)
    assert same == told and log_of(other) == log_of(path)
    scored = [line for line in reported if re.search(r"[abc]\.keras: [\d.]+$", line)]
    assert len(scored) == 3 and not set(scored) & set(said), "they were scored again"
    assert make(tmp_path / "parts", settings, shard=Shard(1, 2))[2] == ["The soup is already made."]


def test_a_part_that_is_missing_is_scored_by_the_one_that_decides(folder, tmp_path):
    settings = settings_of(folder, rescore=True)
    make(tmp_path, settings, shard=Shard(1, 3))
    _, told, reported = make(tmp_path, settings)
    assert len(told) == 5 and len([line for line in reported if re.search(r"[abc]\.keras: [\d.]+$", line)]) == 2

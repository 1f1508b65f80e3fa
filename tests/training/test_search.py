"""The search by itself, with trainings that are only pretended: what is tried, kept, given up and gone on with."""

import json
import re
import sqlite3

import pytest
from PIL import Image
from toys import write_records
from trainings import messages

from lib.errors import DivergenceError, UsageError, WorkError
from lib.training.hyperparameters import KEYS, NAME, Hyperparameters, read_log
from lib.training.search import Settings, search

FREE = {"invert": (0, 1), "learningRate": (0.0001, 0.1), "batch": (3, 6)}
FIXED = {name: (getattr(Hyperparameters(), key.attribute),) * 2 for name, key in KEYS.items()}
RANGES = {**FIXED, **FREE}
JOURNAL = "optimization-search.sqlite"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "student.keras").write_bytes(b"a student")
    records = (write_records(folder / "a.tfr", 300, 1),)
    return {"student": str(folder / "student.keras"), "teacher": None, "train": records, "validate": records}


@pytest.fixture
def run(files):
    """A function that searches in a folder; returns the rows of the log and the messages."""

    def run(folder, iterations=8, train=pretend, **others):
        options = {"iterations": iterations, "ranges": RANGES, "seed": 1, **others}
        made = Settings(**files, categories=3, output=str(folder), **options)
        with messages() as said:
            assert search(made, train) == str(folder / NAME)
        return read_log(folder), said

    return run


def pretend(settings, hyperparameters, watch, epochs=4):
    """A training whose F1 is the higher the fewer images are inverted."""
    scores = [(1 - hyperparameters.invert) * (epoch + 1) / epochs for epoch in range(epochs)]
    for epoch in range(epochs):
        watch(scores[: epoch + 1])
    return scores


@pytest.mark.slow
@pytest.mark.once
def test_the_published_settings_come_first_and_all_stay_within_their_ranges(run, tmp_path):
    rows, said = run(tmp_path / "search", 5, ranges=FREE)
    assert rows[0].settings == Hyperparameters(mixup=1.0)
    for row in rows:
        for key in KEYS.values():
            low, high = FREE.get(key.name, key.range)
            if key.name == "distillTemperature":
                low = high = 12.5  # there is no teacher
            slack = 1e-3 * high  # of four digits
            assert low - slack <= getattr(row.settings, key.attribute) <= high + slack, key
    assert len({row.settings for row in rows}) == len(rows)
    assert min(row.f1 for row in rows) < 1 == max(row.f1 for row in rows)
    assert said[-1] == "The best of 5 iterations is 0, with an F1 of 1.0000."


class KilledError(BaseException):
    """What ends a search at once."""


@pytest.mark.slow
def test_a_stopped_search_goes_on_as_if_it_had_not_been(run, tmp_path):
    run(tmp_path / "undisturbed", 14)

    def killed(settings, hyperparameters, watch):
        tried.append(hyperparameters)
        if len(tried) % 3 == 1:
            watch([(1 - hyperparameters.invert) / 4])
            raise KilledError
        if len(tried) % 3 == 2:  # as one that was complete before
            return [(1 - hyperparameters.invert) * (epoch + 1) / 4 for epoch in range(4)]
        return pretend(settings, hyperparameters, watch)

    tried, said = [], []
    while not said:
        try:
            _, said = run(tmp_path / "killed", 14, killed)
        except KilledError:
            continue
    assert len(tried) > 16 and said[0].startswith("Resuming after ")
    logs = [(tmp_path / name / NAME).read_bytes() for name in ("undisturbed", "killed")]
    assert logs[0] == logs[1] and logs[0].count(b"\n") < 15, "nothing was pruned: the test shows too little"


@pytest.mark.slow
def test_more_iterations_go_on_further_and_no_more_change_nothing(run, tmp_path):
    run(tmp_path / "search", 3)
    rows, said = run(tmp_path / "search", 5)
    assert said[0] == "Resuming after 3 of 5 iterations." and len(rows) == 5
    again, said = run(tmp_path / "search", 5, train=NotImplemented)
    assert again == rows and len(said) == 2
    expected, _ = run(tmp_path / "at-once", 5)
    assert rows == expected


def test_what_is_worse_than_the_median_is_given_up(run, tmp_path):
    def train(settings, hyperparameters, watch):
        calls.append(hyperparameters)
        bad = len(calls) == 8
        for epoch in range(5):
            seen.append((len(calls), epoch))
            watch([0.01 if bad else 0.5 + 0.01 * len(calls)] * (epoch + 1))
        return [0.5 + 0.01 * len(calls)] * 5

    calls, seen = [], []
    rows, said = run(tmp_path / "search", 10, train)
    assert [row.iteration for row in rows] == ["0", "1", "2", "3", "4", "5", "6", "8", "9"]
    assert max(epoch for call, epoch in seen if call == 8) < 4 == max(epoch for call, epoch in seen if call == 7)
    assert any(re.fullmatch(r"Iteration 7 was pruned after \d epochs, at an F1 of 0.0100.", text) for text in said)
    with Image.open(tmp_path / "search" / "optimization-history.png") as picture:
        picture.load()


def test_a_training_that_diverges_is_given_up_and_others_are_tried(run, tmp_path):
    def train(settings, hyperparameters, watch):
        calls.append(hyperparameters)
        if len(calls) == 2:
            raise DivergenceError("The loss became infinite.")
        return pretend(settings, hyperparameters, watch)

    calls = []
    rows, said = run(tmp_path / "search", 4, train)
    assert [row.iteration for row in rows] == ["0", "2", "3"] and len(set(calls)) == 4
    assert "Iteration 1 was given up: The loss became infinite." in said


def test_what_is_tried_is_trained_with_the_searchs_settings(run, tmp_path):
    def train(settings, hyperparameters, watch):
        asked.append(settings)
        return [0.5]

    asked = []
    run(tmp_path / "search", 1, train, ranges={**RANGES, "mixup": (0.25, 0.25)}, seed=7, fresh=True)
    (made,) = asked
    assert (made.seed, made.epochs, made.patience, made.mixup, made.monitor) == (7, 8, 8, 0.25, "val_f1")
    assert made.output == str(tmp_path / "search" / "optimization-trainings") and not made.fresh


def test_another_search_is_refused_unless_fresh(run, tmp_path):
    run(tmp_path / "search", 2)
    with pytest.raises(UsageError, match="was begun with ⟦seed⟧ 1, but this call has 2; .* or pass ⟦fresh⟧"):
        run(tmp_path / "search", 2, seed=2)
    with pytest.raises(UsageError, match="was begun with ⟦ranges⟧"):
        run(tmp_path / "search", 2, ranges=FREE)
    rows, said = run(tmp_path / "search", 1, seed=2, fresh=True)
    assert len(rows) == 1 and not said[0].startswith("Resuming")


def test_a_log_of_another_origin_is_left_alone(run, tmp_path):
    (tmp_path / NAME).write_text("mine\n")
    for fresh in (False, True):
        with pytest.raises(UsageError, match="exists already and is not from a search started here") as error:
            run(tmp_path, fresh=fresh)
    assert error.value.setting == "output" and (tmp_path / NAME).read_text() == "mine\n"
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("fresh", [False, True])
def test_another_programs_database_is_left_alone(run, fresh, tmp_path):
    with sqlite3.connect(str(tmp_path / JOURNAL)) as database:
        database.execute("CREATE TABLE studies (study_name)")
    content = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / "optimization-trainings").mkdir()
    with pytest.raises(UsageError, match="optimization-search.sqlite was not written by this command; move it"):
        run(tmp_path, fresh=fresh)
    assert (tmp_path / JOURNAL).read_bytes() == content and (tmp_path / "optimization-trainings").exists()


def test_the_log_is_there_after_each_iteration(run, tmp_path):
    def train(settings, hyperparameters, watch):
        path = tmp_path / "search" / NAME
        found.append(len(path.read_text().splitlines()) - 1 if path.exists() else 0)
        return pretend(settings, hyperparameters, watch)

    found = []
    run(tmp_path / "search", 4, train)
    assert found == [0, 1, 2, 3]
    text = (tmp_path / "search" / NAME).read_text().splitlines()[2].split("\t")[1]
    assert all(len(f"{value:.15g}".replace(".", "").strip("0")) <= 8 for value in json.loads(text).values())


def test_a_search_in_a_folder_of_any_name_stays_in_it(run, tmp_path):
    here = tmp_path / "a?b=c{x}#%41'\n"
    run(here, 1)
    assert list(tmp_path.iterdir()) == [here] and (here / JOURNAL).exists()


def test_a_full_disk_is_told_and_the_search_goes_on_later(run, tmp_path, monkeypatch):
    connect = sqlite3.connect

    def connect_to_a_full_disk(*arguments, **options):
        database = connect(*arguments, **options)
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {max(pages, 6)}")
        return database

    words = r"optimization-log.tsv can't be written \(database or disk is full\); .* the same command again"
    run(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect_to_a_full_disk)
        with pytest.raises(WorkError, match=words):
            run(tmp_path, 200)
    rows, said = run(tmp_path, len(read_log(tmp_path)) + 3)
    assert said[0].startswith("Resuming after ") and len(rows) >= 3


def test_ranges_that_the_records_allow(run, tmp_path):
    with pytest.raises(UsageError, match="batch can be at most 8, since ⟦train⟧ has 300 records") as error:
        run(tmp_path, 1, ranges={"batch": (3, 9)})
    assert error.value.setting == "ranges"
    run(tmp_path, 1, ranges={"batch": (3, 8)})

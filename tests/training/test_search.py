"""The search by itself, with trainings that are only pretended: what is tried, kept, given up and gone on with."""

import json
import re

import pytest
from PIL import Image

from lib.errors import DivergenceError, UsageError
from lib.training.hyperparameters import KEYS, Hyperparameters, ranges_of, read_log
from lib.training.search import search

FREE = {"invert": (0, 1), "learningRate": (0.0001, 0.1), "batch": (3, 6)}
FIXED = {key.name: (value, value) for key in KEYS for value in [getattr(Hyperparameters(), key.attribute)]}
RANGES = ranges_of(json.dumps({**FIXED, **FREE}))


def pretend(settings, folder, watch, epochs=4):
    """A training whose F1 is the higher the fewer images are inverted."""
    scores = [(1 - settings.invert) * (epoch + 1) / epochs for epoch in range(epochs)]
    for epoch in range(epochs):
        watch(scores[: epoch + 1])
    return scores


def run(folder, iterations=8, train=pretend, ranges=RANGES, seed=1, **others):
    said = []
    folder.mkdir(exist_ok=True)
    path = search(str(folder), iterations, ranges, {"student": "abc"}, seed, train, report=said.append, **others)
    assert path == str(folder / "optimization-log.tsv")
    return read_log(folder), said


@pytest.mark.slow
@pytest.mark.once
def test_the_published_settings_come_first_and_all_stay_within_their_ranges(tmp_path):
    free = ranges_of(json.dumps(FREE))
    rows, said = run(tmp_path / "search", 5, ranges=free)
    assert rows[0].settings == Hyperparameters(mixup=1.0)
    for row in rows:
        for key in KEYS:
            low, high = free.get(key, key.range)
            slack = 1e-3 * high  # of four digits
            assert low - slack <= getattr(row.settings, key.attribute) <= high + slack, key
    assert len({row.settings for row in rows}) == len(rows)
    assert min(row.f1 for row in rows) < 1 == max(row.f1 for row in rows)
    assert said[-1] == "The best of 5 iterations is 0, with an F1 of 1.0000."


@pytest.mark.once
@pytest.mark.slow
def test_a_stopped_search_goes_on_as_if_it_had_not_been(tmp_path):
    expected, _ = run(tmp_path / "undisturbed", 12)

    class KilledError(BaseException):
        pass

    def killed(settings, folder, watch):
        tried.append(settings)
        if len(tried) % 3 == 1:
            watch([0.1])
            raise KilledError
        return pretend(settings, folder, watch)

    tried = []
    for _ in range(30):
        try:
            rows, said = run(tmp_path / "killed", 12, killed)
            break
        except KilledError:
            continue
    assert len(tried) > 14 and said[0].startswith("Resuming after ")
    assert rows == expected
    assert (tmp_path / "killed" / "optimization-log.tsv").read_bytes() == (
        tmp_path / "undisturbed" / "optimization-log.tsv"
    ).read_bytes()


@pytest.mark.slow
def test_more_iterations_go_on_further_and_no_more_change_nothing(tmp_path):
    run(tmp_path / "search", 3)
    rows, said = run(tmp_path / "search", 5)
    assert said[0] == "Resuming after 3 of 5 iterations." and len(rows) == 5
    again, said = run(tmp_path / "search", 5, train=None)
    assert again == rows and len(said) == 2
    expected, _ = run(tmp_path / "at-once", 5)
    assert rows == expected


def test_what_is_worse_than_the_median_is_given_up(tmp_path):
    def train(settings, folder, watch):
        calls.append(settings)
        bad = len(calls) == 8
        for epoch in range(5):
            seen.append((len(calls), epoch))
            watch([0.01 if bad else 0.5 + 0.01 * len(calls)] * (epoch + 1))
        return [0.5 + 0.01 * len(calls)]

    calls, seen = [], []
    rows, said = run(tmp_path / "search", 10, train)
    assert [row.iteration for row in rows] == ["0", "1", "2", "3", "4", "5", "6", "8", "9"]
    assert max(epoch for call, epoch in seen if call == 8) < 4 == max(epoch for call, epoch in seen if call == 7)
    assert any(re.fullmatch(r"Iteration 7 was pruned after \d epochs, at an F1 of 0.0100.", text) for text in said)
    with Image.open(tmp_path / "search" / "optimization-history.png") as picture:
        picture.load()


def test_a_training_that_diverges_is_given_up_and_others_are_tried(tmp_path):
    def train(settings, folder, watch):
        calls.append(settings)
        if len(calls) == 2:
            raise DivergenceError("The loss is no number.")
        return pretend(settings, folder, watch)

    calls = []
    rows, said = run(tmp_path / "search", 4, train)
    assert [row.iteration for row in rows] == ["0", "2", "3"] and len(set(calls)) == 4
    assert "Iteration 1 was given up: The loss is no number." in said


def test_another_search_is_refused_unless_fresh(tmp_path):
    run(tmp_path / "search", 2)
    with pytest.raises(UsageError, match="-l/--log: .* was begun with another seed"):
        run(tmp_path / "search", 2, seed=2)
    with pytest.raises(UsageError, match="begun with another ranges"):
        run(tmp_path / "search", 2, ranges={})
    rows, said = run(tmp_path / "search", 1, seed=2, fresh=True)
    assert len(rows) == 1 and not said[0].startswith("Going on")


def test_a_log_of_another_origin_is_left_alone(tmp_path):
    (tmp_path / "optimization-log.tsv").write_text("mine\n")
    for fresh in (False, True):
        with pytest.raises(UsageError, match="exists already and is not from a search started here; choose another -l"):
            run(tmp_path, fresh=fresh)
    assert (tmp_path / "optimization-log.tsv").read_text() == "mine\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "optimization-log.tsv"]


def test_the_log_is_there_after_each_iteration(tmp_path):
    def train(settings, folder, watch):
        path = tmp_path / "search" / "optimization-log.tsv"
        found.append(len(path.read_text().splitlines()) - 1 if path.exists() else 0)
        return pretend(settings, folder, watch)

    found = []
    run(tmp_path / "search", 4, train)
    assert found == [0, 1, 2, 3]
    text = (tmp_path / "search" / "optimization-log.tsv").read_text().splitlines()[2].split("\t")[1]
    assert all(len(f"{value:.15g}".replace(".", "").strip("0")) <= 8 for value in json.loads(text).values())

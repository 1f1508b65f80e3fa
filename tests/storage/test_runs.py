"""Runs' directories."""

import json
import os

import pytest

from lib.errors import UsageError
from lib.storage import runs


def test_a_run_is_named_after_its_settings_in_any_order():
    assert runs.run_name({"a": 1, "b": [2]}) == runs.run_name({"b": [2], "a": 1})
    assert runs.run_name({"a": 1}) != runs.run_name({"a": 2})
    assert len(runs.run_name({})) == 32 and int(runs.run_name({}), 16)


def test_the_places_of_its_files(tmp_path):
    run = runs.find_run("DIR", "ab", "training")
    assert (run.best, run.intermediate) == ("DIR/ab-best", "DIR/ab-intermediate")
    assert run.model == "DIR/ab-best/best-model.keras" and run.epoch_model(7) == "DIR/ab-intermediate/epoch-0007.keras"
    assert run.epochs == "DIR/ab-intermediate/epochs.tsv" and run.history == "DIR/ab-best/training-history.tsv"
    assert (run.settings, run.state) == ("DIR/ab-best/training-settings.json", "DIR/ab-best/training-state.npz")
    soup = runs.find_run("DIR", "ab", "soup")
    assert (soup.model, soup.settings) == ("DIR/ab-best/soup-model.keras", "DIR/ab-best/soup-settings.json")


def test_a_run_is_found_from_each_of_its_places(tmp_path):
    for kind in ("training", "soup"):
        run = runs.find_run(str(tmp_path / kind), "ab-best-ab", kind)
        for path in (run.model, run.settings):
            assert runs.run_of(path) == run
    training = runs.find_run(str(tmp_path), "ab")
    for folder in (training.best, training.intermediate):
        os.mkdir(folder)
        assert runs.run_of(folder) == training
    assert runs.run_of(training.epoch_model(1)) == training
    copy = runs.run_of(str(tmp_path / "copy" / "soup-model.keras"))
    assert copy.best == copy.intermediate == str(tmp_path / "copy") and copy.kind == "soup"
    assert runs.run_of("best-model.keras").settings == "training-settings.json"


def test_the_runs_in_a_directory_are_those_with_settings(tmp_path):
    output = tmp_path / "[all]"
    made = [runs.find_run(str(output), "ab"), runs.find_run(str(output), "cd", "soup")]
    for run in made:
        with runs.reserved(run):
            runs.write_settings(run, {})
    with runs.reserved(runs.find_run(str(output), "ef")):
        pass
    assert sorted(runs.runs_in(str(output))) == made
    assert runs.runs_in(str(tmp_path)) == []


def test_only_one_process_has_it(tmp_path):
    run = runs.find_run(str(tmp_path), "ab")
    with runs.reserved(run), pytest.raises(UsageError, match="in use"), runs.reserved(run):
        pass
    with runs.reserved(run):
        pass


def test_a_directory_that_another_call_removes_meanwhile_is_made_again(tmp_path, monkeypatch):
    run, opened, removed = runs.find_run(str(tmp_path), "ab"), runs.open_locked, []

    def open_after_removal(path):
        if not removed:
            os.rmdir(run.best)
            removed.append(path)
        return opened(path)

    monkeypatch.setattr(runs, "open_locked", open_after_removal)
    with runs.reserved(run):
        assert removed == [os.path.join(run.best, ".lock")] and os.listdir(run.best) == [".lock"]


def test_fresh_removes_what_there_was(tmp_path):
    run = runs.find_run(str(tmp_path), "ab")
    with runs.reserved(run):
        (tmp_path / "ab-intermediate").mkdir()
        (tmp_path / "ab-intermediate" / "epoch-0001.keras").write_text("")
        (tmp_path / "ab-best" / "tensorboard").mkdir()
        (tmp_path / "ab-best" / "best-model.keras").write_text("")
    assert runs.complete(run)
    with runs.reserved(run, fresh=True):
        assert not runs.complete(run)
        assert sorted(path.name for path in tmp_path.rglob("*")) == [".lock", "ab-best"]


def test_drafts_of_killed_processes_go(tmp_path):
    run = runs.find_run(str(tmp_path), "ab")
    with runs.reserved(run):
        (tmp_path / "ab-best" / "training-state.npz.123.tmp").write_text("")
        (tmp_path / "ab-intermediate" / ".epoch-0001.keras.x1y2").mkdir(parents=True)
        (tmp_path / "ab-intermediate" / "epoch-0001.keras").write_text("")
    with runs.reserved(run):
        assert sorted(path.name for path in tmp_path.rglob("*")) == [
            *(".lock", "ab-best", "ab-intermediate", "epoch-0001.keras")
        ]


def test_settings_are_recorded_also_those_with_names_that_are_not_utf_8(tmp_path):
    run = runs.find_run(str(tmp_path), "ab")
    (tmp_path / "ab-best").mkdir()
    runs.write_settings(run, {"command": [os.fsdecode(b"\xff.tfr"), "é"]})
    text = (tmp_path / "ab-best" / "training-settings.json").read_text(encoding="utf-8")
    assert "é" in text and json.loads(text)["command"] == [os.fsdecode(b"\xff.tfr"), "é"]

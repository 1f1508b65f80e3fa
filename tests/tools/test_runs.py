"""The table of runs, of directories as trainings and soups leave them."""

import json
import os

import pytest
from conftest import ROOT

from lib.storage.runs import find_run, reserved, write_settings
from lib.training.history import write_history
from tools import runs


@pytest.fixture
def folder(tmp_path):
    """A complete training, one that was stopped before its first epoch, and a soup."""
    for when, (name, kind) in enumerate([("aa", "training"), ("bb", "training"), ("cc", "soup")], start=1):
        run = find_run(str(tmp_path), name, kind)
        with reserved(run):
            recorded = {
                "settings": {"model": "start.keras"},
                "training_records": 50,
                "command": ["./a.py", "-m", "x y"],
            }
            if kind == "soup":
                result = ["MODEL\tF1", "a\t0.7", "soup of 2\t0.7500"]
                recorded.update(name="mine", settings={"models": "DIR"}, result=result)
            write_settings(run, recorded)
            os.utime(run.file("settings.json"), (when, when))
        if name != "bb":
            open(run.model, "w").close()
    write_history(find_run(str(tmp_path), "aa"), {"loss": [2.0, 1.0, 0.5], "val_f1": [0.5, 0.8125, 0.75]})
    return tmp_path


def lines(capsys, *arguments):
    assert runs.main([*map(str, arguments)]) == 0
    header, *rows = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert header == list(runs.COLUMNS)
    return [dict(zip(header, row)) for row in rows]


def test_the_runs_are_listed_the_oldest_first(folder, capsys):
    complete, stopped, soup = lines(capsys, folder)
    assert (complete["EPOCHS"], complete["SCORE"], complete["STATE"]) == ("3", "0.8125", "complete")
    assert (complete["MODEL"], complete["RECORDS"], complete["NAME"]) == ("start.keras", "50", "")
    assert complete["COMMAND"] == "./a.py -m 'x y'" and complete["RUN"] == str(folder / "aa-best")
    assert (stopped["EPOCHS"], stopped["SCORE"], stopped["STATE"]) == ("0", "", "unfinished")
    assert (soup["MODEL"], soup["SCORE"], soup["STATE"], soup["NAME"]) == ("DIR", "0.7500", "complete", "mine")
    assert lines(capsys, folder, "--name", "mine") == [soup]
    assert lines(capsys, folder, "--name", "other") == []


def test_a_file_that_is_no_settings_is_named(folder, capsys):
    (folder / "aa-best" / "training-settings.json").write_text(json.dumps({"settings": []}))
    assert runs.main([str(folder)]) == 2
    assert "aa-best/training-settings.json can't be read as the settings of a run" in capsys.readouterr().err
    assert runs.main([str(ROOT / "docs")]) == 0

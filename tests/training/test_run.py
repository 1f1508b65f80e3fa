"""What a run is named after: everything that its result follows from, and nothing else."""

import dataclasses

import pytest

from lib.storage.runs import find_run, run_name
from lib.training.classifier import Settings
from lib.training.run import Execution, identify, started


@pytest.fixture
def settings(tmp_path):
    for name in ("model", "train", "other", "map"):
        (tmp_path / name).write_text(name)
    (tmp_path / "same").write_text("train")
    paths = {name: str(tmp_path / name) for name in ("model", "train", "other", "map", "same")}
    made = Settings(paths["model"], 3, (paths["train"],), (paths["other"],), str(tmp_path), number_map=paths["map"])
    return made, paths


def name_of(made, **contents):
    return run_name(identify(made, **contents)[1])


def test_files_count_by_their_content(settings):
    made, paths = settings
    sums, _ = identify(made)
    assert set(sums) == {paths[name] for name in ("model", "train", "other", "map")}
    assert name_of(dataclasses.replace(made, train=(paths["same"],))) == name_of(made)
    for others in ({"train": (paths["other"],)}, {"train": made.train * 2}, {"number_map": None}):
        assert name_of(dataclasses.replace(made, **others)) != name_of(made), others
    assert name_of(made, ccm={"read": 1}) != name_of(made, ccm={"read": 2})


def test_how_it_is_carried_out_and_where_it_goes_do_not_count_and_all_else_does(settings):
    made, _ = settings
    others = {"output": "elsewhere", "gpu": (0, 1), "processors": 2, "cache": "disk", "command": ("a", "b")}
    for field in dataclasses.fields(Execution):
        others.setdefault(field.name, 7)
    assert name_of(dataclasses.replace(made, **others)) == name_of(made)
    for field in dataclasses.fields(Settings):
        if field.name not in (*others, "model", "train", "validate", "number_map"):
            assert name_of(dataclasses.replace(made, **{field.name: "another"})) != name_of(made), field.name


def test_a_complete_run_needs_no_devices(settings, tmp_path):
    made, _ = settings
    run = find_run(str(tmp_path), name_of(made))
    (tmp_path / f"{name_of(made)}-best").mkdir()
    (tmp_path / f"{name_of(made)}-best" / "best-model.keras").write_text("a model")
    with started(made) as start:
        assert start.team is None and start.result == run.model

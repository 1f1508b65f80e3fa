"""Runs' directories, and the states that lie in them."""

import numpy as np
import pytest

from lib.errors import UsageError, WorkError
from lib.storage import runs, states


def test_a_run_is_named_after_its_settings_in_any_order():
    assert runs.run_name({"a": 1, "b": [2]}) == runs.run_name({"b": [2], "a": 1})
    assert runs.run_name({"a": 1}) != runs.run_name({"a": 2})
    assert len(runs.run_name({})) == 32 and int(runs.run_name({}), 16)


def test_the_places_of_its_files(tmp_path):
    run = runs.find_run("DIR", "ab", "training")
    assert (run.best, run.intermediate) == ("DIR/ab-best", "DIR/ab-intermediate")
    assert run.model == "DIR/ab-best/best-model.keras" and run.epoch_model(7) == "DIR/ab-intermediate/epoch-0007.keras"
    assert runs.find_run("DIR", "ab", "soup").model == "DIR/ab-best/soup-model.keras"


def test_only_one_process_has_it(tmp_path):
    run = runs.find_run(str(tmp_path), "ab")
    with runs.reserved(run), pytest.raises(UsageError, match="in use"), runs.reserved(run):
        pass
    with runs.reserved(run):
        pass


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


def test_a_state_comes_back_as_it_was(tmp_path):
    path = str(tmp_path / "state.npz")
    assert states.load_state(path) == (None, None)
    groups = {"many": [np.arange(3.0), np.float32(7)], "none": [], "more": [np.array([2**60])]}
    states.save_state(path, {"epoch": 3, "best": -np.inf}, groups)
    facts, found = states.load_state(path)
    assert facts == {"epoch": 3, "best": -np.inf}
    assert set(found) == {"many", "more"}
    for name, arrays in found.items():
        for array, expected in zip(arrays, groups[name]):
            np.testing.assert_array_equal(array, expected)
            assert array.dtype == np.asarray(expected).dtype


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_state_that_is_cut_short_is_told(tmp_path, share):
    path = tmp_path / "state.npz"
    states.save_state(str(path), {}, {"a": [np.zeros(1000)]})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WorkError, match="state.npz is damaged"):
        states.load_state(str(path))

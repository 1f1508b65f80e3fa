"""optimizeImagesR.py as its users call it."""

import json
import time

import pytest
import trainings
from toys import SIZE, linear_teacher, write_model, write_records, write_saved_model

from lib.training.hyperparameters import best_row, read_log

NAME = "optimizeImagesR.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_model(folder / "student.keras")
    write_saved_model(folder / "teacher", linear_teacher())
    write_records(folder / "train.tfr", 100, 1)
    write_records(folder / "validation.tfr", 30, 2)
    (folder / "ranges.json").write_text(json.dumps({"learningRate": [0.001, 0.01], "batch": [3, 4]}))
    return folder


def options(folder, *more):
    return [
        *("-c", "-a", "3", "-I", str(SIZE), "-S", str(SIZE), "-s", str(folder / "student.keras"), "-l", "log"),
        *("-t", str(folder / "train.tfr"), "-v", str(folder / "validation.tfr"), *more),
    ]


@pytest.mark.slow
@pytest.mark.once
def test_a_search_that_is_killed_ends_as_an_undisturbed_one(folder, tmp_path):
    more = ["-m", str(folder / "teacher"), "-i", "2", "-e", "3", "--deterministic", "--ranges"]
    arguments = options(folder, *more, str(folder / "ranges.json"))
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
    done = trainings.run(NAME, tmp_path / "undisturbed", *arguments)
    assert (done.returncode, done.stdout) == (0, "log/optimization-log.tsv\n"), done.stderr
    process = trainings.start(NAME, tmp_path / "killed", *arguments)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("log/optimization-trainings/*/training-state.npz")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    again = trainings.run(NAME, tmp_path / "killed", *arguments)
    assert again.returncode == 0, again.stderr
    assert "Resuming after " in again.stderr, "nothing was left to go on with: the test shows nothing"
    logs = [(tmp_path / name / "log" / "optimization-log.tsv").read_bytes() for name in ("undisturbed", "killed")]
    assert logs[0] == logs[1]
    names = sorted(path.name for path in (tmp_path / "killed" / "log").iterdir())
    assert names == [f"optimization-{name}" for name in ("history.png", "log.tsv", "search.sqlite")]


@pytest.mark.once
@pytest.mark.slow
def test_without_a_teacher_and_what_it_finds_is_what_distilling_reads(folder, tmp_path):
    done = trainings.run(NAME, tmp_path, *options(folder, "-i", "1", "-e", "1"))
    assert done.returncode == 0, done.stderr
    assert "agreement" not in done.stderr
    row = best_row(read_log(tmp_path / "log"))
    assert row.iteration == "0" and 0 <= row.f1 <= 1 and row.settings.batch == 32


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["-i", "0"], ["-i/--iterations"]),
        (["-l", "no/where"], ["-l/--log", "not a directory"]),
        (["--ranges", "none.json"], ["--ranges", "not an existing file"]),
        (["--ranges", "bad.json"], ["--ranges", "bad.json", "'batch' the value 2.5"]),
        (["--ranges", "large.json"], ["--ranges: batch can be at most 6, since -t/--train has 100 records."]),
    ],
)
def test_a_wrong_call_is_one_line(folder, tmp_path, wrong, words):
    (tmp_path / "bad.json").write_text('{"batch": [2.5, 3]}')
    (tmp_path / "large.json").write_text('{"batch": [3, 7]}')
    done = trainings.run(NAME, tmp_path, *options(folder, "-e", "1"), *wrong)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr[:500]
    assert all(word in done.stderr for word in words), done.stderr
    assert not list(tmp_path.glob("log/*.tsv"))

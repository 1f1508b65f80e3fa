"""distillOptimizeImagesR.py as its users call it: killed, on two devices, called wrongly."""

import json
import re
import subprocess
import sys

import pytest
import trainings
from conftest import ROOT
from toys import SIZE, linear_teacher, write_model, write_records, write_saved_model

from lib.training.hyperparameters import Hyperparameters, Row, write_log

NAME = "distillOptimizeImagesR.py"
NOISY = dict.fromkeys(("left_right", "rotate_one", "shear_x", "translate_y", "gaussian_noise", "solarize_add"), 0.4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A student, a teacher, records and a log; runs go into folders of their own."""
    folder = tmp_path_factory.mktemp("files")
    write_model(folder / "student.keras", noise=0.1)
    write_model(folder / "plain.keras")
    write_saved_model(folder / "teacher", linear_teacher())
    write_records(folder / "train.tfr", 200, 1)
    write_records(folder / "validation.tfr", 50, 2)
    (folder / "log").mkdir()
    search = Hyperparameters(batch_power=3, learning_rate=0.01, distill_temperature=4.0, **NOISY)
    write_log(folder / "log", [Row("0", Hyperparameters(), 0.5), Row("7", search, 0.75), Row("8", search, 0.75)])
    return folder


def options(folder, *more, student="student.keras"):
    return [
        *("-c", "-a", "3", "-i", str(SIZE), "-S", str(SIZE), "-m", str(folder / "teacher"), "-l", str(folder / "log")),
        *("-s", str(folder / student), "-t", str(folder / "train.tfr"), "-v", str(folder / "validation.tfr")),
        *("-o", ".", *more),
    ]


@pytest.mark.slow
@pytest.mark.once
def test_killed_at_any_moment_it_ends_with_the_same_bits(folder, tmp_path):
    trainings.check_that_kills_change_nothing(NAME, tmp_path, options(folder, "-e", "8", "--deterministic"))


def test_the_output_and_the_best_row(folder, tmp_path):
    done = trainings.run(NAME, tmp_path, *options(folder, "-e", "1"))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\./[0-9a-f]{32}-best/best-model\.keras\n", done.stdout)
    assert done.stderr.startswith("Training with the settings of iteration 7 of the log (F1 0.75).\n")
    assert re.search(r"^Epoch 1 of 1: .*agreement \d.*val_agreement \d", done.stderr, re.MULTILINE)
    (recorded,) = tmp_path.glob("*/training-settings.json")
    found = json.loads(recorded.read_text())
    assert found["command"][0].endswith(NAME) and found["hyperparameters"]["shear_x"] == 0.4
    assert found["settings"]["patience"] == 16 and found["settings"]["mixup"] == 1.0


@pytest.mark.once
@pytest.mark.slow
def test_two_devices_distil_as_one_does(folder, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    arguments = options(folder, "-e", "2", student="plain.keras")
    assert trainings.run(NAME, tmp_path / "one", *arguments).returncode == 0
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "workers.py"), "2", NAME[:-3], *arguments],
        cwd=tmp_path / "two",
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert done.returncode == 0, done.stderr
    trainings.assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["-a", "1"], ["-a/--array"]),
        (["-m", "nowhere"], ["-m/--model", "neither a .keras file nor the directory of a SavedModel"]),
        (["-m", "."], ["-m/--model", "without a SavedModel's saved_model.pb"]),
        (["-l", "."], ["-l/--log", "optimization-log.tsv can't be read"]),
        (["-l", "nowhere"], ["-l/--log", "not an existing directory"]),
        (["-i", "2"], ["-i/--image"]),
        (["-S", "x"], ["-S/--size"]),
        (["--mixup", "1.5"], ["--mixup", "from 0 to 1"]),
        (["--monitor", "loss"], ["--monitor"]),
        (["-s", "nothing.keras"], ["-s/--student"]),
        (["-r", "-1"], ["-r/--random"]),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(folder, tmp_path, wrong, words):
    done = trainings.run(NAME, tmp_path, *options(folder, "-e", "1"), *wrong)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr[:500]
    assert all(word in done.stderr for word in words), done.stderr
    assert not list(tmp_path.iterdir())

"""imageSoup.py as its users call it."""

import json
import random
import re
import shutil
import subprocess

import numpy as np
import pytest
from conftest import run_here, script
from PIL import Image
from toys import SIZE, write_model, write_records

from lib.models.keras_files import load_model, save_model
from lib.training.classifier import Settings, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records, a good model, and models made of it: a and b are bad, but their mean is the good one; c is worse."""
    folder = tmp_path_factory.mktemp("files")
    write_records(folder / "train.tfr", 120, 1)
    write_records(folder / "validation.tfr", 60, 2)
    settings = Settings(
        model=write_model(folder / "start.keras"),
        categories=3,
        train=(str(folder / "train.tfr"),),
        validate=(str(folder / "validation.tfr"),),
        batch=8,
        epochs=8,
        size=SIZE,
        learning_rate=0.01,
        save_epochs=True,
        output=str(folder / "runs"),
        cpu=True,
    )
    (folder / "runs").mkdir()
    path = train(settings)
    good = load_model(path)
    weights = good.get_weights()
    rng = np.random.default_rng(1)
    change = [rng.normal(size=values.shape) * values.std() * 1.5 for values in weights]
    (folder / "models").mkdir()
    for name, factor in (("a", 1.0), ("b", -1.0)):
        good.set_weights([values + factor * more for values, more in zip(weights, change)])
        save_model(good, str(folder / "models" / f"{name}.keras"))
    good.set_weights([*weights[:-1], weights[-1] + np.array([1e4, 0, 0], "float32")])  # answers with the first class
    save_model(good, str(folder / "models" / "c.keras"))
    shutil.copy(path, folder / "good.keras")
    return folder


def options(folder, *more, models="models", data="train"):
    return [
        *("-a", "3", "-m", folder / models, "-d", folder / f"{data}.tfr", "-v", folder / "validation.tfr"),
        *("-o", ".", "-T", "1", *more),
    ]


def run(here, *arguments):
    return run_here("imageSoup.py", here, "-c", *arguments)


def log(here):
    (path,) = here.glob("*/soup-log.tsv")
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(rows[0], row)) for row in rows[1:]]


def test_the_best_mean_is_found(folder, tmp_path):
    done = run(tmp_path, *options(folder))
    assert done.returncode == 0, done.stderr
    rows = {row["MODEL"]: row for row in log(tmp_path)}
    taken = {name: float(row["WITH"]) for name, row in rows.items() if row["TAKEN"] == "yes"}
    assert set(taken) == {"a.keras", "b.keras"} and len(rows) == 2  # the last one is below the percentile
    assert min(taken.values()) < 0.9 < max(taken.values()) == list(taken.values())[1]
    (path,) = tmp_path.glob("*/soup-model.keras")
    for values, expected in zip(load_model(path).get_weights(), load_model(folder / "good.keras").get_weights()):
        np.testing.assert_allclose(values, expected, atol=1e-5)
    lines = done.stdout.splitlines()
    assert lines[0] == "MODEL\tF1" and re.fullmatch(r"soup of 2\t[01]\.\d{4}", lines[-1]) and len(lines) == 5
    assert sorted(name.name for name in path.parent.iterdir()) == [
        *(".lock", "README.md", "soup-log.tsv", "soup-model.keras", "soup-settings.json", "soup.png"),
        *("validation-confusion.png", "validation.json"),
    ]
    card = (path.parent / "README.md").read_text()
    assert "good" not in card and card.count("* averaged: `") == 2 and "An image classifier of 3 categories" in card
    measured = json.loads((path.parent / "validation.json").read_text())
    assert f"{measured['macro_f1']:.4f}" == lines[-1].split("\t")[1]
    assert f"| macro F1 | {measured['macro_f1']:.1%} |" in card and "(validation-confusion.png)" in card
    recorded = json.loads((path.parent / "soup-settings.json").read_text())
    assert len(recorded["ingredients"]) == 2 and all(len(digest) == 64 for digest in recorded["ingredients"].values())
    with Image.open(path.parent / "soup.png") as picture:
        picture.load()
    (path.parent / "README.md").unlink()  # as if it had been killed before its last moment
    again = run(tmp_path, *options(folder))
    assert (again.returncode, again.stdout) == (0, done.stdout) and "already made" in again.stderr
    assert (path.parent / "README.md").read_text() == card


@pytest.mark.once
def test_killed_at_any_moment_it_goes_on(folder, tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # pytest shows it when the test fails
    draw, more = random.Random(seed), ["-m", folder / "runs", "-T", "20", "--rescore"]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = run(tmp_path / "whole", *options(folder, *more))
    assert whole.returncode == 0, whole.stderr
    scored = whole.stderr.count(".keras: ")
    command = [*script("imageSoup.py"), "-c", *map(str, options(folder, *more))]
    for _ in range(2):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=tmp_path / "killed"
        )
        steps = draw.randrange(1, scored - 4)
        for line in process.stderr:
            steps -= ".keras: " in line
            if not steps:
                process.kill()
        process.communicate()
    done = run(tmp_path / "killed", *options(folder, *more))
    assert done.returncode == 0, done.stderr
    assert done.stdout == whole.stdout and log(tmp_path / "killed") == log(tmp_path / "whole")
    models = [path.read_bytes() for path in tmp_path.glob("*/*/soup-model.keras")]
    assert len(models) == 2 and models[0] == models[1]
    assert done.stderr.count(".keras: ") < scored, "nothing was found of what was done before"


def test_recorded_scores_are_used_if_of_the_same_records(folder, tmp_path):
    more = ["-m", folder / "runs"]
    used = run(tmp_path, *options(folder, *more))
    measured = run(tmp_path, *options(folder, *more, "--rescore"))
    assert used.returncode == measured.returncode == 0, used.stderr
    assert "scores that training recorded for 8 models" in used.stderr
    assert "recorded" not in measured.stderr
    assert used.stdout == measured.stdout
    other = run(tmp_path, *options(folder, *more), "-v", folder / "train.tfr")
    assert other.returncode == 0 and "recorded" not in other.stderr


@pytest.mark.once
def test_what_does_not_fit_is_named_and_left_out(folder, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(folder / "models", models / "deeper")
    write_model(models / "b-four.keras", outputs=4)
    write_model(models / "noisy.keras", noise=0.1)
    (models / "half.keras").write_bytes((folder / "good.keras").read_bytes()[:3000])
    (models / "text.keras").write_text("no model")
    done = run(tmp_path, *options(folder), "-m", models)
    assert done.returncode == 0, done.stderr
    for name in ("b-four", "noisy", "half", "text"):
        assert re.search(rf"^Left out: .*{name}\.keras", done.stderr, re.MULTILINE), name
    assert len(done.stdout.splitlines()) == 5
    shutil.rmtree(models / "deeper")
    shutil.copy(folder / "good.keras", models)
    few = run(tmp_path, *options(folder), "-m", models)
    assert (few.returncode, few.stdout) == (
        1,
        "",
    ) and "no two of the .keras files have the same architecture" in few.stderr


@pytest.mark.parametrize(
    ("wrong", "status", "words"),
    [
        (["-t", "0"], 2, "-t/--threshold: '0' is not a number above 0, up to 1"),
        (["-t", "1.1"], 2, "-t/--threshold"),
        (["-T", "100"], 2, "-T/--tile"),
        (["-m", "nowhere"], 2, "-m/--model"),
        (["-M", "1,2"], 2, "-M/--means: 2 numbers, but the models take 3 bands"),
        (["-w", "{0:1}"], 2, "-w/--weight: it lacks the class 1"),
        (["-d", "none.tfr"], 2, "-d/--data"),
        (["--metric", "loss"], 2, "--metric"),
        (["--shard", "1/2", "--fresh"], 2, "--shard: --fresh would discard"),
        (["-m", "."], 1, "no complete .keras file"),
    ],
)
def test_a_wrong_call_is_one_line(folder, tmp_path, wrong, status, words):
    done = run(tmp_path, *options(folder), *wrong)
    assert (done.returncode, done.stdout) == (status, "") and words in done.stderr.splitlines()[-1], done.stderr


@pytest.mark.once
def test_a_threshold_that_none_reaches(folder, tmp_path):
    arguments = options(folder)
    done = run(tmp_path, *arguments[:-2], "-t", "1.0")
    assert done.returncode == 1 and "-t/--threshold: no model reaches 1.0; the best has 0." in done.stderr

"""convnextClassifier.py as its users call it."""

import dataclasses
import subprocess

import numpy as np
import pytest
from conftest import FIXTURES, script

import convnextClassifier
from lib.models.architecture import Architecture
from lib.models.convnext import convnext
from lib.models.keras_files import load_model, save_model

TINY = {"filters": 4, "blocks": (1, 1, 1, 1), "expansion": 2}


@pytest.fixture
def here(tmp_path):
    save_model(convnext(Architecture(categories=9, seed=1, **TINY)), tmp_path / "encoder.keras")
    model = convnext(Architecture(categories=3, seed=2, **TINY))
    model.image_size = 96
    save_model(model, tmp_path / "model.keras")
    return tmp_path


def run(here, *arguments):
    command = [*script("convnextClassifier.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=here)


def test_the_options_are_the_settings():
    arguments = vars(convnextClassifier.options().parse_args(["-e", __file__, "-m", __file__, "-o", "a.keras"]))
    assert set(arguments) == {field.name for field in dataclasses.fields(convnextClassifier.Settings)}


def test_a_classifier_is_made(here):
    done = run(here, "-e", "encoder.keras", "-m", "model.keras", "-o", "tune.keras")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "tune.keras: 24 layers from the encoder, 2 fresh, 24 frozen\n"
    tuned, encoder, model = (load_model(here / f"{name}.keras") for name in ("tune", "encoder", "model"))
    assert tuned.image_size == 96
    assert sum(not layer.trainable for layer in tuned.layers if layer.weights) == 24
    for name, source in (("convNeXt2_block0_smooth_conv2D", encoder), ("output_dense", model)):
        for ours, theirs in zip(tuned.get_layer(name).get_weights(), source.get_layer(name).get_weights()):
            np.testing.assert_array_equal(ours, theirs)


def test_the_published_model_is_an_encoder(here, shared):
    save_model(convnext(Architecture(categories=5, filters=24, expansion=2)), here / "model.keras")
    encoder = shared / "models" / "ConvNeXt-distilled.keras"
    done = run(here, "-e", encoder, "-m", "model.keras", "-o", "tune.keras", "-c", "-g", "3", "-p", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "80 layers from the encoder, 2 fresh, 80 frozen" in done.stdout


@pytest.mark.slow
def test_another_architecture_is_one_sentence_unless_partial(here):
    save_model(convnext(Architecture(categories=9, **{**TINY, "expansion": 3})), here / "other.keras")
    done = run(here, "-e", "other.keras", "-m", "model.keras", "-o", "tune.keras")
    assert (done.returncode, done.stdout) == (1, "")
    *layers, sentence = done.stderr.splitlines()
    assert sentence.startswith("convnextClassifier.py: other.keras does not fit model.keras: 8 layers can't be moved")
    assert len(layers) == 8
    assert layers[0] == "convNeXt0_block0_expand_conv2D: [(1, 1, 4, 12)] in the encoder, [(1, 1, 4, 8)] in the model"
    assert not (here / "tune.keras").exists()
    done = run(here, "-e", "other.keras", "-m", "model.keras", "-o", "tune.keras", "--partial")
    assert done.returncode == 0 and done.stderr.splitlines() == layers
    assert done.stdout == "tune.keras: 16 layers from the encoder, 10 fresh, 16 frozen\n"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["-e", "missing.keras"], ["-e/--encoder", "missing.keras"]),
        (["-e", "bad.keras"], ["-e/--encoder", "bad.keras", "not a whole .keras file"]),
        (["-m", "bad.keras"], ["-m/--model", "bad.keras", "not a whole .keras file"]),
        (["-o", "nowhere/a.keras"], ["-o/--output", "nowhere"]),
        (["-o", "a.h5"], ["-o/--output", ".keras"]),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(wrong, words, here):
    (here / "bad.keras").write_bytes((here / "model.keras").read_bytes()[:-9])
    before = {path: path.read_bytes() for path in here.iterdir()}
    done = run(here, "-e", "encoder.keras", "-m", "model.keras", "-o", "tune.keras", *wrong)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert all(word in done.stderr for word in words), done.stderr
    assert {path: path.read_bytes() for path in here.iterdir()} == before


@pytest.mark.slow
def test_a_foreign_encoder_says_that_nothing_fits(here):
    done = run(here, "-e", FIXTURES / "keras" / "nested-3.0.keras", "-m", "model.keras", "-o", "t.keras", "--partial")
    assert done.returncode == 1 and "no layer can be moved" in done.stderr

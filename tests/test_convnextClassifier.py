"""convnextClassifier.py as its users call it."""

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


@pytest.fixture
def run(here, monkeypatch, capsys):
    """Calls the script in the folder; gives its status and what it writes to stdout and stderr."""
    monkeypatch.chdir(here)

    def call(*arguments):
        try:
            status = convnextClassifier.main(list(map(str, arguments)))
        except SystemExit as ended:
            status = ended.code
        return (status, *capsys.readouterr())

    return call


def test_a_classifier_is_made(here):
    command = [*script("convnextClassifier.py"), "-e", "encoder.keras", "-m", "model.keras", "-o", "tune.keras"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "tune.keras: 24 layers from the encoder, 2 fresh, 24 frozen\n"
    tuned, encoder, model = (load_model(here / f"{name}.keras") for name in ("tune", "encoder", "model"))
    assert tuned.image_size == 96
    assert sum(not layer.trainable for layer in tuned.layers if layer.weights) == 24
    for name, source in (("convNeXt2_block0_smooth_conv2D", encoder), ("output_dense", model)):
        for ours, theirs in zip(tuned.get_layer(name).get_weights(), source.get_layer(name).get_weights()):
            np.testing.assert_array_equal(ours, theirs)


def test_the_published_model_is_an_encoder(here, run, shared):
    save_model(convnext(Architecture(categories=5, filters=24, expansion=2)), here / "model.keras")
    encoder = shared / "models" / "ConvNeXt-distilled.keras"
    done = run("-e", encoder, "-m", "model.keras", "-o", "tune.keras", "-c", "-g", "3", "-p", "1")
    assert done == (0, "tune.keras: 80 layers from the encoder, 2 fresh, 80 frozen\n", "")


def test_another_architecture_is_one_sentence_unless_partial(here, run):
    save_model(convnext(Architecture(categories=9, **{**TINY, "expansion": 3})), here / "other.keras")
    status, out, err = run("-e", "other.keras", "-m", "model.keras", "-o", "tune.keras")
    assert (status, out) == (1, "")
    *layers, sentence = err.splitlines()
    assert ": other.keras does not fit model.keras: 8 layers can't be moved" in sentence
    assert len(layers) == 8
    assert layers[0] == "convNeXt0_block0_expand_conv2D: [(1, 1, 4, 12)] in the encoder, [(1, 1, 4, 8)] in the model"
    assert not (here / "tune.keras").exists()
    status, out, err = run("-e", "other.keras", "-m", "model.keras", "-o", "tune.keras", "--partial")
    assert status == 0 and err.splitlines() == layers
    assert out == "tune.keras: 16 layers from the encoder, 10 fresh, 16 frozen\n"


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
def test_a_wrong_call_is_one_line_and_leaves_nothing(wrong, words, here, run):
    (here / "bad.keras").write_bytes((here / "model.keras").read_bytes()[:-9])
    before = {path: path.read_bytes() for path in here.iterdir()}
    status, out, err = run("-e", "encoder.keras", "-m", "model.keras", "-o", "tune.keras", *wrong)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert all(word in err for word in words), err
    assert {path: path.read_bytes() for path in here.iterdir()} == before


def test_a_foreign_encoder_says_that_nothing_fits(run):
    foreign = FIXTURES / "keras" / "nested-3.0.keras"
    status, _, err = run("-e", foreign, "-m", "model.keras", "-o", "t.keras", "--partial")
    assert status == 1 and "no layer can be moved" in err

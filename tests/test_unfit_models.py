"""Models that can be opened but not used, and how each stage says so."""

import os
import re

import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from toys import write_model, write_records

import convnextClassifier
import distillOptimizeImagesR
import imageSoup
import predictImages
import testImages
import trainImagesC
from lib.errors import UsageError
from lib.models.keras_files import load_model, save_model


def write_layers(path, *layers):
    """Write a model of three categories with these layers before the pooling; returns the path as text."""
    x = inputs = keras.Input((None, None, 3))
    for layer in (*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)):
        x = layer(x)
    model = keras.Model(inputs, x)
    model.image_size = 16
    save_model(model, str(path))
    return str(path)


@pytest.fixture(scope="module")
def unfit(tmp_path_factory):
    """Models that load, but can't be applied to small pictures or to any, and records."""
    here, layers = tmp_path_factory.mktemp("unfit"), keras.layers
    write_layers(here / "embedding.keras", layers.Reshape((-1, 16)), layers.Embedding(10, 4))
    write_layers(here / "stem.keras", layers.Conv2D(4, 20))
    write_records(here / "a.tfr", 4, 1)
    return here


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("embedding", r"can't be applied to images of 16 x 16 pixels \([^()]*(\[0, 10\)|out of)"),
        (
            "stem",
            r"can't be applied to images of 16 x 16 pixels \((Negative dimension size|conv2d\w*: Kernel after)",
        ),
    ],
)
def test_models_that_cannot_be_applied_are_told_by_every_stage(name, words, unfit, tmp_path, capsys):
    (tmp_path / "models").mkdir()
    for copy in "ab":
        (tmp_path / "models" / f"{copy}.keras").write_bytes((unfit / f"{name}.keras").read_bytes())
    Image.new("RGB", (16, 16), "white").save(tmp_path / "a.png")
    model, records, out = str(tmp_path / "models" / "a.keras"), str(unfit / "a.tfr"), str(tmp_path)
    both, log = ["-t", records, "-v", records, "-o", out], ["-l", str(ROOT / "manual")]
    student, labels = write_model(tmp_path / "student.keras"), tmp_path / "labels.tsv"
    labels.write_text("INDEX\tLABEL\n0\ta\n1\tb\n2\tc\n")
    for script, arguments in (
        (testImages, ["-a", "3", "-m", model, "-t", records]),
        (trainImagesC, ["-a", "3", "-m", model, "-i", "16", "-b", "2", *both]),
        (imageSoup, ["-a", "3", "-m", str(tmp_path / "models"), "-d", records, "-v", records, "-o", out, "--rescore"]),
        (distillOptimizeImagesR, ["-a", "3", "-s", model, "-m", student, "-i", "16", "-S", "16", *both, *log]),
        (distillOptimizeImagesR, ["-a", "3", "-s", student, "-m", model, "-i", "16", "-S", "16", *both, *log]),
        (predictImages, ["-m", model, "-d", out, "-o", str(tmp_path / "p.tsv"), "--labels", str(labels)]),
    ):
        assert script.main(["-c", *arguments]) == 2, script.__name__
        last = capsys.readouterr().err.splitlines()[-1]
        assert re.search(words, last) and ".keras" in last, (script.__name__, last)


def test_models_whose_weights_or_answers_are_no_numbers(unfit, tmp_path, capsys):
    records, whole = str(unfit / "a.tfr"), write_layers(tmp_path / "whole.keras", keras.layers.Conv2D(4, 1))
    model = load_model(whole)
    paths = {}
    for name, value in (("nan", np.nan), ("infinite", -np.inf), ("large", 3e38)):
        model.set_weights([np.full_like(weight, value) for weight in model.get_weights()])
        paths[name] = str(tmp_path / f"{name}.keras")
        save_model(model, paths[name])
    for name in ("nan", "infinite"):
        with pytest.raises(UsageError, match=f"{name}.keras has infinite or NaN weights"):
            load_model(paths[name])
    out, training = str(tmp_path), ["-t", records, "-v", records, "-b", "2", "-i", "16"]
    for script, status, arguments, words in (
        (testImages, 2, ["-m", paths["nan"], "-t", records, "-a", "3"], "infinite or NaN weights"),
        (testImages, 1, ["-m", paths["large"], "-t", records, "-a", "3"], "4 of 4 images with NaN or infinite"),
        (trainImagesC, 2, ["-m", paths["nan"], "-o", out, "-a", "3", *training], "infinite or NaN weights"),
        (convnextClassifier, 2, ["-e", paths["nan"], "-m", whole, "-o", f"{out}/o.keras"], "infinite or NaN weights"),
    ):
        assert script.main([*(() if script is convnextClassifier else ("-c",)), *arguments]) == status
        assert words in capsys.readouterr().err.splitlines()[-1]
    assert not os.path.exists(f"{out}/o.keras")

"""Models that end in a softmax or sigmoid, and what each stage makes of them."""

import keras
import numpy as np
import pandas
import pytest
from PIL import Image
from toys import picture, write_model, write_records
from trainings import messages

import imageSoup
import predictImages
import testImages
import trainImagesC
from lib.data.images import read_image
from lib.models.keras_files import load_model

SIZE = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of logits, and the same with a softmax and with a sigmoid at its end; pictures and records."""
    here = tmp_path_factory.mktemp("endings")
    write_model(here / "logits.keras")
    model = keras.models.load_model(here / "logits.keras", compile=False)
    for name in ("softmax", "sigmoid"):
        (here / name).mkdir()
        ending = keras.Model(model.input, keras.layers.Activation(name)(model.output))
        ending.save(here / name / "m.keras")
    (here / "scans").mkdir()
    for number in range(6):
        Image.fromarray(picture(number, np.random.default_rng(number), SIZE)).save(here / "scans" / f"{number}.png")
    write_records(here / "a.tfr", 24, 1)
    (here / "labels.tsv").write_text("INDEX\tLABEL\n0\ta\n1\tb\n2\tc\n")
    return here


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_predictions_are_the_models_own_answers(name, engine, folder, tmp_path):
    table, features = tmp_path / "t.tsv", tmp_path / "f.npz"
    path, scans = folder / name / "m.keras", folder / "scans"
    more = ["--labels", folder / "labels.tsv", "--probabilities", "--embeddings", features, "--engine", engine]
    assert predictImages.main(list(map(str, ["-c", "-d", scans, "-m", path, "-o", table, *more]))) == 0
    pixels = np.stack([read_image(str(scans / f"{number}.png"), 96) for number in range(6)])
    expected = np.asarray(keras.models.load_model(path, compile=False)(pixels, training=False))
    rows = pandas.read_csv(table, sep="\t")
    found = rows[["PROBABILITY_a", "PROBABILITY_b", "PROBABILITY_c"]].to_numpy()
    np.testing.assert_allclose(found, expected, atol=6e-5)  # of four digits
    np.testing.assert_allclose(rows["PROBABILITY"], expected.max(axis=1), atol=6e-5)
    assert np.load(features)["embeddings"].shape == (6, 16)


def test_testing_is_that_of_the_logits(folder, tmp_path, capsys):
    said = []
    for path in ("logits.keras", "softmax/m.keras"):
        arguments = ["-c", "-a", 3, "-m", folder / path, "-t", folder / "a.tfr", "-u", tmp_path / "u.npz"]
        assert testImages.main(list(map(str, arguments))) == 0
        said.append((capsys.readouterr(), np.load(tmp_path / "u.npz")["predictions"]))
    assert said[0][0] == said[1][0]
    np.testing.assert_array_equal(said[0][1], said[1][1])


@pytest.mark.slow
def test_training_is_that_of_the_logits_and_says_so(folder, tmp_path):
    trained = []
    for path in ("logits.keras", "softmax/m.keras"):
        arguments = ["-c", "-a", 3, "-m", folder / path, "-t", folder / "a.tfr", "-v", folder / "a.tfr"]
        arguments += ["-o", tmp_path, "-b", 8, "-i", SIZE, "-e", 1, "--deterministic"]
        with messages() as said:
            assert trainImagesC.main(list(map(str, arguments))) == 0
        (model,) = (run for run in tmp_path.glob("*/best-model.keras") if run not in [each for each, _ in trained])
        trained.append((model, any("softmax/m.keras ends in a softmax: the logits before" in line for line in said)))
    (of_logits, silent), (of_softmax, told) = trained
    assert told and not silent
    assert load_model(of_softmax).output_activation is None
    for one, other in zip(load_model(of_logits).get_weights(), load_model(of_softmax).get_weights()):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_soup_ends_as_its_ingredients_do(folder, tmp_path):
    (tmp_path / "models").mkdir()
    content = (folder / "sigmoid" / "m.keras").read_bytes()
    for name in "ab":
        (tmp_path / "models" / f"{name}.keras").write_bytes(content)
    arguments = ["-c", "-a", 3, "-m", tmp_path / "models", "-d", folder / "a.tfr", "-v", folder / "a.tfr"]
    assert imageSoup.main([*map(str, arguments), "-o", str(tmp_path), "-T", "1"]) == 0
    (soup,) = tmp_path.glob("*/soup-model.keras")
    pixels = np.full((1, SIZE, SIZE, 3), 99, "float32")
    models = (keras.models.load_model(path, compile=False) for path in (soup, folder / "sigmoid" / "m.keras"))
    one, other = (np.asarray(model(pixels, training=False)) for model in models)
    np.testing.assert_allclose(one, other, atol=1e-6)

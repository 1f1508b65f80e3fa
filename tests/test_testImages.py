"""testImages.py as its users call it."""

import json
import re
import shutil

import keras
import numpy as np
import pandas
import pytest
from conftest import run_here
from PIL import Image
from sklearn.metrics import average_precision_score, classification_report, confusion_matrix, f1_score
from toys import write_damaged_records, write_layers, write_model, write_records

import testImages
from lib.models.keras_files import load_model, save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_model(folder / "model.keras")
    write_model(folder / "four.keras", outputs=4)
    write_model(folder / "bands.keras", bands=4)
    write_records(folder / "test.tfr", 50, 1)
    return folder


def run(here, *arguments):
    return run_here("testImages.py", here, "-c", *arguments)


def golden(shared, *more):
    return ["-a", "17", "-m", shared / "models" / "ConvNeXt-distilled.keras", *more]


@pytest.mark.parametrize("batch", ["64", "1", "1000"])
@pytest.mark.slow
def test_the_golden_evaluation(shared, tmp_path, batch):
    done = run(tmp_path, *golden(shared, "-t", shared / "golden" / "sample-96.tfr", "-b", batch))
    assert done.returncode == 0, done.stderr
    assert done.stdout == (shared / "golden" / "evaluation.txt").read_text()
    assert "0 in the macro F1: Biocultural, Corrupted, Fragmentary, RLM, Mixed.\n" in done.stderr
    assert "\nAnimal\t0.7826\t0.9474\t0.8571\t19\t" in done.stderr


def test_the_files(shared, tmp_path):
    names = ["-e", "e", "-u", "u.npz", "--table", "t.tsv", "--json", "a.json", "--figures", "figures"]
    names += ["--report", "t.html", "--report-images", "5"]
    done = run(tmp_path, *golden(shared, "-t", shared / "golden" / "sample-96.tfr", *names))
    assert done.returncode == 0, done.stderr
    arrays, softmax = np.load(tmp_path / "e.npz"), np.load(tmp_path / "u.npz")
    assert set(arrays) == {"predictions", "labels", "matrix"} and set(softmax) == {"predictions", "labels"}
    assert softmax["predictions"].shape == (140, 17) and arrays["matrix"].shape == (17, 17)
    np.testing.assert_allclose(softmax["predictions"].sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(softmax["predictions"].argmax(axis=1), arrays["predictions"])
    labels, chosen = arrays["labels"], arrays["predictions"]
    np.testing.assert_array_equal(arrays["matrix"], confusion_matrix(labels, chosen, labels=range(17)))
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["accuracy"] == pytest.approx(0.65) and found["images"] == 140
    expected = f1_score(labels, chosen, labels=range(17), average="macro", zero_division=0)
    assert found["f1"] == pytest.approx(expected) and found["f1_interval"][0] < expected < found["f1_interval"][1]
    ranks = np.argsort(-softmax["predictions"], axis=1)[:, :3]
    assert found["top3_accuracy"] == pytest.approx((ranks == labels[:, None]).any(axis=1).mean())
    table = pandas.read_csv(tmp_path / "t.tsv", sep="\t")
    report = classification_report(labels, chosen, output_dict=True, zero_division=0)
    assert table.SUPPORT.sum() == 140 and len(table) == 12
    ordinary = table[table.CATEGORY == "Ordinary"].iloc[0]
    assert pytest.approx(report["13"]["recall"], abs=1e-4) == ordinary.RECALL
    average = average_precision_score(labels == 13, softmax["predictions"][:, 13])
    assert pytest.approx(average, abs=1e-4) == ordinary.AVERAGE_PRECISION
    assert "Ordinary\t" not in done.stderr  # it is in the file instead
    pictures = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert pictures == ["confusion.png", "mistakes.png", "precision-recall.png", "reliability.png"]
    for name in pictures:
        with Image.open(tmp_path / "figures" / name) as picture:
            picture.load()
            assert min(picture.size) > 200
    check_page((tmp_path / "t.html").read_text())


def check_page(page):
    """Check the page of the published model's answers to the golden records, with five images of a category."""
    assert "65.00 % (" in page and "0 in the macro F1: Biocultural, Corrupted" in page
    numbers = [int(found) for found in re.findall(r'data-answer="\d+"[^>]*>(\d+)</button>', page)]
    assert sum(numbers) == 140
    groups = page.split('<section class="group"')[1:]
    assert len(groups) == 12
    for group in groups:
        assert 1 <= group.count('<li class="card"') <= 5
        order = re.findall(r"(right|<b>wrong</b>)", group)
        assert order == sorted(order)  # mistakes first
    first = page.split('id="mistakes"')[1].split("</ol>")[0]
    probabilities = [float(chance) for chance in re.findall(r'data-p="([\d.]+)"', first)]
    assert len(probabilities) == 24 and probabilities == sorted(probabilities, reverse=True)


@pytest.mark.slow
def test_weights_count_in_the_matrix_and_the_averages_but_not_in_the_four_lines(folder):
    (plain, lines, silent), (found, same, told) = figures(folder), figures(folder, "-w", "{0:2.0,1:1.0,2:0.0}")
    assert same == lines and {key: found[key] for key in ("loss", "accuracy", "auc", "f1")}.items() <= plain.items()
    assert "weighted" not in plain and "With the weights" not in silent
    matrix, weighted = np.array(plain["matrix"]) * [[2], [1], [0]], found["weighted"]
    np.testing.assert_allclose(found["matrix"], matrix)
    assert weighted["accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
    assert f"With the weights of -w/--weight, as in the table: loss {weighted['loss']:.4f}, accuracy" in told
    right, total = np.diag(matrix), matrix.sum(axis=0) + matrix.sum(axis=1)
    assert weighted["f1"] == pytest.approx(np.divide(2 * right, total, out=np.zeros(3), where=total > 0).mean())


def figures(folder, *more):
    done = run(folder, "-a", "3", "-m", "model.keras", "-t", "test.tfr", "--json", "found.json", *more)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "found.json").read_text()), done.stdout, done.stderr


@pytest.mark.slow
def test_compared_with_another_model(shared, folder, tmp_path):
    other = write_model(tmp_path / "other.keras", outputs=17)
    done = run(tmp_path, *golden(shared, "-t", shared / "golden" / "sample-96.tfr", "--compare", other))
    assert done.returncode == 0, done.stderr
    assert done.stdout == (shared / "golden" / "evaluation.txt").read_text()
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{other} against ") and "points, 95 % interval -" in last and "(McNemar)" in last


@pytest.mark.slow
def test_a_number_map_and_labels_of_ones_own(folder, tmp_path):
    (tmp_path / "map.tsv").write_text("OLD\tNEW\n0\t3\n1\t2\n2\t0\n")
    (tmp_path / "labels.tsv").write_text("INDEX\tLABEL\n0\tnone\n1\tone\n2\ttwo\n3\tthree\n")
    more = ["-n", tmp_path / "map.tsv", "--labels", tmp_path / "labels.tsv", "--table", tmp_path / "t.tsv"]
    done = run(folder, "-a", "4", "-m", "four.keras", "-t", "test.tfr", *more)
    assert done.returncode == 0, done.stderr
    table = pandas.read_csv(tmp_path / "t.tsv", sep="\t")
    assert list(zip(table.CATEGORY, table.SUPPORT)) == [("none", 16), ("two", 17), ("three", 17)]
    assert "0 in the macro F1: one." in done.stderr


def test_the_models_card_gets_the_test(folder, tmp_path):
    model = shutil.copy(folder / "model.keras", tmp_path / "best-model.keras")
    arguments = ["-a", "3", "-m", model, "-t", "test.tfr", "--card"]
    done = run(folder, *arguments)
    assert done.returncode == 2 and "-m/--model" in done.stderr and "is in no run's directory" in done.stderr
    recorded = {"name": "Ferns | mosses", "command": ["trainImagesC.py", "-m", "a b.keras"], "inputs": {"a": "0f"}}
    recorded.update(settings={"categories": 3}, versions={"Keras": "3"}, image_size=16)
    (tmp_path / "training-settings.json").write_text(json.dumps(recorded))
    (tmp_path / "categories.tsv").write_text("INDEX\tLABEL\n0\tFern\n1\tMoss\n2\tPalm_tree\n")
    done = run(folder, *arguments)
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "README.md").read_text()
    accuracy = float(re.search(r"accuracy: ([\d.]+)%", done.stdout)[1])
    assert "# Ferns \\| mosses\n" in card and '- name: "Ferns | mosses"' in card
    assert f"| accuracy | {accuracy:.1f}% |" in card and f"type: accuracy, value: {accuracy / 100:.4f}}}" in card
    assert "split: test}" in card and "(test-confusion.png)" in card and "| 2 | Palm\\_tree |" in card
    assert "./trainImagesC.py -m 'a b.keras'" in card and "images of 16 × 16 pixels" in card
    assert (tmp_path / "test-confusion.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["-a", "4"], ["-m/--model", "has 3 outputs where 4 are needed"]),
        (["-m", "none.keras"], ["-m/--model", "none.keras"]),
        (["-m", "bands.keras"], ["-m/--model: bands.keras", "images of 4 bands; those of records have 1 or 3"]),
        (["-t", "none.tfr"], ["-t/--test", "none.tfr"]),
        (["-w", "{0:1}"], ["-w/--weight", "lacks the class 1"]),
        (["-e", "nowhere/e.npz"], ["-e/--error", "nowhere"]),
        (["--figures", "model.keras"], ["--figures", "is a file"]),
        (["--compare", "four.keras"], ["--compare", "has 4 outputs where 3 are needed"]),
        (["-b", "0"], ["-b/--batch"]),
    ],
)
def test_a_wrong_call_is_one_line(folder, wrong, words):
    done = run(folder, "-a", "3", "-m", "model.keras", "-t", "test.tfr", *wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert all(word in done.stderr.splitlines()[-1] for word in words), done.stderr


def test_bad_records_that_are_left_out_are_recorded(folder, tmp_path, capsys):
    damaged, words = write_damaged_records(tmp_path / "a.tfr"), "a.tfr, record 5, has a damaged length"
    call = ["-c", "-a", "3", "-m", str(folder / "model.keras"), "-t", damaged, "--json", str(tmp_path / "found.json")]
    assert testImages.main(call) == 1
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert testImages.main([*call, "--skip-bad"]) == 0
    written = capsys.readouterr()
    assert f"Left out 1 bad record, such as {damaged}, record 5, has a damaged length" in written.err
    assert re.fullmatch(r"(Test [\w ]+: [\d.]+%?\n){4}", written.out)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["images"] == 5 and len(found["left_out"]) == 1 and words in found["left_out"][0]


def test_models_that_cannot_be_applied_or_answer_infinities(folder, tmp_path, capsys):
    layers, call = keras.layers, ["-c", "-a", "3", "-t", str(folder / "test.tfr"), "-m"]
    write_layers(tmp_path / "embedding.keras", layers.Reshape((-1, 16)), layers.Embedding(10, 4))
    write_layers(tmp_path / "stem.keras", layers.Conv2D(4, 20))
    model = load_model(write_layers(tmp_path / "good.keras", layers.Conv2D(4, 1)))
    for name, value in (("nan", np.nan), ("large", 3e38)):
        model.set_weights([np.full_like(weight, value) for weight in model.get_weights()])
        save_model(model, tmp_path / f"{name}.keras")
    assert testImages.main([*call, str(tmp_path / "good.keras")]) == 0
    capsys.readouterr()
    for name, status, words in (
        ("embedding", 2, r"can't be applied to images of 16 x 16 pixels \([^()]*(\[0, 10\)|out of)"),
        ("stem", 2, r"can't be applied to images of 16 x 16 pixels \(Negative dimension size"),
        ("nan", 2, "has infinite or NaN weights"),
        ("large", 1, "answers 50 of 50 images with NaN or infinite logits"),
    ):
        assert testImages.main([*call, str(tmp_path / f"{name}.keras")]) == status
        written = capsys.readouterr()
        assert not written.out and re.search(rf"{name}\.keras {words}", written.err.splitlines()[-1])


def test_a_published_model_by_its_name(shared, tmp_path, capsys, monkeypatch):
    records = str(shared / "golden" / "sample-96.tfr")
    monkeypatch.setenv("HERBARIOGRAPH_MODELS", str(shared / "models"))
    assert testImages.main(["-c", "-a", "17", "-m", "ConvNeXt-N", "-t", records]) == 0
    assert capsys.readouterr().out == (shared / "golden" / "evaluation.txt").read_text()
    for option, name in (("-m/--model", "ConvNeXt-X"), ("--compare", "ConvNeXt-T")):
        arguments = ["-m", name] if option == "-m/--model" else ["-m", "ConvNeXt-N", "--compare", name]
        assert testImages.main(["-c", "-a", "17", "-t", records, "--models", str(shared / "models"), *arguments]) == 2
        assert f"{option}: " in capsys.readouterr().err

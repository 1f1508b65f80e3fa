"""adaptImages.py as its users call it: from features and decisions to a model, a table, a page, without TensorFlow."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import FIXTURES, ROOT
from PIL import Image
from scipy.special import softmax

import adaptImages
import predictImages
from lib.data.categories import LABELS
from lib.data.embeddings import open_features, write_features
from lib.models.output_layer import read_output_layer
from lib.prediction.model import labels_of
from lib.prediction.settings import Settings
from lib.storage.files import checksum

MODEL = str(FIXTURES / "keras" / "reference-2.13.keras")
FIVE = "CATEGORY\tINDEX\tLABEL\n" + "".join(f"{name}\t{index}\t{name}\n" for index, name in enumerate("ABCDE"))
COUNT = 300


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def write_stored(path, features, model="model.keras"):
    """A file of a model's features of images scans/000.jpg and so on."""
    about = {"model": model, "model_sha256": checksum(model), "data": "scans/", "exact": False}
    names = [f"scans/{number:03d}.jpg".encode() for number in range(len(features))]
    with open_features(path, about, overwrite=True) as journal:
        journal.extend((name, None, row.tobytes()) for name, row in zip(names, features))
        write_features(path, about, journal, names)


def truth():
    """Six categories of the images, of which the model has five, and features that tell them apart."""
    rng = np.random.default_rng(8)
    categories = rng.integers(0, 6, COUNT)
    features = 2 * rng.normal(size=(6, 8))[categories] + rng.normal(size=(COUNT, 8))
    return categories, features.astype("float32")


def write_corrections(path, categories, taught, audited=(), names="ABCDEF"):
    rows = [(number, "teach") for number in taught] + [(number, "audit") for number in audited]
    lines = [f"scans/{number:03d}.jpg\t{names[categories[number]]}\t{role}\n" for number, role in rows]
    path.write_text("FILE\tCATEGORY\tROLE\n" + "".join(lines))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a model of five categories, features of 300 images, and decisions about 100."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(MODEL, "model.keras")
    (tmp_path / "categories.tsv").write_text(FIVE)
    categories, features = truth()
    write_stored("f.npz", features)
    write_corrections(tmp_path / "c.tsv", categories, range(60), range(60, 100))
    (tmp_path / "out").mkdir()
    return tmp_path


def run(*arguments):
    return adaptImages.main(["-m", "model.keras", "-e", "f.npz", "-t", "c.tsv", "-o", "out/a.keras", *arguments])


def test_the_folder_is_learnt(folder, capsys):
    assert run("--predict", "a.tsv", "--probabilities", "--top", "2") == 0
    categories, features = truth()
    layer = read_output_layer("out/a.keras")
    expected = softmax(features.astype("float64") @ layer.kernel + layer.bias, axis=1)
    right = np.array(["ABCDEF"[place] for place in expected.argmax(axis=1)]) == np.array(list("ABCDEF"))[categories]
    assert right[100:].mean() > 0.9, "of images that nobody looked at"
    rows = table("a.tsv")
    assert [row["FILE"] for row in rows] == [f"scans/{number:03d}.jpg" for number in range(COUNT)]
    assert list(rows[0]) == [
        *("MODEL", "FILE", "PREDICTION", "PROBABILITY", "PREDICTION_2", "PROBABILITY_2"),
        *(f"PROBABILITY_{label}" for label in "ABCDEF"),
        "SOURCE",
    ]
    for number, row in enumerate(rows):
        chances = expected[number]
        order = np.argsort(-chances)
        best, second, own = "ABCDEF"[order[0]], "ABCDEF"[order[1]], "ABCDEF"[categories[number]]
        np.testing.assert_allclose([float(row[f"PROBABILITY_{label}"]) for label in "ABCDEF"], chances, atol=6e-5)
        assert row["MODEL"] == "out/a.keras" and row["SOURCE"] == ("person" if number < 100 else "model")
        if number >= 100 or own == best:
            assert (row["PREDICTION"], row["PREDICTION_2"]) == (best, second)
            assert float(row["PROBABILITY"]) == pytest.approx(chances.max(), abs=6e-5)
        else:
            assert (row["PREDICTION"], row["PROBABILITY"], row["PREDICTION_2"]) == (own, "", best)
    printed = capsys.readouterr()
    assert printed.err.splitlines() == ["100 of 300 images looked at."]
    before = read_output_layer("model.keras")
    was = (features.astype("float64") @ before.kernel + before.bias).argmax(axis=1)
    now = expected.argmax(axis=1)
    rows = [line.split("\t") for line in printed.out.splitlines()[:8]]
    assert rows[0] == ["CATEGORY", "TAUGHT", "AUDITED", "RIGHT BEFORE", "RIGHT AFTER"]
    for place, label in enumerate("ABCDEF"):
        audited = np.flatnonzero(categories[60:100] == place) + 60
        counts = [
            (categories[:60] == place).sum(),
            len(audited),
            (was[audited] == place).sum(),
            (now[audited] == place).sum(),
        ]
        assert rows[1 + place] == [label, *map(str, counts)]
    taught, audited, right_before, right_after = map(int, rows[7][1:])
    assert (rows[7][0], taught, audited, right_after) == ("all", 60, 40, right[60:100].sum())
    lines = printed.out.splitlines()[8:]
    assert lines[0] == f"Answers that change: {(was != now).sum()} of 300 ({(was != now).mean():.2%})"
    assert lines[1].startswith(f"Audited accuracy before: {right_before / 40:.2%} (95% interval ")
    assert lines[2].startswith(f"Audited accuracy after: {right_after / 40:.2%} (95% interval ")
    assert lines[3].startswith("McNemar's exact test: p = ") and float(lines[3].split("=")[1]) < 0.05


def test_audited_images_are_never_learnt_from_and_the_same_call_gives_the_same_files(folder):
    run("--predict", "a.tsv")
    model, answers = (folder / "out" / "a.keras").read_bytes(), (folder / "a.tsv").read_bytes()
    run("--predict", "a.tsv")
    assert (folder / "out" / "a.keras").read_bytes() == model and (folder / "a.tsv").read_bytes() == answers
    lines = (folder / "c.tsv").read_text().splitlines()
    (folder / "c.tsv").write_text("\n".join([line for line in lines if "audit" not in line]))
    run()
    assert (folder / "out" / "a.keras").read_bytes() == model
    with zipfile.ZipFile("model.keras") as one, zipfile.ZipFile("out/a.keras") as other:
        assert one.read("metadata.json") == other.read("metadata.json")


def test_without_tensorflow_or_images_also_the_page(folder, environment):
    code = (
        "import sys, adaptImages\n"
        "status = adaptImages.main(sys.argv[1:])\n"
        "print(sorted({'tensorflow', 'keras', 'openvino'} & {*sys.modules}), status)"
    )
    call = ["-m", "model.keras", "-e", "f.npz", "-t", "c.tsv", "-o", "out/a.keras"]
    call += ["--predict", "a.csv", "--report", "a.html"]
    environment = dict(environment, PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, "-c", code, *call], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[] 0", done.stderr
    assert "scans/000.jpg" in (folder / "a.html").read_text() and "SOURCE" in (folder / "a.csv").read_text()


def test_columns_of_another_table_are_joined_and_kept(folder, capsys):
    (folder / "index.tsv").write_text("FILE\tLICENCE\tRIGHTSHOLDER\tSOURCE\nscans/000.jpg\tCC BY 4.0\tA museum\tGBIF\n")
    call = ("--predict", "a.tsv", "--report", "a.html")
    for joined in (("--join", "index.tsv"), ()):  # the second time, those that are there stay
        assert run(*call, *joined) == 0
        first, second = table("a.tsv")[:2]
        assert list(first)[-4:] == ["SOURCE", "LICENCE", "RIGHTSHOLDER", "SOURCE_JOINED"]
        assert [first[name] for name in list(first)[-3:]] == ["CC BY 4.0", "A museum", "GBIF"]
        assert [second[name] for name in list(second)[-3:]] == [""] * 3
        assert "A museum" in (folder / "a.html").read_text()
        (folder / "a.html").unlink()
    assert "1 of 300 images have a row in index.tsv." in capsys.readouterr().err
    (folder / "other.tsv").write_text("NAME\nscans/000.jpg\n")
    (folder / "out" / "a.keras").unlink()
    assert run(*call, "--join", "other.tsv") == 2 and not (folder / "out" / "a.keras").exists()
    assert "--join: other.tsv needs a column FILE" in capsys.readouterr().err


def test_the_categories_lie_beside_the_model(folder, capsys):
    run()
    assert (folder / "out" / "categories.tsv").read_text() == FIVE + "F\t5\tF\n"
    assert (folder / "categories.tsv").read_text() == FIVE
    write_corrections(folder / "c.tsv", truth()[0], range(60), names=["A", "B", "C", "D", "E", "Moss"])
    assert run() == 0, "again, with other decisions, over the same model"
    assert "Moss\t5\tMoss\n" in (folder / "out" / "categories.tsv").read_text()


def test_a_table_of_categories_that_is_not_the_models_is_left_as_it_is(folder):
    seven = FIVE + "F\t5\tF\nG\t6\tG\n"
    (folder / "out" / "categories.tsv").write_text(seven)
    for _ in range(2):
        assert run() == 0
        assert (folder / "out" / "categories.tsv").read_text() == seven
        assert (folder / "out" / "a-categories.tsv").read_text() == FIVE + "F\t5\tF\n"
    (folder / "model.keras").rename(folder / "out" / "model.keras")
    arguments = ["-m", "out/model.keras", "--labels", "categories.tsv", "-e", "f.npz", "-t", "c.tsv", "-o", "b.keras"]
    six = (folder / "c.tsv").read_text()
    write_corrections(folder / "c.tsv", np.minimum(truth()[0], 4), range(60))
    assert adaptImages.main(arguments) == 0 and not os.path.exists("b-categories.tsv"), "it is right as it is"
    (folder / "c.tsv").write_text(six)
    for _ in range(2):
        assert adaptImages.main(arguments) == 0, "the table that was given stays as it is"
        assert (folder / "categories.tsv").read_text() == FIVE
        assert (folder / "b-categories.tsv").read_text() == FIVE + "F\t5\tF\n"


def test_the_new_models_own_table_is_not_that_which_was_given(folder, capsys):
    (folder / "out" / "other.keras").touch()
    shutil.move("categories.tsv", "out/a-categories.tsv")
    assert run("--labels", "out/a-categories.tsv") == 2
    assert "--labels: out/a-categories.tsv is the table that the new model's" in capsys.readouterr().err
    assert (folder / "out" / "a-categories.tsv").read_text() == FIVE and not os.path.exists("out/a.keras")


def test_models_of_different_categories_may_lie_in_one_folder(folder):
    arguments = ["-m", "model.keras", "-e", "f.npz", "-t", "c.tsv", "-o", "b.keras"]
    write_corrections(folder / "c.tsv", np.minimum(truth()[0], 4), range(60))
    assert adaptImages.main(arguments) == 0
    assert not os.path.exists("b-categories.tsv"), "its categories are those of the model beside it"
    write_corrections(folder / "c.tsv", truth()[0], range(60), names=["A", "B", "C", "D", "E", "Moss"])
    assert adaptImages.main(arguments) == 0
    assert (folder / "categories.tsv").read_text() == FIVE
    assert (folder / "b-categories.tsv").read_text() == FIVE + "Moss\t5\tMoss\n"
    assert labels_of("b.keras", Settings(model="b.keras")) == ((*"ABCDE", "Moss"), "b-categories.tsv")
    assert labels_of("model.keras", Settings(model="model.keras"))[0] == (*"ABCDE",)
    write_corrections(folder / "c.tsv", np.minimum(truth()[0], 4), range(60))
    assert adaptImages.main(arguments) == 0
    assert (folder / "b-categories.tsv").read_text() == FIVE, "again, with other decisions, over the same model"


def test_the_categories_are_those_of_a_table_that_was_given(folder):
    shutil.move("categories.tsv", "own.tsv")
    write_corrections(folder / "c.tsv", np.minimum(truth()[0], 4), range(60))
    assert run("--labels", "own.tsv") == 0
    assert (folder / "out" / "categories.tsv").read_text() == FIVE


def test_an_adapted_published_model(folder, shared):
    """Beside it lie the 17 categories, which are not somebody else's beside it."""
    shutil.copy(shared / "models" / "ConvNeXt-distilled.keras", "out/n.keras")
    write_stored("f.npz", np.random.default_rng(1).normal(size=(COUNT, 192)).astype("float32"), "out/n.keras")
    rows = [(f"scans/{number:03d}.jpg", LABELS[number % 17]) for number in range(40)]
    (folder / "c.tsv").write_text(corrections(*rows))
    assert adaptImages.main(["-m", "out/n.keras", "-e", "f.npz", "-t", "c.tsv", "-o", "out/a.keras"]) == 0
    assert (folder / "out" / "categories.tsv").read_text().splitlines()[5] == "Illustrations color\t4\tColor"
    (folder / "out" / "categories.tsv").unlink()
    shutil.copy("model.keras", "out/b.keras")
    assert adaptImages.main(["-m", "out/n.keras", "-e", "f.npz", "-t", "c.tsv", "-o", "out/a.keras"]) == 0
    assert len((folder / "out" / "a-categories.tsv").read_text().splitlines()) == 18
    assert not os.path.exists("out/categories.tsv")


def test_an_adapted_model_is_adapted_again_from_the_same_features(folder, capsys):
    run()
    capsys.readouterr()
    write_corrections(folder / "c.tsv", truth()[0], range(100, 160), range(60, 100))
    arguments = ["-m", "out/a.keras", "-e", "f.npz", "-t", "c.tsv", "-o", "out/b.keras"]
    assert adaptImages.main(arguments) == 0 and read_output_layer("out/b.keras").kernel.shape == (8, 6)
    shutil.move("model.keras", "gone.keras")
    assert adaptImages.main(arguments) == 2
    assert "f.npz has the features of another model (model.keras) than out/a.keras" in capsys.readouterr().err


def test_a_smaller_ridge_learns_faster(folder, capsys):
    changed = {}
    for ridge in ("1000", "0.03"):
        run("--ridge", ridge)
        changed[ridge] = int(capsys.readouterr().out.split("Answers that change: ")[1].split(" ")[0])
    assert changed["1000"] < changed["0.03"]


def test_the_page_goes_on_with_the_ridge(folder):
    assert run("--ridge", "1.5", "--predict", "a.tsv", "--report", "a.html") == 0
    data = json.loads(re.search(r'id="data">(.*?)</script>', (folder / "a.html").read_text())[1])
    assert data["command"]["model"] == "model.keras", "that which the features are of, not the adapted one"
    assert (data["ridge"], data["command"]["ridge"]) == (1.5, "1.5")


def corrections(*rows):
    return "FILE\tCATEGORY\tROLE\n" + "".join("\t".join(row) + "\n" for row in rows)


OK = ("scans/001.jpg", "A")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FILE\tCATEGORY\n", "c.tsv has no rows"),
        ("", "c.tsv needs a header with the columns FILE and CATEGORY"),
        (corrections(OK, ("scans/001.jpg", "B")), "lines 2 and 3 say both A and B of scans/001.jpg; keep one of them."),
        (corrections(OK, ("scans/002.jpg", "A")), "c.tsv teaches one category only, A; it takes at least two."),
        (corrections((*OK, "audit")), "c.tsv has only audited images, which are never learnt from; add taught ones."),
        (corrections(OK, ("x.jpg", "B")), "c.tsv has x.jpg, of which there are no features."),
        (
            corrections(OK, ("x.jpg", "B"), ("y.jpg", "C", "audit")),
            "has x.jpg, of which there are no features (nor of 1 others)",
        ),
        (
            corrections(OK, ("scans/002.jpg", "b")),
            "almost 'B'; write that, or pass --new-category 'b' if it is another.",
        ),
    ],
)
def test_decisions_that_nothing_can_be_learnt_from(folder, capsys, text, words):
    (folder / "c.tsv").write_text(text)
    assert run("--predict", "a.tsv") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert ": -t/--table: c.tsv " in line and words in line
    assert not os.path.exists("out/a.keras") and not os.path.exists("a.tsv")


def test_a_new_category_may_be_spelled_like_another(folder, capsys):
    (folder / "c.tsv").write_text(corrections(OK, ("scans/002.jpg", "b")))
    assert run("--new-category", "b") == 0
    assert (folder / "out" / "categories.tsv").read_text() == FIVE + "b\t5\tb\n"
    assert "b\t1\t0\t0\t0" in capsys.readouterr().out


def test_files_that_do_not_go_together(folder, capsys):
    def complaint(*arguments):
        assert run(*arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    shutil.copy(FIXTURES / "keras" / "reference-3.15.keras", "other.keras")
    assert "f.npz has the features of another model (model.keras) than other.keras" in complaint("-m", "other.keras")
    (folder / "x.npz").write_bytes(b"x")
    assert "x.npz holds no features" in complaint("-e", "x.npz")
    assert "no.npz does not exist" in complaint("-e", "no.npz")
    write_stored("wide.npz", np.ones((5, 9), "float32"))
    assert "wide.npz has 9 features of an image, but model.keras takes 8" in complaint("-e", "wide.npz")
    write_stored("none.npz", np.ones((0, 8), "float32"))
    assert "none.npz has the features of no images" in complaint("-e", "none.npz")
    write_stored("nan.npz", np.full((100, 8), np.nan, "float32"))
    assert "some features are infinite or NaN" in complaint("-e", "nan.npz")
    (folder / "t.tsv").write_text("somebody's\n")
    assert "t.tsv exists and is no table of out/a.keras" in complaint("--predict", "t.tsv")
    assert "7 is more than the 6 categories" in complaint("--predict", "u.tsv", "--top", "7")
    assert "model.keras is the model itself" in complaint("-o", "model.keras")
    assert "--top: it needs --predict TABLE" in complaint("--top", "2")
    assert "--join: it needs --predict TABLE" in complaint("--join", "c.tsv")
    assert "--predict: c.tsv is that of -t/--table, too" in complaint("--predict", "c.tsv")
    (folder / "17.tsv").write_text("INDEX\tLABEL\n" + "".join(f"{number}\tL{number}\n" for number in range(17)))
    assert "has 5 outputs where 17 are needed. The labels are 17.tsv" in complaint("--labels", "17.tsv")
    assert not os.path.exists("out/a.keras")


def test_options_that_are_missing_something(folder, capsys):
    for arguments, words in (
        (["-t", "c.tsv"], "the following arguments are required: -o/--output"),
        (
            ["-t", "c.tsv", "-o", "out/a.keras"],
            "the features are missing: give -e/--embeddings FILE.npz, or -d/--data DIR to compute them",
        ),
        (["-t", "c.tsv", "-o", "out/a.h5", "-e", "f.npz"], "must end in .keras"),
        (["-t", "c.tsv", "-o", "out/a.keras", "-e", "f.npz", "--ridge", "0"], "--ridge: '0' is not a number above 0"),
    ):
        try:
            status = adaptImages.main(arguments)
        except SystemExit as stopped:
            status = stopped.code
        assert status == 2 and words in capsys.readouterr().err


def test_a_folders_features_are_of_one_folder_and_its_table_is_not_that_of_the_answers_before(folder, capsys):
    for name in ("scans", "others"):
        os.mkdir(name)
        for number in range(40):
            draw(f"{name}/{number:03d}.png", number)
    (folder / "c.tsv").write_text(corrections(*((f"scans/{number:03d}.png", "AB"[number % 2]) for number in range(8))))
    arguments = ["-c", "-m", "model.keras", "-t", "c.tsv", "-o", "out/a.keras", "-e", "new.npz"]
    assert adaptImages.main([*arguments, "-d", "scans", "--predict", "new.tsv"]) == 2
    assert "--predict: new.tsv is the table of the answers before; choose another FILE." in capsys.readouterr().err
    shutil.copy("c.tsv", "new.tsv")
    assert adaptImages.main([*arguments, "-d", "scans", "-t", "new.tsv"]) == 2
    assert "-t/--table: new.tsv is the table of the answers before; choose another FILE." in capsys.readouterr().err
    os.unlink("new.tsv")
    for _ in range(2):
        assert adaptImages.main([*arguments, "-d", "scans", "--predict", "a.tsv"]) == 0
    capsys.readouterr()
    assert adaptImages.main([*arguments, "-d", "others"]) == 2
    said = "-e/--embeddings: new.npz and new.tsv were made with another folder or model; choose another FILE."
    assert capsys.readouterr().err.splitlines()[-1].endswith(said)


def draw(path, seed):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype="uint8"))
    small.resize((60, 45), Image.BICUBIC).save(path)


def test_predicting_with_the_adapted_model_gives_the_answers_computed_from_features(folder):
    os.mkdir("scans")
    for number in range(40):
        draw(f"scans/{number:03d}.png", number)
    predict = ["-c", "-d", "scans", "--probabilities"]
    assert (
        predictImages.main([*predict, "-m", "model.keras", "-o", "p.tsv", "--embeddings", "f.npz", "--overwrite"]) == 0
    )
    rows = [(f"scans/{number:03d}.png", "ABCDEF"[number % 6]) for number in range(24)]
    (folder / "c.tsv").write_text(corrections(*rows))
    assert run("--predict", "a.tsv", "--probabilities") == 0
    assert predictImages.main([*predict, "-m", "out/a.keras", "-o", "b.tsv"]) == 0
    for ours, theirs in zip(table("a.tsv"), table("b.tsv")):
        assert ours["FILE"] == theirs["FILE"] and ours["MODEL"] == theirs["MODEL"]
        chances = [[float(row[f"PROBABILITY_{label}"]) for label in "ABCDEF"] for row in (ours, theirs)]
        np.testing.assert_allclose(*chances, atol=2e-4)
        if ours["SOURCE"] == "model":
            assert ours["PREDICTION"] == theirs["PREDICTION"]
    os.unlink("f.npz")
    answers = (folder / "a.tsv").read_bytes()
    assert run("--predict", "a.tsv", "--probabilities", "-c", "-d", "scans") == 0, "the features are computed first"
    assert (folder / "a.tsv").read_bytes() == answers


def test_an_adapted_table_is_gone_on_with(folder, capsys):
    os.mkdir("scans")
    for number in range(9):
        draw(f"scans/{number:03d}.png", number)
    predict = ["-c", "-d", "scans"]
    assert (
        predictImages.main([*predict, "-m", "model.keras", "-o", "p.tsv", "--embeddings", "f.npz", "--overwrite"]) == 0
    )
    (folder / "c.tsv").write_text(corrections(*((f"scans/{number:03d}.png", "AB"[number % 2]) for number in range(6))))
    assert run("--predict", "a.tsv") == 0
    draw("scans/009.png", 9)
    capsys.readouterr()
    assert predictImages.main([*predict, "-m", "out/a.keras", "-o", "a.tsv"]) == 0
    assert "9 of 10 images are already done." in capsys.readouterr().err and len(table("a.tsv")) == 10

"""Which engine computes, and that it makes no difference to answers."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import FIXTURES, ROOT
from PIL import Image
from toys import write_layers, write_model

import predictImages
from lib.errors import UsageError
from lib.evaluation import evaluate
from lib.evaluation import settings as evaluation
from lib.prediction import model as engines
from lib.prediction.settings import ENGINES, Settings
from lib.system import devices

NO_TENSORFLOW = "import sys; sys.modules.update(tensorflow=None, keras=None)\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with images, a model of three categories and their labels; the current one."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("images")
    rng = np.random.default_rng(1)
    for number in range(5):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), "uint8")).save(f"images/{number}.png")
    write_model("m.keras")
    with open("categories.tsv", "w") as file:
        file.write("INDEX\tLABEL\n0\tFern\n1\tMoss\n2\tAlga\n")
    return tmp_path


def call(*more, model="m.keras", output="t.tsv"):
    return ["-d", "images", "-m", model, "-o", output, *more]


def rows(path):
    with open(path) as file:
        return [line.rstrip("\n").split("\t") for line in file][1:]


def test_both_engines_give_the_same_answers(folder):
    for engine in ENGINES:
        more = ["--engine", engine, "--probabilities", "--embeddings", f"{engine}.npz"]
        assert predictImages.main(call(*more, output=f"{engine}.tsv")) == 0
    found, expected = rows("openvino.tsv"), rows("tensorflow.tsv")
    assert [row[:3] for row in found] == [row[:3] for row in expected] and len(found) == 5
    np.testing.assert_allclose(
        *(np.array([row[3:] for row in each], float) for each in (found, expected)), atol=1.01e-4
    )
    features = [np.load(f"{engine}.npz")["embeddings"] for engine in ENGINES]
    np.testing.assert_allclose(*features, atol=1e-4)


@pytest.mark.parametrize("batch", ["1", "3", "64"])
@pytest.mark.parametrize("processors", ["1", "3"])
def test_the_table_is_the_same_for_any_number_of_cores_and_images(folder, batch, processors):
    assert predictImages.main(call("--probabilities", output="whole.tsv")) == 0
    assert predictImages.main(call("--probabilities", "-b", batch, "-p", processors)) == 0
    assert (folder / "t.tsv").read_bytes() == (folder / "whole.tsv").read_bytes()


def test_openvino_is_chosen_where_it_can_compute_and_that_is_said(folder, capsys):
    assert predictImages.main(call("-c")) == 0
    assert capsys.readouterr().err.splitlines()[0] == "OpenVINO computes on the CPU."


def test_tensorflow_is_chosen_for_other_models_and_that_is_said(folder, capsys):
    import keras

    write_layers("other.keras", keras.layers.Conv2D(4, 1), keras.layers.Dropout(0.1, name="drop"))
    assert predictImages.main(call("-c", model="other.keras")) == 0
    said = "other.keras has layers that only TensorFlow computes: 'drop' (Dropout)."
    assert capsys.readouterr().err.splitlines()[0] == said
    assert predictImages.main(call("-c", "--engine", "openvino", "--overwrite", model="other.keras")) == 2
    assert capsys.readouterr().err.partition(": ")[2] == f"--engine: {said}\n"
    assert predictImages.main(call("-c", "--engine", "tensorflow", "--overwrite", model="other.keras")) == 0
    assert "computes" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "gpu", "reason"),
    [
        ({}, True, "this machine has a GPU"),
        ({"cpu": True}, True, None),
        ({}, False, None),
        ({"exact": True, "cpu": True}, False, "⟦exact⟧ needs it anyway"),
    ],
)
def test_when_tensorflow_computes_whatever_the_model_is(settings, gpu, reason, monkeypatch):
    monkeypatch.setattr(engines, "has_gpu", lambda: gpu)
    assert engines._reason_for_tensorflow(Settings(**settings)) == reason


def test_a_gpu_is_looked_for_without_tensorflow(monkeypatch):
    present, names = {"tensorflow"}, []
    monkeypatch.setattr(devices, "versions_of", lambda *packages: present.intersection(packages))
    monkeypatch.setattr(devices.glob, "glob", lambda pattern: names)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not devices.may_have_gpu()
    names.append("/dev/nvidiactl")
    assert devices.may_have_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not devices.may_have_gpu()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    present = {"tensorflow-cpu"}
    assert not devices.may_have_gpu()


def test_a_gpu_is_one_that_tensorflow_finds(monkeypatch):
    monkeypatch.setattr(devices, "may_have_gpu", lambda: True)
    assert not devices.has_gpu(), "the tests hide all"
    tf = devices.import_tensorflow()
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert devices.has_gpu()
    monkeypatch.setattr(devices, "may_have_gpu", lambda: False)
    assert not devices.has_gpu()


def without_tensorflow(*arguments, more=""):
    """Run predictImages.py as where neither TensorFlow nor Keras is installed."""
    work = f"import predictImages\nstatus = predictImages.main({list(arguments)!r})\n{more}\nsys.exit(status)"
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    return subprocess.run([sys.executable, "-c", NO_TENSORFLOW + work], capture_output=True, text=True, env=environment)


def test_all_of_it_without_tensorflow(folder):
    import keras

    write_layers("other.keras", keras.layers.Dropout(0.1, name="drop"))
    heavy = (
        "{name.split('.')[0] for name, module in sys.modules.items() if module} & {'tensorflow', 'keras', 'sklearn'}"
    )
    more = f"assert not {heavy}, {heavy}"
    views = ["--report", "page.html", "--sort", "sorted", "--embeddings", "f.npz"]
    done = without_tensorflow(*call(*views), more=more)
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, "OpenVINO computes on the CPU."), done.stderr
    assert len(rows("t.tsv")) == 5 and os.path.getsize("page.html") and len(np.load("f.npz")["paths"]) == 5
    versions = json.loads((folder / "t.tsv.settings.json").read_text())["versions"]
    assert "openvino" in versions
    for wrong, words in (
        (call("--exact", output="u.tsv"), ["--exact", "TensorFlow", "make setup"]),
        (call("--engine", "tensorflow", output="u.tsv"), ["--engine", "not installed", "make setup"]),
        (call(model="other.keras", output="u.tsv"), ["-m/--model", "'drop' (Dropout)", "not installed", "make setup"]),
    ):
        done = without_tensorflow(*wrong)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.parametrize("damage", ["cut", "weights", "other"])
def test_a_bad_file_is_said_in_one_sentence(folder, damage, capsys):
    content = (folder / "m.keras").read_bytes()
    if damage == "weights":  # of another shape than the description's
        content = content.replace(b'"filters": 8', b'"filters": 9')
    else:
        content = content[:-500] if damage == "cut" else b"nothing of the kind"
    (folder / "bad.keras").write_bytes(content)
    assert predictImages.main(call("-c", "--engine", "openvino", model="bad.keras")) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "bad.keras" in said[0]


def test_numbers_that_are_published_are_computed_exactly(folder, monkeypatch):
    def select(*arguments, exact=False, **options):
        raise KeyError(exact)

    for module in (engines, evaluate):
        monkeypatch.setattr(module, "select_device", select)
    with pytest.raises(KeyError, match="True"):
        engines.open_model("m.keras", Settings(engine="tensorflow", cpu=True), 4, False)
    with pytest.raises(KeyError, match="True"):
        evaluate.answer_records(evaluation.Settings(model="m.keras", categories=3, test=()))


def test_labels_and_features_are_checked_alike(folder, capsys):
    for engine in ENGINES:
        settings = Settings(engine=engine, cpu=True)
        with pytest.raises(UsageError, match="has 3 outputs where 2 are needed"):
            engines.open_model("m.keras", settings, 4, False, ["a", "b"], "x.tsv")
        path = str(FIXTURES / "keras" / "reference-2.13.keras")
        model = engines.open_model(path, settings, 4, True)
        logits, features = model.compute(np.zeros((4, model.size, model.size, 3), "float32"))
        assert (model.engine, len(logits), len(features)) == (engine, 4, 4)

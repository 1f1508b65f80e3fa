"""Distillation, called without a shell: the loss, what is learnt, what is measured."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from toys import SIZE, linear_teacher, write_model, write_records, write_saved_model
from trainings import images_of, messages

from lib.errors import DivergenceError, UsageError, WorkError
from lib.measures import metrics
from lib.measures.uncertainty import confusion_matrix
from lib.models.keras_files import load_model, save_model
from lib.models.teacher_files import open_teacher
from lib.system.devices import start_team
from lib.training.hyperparameters import Hyperparameters
from lib.training.inputs import open_data, open_trainee
from lib.training.student import Settings, build_task, distillation_loss, train_student

HYPERPARAMETERS = Hyperparameters(batch_power=3, learning_rate=0.01, distill_temperature=4.0, scale_low=0.5)


def divergence(teacher, student, temperature):
    """The same in float64, from probabilities."""

    def softmax(logits):
        values = np.exp((logits - logits.max(axis=1, keepdims=True)).astype("float64") / temperature)
        return values / values.sum(axis=1, keepdims=True)

    expected, given = softmax(teacher), softmax(student)
    return (expected * np.log(expected / given)).sum(axis=1)


@pytest.mark.parametrize("categories", [3, 21_000])
@pytest.mark.parametrize("temperature", [1.0, 12.5])
def test_the_loss_is_the_divergence_however_many_categories(categories, temperature):
    rng = np.random.default_rng(categories)
    teacher, student = (rng.normal(0, 8, (4, categories)).astype("float32") for _ in range(2))
    expected = divergence(teacher, student, temperature)
    for function in (distillation_loss, tf.function(distillation_loss)):
        np.testing.assert_allclose(function(teacher, student, temperature), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(distillation_loss(teacher, teacher + 3, temperature), 0, atol=1e-5)


def test_the_losss_gradient_is_the_difference_of_the_probabilities():
    teacher, student = tf.constant([[2.0, 0.0, -90.0]]), tf.Variable([[-3.0, 1.0, 95.0]])
    with tf.GradientTape() as tape:
        loss = distillation_loss(teacher, student, 2.0)
    expected = (tf.nn.softmax(student / 2) - tf.nn.softmax(teacher / 2)) / 2
    np.testing.assert_allclose(tape.gradient(loss, student), expected, atol=1e-6)
    assert np.isfinite(loss)


def first_pixel(pixels):
    """Logits that are the first pixel's values: what a teacher saw, and where."""
    return pixels[:, :, 0, 0] * 1


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return {
        "student": write_model(folder / "student.keras"),
        "teacher": write_saved_model(folder / "teacher", linear_teacher(), 20),
        "train": (write_records(folder / "train.tfr", 50, 1),),
        "validate": (write_records(folder / "validation.tfr", 21, 2),),
    }


def settings(files, output, **others):
    sizes = {"teacher_size": 20, "student_size": SIZE}
    return Settings(**{**files, "output": str(output), "categories": 3, "epochs": 3, "cpu": True, **sizes, **others})


def run(made, hyperparameters=HYPERPARAMETERS):
    """Distil; returns the directory of the run, its history and the messages."""
    with messages() as said:
        best = Path(train_student(made, hyperparameters)).parent
    return best, np.load(best / "training-history.npy", allow_pickle=True).item(), said


def scores_of(path, files, temperature=4.0):
    """A student's metrics on the validation records, by other execution."""
    images = images_of(*files["validate"])
    pixels = images.take(np.arange(len(images))).astype("float32")
    logits = load_model(path)(pixels, training=False).numpy()
    larger = tf.image.resize(pixels, (20, 20))
    answers = linear_teacher()(tf.transpose(larger, [0, 3, 1, 2]) / 255).numpy()
    labels = np.eye(3, dtype="float32")[images.records.category]
    losses = divergence(answers, logits, temperature).astype("float32")
    found = metrics.summarise(metrics.count(labels, logits, losses))
    return {**found, "agreement": (answers.argmax(axis=1) == logits.argmax(axis=1)).mean()}


@pytest.mark.slow
def test_the_student_learns_to_answer_as_its_teacher(files, tmp_path):
    best, history, said = run(settings(files, tmp_path, epochs=6, evaluate_first=True))
    (before,) = re.findall(r"Before training: .*agreement ([\d.]+)", "\n".join(said))
    assert float(before) < 0.7 and max(history["val_agreement"]) > 0.9
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert set(history) == {"learning_rate"} | {
        part + name for part in ("", "val_") for name in ("loss", "accuracy", "auc", "f1", "agreement")
    }
    highest = int(np.argmax(history["val_f1"]))
    for name, value in scores_of(best / "best-model.keras", files).items():
        assert history[f"val_{name}"][highest] == pytest.approx(value, rel=1e-3), name
    assert f"epoch {highest + 1}" in said[-1]
    measured = json.loads((best / "validation.json").read_text())
    assert measured["macro_f1"] == pytest.approx(history["val_f1"][highest], rel=1e-3)
    card = (best / "README.md").read_text()
    assert f"| macro F1 | {measured['macro_f1']:.1%} |" in card and "(validation-confusion.png)" in card
    recorded = json.loads((best / "training-settings.json").read_text())
    assert recorded["hyperparameters"]["distill_temperature"] == 4.0
    assert len(recorded["inputs"][files["teacher"]]) == 64
    assert load_model(best / "best-model.keras").image_size == SIZE
    _, _, said = run(settings(files, tmp_path, epochs=6))
    assert said == ["The run is already complete."]


def test_a_step_is_as_the_log_says_and_both_see_the_same(files, tmp_path):
    names = ("left_right", "up_down", "rotate_one", "shear_x", "translate_y", "gaussian_noise", "solarize_add")
    hyperparameters = dataclasses.replace(
        HYPERPARAMETERS,
        **{**dict.fromkeys(names, 0.5), "clr_step": 2.5, "learning_rate": 0.02, "weight_decay": 0.003},
        **dict.fromkeys(("scale_low", "scale_high"), 0.16),
        **dict.fromkeys(("ratio_low", "ratio_high"), 4.0),
    )
    teacher = write_saved_model(tmp_path / "teacher", first_pixel)
    made, team = settings(files, tmp_path, teacher=teacher, teacher_size=SIZE), start_team(cpu=True)
    trainee = open_trainee(made, "student", "student_size", team.strategy)
    data, teach = open_data(made, 3, team, 8), open_teacher(teacher, 3, SIZE)
    task = build_task(made, hyperparameters, team, trainee, teach, data)
    assert (task.training.steps, task.validation.steps, task.batch, task.monitor, made.patience) == (
        6,
        3,
        8,
        "val_f1",
        16,
    )
    assert task.taught
    rates = [0.005, 0.02, 0.005, 0.0125]  # half a cycle is 2.5 * 8 steps
    schedule = task.optimizer._learning_rate
    np.testing.assert_allclose([schedule(step) for step in (0, 20, 40, 60)], rates, rtol=1e-5)
    assert task.optimizer.weight_decay == 0.003
    feed = task.training.feed(0, 0, 0, 1)
    top, left, bottom, right = feed.windows.T
    np.testing.assert_allclose([bottom - top, right - left], [[0.2] * 8, [0.8] * 8], rtol=1e-4)
    assert feed.changes.any() and feed.shares.all()
    examples = task.training.examples(feed)
    np.testing.assert_allclose(examples.teacher, examples.pixels[:, 0, 0] / 255, atol=1e-5)
    assert not np.allclose(examples.teacher, task.training.examples(task.training.feed(0, 1, 0, 1)).teacher)


def test_the_card_is_of_images_of_the_students_size(files, tmp_path):
    slow = dataclasses.replace(HYPERPARAMETERS, learning_rate=1e-6)  # or it would be right about both
    best, *_ = run(settings(files, tmp_path, epochs=1, student_size=6), slow)
    images, model = images_of(*files["validate"]), load_model(best / "best-model.keras")
    pixels = images.take(np.arange(len(images))).astype("float32")
    as_they_are, smaller = (
        confusion_matrix(images.records.category, model(given, training=False).numpy().argmax(axis=1), 3).tolist()
        for given in (pixels, tf.image.resize(pixels, (6, 6)))
    )
    assert as_they_are != smaller, "the test shows nothing"
    assert json.loads((best / "validation.json").read_text())["matrix"] == smaller


@pytest.mark.slow
def test_other_monitors_choose_another_epoch(files, tmp_path):
    found = {}
    for monitor, choose in (("val_loss", np.argmin), ("agreement", np.argmax)):
        best, history, said = run(settings(files, tmp_path, epochs=8, monitor=monitor))
        values = history["val_agreement" if monitor == "agreement" else monitor]
        found[monitor] = int(choose(values))
        assert f"is {values[found[monitor]]:.4f}, that of epoch {found[monitor] + 1}." in said[-1]
        scores = scores_of(best / "best-model.keras", files)
        assert scores["loss"] == pytest.approx(history["val_loss"][found[monitor]], rel=1e-3)
    assert len(history["val_f1"]) == 8


@pytest.mark.slow
def test_the_square_of_the_temperature(files, tmp_path):
    slow = dataclasses.replace(HYPERPARAMETERS, learning_rate=1e-9)
    _, plain, _ = run(settings(files, tmp_path, epochs=1), slow)
    _, squared, _ = run(settings(files, tmp_path, epochs=1, temperature_squared=True), slow)
    assert squared["loss"][0] == pytest.approx(16 * plain["loss"][0], rel=1e-3)
    assert squared["val_loss"][0] == pytest.approx(16 * plain["val_loss"][0], rel=1e-3)


@pytest.mark.slow
def test_all_changes_together_a_keras_teacher_and_no_room(files, tmp_path, monkeypatch):
    from lib.data import records

    names = ("left_right", "up_down", "rotate_one", "rotate_two", "rotate_three", "shear_x", "shear_y")
    others = ("translate_x", "translate_y", "gaussian_noise", "invert", "solarize_add")
    hyperparameters = dataclasses.replace(HYPERPARAMETERS, **dict.fromkeys((*names, *others), 0.3))
    teacher = write_model(tmp_path / "teacher.keras")
    made = settings(files, tmp_path, epochs=2, teacher=teacher, teacher_size=SIZE, mixup=0.5)
    _, expected, _ = run(made, hyperparameters)
    monkeypatch.setattr(records, "choose_cache", lambda need: "none")
    _, history, said = run(dataclasses.replace(made, fresh=True, cache="memory"), hyperparameters)
    assert any("they are recomputed in each epoch" in message for message in said)
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-3, err_msg=name)
    assert np.isfinite(history["loss"]).all()


@pytest.mark.slow
def test_without_a_teacher_the_labels_teach(files, tmp_path):
    _, history, _ = run(settings(files, tmp_path, epochs=12, teacher=None))
    assert "agreement" not in history and max(history["val_f1"]) > 0.6
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.slow
def test_what_watches_is_called_after_each_epoch_and_can_end_it(files, tmp_path):
    class EnoughError(Exception):
        pass

    def watch(history):
        seen.append(list(history["val_f1"]))
        if len(seen) == 2:
            raise EnoughError

    seen = []
    with pytest.raises(EnoughError):
        train_student(settings(files, tmp_path), HYPERPARAMETERS, watch)
    assert [len(values) for values in seen] == [1, 2]
    _, _, said = run(settings(files, tmp_path))
    assert any(message.startswith("Resuming after 2 of at most 3 epochs.") for message in said)


@pytest.mark.slow
def test_what_is_no_number_is_told_with_what_would_help(files, tmp_path):
    model = load_model(files["student"])
    model.set_weights([np.full_like(weight, 3e38) for weight in model.get_weights()])
    save_model(model, str(tmp_path / "student.keras"))
    with pytest.raises(
        DivergenceError, match="infinite or NaN in epoch 1 at step 1; .*: try a lower learningRate in the log"
    ):
        run(settings(files, tmp_path, student=str(tmp_path / "student.keras")))
    teacher = write_saved_model(tmp_path / "teacher", lambda pixels: pixels[:, :, 0, 0] * np.nan, 20)
    with pytest.raises(WorkError, match="teacher gives infinite or NaN outputs for images of ⟦validate⟧") as error:
        run(settings(files, tmp_path, teacher=teacher))
    assert error.value.setting == "teacher"


@pytest.mark.parametrize(
    ("others", "power", "setting", "message"),
    [
        ({"categories": 4}, 3, "student", "has 3 outputs where 4 are needed"),
        ({"teacher_size": 30}, 3, "teacher", "takes images of 3 x 20 x 20 .*, not 3 x 30 x 30"),
        ({"teacher_output": "logits"}, 3, None, "has no output 'logits', only output"),
        ({}, 6, "log", "a batch of 64 is more than the 50 records of ⟦train⟧"),
    ],
)
def test_settings_that_do_not_fit(files, tmp_path, others, power, setting, message):
    with pytest.raises(UsageError, match=message) as error:
        run(settings(files, tmp_path, **others), dataclasses.replace(HYPERPARAMETERS, batch_power=power))
    assert setting in (None, error.value.setting) and not list(tmp_path.glob("*/best-model.keras"))

"""Training, called without a shell: what is learnt, what is measured, what is saved."""

import contextlib
import dataclasses
import json
import os
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from toys import SIZE, write_model, write_records

from lib.cli.execution import Execution
from lib.data.records import load_images, open_records
from lib.errors import UsageError, WorkError
from lib.measures import metrics
from lib.measures.losses import build_loss
from lib.models.keras_files import load_model, save_model
from lib.training import classifier as training
from lib.training.classifier import Settings, train

pytestmark = pytest.mark.slow

METRICS = ("loss", "accuracy", "auc", "f1")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return {
        "model": write_model(folder / "model.keras"),
        "train": (write_records(folder / "train.tfr", 50, 1),),
        "validate": (write_records(folder / "validation.tfr", 21, 2),),
    }


def settings(files, **others):
    return Settings(**{**files, "outputs": 3, "batch": 8, "epochs": 3, "size": SIZE, "learning_rate": 0.01, **others})


def run(made, folder, **execution):
    """Train; returns the directory of the run, its history and the messages."""
    said = []
    model = train(made, str(folder), Execution(cpu=True, **execution), report=said.append, tell=said.append)
    best = folder / model.split("/")[-2]
    return best, np.load(best / "training-history.npy", allow_pickle=True).item(), said


def scores_of(path, files, loss="ce", **parameters):
    """A model's metrics on the validation records, computed at once, by other execution."""
    model = load_model(path)
    images = load_images(open_records(files["validate"], "-v", 3))
    labels = np.eye(3, dtype="float32")[images.records.category]
    logits = model(images.take(np.arange(len(images))).astype("float32"), training=False).numpy()
    losses = build_loss(loss, **parameters)(labels, logits) + sum(float(penalty) for penalty in model.losses)
    return metrics.summarise(metrics.count(labels, logits, losses))


def test_the_model_of_the_best_epoch_is_saved_without_a_trainings_state(files, tmp_path):
    best, history, said = run(settings(files, epochs=6), tmp_path)
    assert set(history) == {*METRICS, *(f"val_{name}" for name in METRICS), "learning_rate"}
    assert {len(values) for values in history.values()} == {6}
    highest = int(np.argmax(history["val_f1"]))
    assert highest < 5, "the last epoch is the best one: the test shows nothing"
    for name, value in scores_of(best / "best-model.keras", files).items():
        assert value == pytest.approx(history[f"val_{name}"][highest], rel=1e-4), name
    assert load_model(best / "best-model.keras").image_size == SIZE
    assert sorted(path.name for path in best.iterdir()) == [
        ".lock",
        "best-model.keras",
        *(f"training-{name}" for name in ("history.npy", "history.png", "history.tsv", "settings.json")),
    ]
    assert f"epoch {highest + 1}" in said[-1]
    assert history["loss"][-1] < history["loss"][0]


def test_it_learns(files, tmp_path):
    _, history, _ = run(settings(files, epochs=25), tmp_path)
    assert max(history["val_f1"]) > 0.9


@pytest.mark.parametrize("loss", ["ce", "bel", "cbs", "lwb"])
def test_validation_covers_every_record_also_of_the_last_partial_batch(files, tmp_path, loss):
    made = settings(files, epochs=1, recipe=training.Recipe(loss, "aw"), batch=20)
    best, history, _ = run(made, tmp_path)
    model = load_model(best / "best-model.keras")
    images = load_images(open_records(files["validate"], "-v", 3))
    total, function = metrics.no_counts(3), build_loss(loss, class_counts=[17, 17, 16])
    for rows in (np.arange(20), np.arange(20, 21)):
        labels = np.eye(3, dtype="float32")[images.records.category[rows]]
        logits = model(images.take(rows).astype("float32"), training=False).numpy()
        losses = function(labels, logits) + sum(float(penalty) for penalty in model.losses)
        total = metrics.add(total, metrics.count(labels, logits, losses))
    assert float(total.images) == 21
    for name, value in metrics.summarise(total).items():
        assert value == pytest.approx(history[f"val_{name}"][0], rel=1e-4), name


def test_the_run_is_named_after_content_not_names(files, tmp_path):
    other = tmp_path / "another-name.tfr"
    other.write_bytes(Path(files["train"][0]).read_bytes())
    first, _, _ = run(settings(files, epochs=1), tmp_path)
    second, _, said = run(settings({**files, "train": (str(other),)}, epochs=1), tmp_path)
    assert first == second and said == ["The run is already complete."]
    third, _, _ = run(settings(files, epochs=1, seed=2), tmp_path)
    assert third != first
    assert len(first.name) == 32 + len("-best") and int(first.name[:32], 16) >= 0


def test_a_complete_run_becomes_the_newest_and_fresh_starts_anew(files, tmp_path):
    best, _, _ = run(settings(files, epochs=1), tmp_path)
    os.utime(best / "best-model.keras", (1, 1))
    run(settings(files, epochs=1), tmp_path)
    assert (best / "best-model.keras").stat().st_mtime > 1e9
    before = (best / "best-model.keras").stat().st_ino
    (best / "stray").write_text("")
    _, _, said = run(settings(files, epochs=1), tmp_path, fresh=True)
    assert (best / "best-model.keras").stat().st_ino != before and not (best / "stray").exists()
    assert said[-1].startswith("Finished after 1 epochs")


def test_the_epochs_models_are_listed_and_only_the_best_are_kept(files, tmp_path):
    best, history, _ = run(settings(files, epochs=5, save_epochs=True, keep=2), tmp_path)
    folder = tmp_path / best.name.replace("-best", "-intermediate")
    ranked = sorted(range(5), key=lambda epoch: (-history["val_f1"][epoch], epoch))[:2]
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"epoch-{epoch + 1:04d}.keras" for epoch in sorted(ranked)),
        "epochs.tsv",
    ]
    rows = [line.split("\t") for line in (folder / "epochs.tsv").read_text().splitlines()]
    assert rows[0][:3] == ["EPOCH", "FILE", "LOSS"] and len(rows) == 6
    for epoch in range(5):
        row = dict(zip(rows[0], rows[epoch + 1]))
        assert float(row["VAL_F1"]) == pytest.approx(history["val_f1"][epoch])
        assert row["FILE"] == (f"epoch-{epoch + 1:04d}.keras" if epoch in ranked else "")
        if row["FILE"]:
            found = scores_of(folder / row["FILE"], files)
            assert found["f1"] == pytest.approx(float(row["VAL_F1"]), rel=1e-5)


def test_the_history_is_the_same_in_each_form(files, tmp_path):
    best, history, _ = run(settings(files), tmp_path)
    lines = [line.split("\t") for line in (best / "training-history.tsv").read_text().splitlines()]
    assert lines[0] == ["EPOCH", *(name.upper() for name in history)]
    table = np.array([[float(value) for value in line] for line in lines[1:]])
    np.testing.assert_allclose(table[:, 1:].T, list(history.values()), rtol=1e-7)
    assert (best / "training-history.png").read_bytes().startswith(b"\x89PNG")
    recorded = json.loads((best / "training-settings.json").read_text())
    assert recorded["settings"]["batch"] == 8 and recorded["training_records"] == 50
    assert recorded["versions"]["TensorFlow"] == tf.__version__
    assert all(len(digest) == 64 for digest in recorded["inputs"].values()) and len(recorded["inputs"]) == 3


def test_what_is_before_the_first_layer_stays_as_it_is(files, tmp_path):
    best, _, _ = run(settings(files, first="expand"), tmp_path)
    before, after = load_model(files["model"]), load_model(best / "best-model.keras")
    frozen = ("rescale", "stem", "norm")
    for old, new in zip(before.layers[1:], after.layers[1:]):
        for one, other in zip(old.get_weights(), new.get_weights()):
            assert np.array_equal(one, other) == (old.name in frozen), old.name
        assert new.trainable == (new.name not in frozen)


def test_class_weights_count_in_training_only(files, tmp_path):
    plain = settings(files, epochs=1, learning_rate=1e-9)  # too low to change anything
    _, one, _ = run(plain, tmp_path)
    _, other, _ = run(dataclasses.replace(plain, class_weights={0: 3.0, 1: 3.0, 2: 3.0}), tmp_path)
    penalty = sum(float(loss) for loss in load_model(files["model"]).losses)
    assert other["loss"][0] - penalty == pytest.approx(3 * (one["loss"][0] - penalty), rel=1e-3)
    for name in ("accuracy", "auc", "f1", "val_loss", "val_f1"):
        assert other[name][0] == pytest.approx(one[name][0], rel=1e-4), name


def test_patience_ends_a_run(files, tmp_path):
    # At such a rate nothing changes, so that no epoch after the first is better.
    _, history, said = run(settings(files, epochs=50, patience=3, learning_rate=1e-9), tmp_path)
    assert len(history["loss"]) == 4
    assert "the last 3 of them without a better one" in said[-1]


def test_a_number_map(files, tmp_path):
    (tmp_path / "map.tsv").write_text("OLD\tNEW\n0\t2\n1\t2\n2\t0\n")
    best, _, _ = run(settings(files, epochs=1, number_map=str(tmp_path / "map.tsv")), tmp_path)
    recorded = json.loads((best / "training-settings.json").read_text())
    assert recorded["class_counts"] == [16, 0, 34]


@pytest.mark.parametrize(
    "execution",
    [
        {"steps_per_execution": 4},
        {"jit": True},
        {"cache": "none"},
        {"cache": "disk"},
    ],
)
def test_the_way_it_is_done_changes_nothing_but_rounding(files, tmp_path, execution):
    _, expected, _ = run(settings(files, epochs=2), tmp_path)
    _, history, _ = run(settings(files, epochs=2), tmp_path, fresh=True, **execution)
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_learns_and_saves_a_float32_model(files, tmp_path, precision):
    best, history, _ = run(settings(files, epochs=12, precision=precision, save_epochs=True), tmp_path)
    assert history["loss"][-1] < history["loss"][0] and max(history["val_f1"]) > 0.6
    model = load_model(best / "best-model.keras")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert scores_of(best / "best-model.keras", files)["f1"] == pytest.approx(max(history["val_f1"]), abs=0.1)


def test_the_layers_compute_as_told_but_for_the_ends(files):
    model = load_model(files["model"], precision="mixed_float16")
    dtypes = {layer.name: layer.compute_dtype for layer in model.layers}
    assert dtypes["stem"] == "float16" and dtypes["gap"] == "float16"
    assert dtypes["output_dense"] == dtypes["rescale"] == dtypes["norm"] == "float32"
    assert tf.as_dtype(model.output.dtype) == "float32"
    assert {tf.as_dtype(weight.dtype) for weight in model.weights} == {tf.float32}


def test_every_optimizer_and_remix(files, tmp_path):
    for name in ("a", "sgd"):
        made = settings(files, epochs=2, recipe=training.Recipe("fce", name), remix=True, remix_kappa=1.01)
        _, history, _ = run(made, tmp_path)
        assert np.isfinite(history["loss"]).all() and history["loss"][1] != history["loss"][0]


def test_metrics_before_training_and_for_tensorboard(files, tmp_path):
    best, history, said = run(settings(files, epochs=2), tmp_path, evaluate_first=True, tensorboard=True)
    expected = scores_of(files["model"], files)
    assert f"Before training: loss {expected['loss']:.4g}, accuracy {expected['accuracy']:.4g}" in "\n".join(said)
    (path,) = (best / "tensorboard").iterdir()
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    assert [event.step for event in events[1:]] == [1, 2]
    written = {value.tag: value.simple_value for value in events[2].summary.value}
    assert written == pytest.approx({name: values[1] for name, values in history.items()})


def test_a_loss_that_is_no_number_stops_it_and_keeps_what_was_good(files, tmp_path):
    model = load_model(files["model"])
    weight = model.get_layer("output_dense").trainable_weights[0]
    weight.assign(np.full(weight.shape, 3e38, "float32"))
    save_model(model, tmp_path / "broken.keras")
    with pytest.raises(WorkError, match="infinite or NaN in epoch 1 at step 1; no epoch was finished"):
        run(settings({**files, "model": str(tmp_path / "broken.keras")}), tmp_path)
    assert not list(tmp_path.glob("*/best-model.keras"))


def test_after_good_epochs_the_best_model_and_the_state_are_kept(files, tmp_path, monkeypatch):
    from lib.training import loop as fitting

    made = settings(files, epochs=4)

    def break_in_epoch_3(task, conduct, run, *others):
        def feed(epoch, step, *replica, feed=task.feed):
            found = feed(epoch, step, *replica)
            shares = found.shares * np.float32(np.nan if epoch == 2 and step == 3 else 1)
            return found._replace(shares=shares)

        return fit(dataclasses.replace(task, feed=feed), conduct, run, *others)

    fit = fitting.fit
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "fit", break_in_epoch_3)
        with pytest.raises(
            WorkError, match=r"epoch 3 at step 4; the best model before is .*training-best-so-far.keras"
        ):
            run(made, tmp_path)
    (so_far,) = tmp_path.glob("*/training-best-so-far.keras")
    history = np.load(so_far.parent / "training-history.npy", allow_pickle=True).item()
    assert len(history["loss"]) == 2
    assert scores_of(so_far, files)["f1"] == pytest.approx(max(history["val_f1"]), rel=1e-4)
    _, history, said = run(made, tmp_path)  # without the defect it goes on
    assert said[2].startswith("Resuming after 2 of at most 4 epochs.") and len(history["loss"]) == 4
    assert not so_far.exists()


def test_images_of_other_bands_are_refused(files, tmp_path):
    model = write_model(tmp_path / "four.keras", bands=4)
    with pytest.raises(
        UsageError, match=r"-m/--model: .*four\.keras takes images of 4 bands; those of records have 1 or 3"
    ):
        run(settings({**files, "model": model}), tmp_path)
    assert not list(tmp_path.glob("*-best"))


def test_a_full_disk_is_foreseen(files, tmp_path, monkeypatch):
    from lib.training import loop as fitting

    monkeypatch.setattr(fitting.shutil, "disk_usage", lambda path: type("", (), {"free": 30_000_000})())
    with pytest.raises(WorkError, match=r"models of 4,096 epochs .* 30.0 MB are free; --keep N"):
        run(settings(files, epochs=4096, save_epochs=True), tmp_path)
    run(settings(files, epochs=1, save_epochs=True, keep=3), tmp_path)


def test_the_disk_must_hold_a_state_beside_the_former_one(files, tmp_path, monkeypatch):
    from lib.training import loop as fitting

    weights = sum(weight.nbytes for weight in load_model(files["model"]).get_weights())
    need = 2 * 4 * weights + weights + (1 << 18)
    for room in (need - 1, need):
        # Not in shutil itself, which the saving of models asks, too.
        usage = types.SimpleNamespace(free=room)
        monkeypatch.setattr(fitting, "shutil", types.SimpleNamespace(disk_usage=lambda path, usage=usage: usage))
        with pytest.raises(WorkError, match="the training would take") if room < need else contextlib.nullcontext():
            run(settings(files, epochs=1), tmp_path)


def test_a_failed_write_leaves_the_former_state(files, tmp_path, monkeypatch):
    from lib.storage import states

    calls = []

    def full(file, **arrays):
        calls.append(1)
        if len(calls) == 2:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        np_savez(file, **arrays)

    np_savez = np.savez
    monkeypatch.setattr(states.np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        run(settings(files), tmp_path)
    _, history, said = run(settings(files), tmp_path)
    assert "Resuming after 1 of at most 3 epochs." in said and len(history["loss"]) == 3


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"outputs": 4}, "-m/--model: .* has 3 outputs where 4 are needed"),
        ({"batch": 51}, "-b/--batch: 51 is more than the 50 records"),
        ({"first": "convNeXt9"}, "-s/--smooth: the model has no layer 'convNeXt9'; the nearest are"),
        ({"class_counts": {0: 1, 1: 2}}, "-y/--ycount: it lacks the class 2"),
        ({"class_counts": {0: 0, 1: 0, 2: 0}}, "-y/--ycount: at least one category needs a number above 0"),
        ({"class_weights": {0: 0, 1: 0, 2: 0}}, "-w/--weight: at least one category needs a number above 0"),
        ({"class_weights": {0: 1, 1: 2, 2: 3, 3: 4}}, "-w/--weight: it has the class 3"),
    ],
)
def test_settings_that_do_not_fit(files, tmp_path, others, message):
    with pytest.raises(UsageError, match=message):
        run(settings(files, **others), tmp_path)
    assert not list(tmp_path.glob("*/best-model.keras"))


def test_records_that_do_not_fit(files, tmp_path):
    (tmp_path / "empty.tfr").write_bytes(b"")
    four = write_records(tmp_path / "four.tfr", 8, 1, classes=4)
    grown = write_records(tmp_path / "grown.tfr", 8, 1, size=20)
    for wrong, message in (
        ({"train": (str(tmp_path / "empty.tfr"),)}, "-t/--train: there are no records"),
        ({"validate": (four,)}, "-v/--validate: .*four.tfr, record 3, has the category 3; 0 to 2 are right"),
        ({"train": (files["train"][0], grown)}, "is 20 x 20 pixels where others are 16 x 16"),
    ):
        with pytest.raises(UsageError, match=message):
            run(settings({**files, **wrong}), tmp_path)
    (tmp_path / "cut.tfr").write_bytes(Path(files["train"][0]).read_bytes()[:-9])
    damaged = {**files, "train": (str(tmp_path / "cut.tfr"),)}
    with pytest.raises(WorkError, match="record 49, is cut short, .*--skip-bad"):
        run(settings(damaged), tmp_path)
    _, _, said = run(settings(damaged, epochs=1, skip_bad=True), tmp_path)
    assert any(message.startswith("Left out 1 bad records") for message in said)


def test_a_damaged_state_and_one_of_other_versions_are_told(files, tmp_path, monkeypatch):
    from lib.training import loop as fitting

    class StopError(Exception):
        pass

    def stop(*arguments):
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "write_history", stop)  # before the state
        with pytest.raises(StopError):
            run(settings(files), tmp_path)
    assert not list(tmp_path.glob("*/training-state.npz"))
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "save_model", stop)  # at the end, after the last state
        with pytest.raises(StopError):
            run(settings(files), tmp_path)
    (state,) = tmp_path.glob("*/training-state.npz")
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_versions", lambda: {"TensorFlow": "1.0", "Keras": "0.1"})
        with pytest.raises(WorkError, match="was written by TensorFlow .* and this is TensorFlow 1.0 and Keras 0.1"):
            run(settings(files), tmp_path)
    content = state.read_bytes()
    state.write_bytes(content[: len(content) // 2])
    with pytest.raises(WorkError, match=r"training-state.npz is damaged .*--fresh"):
        run(settings(files), tmp_path)
    state.write_bytes(content)
    _, _, said = run(settings(files), tmp_path)
    assert said[-2].startswith("Resuming after 3 of at most 3") and not state.exists()


def test_a_state_that_is_none_of_this_training_is_told(files, tmp_path):
    from lib.storage.states import save_state
    from lib.training import loop as fitting

    best, _, _ = run(settings(files, epochs=1), tmp_path)
    (best / "best-model.keras").unlink()
    versions = fitting._versions()
    for facts, groups in (
        ({"versions": versions}, {}),
        ({"versions": 5}, {}),
        ([], {}),
        ({"versions": versions, "progress": {"epoch": 1, "more": 2}}, {}),
        ({"versions": versions, "progress": {}}, {"weights": [np.zeros(7)]}),
        ({"versions": versions, "progress": {}}, {"counts": [np.zeros(7)]}),
    ):
        save_state(str(best / "training-state.npz"), facts, groups)
        with pytest.raises(WorkError, match=r"training-state.npz .*--fresh"):
            run(settings(files, epochs=1), tmp_path)

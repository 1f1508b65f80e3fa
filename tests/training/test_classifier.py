"""Training, called without a shell: what is learnt, what is measured, what is saved."""

import dataclasses
import json
import os
import re
import shutil
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from toys import SIZE, write_model, write_records
from trainings import images_of, messages

from lib.errors import UsageError, WorkError
from lib.measures import metrics
from lib.measures.losses import build_loss, penalties
from lib.models.keras_files import load_model, save_model
from lib.storage.states import load_state, save_state
from lib.training import augmentation, loop
from lib.training.classifier import Settings, train
from lib.training.hyperparameters import parse_augmentation
from lib.training.run import identify

pytestmark = pytest.mark.slow

METRICS = ("loss", "accuracy", "auc", "f1")
CLASSES = 3


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Settings that name a model, records, and a folder for runs that several tests look at."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "runs").mkdir()
    return {
        "model": write_model(folder / "model.keras"),
        "train": (write_records(folder / "train.tfr", 50, 1),),
        "validate": (write_records(folder / "validation.tfr", 21, 2),),
        "output": str(folder / "runs"),
    }


def settings(files, output=None, **others):
    folder = {} if output is None else {"output": str(output)}
    made = {"categories": CLASSES, "batch": 8, "epochs": 3, "size": SIZE, "learning_rate": 0.01, "cpu": True}
    return Settings(**{**files, **folder, **made, **others})


def run(made):
    """Train; returns the directory of the run, its history and the messages."""
    with messages() as said:
        best = Path(train(made)).parent
    return best, np.load(best / "training-history.npy", allow_pickle=True).item(), said


@pytest.fixture(scope="module")
def long(files):
    """A run of many epochs with all that can be written of it, as `run` returns it."""
    options = {"save_epochs": True, "keep": 2, "evaluate_first": True, "tensorboard": True}
    return run(settings(files, epochs=25, **options))


@pytest.fixture(scope="module")
def short(files):
    """The settings of a run of two epochs, and what `run` returns of them."""
    made = settings(files, epochs=2)
    return made, run(made)


def finished(said):
    """The message about the end of a training."""
    (found,) = [message for message in said if message.startswith("Finished after")]
    return found


def scores_of(path, files, rows=slice(None), loss="ce", **parameters):
    """A model's metrics on the validation records, computed at once, by other execution."""
    return metrics.summarise(counts_of(load_model(path), files, rows, loss, **parameters))


def counts_of(model, files, rows, loss, **parameters):
    images = images_of(*files["validate"])
    rows = np.arange(len(images))[rows]
    labels = np.eye(CLASSES, dtype="float32")[images.records.category[rows]]
    logits = model(images.take(rows).astype("float32"), training=False).numpy()
    losses = build_loss(loss, **parameters)(labels, logits) + sum(float(penalty) for penalty in model.losses)
    return metrics.count(labels, logits, losses)


def test_it_learns_and_the_model_of_the_best_epoch_is_saved_without_a_trainings_state(files, long):
    best, history, said = long
    assert set(history) == {*METRICS, *(f"val_{name}" for name in METRICS), "learning_rate"}
    assert {len(values) for values in history.values()} == {25}
    assert history["loss"][-1] < history["loss"][0] and max(history["val_f1"]) > 0.9
    highest = int(np.argmax(history["val_f1"]))
    assert highest < 24, "the last epoch is the best one: the test shows nothing"
    for name, value in scores_of(best / "best-model.keras", files).items():
        assert value == pytest.approx(history[f"val_{name}"][highest], rel=1e-4), name
    assert load_model(best / "best-model.keras").image_size == SIZE
    assert sorted(path.name for path in best.iterdir()) == [
        ".lock",
        "README.md",
        "best-model.keras",
        "tensorboard",
        *(f"training-{name}" for name in ("history.npy", "history.png", "history.tsv", "settings.json")),
        *("validation-confusion.png", "validation.json"),
    ]
    assert f"is {history['val_f1'][highest]:.4f}, that of epoch {highest + 1}." in finished(said)
    assert re.search(r"\(F1 |No category is much weaker", said[-1])
    assert re.search(r"^Epoch 24 of 25: .*, 0:\d\d left at most\.$", "\n".join(said), re.MULTILINE)


def test_the_card_beside_the_model_is_made_of_the_runs_records(files, long):
    best, history, _ = long
    card = (best / "README.md").read_text()
    assert card.startswith("---\nlicense: other # fill in") and "\nlibrary_name: keras\n" in card
    measured = json.loads((best / "validation.json").read_text())
    highest = int(np.argmax(history["val_f1"]))
    assert measured["images"] == np.sum(measured["matrix"]) == 21
    assert measured["macro_f1"] == pytest.approx(history["val_f1"][highest], rel=1e-5)
    assert measured["accuracy"] == pytest.approx(history["val_accuracy"][highest], rel=1e-5)
    low, high = measured["accuracy_interval"]
    assert f"| accuracy | {measured['accuracy']:.1%} | {low:.1%} to {high:.1%} |" in card
    assert "(validation-confusion.png)" in card and (best / "validation-confusion.png").is_file()
    assert "50 images for training, 21 for validation" in card and "| 2 | category 2 | 16 |" in card
    assert files["train"][0] in card and tf.__version__ in card


def test_the_epochs_models_are_listed_and_only_the_best_are_kept(files, long):
    best, history, _ = long
    folder = best.parent / best.name.replace("-best", "-intermediate")
    ranked = sorted(range(25), key=lambda epoch: (-history["val_f1"][epoch], epoch))[:2]
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"epoch-{epoch + 1:04d}.keras" for epoch in sorted(ranked)),
        "epochs.tsv",
    ]
    rows = [line.split("\t") for line in (folder / "epochs.tsv").read_text().splitlines()]
    assert rows[0][:3] == ["EPOCH", "FILE", "LOSS"] and len(rows) == 26
    for epoch in range(25):
        row = dict(zip(rows[0], rows[epoch + 1]))
        assert float(row["VAL_F1"]) == pytest.approx(history["val_f1"][epoch])
        assert row["FILE"] == (f"epoch-{epoch + 1:04d}.keras" if epoch in ranked else "")
        if row["FILE"]:
            found = scores_of(folder / row["FILE"], files)
            assert found["f1"] == pytest.approx(float(row["VAL_F1"]), rel=1e-5)


def test_the_history_is_the_same_in_each_form_and_the_settings_are_recorded(long):
    best, history, _ = long
    lines = [line.split("\t") for line in (best / "training-history.tsv").read_text().splitlines()]
    assert lines[0] == ["EPOCH", *(name.upper() for name in history)]
    table = np.array([[float(value) for value in line] for line in lines[1:]])
    np.testing.assert_allclose(table[:, 1:].T, list(history.values()), rtol=1e-7)
    assert (best / "training-history.png").read_bytes().startswith(b"\x89PNG")
    (path,) = (best / "tensorboard").iterdir()
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    assert [event.step for event in events[1:]] == list(range(1, 26))
    written = {value.tag: value.simple_value for value in events[2].summary.value}
    assert written == pytest.approx({name: values[1] for name, values in history.items()})
    recorded = json.loads((best / "training-settings.json").read_text())
    assert recorded["settings"]["batch"] == 8 and recorded["training_records"] == 50
    assert recorded["versions"]["TensorFlow"] == tf.__version__
    assert all(len(digest) == 64 for digest in recorded["inputs"].values()) and len(recorded["inputs"]) == 3


def test_images_are_augmented_as_chosen_and_a_parameter_without_effect_is_named(files, short, tmp_path):
    augment = parse_augmentation("small,blur=1")
    best, history, said = run(settings(files, tmp_path, epochs=2, augment=augment, tau=0.5))
    assert history["loss"] != short[1][1]["loss"]
    recorded = json.loads((best / "training-settings.json").read_text())["settings"]["augment"]
    assert recorded == dataclasses.asdict(augment) and recorded["blur"] == 1 and recorded["mixup"] == 0.25
    assert "⟦tau⟧ makes no difference to the loss ce." in said


def test_the_categories_travel_with_the_records_and_the_model_and_its_size_is_its_own(files, tmp_path):
    model = load_model(files["model"])
    model.image_size = 20
    save_model(model, tmp_path / "model.keras")
    for kind in ("train", "validate"):
        name = kind.replace("validate", "validation")
        shutil.copy(files[kind][0], tmp_path / f"own-{name}.tfr")
    table = "CATEGORY\tINDEX\tLABEL\nfern\t0\tFern\nmoss\t1\tMoss\npalm\t2\tPalm\n"
    (tmp_path / "own-categories.tsv").write_text(table)
    own = {"train": (str(tmp_path / "own-train.tfr"),), "validate": (str(tmp_path / "own-validation.tfr"),)}
    options = {"size": None, "epochs": 1, "save_epochs": True}
    best, _, said = run(settings(files, tmp_path, model=str(tmp_path / "model.keras"), **own, **options))
    assert f"images of {SIZE} x {SIZE} pixels are enlarged to 20 x 20" in " ".join(said)
    folders = [best, best.parent / best.name.replace("-best", "-intermediate")]
    assert [(folder / "categories.tsv").read_text() for folder in folders] == [table, table]
    assert load_model(best / "best-model.keras").image_size == 20
    assert json.loads((best / "training-settings.json").read_text())["image_size"] == 20
    edited = table.replace("\tPalm\n", "\tPalmae\n")
    (best / "categories.tsv").write_text(edited)
    (best / "README.md").unlink()
    run_again = settings(files, tmp_path, model=str(tmp_path / "model.keras"), **own, **options)
    assert os.path.dirname(train(run_again)) == str(best)
    assert (best / "categories.tsv").read_text() == edited, "labels that were changed stay"
    assert "| 2 | Palmae |" in (best / "README.md").read_text()
    (best / "categories.tsv").write_text(table)
    made = settings(files, tmp_path, model=str(best / "best-model.keras"), epochs=1)  # of records without a table
    assert (run(made)[0] / "categories.tsv").read_text() == table
    with pytest.raises(UsageError, match=r"own-categories\.tsv lists 3 categories, not 4") as caught:
        run(settings(files, tmp_path, **own, categories=4))
    assert caught.value.setting == "categories"


def test_metrics_before_training(files, long):
    expected = scores_of(files["model"], files)
    line = f"Before training: loss {expected['loss']:.4g}, accuracy {expected['accuracy']:.4g}"
    assert line in "\n".join(long[2])


@pytest.mark.parametrize("loss", ["bel", "lwb"])
def test_validation_covers_every_record_also_of_the_last_partial_batch(files, loss):
    best, history, _ = run(settings(files, epochs=1, recipe=f"{loss}+clr+aw", batch=20))
    model = load_model(best / "best-model.keras")
    parts = (counts_of(model, files, rows, loss) for rows in (slice(20), slice(20, 21)))
    total = metrics.add(*parts)
    assert float(total.images) == 21
    for name, value in metrics.summarise(total).items():
        assert value == pytest.approx(history[f"val_{name}"][0], rel=1e-4), name


def test_the_run_is_named_after_content_not_names_nor_how_it_is_carried_out(files, short, tmp_path):
    made, (best, _, _) = short
    other = tmp_path / "another-name.tfr"
    other.write_bytes(Path(files["train"][0]).read_bytes())
    again, _, said = run(dataclasses.replace(made, train=(str(other),), steps_per_execution=3, jit=True, cache="disk"))
    assert best == again and said == ["The run is already complete."]
    _, identity = identify(made)
    assert identity != identify(dataclasses.replace(made, seed=2))[1]
    assert len(best.name) == 32 + len("-best") and int(best.name[:32], 16) >= 0


def test_a_complete_run_becomes_the_newest_and_fresh_starts_anew(files, tmp_path):
    made = settings(files, tmp_path, epochs=1)
    best, _, _ = run(made)
    os.utime(best / "best-model.keras", (1, 1))
    run(made)
    assert (best / "best-model.keras").stat().st_mtime > 1e9
    before = (best / "best-model.keras").stat().st_ino
    (best / "stray").write_text("")
    _, _, said = run(dataclasses.replace(made, fresh=True))
    assert (best / "best-model.keras").stat().st_ino != before and not (best / "stray").exists()
    assert finished(said).startswith("Finished after 1 epochs")


def test_what_is_before_the_first_layer_stays_as_it_is(files):
    best, _, _ = run(settings(files, epochs=1, train_from="expand"))
    before, after = load_model(files["model"]), load_model(best / "best-model.keras")
    frozen = ("rescale", "stem", "norm")
    for old, new in zip(before.layers[1:], after.layers[1:]):
        for one, other in zip(old.get_weights(), new.get_weights()):
            assert np.array_equal(one, other) == (old.name in frozen), old.name
        assert new.trainable == (new.name not in frozen)


def test_early_stopping_and_class_weights_that_count_in_training_only(files):
    # At such a rate nothing changes, so that no epoch after the first is better.
    plain = settings(files, epochs=50, patience=3, learning_rate=1e-9)
    _, one, said = run(plain)
    assert len(one["loss"]) == 4 and "the last 3 of them without improvement" in finished(said)
    _, other, _ = run(dataclasses.replace(plain, epochs=1, class_weights={0: 3.0, 1: 3.0, 2: 3.0}))
    penalty = sum(float(loss) for loss in load_model(files["model"]).losses)
    assert other["loss"][0] - penalty == pytest.approx(3 * (one["loss"][0] - penalty), rel=1e-3)
    for name in ("accuracy", "auc", "f1", "val_loss", "val_f1"):
        assert other[name][0] == pytest.approx(one[name][0], rel=1e-4), name


def test_a_number_map(files, tmp_path):
    (tmp_path / "map.tsv").write_text("OLD\tNEW\n0\t2\n1\t2\n2\t0\n")
    best, _, _ = run(settings(files, epochs=1, number_map=str(tmp_path / "map.tsv")))
    recorded = json.loads((best / "training-settings.json").read_text())
    assert recorded["class_counts"] == [16, 0, 34]


@pytest.mark.parametrize("execution", [{"steps_per_execution": 4, "cache": "none"}, {"jit": True, "cache": "disk"}])
def test_the_way_it_is_done_changes_nothing_but_rounding(short, tmp_path, execution):
    made, (_, expected, _) = short
    _, history, _ = run(dataclasses.replace(made, output=str(tmp_path), **execution))
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize("precision", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.once)])
def test_mixed_precision_learns_and_saves_a_float32_model(files, precision):
    best, history, _ = run(settings(files, epochs=12, precision=precision))
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


@pytest.mark.parametrize("optimizer", ["a", "sgd"])
def test_every_optimizer_and_remix(files, optimizer):
    _, history, _ = run(settings(files, epochs=2, recipe=f"fce+clr+{optimizer}", remix=True, remix_kappa=1.01))
    assert np.isfinite(history["loss"]).all() and history["loss"][1] != history["loss"][0]


def test_a_loss_that_diverges_stops_it(files, tmp_path):
    model = load_model(files["model"])
    weight = model.get_layer("output_dense").trainable_weights[0]
    weight.assign(np.full(weight.shape, 3e38, "float32"))
    save_model(model, tmp_path / "broken.keras")
    words = "infinite or NaN in epoch 1 at step 1; no epoch was finished: try a lower ⟦learning_rate⟧"
    with pytest.raises(WorkError, match=words):
        run(settings(files, tmp_path, model=str(tmp_path / "broken.keras")))
    assert not list(tmp_path.glob("*/best-model.keras"))


def test_after_good_epochs_the_best_model_and_the_state_are_kept(files, tmp_path, monkeypatch):
    def draw(seed, epoch, step, count, settings, draw=augmentation.draw):
        found = draw(seed, epoch, step, count, settings)
        return found._replace(shares=found.shares * np.float32(np.nan if (epoch, step) == (2, 3) else 1))

    made = settings(files, tmp_path, epochs=4)
    words = r"epoch 3 at step 4; the best model before is .*training-best-so-far.keras"
    with monkeypatch.context() as patch:
        patch.setattr(augmentation, "draw", draw)
        with pytest.raises(WorkError, match=words):
            run(made)
    (so_far,) = tmp_path.glob("*/training-best-so-far.keras")
    history = np.load(so_far.parent / "training-history.npy", allow_pickle=True).item()
    assert len(history["loss"]) == 2
    assert scores_of(so_far, files)["f1"] == pytest.approx(max(history["val_f1"]), rel=1e-4)
    _, history, said = run(made)  # without the defect it goes on
    assert "Resuming after 2 of at most 4 epochs." in said and len(history["loss"]) == 4
    assert not so_far.exists()


def test_images_of_other_bands_are_refused(files, tmp_path):
    model = write_model(tmp_path / "four.keras", bands=4)
    with pytest.raises(UsageError, match=r"four\.keras takes images of 4 bands; those of records have 1 or 3") as error:
        run(settings(files, tmp_path, model=model))
    assert error.value.setting == "model" and not list(tmp_path.glob("*-best"))


def test_a_full_disk_is_foreseen(files, tmp_path, monkeypatch):
    def give(room):
        # Not in shutil itself, which the saving of models asks, too.
        usage = types.SimpleNamespace(free=room)
        monkeypatch.setattr(loop, "shutil", types.SimpleNamespace(disk_usage=lambda path: usage))

    give(30_000_000)
    with pytest.raises(WorkError, match=r"models of 4,096 epochs \(⟦save_epochs⟧\) .* 30.0 MB are free; ⟦keep⟧ N"):
        run(settings(files, tmp_path, epochs=4096, save_epochs=True))
    weights = sum(weight.nbytes for weight in load_model(files["model"]).get_weights())
    need = 2 * 4 * weights + 4 * (weights + (1 << 18))  # a state beside the former one, the best and three epochs'
    made = settings(files, tmp_path, epochs=5, patience=1, save_epochs=True, keep=3)
    give(need - 1)
    with pytest.raises(WorkError, match="the models of 3 epochs"):
        run(made)
    give(need)
    save, saved = loop._Trainer.save, []

    def save_once(trainer):
        if saved:
            raise StopError
        saved.append(save(trainer))

    with monkeypatch.context() as patch, pytest.raises(StopError):
        patch.setattr(loop._Trainer, "save", save_once)
        run(made)
    # What the run itself has written makes room for what replaces it.
    files_of_run = [*tmp_path.glob("*-best/*state.npz"), *tmp_path.glob("*-intermediate/*.keras")]
    assert len(files_of_run) == 3
    left = need - sum(path.stat().st_size for path in files_of_run)
    give(left - 1)
    with pytest.raises(WorkError, match="the models of 3 epochs"):
        run(made)
    give(left)
    _, _, said = run(made)
    assert any(message.startswith("Resuming after 1 of") for message in said)


def test_a_failed_write_leaves_the_former_state(files, tmp_path, monkeypatch):
    calls = []

    def full(file, *, savez=np.savez, **arrays):
        calls.append(1)
        if len(calls) == 2:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        run(settings(files, tmp_path))
    _, history, said = run(settings(files, tmp_path))
    assert "Resuming after 1 of at most 3 epochs." in said and len(history["loss"]) == 3


@pytest.mark.parametrize(
    ("others", "setting", "message"),
    [
        ({"categories": 4}, "model", "has 3 outputs where 4 are needed"),
        ({"size": 2}, "size", "can't be applied to images of 2 x 2 pixels"),
        ({"batch": 51}, "batch", "a batch of 51 is more than the 50 records of ⟦train⟧"),
        ({"train_from": "convNeXt9"}, "train_from", "the model has no layer 'convNeXt9'; the nearest are"),
        ({"class_counts": {0: 1, 1: 2}}, "class_counts", "it lacks the class 2"),
        ({"class_counts": {0: 0, 1: 0, 2: 0}}, "class_counts", "at least one category needs a number above 0"),
        ({"class_weights": {0: 0, 1: 0, 2: 0}}, "class_weights", "at least one category needs a number above 0"),
        ({"class_weights": {0: 1, 1: 2, 2: 3, 3: 4}}, "class_weights", "it has the class 3"),
        ({"keep": 2}, "keep", "it needs ⟦save_epochs⟧"),
    ],
)
def test_settings_that_do_not_fit(files, tmp_path, others, setting, message):
    with pytest.raises(UsageError, match=message) as error:
        run(settings(files, tmp_path, **others))
    assert error.value.setting == setting and not list(tmp_path.glob("*/best-model.keras"))


def test_records_that_do_not_fit(files, tmp_path):
    (tmp_path / "empty.tfr").write_bytes(b"")
    four = write_records(tmp_path / "four.tfr", 8, 1, categories=4)
    grown = write_records(tmp_path / "grown.tfr", 8, 1, size=20)
    for wrong, message in (
        ({"train": (str(tmp_path / "empty.tfr"),)}, "there are no records"),
        ({"validate": (four,)}, "four.tfr, record 3, has the category 3; 0 to 2 are right"),
        ({"train": (files["train"][0], grown)}, "is 20 x 20 pixels where others are 16 x 16"),
    ):
        with pytest.raises(UsageError, match=message):
            run(settings(files, tmp_path, **wrong))
    (tmp_path / "cut.tfr").write_bytes(Path(files["train"][0]).read_bytes()[:-9])
    damaged = (str(tmp_path / "cut.tfr"),)
    with pytest.raises(WorkError, match="record 49, is cut short"):
        run(settings(files, tmp_path, train=damaged))
    _, _, said = run(settings(files, tmp_path, train=damaged, epochs=1, skip_bad=True))
    assert any(message.startswith("Left out 1 bad record") for message in said)


def test_a_state_of_something_else_is_told_and_the_right_one_is_gone_on_with(files, tmp_path, monkeypatch):
    def stop(*arguments):
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_model", stop)  # at the end, after the last state
        with pytest.raises(StopError):
            run(settings(files, tmp_path))
    (path,) = tmp_path.glob("*/training-state.npz")
    content, (facts, groups) = path.read_bytes(), load_state(str(path))
    versions = {"TensorFlow": "1.0", "Keras": "0.1"}
    none = "doesn't hold a state of this training; ⟦fresh⟧ starts over"
    for changed, arrays, words in (
        ({"versions": versions}, groups, "was written by TensorFlow 1.0 and Keras 0.1, and this is TensorFlow"),
        ({"run": "4567-best"}, groups, "is of another run, 4567-best; ⟦fresh⟧ starts over"),
        ({"step": 1}, groups, none),  # without counts
        ({}, {**groups, "weights": groups["weights"][::-1]}, none),
        ({}, {**groups, "optimizer": []}, none),
    ):
        save_state(str(path), {**facts, **changed}, arrays)
        with pytest.raises(WorkError, match=rf"training-state.npz {words}"):
            run(settings(files, tmp_path))
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(WorkError, match=r"training-state.npz is damaged .*⟦fresh⟧"):
        run(settings(files, tmp_path))
    path.write_bytes(content)
    _, _, said = run(settings(files, tmp_path))
    assert said[-3].startswith("Resuming after 3 of at most 3") and not path.exists()


class StopError(Exception):
    """What a test ends a training with."""


def test_the_penalty_of_the_layers_is_shown_apart(files, tmp_path):
    with messages() as said:
        path = train(
            Settings(categories=3, batch=8, epochs=1, size=SIZE, cpu=True, **dict(files, output=str(tmp_path)))
        )
    (line,) = (line for line in said if line.startswith("Epoch 1 of 1"))
    shown = float(re.search(r" \(of each loss ([\d.]+) is the layers' penalty\);", line)[1])
    assert shown == pytest.approx(float(penalties(load_model(path))), rel=1e-3) and shown > 0
    assert float(re.search(r"\bloss ([\d.]+),", line)[1]) > shown

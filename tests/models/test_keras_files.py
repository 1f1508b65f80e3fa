"""`.keras` files of any Keras: the same logits and penalties, whoever wrote them."""

import io
import json
import os
import struct
import zipfile

import h5py
import keras
import numpy as np
import pytest
from conftest import FIXTURES
from make_keras_fixtures import SIZES, smooth_images

from lib.errors import UsageError
from lib.models.keras_files import load_model, read_outline, save_model

KERAS_2 = keras.__version__.startswith("2.")
FILES = sorted(path.name for path in (FIXTURES / "keras").glob("*.keras"))
OUR_KIND = [name for name in FILES if not name.startswith("foreign")]  # for the others see test_keras_operations.py


def load(name, **options):
    return load_model(FIXTURES / "keras" / name, **options)


def penalty(model):
    return float(sum(float(loss) for loss in model.losses))


def tiny_model():
    inputs = keras.Input((None, None, 3), name="input")
    x = keras.layers.Conv2D(2, 3, kernel_regularizer=keras.regularizers.L2(0.1), name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(4, name="dense")(x))


def test_there_is_a_file_of_every_keras():
    versions = {name[:-6].split("-", 1)[1] for name in FILES}
    assert versions == {"2.12", "2.12-hdf5", "2.13", "2.14", "2.15"} | {f"3.{minor}" for minor in range(16)}
    assert len(FILES) == 3 * len(versions)


@pytest.mark.parametrize("name", [name for name in OUR_KIND if name != "nested-3.2.keras"])
def test_every_keras_file_gives_the_logits_of_keras_2_13(name, tmp_path):
    expected = np.load(FIXTURES / "keras" / "expected.npz")
    model = load(name, categories=5)
    save_model(model, tmp_path / "again.keras")
    for opened in (model, load_model(tmp_path / "again.keras")):
        opened.trainable = False
        kind = name.split("-")[0]
        assert penalty(opened) == pytest.approx(float(expected[f"{kind}-penalty"]), rel=1e-6)
        for height, width in SIZES:
            logits = np.asarray(opened(smooth_images(height, width), training=False))
            np.testing.assert_allclose(logits, expected[f"{kind}-{height}x{width}"], atol=1e-4)


def test_a_graph_that_keras_3_2_wrote_wrongly_is_refused_not_guessed():
    with pytest.raises(UsageError, match=r"calls the layer 'shared' 2 times"):
        load("nested-3.2.keras")


def test_the_published_model_has_the_golden_logits_on_every_keras(shared):
    from lib.data.images import read_image
    from lib.data.listing import is_image_name

    model = load_model(shared / "models" / "ConvNeXt-distilled.keras", categories=17)
    rows = [line.split("\t") for line in (shared / "golden" / "predictions.tsv").read_text().splitlines()[1:]]
    assert len(rows) == 140 and all(is_image_name(row[0]) for row in rows)
    pixels = np.stack([read_image(shared / "images" / row[0], 96, exact=True) for row in rows])
    logits = np.concatenate([np.asarray(model(part, training=False)) for part in np.split(pixels, 10)])
    np.testing.assert_allclose(logits, np.array([row[3:] for row in rows], "float64"), atol=0.01)
    # The model's penalties are most of what the published pipeline reports as its loss; frozen or not, they are there.
    before = penalty(model)
    model.trainable = False
    assert penalty(model) == pytest.approx(before, rel=1e-6) == pytest.approx(9.353812, rel=1e-5)


def test_penalties_of_frozen_layers_count_once(tmp_path):
    save_model(tiny_model(), tmp_path / "a.keras")
    model = load_model(tmp_path / "a.keras")
    kernel = model.get_layer("conv").get_weights()[0]
    for trainable in (True, False):
        model.get_layer("conv").trainable = trainable
        assert penalty(model) == pytest.approx(0.1 * float((kernel**2).sum()), rel=1e-5)
    model.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    images, labels = smooth_images(8, 8), np.eye(4, dtype="float32")[:2]
    cross_entropy = float(model.loss(labels, model(images, training=False)))
    assert model.evaluate(images, labels, verbose=0) == pytest.approx(cross_entropy + penalty(model), rel=1e-4)


def test_a_file_can_be_opened_without_this_project(tmp_path):
    """What is written holds only names that Keras knows; only LayerScale is nobody's but the pipeline's."""
    path = tmp_path / "a.keras"
    save_model(load("reference-2.13.keras"), path)
    with zipfile.ZipFile(path) as archive:
        description = json.loads(archive.read("config.json"))
    assert description["class_name"] == "Functional"
    for layer in description["config"]["layers"]:
        if layer["class_name"] == "LayerScale":
            assert (layer["module"], layer["registered_name"]) == (None, "LayerScale")
        else:
            assert layer["module"].split(".")[0] == "keras", layer
    opened = keras.models.load_model(path, compile=False)
    expected = np.load(FIXTURES / "keras" / "expected.npz")["reference-96x96"]
    np.testing.assert_allclose(np.asarray(opened(smooth_images(96, 96), training=False)), expected, atol=1e-4)


def test_frozen_layers_stay_frozen(tmp_path):
    model = tiny_model()
    model.get_layer("conv").trainable = False
    save_model(model, tmp_path / "a.keras")
    opened = load_model(tmp_path / "a.keras")
    assert [layer.name for layer in opened.layers if layer.weights and layer.trainable] == ["dense"]


def test_a_training_leaves_no_trace_in_the_file(tmp_path):
    model = tiny_model()
    save_model(model, tmp_path / "fresh.keras")
    model.compile(optimizer="adam", loss="mse", metrics=["accuracy"])
    model.fit(smooth_images(8, 8), np.zeros((2, 4)), verbose=0)
    save_model(model, tmp_path / "trained.keras")
    with zipfile.ZipFile(tmp_path / "trained.keras") as archive:
        assert "compile_config" not in json.loads(archive.read("config.json"))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as weights:
            assert not {"optimizer", "metrics", "compile_metrics"} & set(weights)
    assert (tmp_path / "trained.keras").stat().st_size < 1.2 * (tmp_path / "fresh.keras").stat().st_size
    opened = load_model(tmp_path / "trained.keras")
    np.testing.assert_array_equal(opened.get_weights()[0], model.get_weights()[0])


def test_the_same_model_gives_the_same_bytes_and_nothing_else(tmp_path):
    model = tiny_model()
    save_model(model, tmp_path / "a.keras")
    first = (tmp_path / "a.keras").read_bytes()
    save_model(model, tmp_path / "a.keras")
    assert (tmp_path / "a.keras").read_bytes() == first
    assert os.listdir(tmp_path) == ["a.keras"]


def test_sequential_models_are_opened(tmp_path):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    model.build((None, 4, 4, 3))
    model.save(tmp_path / "a.keras")
    images = np.ones((2, 4, 4, 3), "float32")
    opened = load_model(tmp_path / "a.keras", categories=3)
    np.testing.assert_allclose(np.asarray(opened(images)), np.asarray(model(images)), atol=1e-6)


def rewritten(source, target, change):
    """Copy a .keras file with its parsed description changed in place."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "config.json":
                description = json.loads(content)
                change(description)
                content = json.dumps(description)
            copy.writestr(name, content)
    return target


def layer_of(description, class_name):
    return next(layer for layer in description["config"]["layers"] if layer["class_name"] == class_name)


def test_code_and_foreign_classes_are_refused(tmp_path):
    source = FIXTURES / "keras" / "reference-3.15.keras"
    harmful = tmp_path / "harmful"

    def make_lambda(description):
        code = {"class_name": "__lambda__", "config": {"value": "cHJpbnQ="}}
        layer_of(description, "Rescaling").update(class_name="Lambda", config={"name": "l", "function": code})

    def set_class(class_name, **more):
        return lambda description: layer_of(description, "Rescaling").update(class_name=class_name, **more)

    def call_system(description):
        command = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
        layer_of(description, "Conv2D")["config"]["activation"] = command

    def initialise_from_elsewhere(description):
        evil = {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", str(harmful)]}}
        layer_of(description, "Conv2D")["config"]["kernel_initializer"] = evil

    for change, message in (
        (make_lambda, "Lambda"),
        (set_class("TFSMLayer", module="keras.layers"), "TFSMLayer"),
        (set_class("Mine", module="evil", registered_name="evil>Mine"), "Mine"),
        (set_class("Conv2D", module=None, registered_name="Custom>Conv2D"), "Conv2D"),
        (set_class("Conv2D", module="evil.keras"), "Conv2D"),
        (set_class("Layer", module="keras.layers"), "rescale"),
        (call_system, "function"),
        (initialise_from_elsewhere, "Popen"),
        (lambda description: description.update(class_name="Mine"), "Mine"),
        (lambda description: description.pop("config"), "describes its model"),
        (lambda description: layer_of(description, "Rescaling").update(inbound_nodes=[]), "random_crop"),
        (lambda description: description["config"].update(layers=7), "describes its model"),
        (lambda description: layer_of(description, "Conv2D")["config"].update(strides=[0, 0]), "convNeXt0_downSample"),
        (lambda description: layer_of(description, "Conv2D")["config"].update(filters="many"), "convNeXt0_downSample"),
    ):
        path = rewritten(source, tmp_path / "a.keras", change)
        with pytest.raises(UsageError, match=message) as error:
            load_model(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert not harmful.exists()


def test_files_that_are_no_whole_model_are_refused(tmp_path):
    content = (FIXTURES / "keras" / "reference-2.13.keras").read_bytes()
    path = tmp_path / "a.keras"
    for wrong in (b"", b"text", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n" + bytes(2000)):
        path.write_bytes(wrong)
        with pytest.raises(UsageError, match="is not a whole .keras file"):
            load_model(path)
    for part in np.linspace(0.05, 0.99, 20):
        path.write_bytes(content[: int(len(content) * part)])
        with pytest.raises(UsageError, match="is not a whole .keras file"):
            load_model(path)
    hdf5 = (FIXTURES / "keras" / "reference-2.12-hdf5.keras").read_bytes()
    for part in np.linspace(0.05, 0.95, 10):
        path.write_bytes(hdf5[: int(len(hdf5) * part)])
        with pytest.raises(UsageError, match="is not a whole .keras file"):
            load_model(path)
    for config in ("[" * 100000, "[]", "{", "nothing", '{"class_name": "Functional"}'):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", config)
            archive.writestr("model.weights.h5", content)
        with pytest.raises(UsageError):
            load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "nothing")
    with pytest.raises(UsageError, match="config.json"):
        load_model(path)
    with pytest.raises(UsageError, match="doesn't exist"):
        load_model(tmp_path / "missing.keras")
    with pytest.raises(UsageError, match="not a whole"):
        load_model(tmp_path)


def test_damaged_bytes_are_noticed(tmp_path):
    content = (FIXTURES / "keras" / "reference-2.13.keras").read_bytes()
    noticed = 0
    for place in range(100, len(content) - 400, len(content) // 12):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        (tmp_path / "a.keras").write_bytes(damaged)
        try:
            model = load_model(tmp_path / "a.keras")
        except UsageError as error:
            noticed += 1
            assert "is not a whole .keras file" in str(error)
        else:  # a byte that means nothing, such as one of a date
            for weight, other in zip(model.get_weights(), load("reference-2.13.keras").get_weights()):
                np.testing.assert_array_equal(weight, other)
    assert noticed >= 8


def with_weights(target, change):
    """Copy a .keras file with its weights changed in place."""
    with zipfile.ZipFile(FIXTURES / "keras" / "reference-3.15.keras") as archive, zipfile.ZipFile(target, "w") as copy:
        weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights, "r+") as file:
            change(file)
        copy.writestr("config.json", archive.read("config.json"))
        copy.writestr("model.weights.h5", weights.getvalue())
    return target


def test_weights_must_fit_and_lie_in_the_file(tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["values"] = np.zeros((8, 5), "float32")

    def replace(value):
        def change(file):
            del file["layers/dense_2/vars/0"]
            if value is not None:
                file["layers/dense_2/vars/0"] = value

        return change

    def external(file):
        replace(None)(file)
        file["layers/dense_2/vars"].create_dataset("0", (8, 5), "f4", external=[(str(secret), 0, 160)])

    for change in (
        replace(None),
        replace(np.zeros((8, 6), "float32")),
        replace(h5py.ExternalLink(str(secret), "values")),
        replace(h5py.SoftLink("/layers/dense/vars/0")),
        external,
        lambda file: file.move("layers", "strata"),
        lambda file: file.__delitem__("layers/layer_scale"),
        lambda file: file.create_group("layers/conv2d_9").create_group("vars").create_dataset("0", data=[1.0]),
    ):
        with pytest.raises(UsageError, match="is not a whole .keras file"):
            load_model(with_weights(tmp_path / "a.keras", change))


def test_a_file_made_to_fill_the_memory_is_refused_unread(tmp_path):
    for name in ("config.json", "model.weights.h5"):
        with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
            for member in ("config.json", "model.weights.h5"):
                archive.writestr(member, b" " * (50 << 20) if member == name else b"{}")
        with pytest.raises(UsageError, match=f"its {name} would take 52,428,800 bytes"):
            load_model(tmp_path / "a.keras")


@pytest.mark.skipif(not KERAS_2, reason="Keras 3 writes no HDF5 under the ending .keras")
def test_hdf5_under_the_ending_keras(tmp_path):
    model = tiny_model()
    model.save(tmp_path / "a.h5")
    os.rename(tmp_path / "a.h5", tmp_path / "a.keras")
    images = smooth_images(16, 16)
    opened = load_model(tmp_path / "a.keras", categories=4)
    np.testing.assert_array_equal(np.asarray(opened(images)), np.asarray(model(images)))


def test_the_number_of_outputs_is_checked():
    with pytest.raises(UsageError, match="has 5 outputs where 17 are needed"):
        load("reference-2.13.keras", categories=17)


def test_a_model_that_gives_no_row_of_logits_is_refused(tmp_path):
    inputs = keras.Input((8, 8, 3))
    keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs)).save(tmp_path / "a.keras")
    with pytest.raises(UsageError, match="one row of logits"):
        load_model(tmp_path / "a.keras")


def test_a_setting_that_this_keras_does_not_know_is_named(tmp_path):
    def change(description):
        layer_of(description, "Conv2D")["config"]["future"] = 7

    path = rewritten(FIXTURES / "keras" / "reference-3.15.keras", tmp_path / "a.keras", change)
    with pytest.raises(UsageError, match=r"'convNeXt0_downSample_conv2D' with the setting future=7"):
        load_model(path)


def test_a_folder_that_can_not_be_written_to_is_an_error_that_names_the_model(tmp_path):
    path = str(tmp_path / "none" / "m.keras")
    with pytest.raises(FileNotFoundError) as error:
        save_model(tiny_model(), path)
    assert error.value.filename == path


def test_a_failed_save_leaves_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / "a.keras"
    save_model(tiny_model(), path)
    before = path.read_bytes()
    monkeypatch.setattr(zipfile.ZipFile, "writestr", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        save_model(tiny_model(), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.keras"]


def dense(units):
    """The description of a model of one layer."""
    layers = [
        {
            "class_name": "InputLayer",
            "config": {"batch_shape": [None, 4], "name": "i"},
            "name": "i",
            "inbound_nodes": [],
        },
        {
            "class_name": "Dense",
            "config": {"units": units, "name": "d"},
            "name": "d",
            "inbound_nodes": [[["i", 0, 0, {}]]],
        },
    ]
    ends = {"input_layers": [["i", 0, 0]], "output_layers": [["d", 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "m", "layers": layers, **ends}}


def write_keras(path, description, fill):
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        fill(file)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", description if isinstance(description, str) else json.dumps(description))
        archive.write(path.with_suffix(".h5"), "model.weights.h5")
    return str(path)


def test_small_models_that_would_fill_the_memory(tmp_path):
    def right(file):
        group = file.create_group("layers/dense/vars")
        group["0"], group["1"] = np.ones((4, 2), "float32"), np.ones(2, "float32")

    def empty(file):
        group = file.create_group("layers/dense/vars")
        group.create_dataset("0", (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))
        group["1"] = np.ones(2, "float32")

    def many_names(file):
        right(file)
        for number in range(100):
            file["layers/dense/vars"][f"x{number}"] = file["layers/dense/vars/0"]

    def text(file):
        group = file.create_group("layers/dense/vars")
        group["0"], group["1"] = np.full((4, 2), b"a", "S1000"), np.ones(2, "float32")

    path = tmp_path / "a.keras"
    assert load_model(write_keras(path, dense(2), right)).count_params() == 10
    for fill, words in (
        (empty, "larger than the layer's weights"),
        (many_names, "it holds 102 arrays"),
        (text, "not an array of numbers"),
    ):
        with pytest.raises(UsageError, match=f"a.keras is not a whole .keras file .*{words}"):
            load_model(write_keras(path, dense(2), fill))
    wide = dense(2)
    wide["config"]["layers"][1]["config"]["kernel_constraint"] = {
        "class_name": "MaxNorm",
        "config": {"max_value": {"class_name": "__numpy__", "config": {"value": ["a"], "dtype": "U500000000"}}},
    }
    with pytest.raises(UsageError, match="a.keras has a layer 'd' with an array of 'U500000000'"):
        load_model(write_keras(path, wide, right))


def test_hdf5_that_would_be_read_for_ever(tmp_path):
    content = bytearray((FIXTURES / "keras" / "nested-2.12-hdf5.keras").read_bytes())
    place = content.index(b"GCOL\x01") + 16
    for size in (0, 15, (1 << 64) - 16):
        number = 0 if size < 16 else 1
        content[place : place + 16] = struct.pack("<HHIQ", number, 0, 0, size)
        (tmp_path / "a.keras").write_bytes(content)
        with pytest.raises(UsageError, match="a.keras is not a whole .keras file .its HDF5 is damaged"):
            load_model(tmp_path / "a.keras")
    (tmp_path / "a.keras").write_bytes(b"\x89HDF\r\n\x1a\n" + b"GCOL\x01")
    with pytest.raises(UsageError, match="a.keras is not a whole .keras file"):
        load_model(tmp_path / "a.keras")


def test_a_zip_that_lies_about_what_it_holds(tmp_path):
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (40 << 20))
        archive.writestr("model.weights.h5", b"")
        archive.writestr("../outside", b"")
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")  # where the list of the members begins; the packed size is at 20
    struct.pack_into("<I", content, place + 20, 1 << 30)
    path.write_bytes(content)
    with pytest.raises(UsageError, match="its config.json would take 41,943,040 bytes"):
        load_model(path)
    assert sorted(os.listdir(tmp_path)) == ["a.keras"]


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_packed_in_ways_that_grow_beyond_what_they_say(packing, tmp_path):
    def repacked(source, path, chosen):
        with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w") as target:
            for member in archive.infolist():
                way = packing if member.filename.endswith(chosen) else zipfile.ZIP_STORED
                target.writestr(member.filename, archive.read(member), way)
        return str(path)

    whole = FIXTURES / "keras" / "nested-3.15.keras"
    for name in ("config.json", "metadata.json", "model.weights.h5"):
        with pytest.raises(UsageError, match=f"a.keras is not a whole .keras file .its {name} is compressed in a way"):
            load_model(repacked(whole, tmp_path / "a.keras", name))
    with pytest.raises(UsageError, match="is compressed in a way"):
        read_outline(repacked(whole, tmp_path / "a.keras", "config.json"))


def test_a_weight_in_a_chunk_that_would_fill_the_memory(tmp_path):
    def chunked(numbers):
        def fill(file):
            group = file.create_group("layers/dense/vars")
            group["0"] = np.ones((4, 2), "float32")
            weights = group.create_dataset("1", (2,), "f4", maxshape=(None,), chunks=(numbers,), compression="gzip")
            if numbers < 1 << 21:
                weights[:] = 1

        return fill

    path = tmp_path / "a.keras"
    assert load_model(write_keras(path, dense(2), chunked(1 << 20))).count_params() == 10
    with pytest.raises(UsageError, match=r"a.keras .*1 is stored in chunks of \(1000000000,\)"):
        load_model(write_keras(path, dense(2), chunked(10**9)))


def one_layer(kind, shape=(None, 4), module="keras.layers", **config):
    """The description of a model of one layer of a class."""
    description = dense(1)
    given, layer = description["config"]["layers"]
    given["config"]["batch_shape"] = list(shape)
    layer.update(class_name=kind, module=module, config={"name": "d", **config})
    if kind == "MultiHeadAttention":
        layer["inbound_nodes"] = [[["i", 0, 0, {"value": ["i", 0, 0]}]]]
    return description


@pytest.mark.parametrize(
    "description",
    [
        dense(1 << 24),
        dense(1 << 40),
        one_layer("Dense", (None, 1 << 24), units=2),
        one_layer("Dense", units=1 << 30, kernel_initializer=None, bias_initializer=None),
        one_layer("Conv2D", (None, 8, 8, 3), filters=1 << 12, kernel_size=[64, 64], padding="same"),
        one_layer("MultiHeadAttention", (None, 16, 4), num_heads=1 << 15, key_dim=1 << 15),
        one_layer("Embedding", input_dim=1 << 20, output_dim=1 << 20),
        one_layer("LSTM", (None, 16, 4), units=1 << 16),
        one_layer("PReLU", (None, 1 << 12, 1 << 12, 3)),
        one_layer("BatchNormalization", (None, 1 << 30)),
        one_layer("LayerScale", (None, 1 << 30), module=None, registered_name="LayerScale"),
        one_layer("Normalization", (None, 1 << 12, 1 << 12, 3), axis=[1, 2, 3]),
    ],
    ids=lambda description: description["config"]["layers"][1]["class_name"],
)
def test_descriptions_of_models_that_no_memory_holds(tmp_path, description):
    def right(file):
        group = file.create_group("layers/dense/vars")
        group["0"], group["1"] = np.ones((4, 2), "float32"), np.ones(2, "float32")

    path = tmp_path / "a.keras"
    assert load_model(write_keras(path, dense(2), right), 2).count_params() == 10
    with pytest.raises(UsageError, match="a.keras describes far more weights than it holds"):
        load_model(write_keras(path, description, right))


def test_weights_that_are_missing_within_a_layer(tmp_path):
    inputs = keras.Input((6, 4))
    x = keras.layers.MultiHeadAttention(2, 3, name="attention")(inputs, inputs)
    x = keras.layers.Bidirectional(keras.layers.LSTM(3), name="both")(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    path, values = tmp_path / "a.keras", np.random.default_rng(1).normal(0, 1, (2, 6, 4)).astype("float32")
    model.save(path)
    np.testing.assert_allclose(np.asarray(load_model(path)(values)), np.asarray(model(values)), atol=1e-6)
    with zipfile.ZipFile(path) as archive:
        weights = io.BytesIO(archive.read("model.weights.h5"))
        description = archive.read("config.json")
    with h5py.File(weights, "r+") as file:
        (container,) = (name for name in ("layers", "_layer_checkpoint_dependencies") if name in file)
        attention = file[container]["multi_head_attention"]
        del attention[next(name for name in attention if "value" in name)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", description)
        archive.writestr("model.weights.h5", weights.getvalue())
    with pytest.raises(UsageError, match="it lacks weights of the layer 'attention'"):
        load_model(path)


def test_initializers_are_written_as_they_were_read(tmp_path):
    source = FIXTURES / "keras" / "reference-3.15.keras"
    save_model(load_model(source), tmp_path / "a.keras")
    found = []
    for path in (source, tmp_path / "a.keras"):
        with zipfile.ZipFile(path) as archive:
            layers = json.loads(archive.read("config.json"))["config"]["layers"]
        found.append([layer["config"]["kernel_initializer"] for layer in layers if layer["class_name"] == "Conv2D"])
    assert found[0] == found[1] and {each["class_name"] for each in found[1]} == {"GlorotUniform"}

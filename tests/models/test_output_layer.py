"""The last layer of `.keras` files of any Keras, replaced without Keras; the rest of each file is not touched."""

import json
import shutil
import zipfile

import h5py
import numpy as np
import pytest
from conftest import FIXTURES, SHARED

from lib.errors import UsageError
from lib.models.keras_archives import open_archive
from lib.models.output_layer import have_equal_features, read_output_layer, write_output_layer

# Of all versions the project's own model, of some what other people's models hold.
_KINDS = ("reference-*", "*-2.12-hdf5", "*-2.13", "*-3.0", "*-3.15")
FILES = sorted({path for kind in _KINDS for path in (FIXTURES / "keras").glob(f"{kind}.keras")})


def weights(count, seed=3, width=8):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(width, count)), rng.normal(size=count)


def arrays_of(path):
    """All arrays of a file, path -> bytes, and its description."""
    with open_archive(path) as content:
        found = {}
        content.arrays.visititems(
            lambda name, item: found.update({name: item[()].tobytes()} if isinstance(item, h5py.Dataset) else {})
        )
        return found, content.description


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_else_changes(path, tmp_path):
    kernel, bias = weights(5, width=len(read_output_layer(str(path)).kernel))
    written = tmp_path / "new.keras"
    write_output_layer(str(path), str(written), kernel, bias)
    layer = read_output_layer(str(written))
    np.testing.assert_array_equal(layer.kernel, kernel.astype("float32"))
    np.testing.assert_array_equal(layer.bias, bias.astype("float32"))
    (former, description), (new, same) = arrays_of(path), arrays_of(written)
    assert same == description and former.keys() == new.keys()
    changed = {name for name in former if former[name] != new[name]}
    assert {len(new[name]) for name in changed} == {kernel.size * 4, bias.size * 4} and len(changed) == 2
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as one, zipfile.ZipFile(written) as other:
            for info, new_info in zip(one.infolist(), other.infolist()):
                assert (info.filename, info.date_time, info.compress_type) == (
                    *(new_info.filename, new_info.date_time),
                    new_info.compress_type,
                )
                a, b = one.read(info), other.read(new_info)
                different = sum(x != y for x, y in zip(a, b))
                assert len(a) == len(b) and different <= (180 if info.filename.endswith(".h5") else 0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_more_categories(path, tmp_path):
    kernel, bias = weights(7, width=len(read_output_layer(str(path)).kernel))
    written, again = tmp_path / "new.keras", tmp_path / "again.keras"
    write_output_layer(str(path), str(written), kernel, bias)
    np.testing.assert_array_equal(read_output_layer(str(written)).kernel, kernel.astype("float32"))
    (former, description), (new, changed) = arrays_of(path), arrays_of(written)
    assert {name for name in former if former[name] != new[name]} == {
        name for name in former if len(former[name]) != len(new[name])
    }
    assert json.dumps(changed).replace('"units": 7', '"units": 5') == json.dumps(description)
    write_output_layer(str(path), str(again), kernel, bias)
    assert written.read_bytes() == again.read_bytes(), "the same each time"
    write_output_layer(str(written), str(written), *weights(5, width=len(kernel)))
    assert arrays_of(written)[1] == description, "and back, over itself"


def test_models_that_differ_in_the_last_layer_alone_have_equal_features(tmp_path):
    path, other = FIXTURES / "keras" / "reference-2.13.keras", FIXTURES / "keras" / "reference-3.15.keras"
    for categories in (5, 7):
        write_output_layer(str(path), str(tmp_path / "new.keras"), *weights(categories))
        assert have_equal_features(str(path), str(tmp_path / "new.keras"))
    assert not have_equal_features(str(path), str(other))


@pytest.mark.parametrize("name", ["reference-2.12-hdf5", "reference-2.13", "nested-3.15"])
def test_keras_computes_with_the_new_weights(name, tmp_path):
    from lib.models.inference import compile_features
    from lib.models.keras_files import load_model

    path, shape = str(FIXTURES / "keras" / f"{name}.keras"), (2, 24, 24, 3)
    pixels = np.random.default_rng(1).integers(0, 256, shape).astype("float32")
    features = compile_features(load_model(path), shape)(pixels)[1].numpy()
    for categories in (5, 9):
        kernel, bias = weights(categories)
        write_output_layer(path, str(tmp_path / "new.keras"), kernel, bias)
        logits = compile_features(load_model(str(tmp_path / "new.keras"), categories), shape)(pixels)[0]
        np.testing.assert_allclose(logits, features @ kernel + bias, atol=1e-4)


def test_the_published_model(shared, tmp_path):
    path = shared / "models" / "ConvNeXt-distilled.keras"
    layer = read_output_layer(str(path))
    assert layer.kernel.shape == (192, 17)
    write_output_layer(str(path), str(tmp_path / "same.keras"), *layer)
    with zipfile.ZipFile(path) as one, zipfile.ZipFile(tmp_path / "same.keras") as other:
        assert [one.read(info) for info in one.infolist()] == [other.read(info) for info in other.infolist()]


def with_layers(path, target, change):
    """A copy of a file with a change to its list of layers."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                description = json.loads(content)
                change(description["config"]["layers"])
                content = json.dumps(description)
            archive.writestr(name, content)
    return str(target)


def polished(layers):
    layers[-1]["config"]["name"] = layers[-1]["name"] = "output_dense"
    between = json.loads(json.dumps(layers[-1]).replace("output_dense", "gap_resolve_dense"))
    layers[-1]["inbound_nodes"] = [[["gap_resolve_dense", 0, 0, {}]]]
    layers.insert(-1, between)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda layers: layers[-1]["config"].update(activation="sigmoid"), "doesn't end with a dense layer"),
        (lambda layers: layers[-1]["config"].update(use_bias=False), "doesn't end with a dense layer"),
        (polished, "has the layer gap_resolve_dense between the pooled features and the last layer"),
    ],
)
def test_models_whose_logits_are_not_linear_in_the_features(tmp_path, change, words):
    path = with_layers(FIXTURES / "keras" / "reference-2.13.keras", tmp_path / "m.keras", change)
    with pytest.raises(UsageError, match="m.keras") as raised:
        read_output_layer(path)
    assert words in str(raised.value)


def test_other_files(tmp_path):
    (tmp_path / "a.keras").write_bytes(b"nothing")
    for path, words in ((tmp_path / "a.keras", "is not a whole .keras file"), (tmp_path / "b.keras", "doesn't exist")):
        with pytest.raises(UsageError, match=words):
            read_output_layer(str(path))
    shutil.copy(FILES[0], tmp_path / "a.keras")
    with pytest.raises(OSError):
        write_output_layer(str(tmp_path / "a.keras"), str(tmp_path / "no" / "b.keras"), *weights(5))


@pytest.mark.parametrize("name", ["softmax-dense", "softmax-layer"])
def test_a_softmax_stays_where_it_is(name):
    if not (SHARED / "cases").is_dir():
        pytest.skip(f"needs the real data in {SHARED} (HERBARIOGRAPH_SHARED names another place)")
    logits = read_output_layer(str(SHARED / "cases" / "models" / "logits.keras"))
    layer = read_output_layer(str(SHARED / "cases" / "models" / f"{name}.keras"))
    np.testing.assert_array_equal(layer.kernel, logits.kernel)

"""The ConvNeXt: the golden architectures, the contract's parts, the same weights for the same seed."""

import json
import math

import keras
import numpy as np
import pytest

import convnext as script
from lib.models.architecture import Architecture
from lib.models.convnext import convnext, multiply_adds, summary
from lib.models.keras_files import load_model, save_model

TINY = {"categories": 5, "filters": 8, "blocks": (1, 2, 1, 1)}
# Each option, and those that meet in a place.
VARIANTS = [
    {},
    {"bands": 1, "expansion": 3, "activation": "relu"},
    {"depthwise": False, "activation": "selu"},
    {"max_pool": True, "activation": "elu"},
    {"excite_channels": True, "activation": "swish"},
    {"excite_space": True},
    {"excite_channels": True, "excite_space": True, "max_pool": True},
    {"layer_scale": True, "noise": True},
    {"polish": 12, "activation": "swish"},
]


def golden(shared):
    return [json.loads(line) for line in (shared / "golden" / "architectures.jsonl").read_text().splitlines()]


def images(bands=3, size=40):
    return np.random.default_rng(1).uniform(0, 255, (2, size, size, bands)).astype("float32")


def weighted(model):
    return [(layer.name, [tuple(weight.shape) for weight in layer.weights]) for layer in model.layers if layer.weights]


def unweighted(model):
    """Names by class of the layers without weights, which have to be named alike in every process."""
    return [(type(layer).__name__, layer.name) for layer in model.layers if not layer.weights]


def test_each_golden_architecture(shared):
    lines = golden(shared)
    assert len(lines) == 10
    for line in lines:
        arguments = script.options().parse_args([*line["options"].split(), "-o", "a.keras"])
        model = convnext(script.Settings(**vars(arguments)))
        assert model.count_params() == line["parameters"], line["options"]
        trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
        assert trainable == line["trainable"]
        expected = [(name, [tuple(shape) for shape in shapes]) for name, shapes in line["weighted_layers"]]
        assert weighted(model) == expected, line["options"]
        joining = ("Add", "Multiply")  # which the golden file leaves out
        assert [pair for pair in unweighted(model) if pair[0] not in joining] == [tuple(p) for p in line["unweighted"]]


def test_names_do_not_depend_on_what_was_built_before():
    settings = Architecture(
        **TINY, excite_channels=True, excite_space=True, noise=True, max_pool=True, layer_scale=True
    )
    names = [[layer.name for layer in convnext(settings).layers] for _ in range(2)]
    assert names[0] == names[1]
    assert [name for name in names[0] if name.startswith("gaussian")] == [
        "gaussian_noise",
        *(f"gaussian_noise_{number}" for number in range(1, 5)),
    ]
    assert {"convNeXt1_maxpool2D", "convNeXt1_expandConvNeXt_conv2D", "convNeXt3_block0_add"} <= set(names[0])


def test_penalties_initial_weights_and_biases_are_as_in_the_contract():
    model = convnext(Architecture(**TINY, excite_channels=True, excite_space=True, layer_scale=True, polish=6))
    for layer in model.layers:
        if "conv2D" in layer.name:
            regularizer = getattr(layer, "depthwise_regularizer", None) or layer.kernel_regularizer
            assert float(regularizer.l2) == pytest.approx(1e-4)
            assert len(layer.weights) == 1
            kernel = layer.get_weights()[0]
            side, ways = math.prod(kernel.shape[:2]), kernel.shape[2] + kernel.shape[3]
            limit = math.sqrt(6 / (side * ways))  # Glorot's, for a uniform distribution
            assert abs(kernel).max() <= limit
            if kernel.size >= 100:
                assert abs(kernel).max() > 0.9 * limit and abs(kernel.mean()) < 0.1 * limit
        elif isinstance(layer, keras.layers.Dense):
            assert layer.kernel_regularizer is None
            assert layer.use_bias == (layer.name == "output_dense")
        elif isinstance(layer, keras.layers.LayerNormalization):
            assert layer.epsilon == 1e-5
            assert [weight.mean() for weight in layer.get_weights()] == [1, 0]
        elif "layerScale" in layer.name:
            assert (layer.get_weights()[0] == 1).all()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(variant) or "plain")
def test_the_same_seed_gives_the_same_file(variant, tmp_path):
    digests = []
    for number, seed in enumerate((7, 7, 8)):
        path = tmp_path / f"{number}.keras"
        save_model(convnext(Architecture(**{**TINY, **variant}, seed=seed)), path)
        digests.append(path.read_bytes())
    assert digests[0] == digests[1]
    models = [load_model(tmp_path / f"{number}.keras") for number in (0, 2)]
    for layer, other in zip(*[model.layers for model in models]):
        if "conv2D" in layer.name or "dense" in layer.name:
            assert not np.array_equal(layer.get_weights()[0], other.get_weights()[0]), layer.name


def test_equal_layers_start_with_different_weights():
    model = convnext(Architecture(**TINY))
    first, second = (model.get_layer(f"convNeXt1_block{number}_expand_conv2D").get_weights()[0] for number in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(variant) or "plain")
def test_a_model_is_the_same_after_saving_and_without_this_project(variant, tmp_path):
    settings = Architecture(**{**TINY, **variant})
    model = convnext(settings)
    save_model(model, tmp_path / "a.keras")
    pixels = images(settings.bands)
    expected = np.asarray(model(pixels, training=False))
    assert expected.shape == (2, 5) and np.isfinite(expected).all()
    again = load_model(tmp_path / "a.keras", 5)
    np.testing.assert_allclose(np.asarray(again(pixels, training=False)), expected, atol=1e-5)
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    plain = keras.models.load_model(tmp_path / "a.keras", compile=False)
    np.testing.assert_allclose(np.asarray(plain(pixels, training=False)), expected, atol=1e-5)


def test_the_parts_compute_what_the_contract_says():
    """Squeeze-and-excite of both kinds and a block, written out with numpy."""
    settings = Architecture(**TINY, excite_channels=True, excite_space=True, layer_scale=True, activation="relu")
    model = convnext(settings)
    weights = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    names = ["convNeXt1_downSample_conv2D", "convNeXt1_squeezeExcite_add", "convNeXt3_block0_5x5_dconv2D"]
    names += ["convNeXt3_squeezeExcite_add", "convNeXt3_block0_add", "output_dense", "input"]
    outputs = [model.get_layer(name).output for name in names]
    values = keras.Model(model.input, outputs)(images(), training=False)
    x, excited, mixed, block_in, block_out, logits, _ = (np.asarray(value) for value in values)

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    def normalized(z, name):
        gamma, beta = weights[name]
        return (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-5) * gamma + beta

    y = x * sigmoid(x @ weights["convNeXt1_fuse_conv2D"][0][0, 0]) + x
    squeezed = np.maximum(y.mean((1, 2), keepdims=True) @ weights["convNeXt1_squeeze_dense"][0], 0)
    expected = y * sigmoid(squeezed @ weights["convNeXt1_excite_dense"][0]) + x
    np.testing.assert_allclose(excited, expected, atol=1e-5)

    y = normalized(mixed, "convNeXt3_block0_layerNormalization")
    y = np.maximum(y @ weights["convNeXt3_block0_expand_conv2D"][0][0, 0], 0)
    y = y @ weights["convNeXt3_block0_smooth_conv2D"][0][0, 0] * weights["convNeXt3_block0_layerScale"][0]
    np.testing.assert_allclose(block_out, y + block_in, atol=1e-5)

    kernel, bias = weights["output_dense"]
    pooled = normalized(block_out.mean((1, 2)), "output_layerNormalization")
    np.testing.assert_allclose(logits, pooled @ kernel + bias, atol=1e-5)


def test_noise_is_there_in_training_only():
    model = convnext(Architecture(**TINY, noise=True))
    still = [np.asarray(model(images(), training=False)) for _ in range(2)]
    noisy = [np.asarray(model(images(), training=True)) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    assert abs(noisy[0] - noisy[1]).max() > 1e-3
    assert all(layer.stddev == pytest.approx(0.1) for layer in model.layers if "noise" in layer.name)


def test_the_published_weights_give_the_published_logits(shared):
    """Weights moved by name from a model of the published pipeline into one made here."""
    published = load_model(shared / "models" / "ConvNeXt-distilled.keras")
    model = convnext(Architecture(categories=17, filters=24, expansion=2))
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(published.get_layer(layer.name).get_weights())
    pixels = images(size=96)
    ours, theirs = (np.asarray(either(pixels, training=False)) for either in (model, published))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert float(sum(model.losses)) == pytest.approx(float(sum(published.losses)), rel=1e-6)


def test_multiply_adds_are_counted_by_hand():
    model = convnext(
        Architecture(categories=5, filters=8, blocks=(1, 1, 1, 1), excite_channels=True, excite_space=True)
    )
    expected = 10 * 10 * 4 * 4 * 3 * 8
    for stage, side in enumerate((10, 5, 3, 2)):  # an image of 43 × 43: 40 are used, then halved and rounded up
        width = 8 * 2**stage
        if stage:
            expected += side**2 * 2 * 2 * (width // 2) * width
            expected += side**2 * width + 2 * width * (width // 4)
        expected += side**2 * (25 * width + 2 * width * 4 * width)
    assert sum(multiply_adds(model, 43).values()) == expected + 64 * 5
    assert multiply_adds(model, 43)["output_dense"] == 64 * 5
    assert multiply_adds(model, 43)["output_gap"] == 0
    assert sum(multiply_adds(model, 4).values()) < expected


def test_the_summary_has_a_line_for_each_layer():
    model = convnext(Architecture(**TINY))
    lines = summary(model, 64).splitlines()
    assert len(lines) == len(model.layers) + 2
    assert len({len(line) for line in lines}) == 1
    assert lines[3].split() == ["convNeXt0_downSample_conv2D", "Conv2D", *["16", "x", "16", "x", "8"], "384", "98,304"]
    assert lines[-1].split() == ["total", f"{model.count_params():,}", f"{sum(multiply_adds(model, 64).values()):,}"]


def steps_of(model, *names):
    """The results of some layers for two images, and the weights of all layers by name."""
    outputs = keras.Model(model.input, [model.get_layer(name).output for name in (*names, "input")])
    values = outputs(images(), training=False)
    return [np.asarray(value) for value in values][:-1], {layer.name: layer.get_weights() for layer in model.layers}


def test_places_alone_are_weighed_without_a_residual():
    model = convnext(Architecture(**TINY, excite_space=True))
    (x, y), weights = steps_of(model, "convNeXt1_downSample_conv2D", "convNeXt1_fuse_multiply")
    gate = 1 / (1 + np.exp(-(x @ weights["convNeXt1_fuse_conv2D"][0][0, 0])))
    np.testing.assert_allclose(y, x * gate, atol=1e-5)
    assert sources(model, "convNeXt1_block0_5x5_dconv2D") == ["convNeXt1_fuse_multiply"]


def test_channels_alone_are_weighed_without_a_residual():
    model = convnext(Architecture(**TINY, excite_channels=True, activation="relu"))
    (x, y), weights = steps_of(model, "convNeXt1_downSample_conv2D", "convNeXt1_squeezeExcite_multiply")
    squeezed = np.maximum(x.mean((1, 2), keepdims=True) @ weights["convNeXt1_squeeze_dense"][0], 0)
    np.testing.assert_allclose(y, x / (1 + np.exp(-(squeezed @ weights["convNeXt1_excite_dense"][0]))), atol=1e-5)
    assert sources(model, "convNeXt1_block0_5x5_dconv2D") == ["convNeXt1_squeezeExcite_multiply"]


def test_max_pooling_comes_first_and_polishing_last_with_its_activation():
    model = convnext(Architecture(**TINY, max_pool=True, polish=6, activation="relu"))
    names = ["convNeXt0_block0_add", "convNeXt1_maxpool2D", "convNeXt1_downSample_layerNormalization"]
    assert [sources(model, name) for name in names[1:]] == [[names[0]], [names[1]]]
    assert sources(model, "convNeXt1_expandConvNeXt_conv2D") == [names[2]]
    (pooled, polished), weights = steps_of(model, "output_layerNormalization", "gap_resolve_dense")
    np.testing.assert_allclose(polished, np.maximum(pooled @ weights["gap_resolve_dense"][0], 0), atol=1e-5)
    assert sources(model, "output_dense") == ["gap_resolve_dense"]


def test_the_branch_ends_with_scale_and_noise_before_the_addition():
    model = convnext(Architecture(**TINY, layer_scale=True, noise=True))
    assert sources(model, "convNeXt0_block0_layerScale") == ["convNeXt0_block0_smooth_conv2D"]
    assert sources(model, "gaussian_noise") == ["convNeXt0_block0_layerScale"]
    before = "convNeXt0_downSample_layerNormalization"
    assert sorted(sources(model, "convNeXt0_block0_add")) == sorted(["gaussian_noise", before])


def sources(model, name):
    """The names of the layers whose results a layer takes."""
    inputs = model.get_layer(name).input
    return [tensor._keras_history[0].name for tensor in (inputs if isinstance(inputs, list) else [inputs])]

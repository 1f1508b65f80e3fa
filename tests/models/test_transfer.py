"""Weights moved by name and layers frozen by name."""

import keras
import numpy as np
import pytest

from lib.errors import UsageError, WorkError
from lib.models.architecture import Architecture
from lib.models.convnext import convnext
from lib.models.transfer import OWN, check_transfer, freeze_before, move_weights

TINY = {"filters": 4, "blocks": (1, 2, 1, 1), "expansion": 2}


def model(seed, categories=3, **options):
    return convnext(Architecture(categories=categories, seed=seed, **{**TINY, **options}))


def weights(model):
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other))


def test_weights_come_from_the_encoder_but_for_what_belongs_to_the_categories():
    encoder, classifier = model(1, categories=9, layer_scale=True), model(2, layer_scale=True)
    encoder.get_layer("output_layerNormalization").set_weights([np.full(32, 3.0), np.full(32, 4.0)])
    encoder.get_layer("convNeXt0_block0_layerScale").set_weights([np.arange(4.0)])
    theirs, before = weights(encoder), weights(classifier)
    transfer = move_weights(encoder, classifier)
    after = weights(classifier)
    assert not transfer.unmoved
    assert set(transfer.fresh) == {"output_layerNormalization", "output_dense"}
    assert set(transfer.moved) == set(transfer.frozen) == set(after) - set(transfer.fresh)
    for name, values in after.items():
        assert same(values, before[name] if name in transfer.fresh else theirs[name]), name
    for layer in classifier.layers:
        assert layer.trainable == (layer.name in OWN), layer.name
    assert all(same(values, theirs[name]) for name, values in weights(encoder).items())
    check_transfer(transfer, "e", "m")


def with_hidden_output():
    """An encoder whose own dense layer before the output has another name."""
    encoder = model(1, categories=9)
    hidden = keras.layers.Dense(6, use_bias=False, name="hidden_output")(encoder.layers[-2].output)
    return keras.Model(encoder.input, keras.layers.Dense(9, name="output_dense")(hidden))


def test_the_polishing_layer_is_the_encoders_hidden_output_unless_standard():
    encoder = with_hidden_output()
    hidden = encoder.get_layer("hidden_output").get_weights()
    for standard in (False, True):
        classifier = model(2, polish=6)
        before = classifier.get_layer("gap_resolve_dense").get_weights()
        transfer = move_weights(encoder, classifier, standard)
        assert not transfer.unmoved
        assert ("gap_resolve_dense" in transfer.moved) is not standard
        assert same(classifier.get_layer("gap_resolve_dense").get_weights(), before if standard else hidden)
        assert classifier.get_layer("gap_resolve_dense").trainable
    plain = move_weights(model(1, polish=6), model(2, polish=6))  # the encoder's own stays behind
    assert not plain.unmoved and "gap_resolve_dense" in plain.fresh


@pytest.mark.parametrize(
    ("options", "name", "shapes"),
    [
        ({"filters": 8}, "convNeXt0_downSample_conv2D", ([(4, 4, 3, 8)], [(4, 4, 3, 4)])),
        ({"expansion": 3}, "convNeXt3_block0_smooth_conv2D", ([(1, 1, 96, 32)], [(1, 1, 64, 32)])),
        ({"blocks": (1, 1, 1, 1)}, "convNeXt1_block1_5x5_dconv2D", (None, [(5, 5, 8, 1)])),
        ({"blocks": (1, 3, 1, 1)}, "convNeXt1_block2_5x5_dconv2D", ([(5, 5, 8, 1)], None)),
        ({"depthwise": False}, "convNeXt1_block0_5x5_conv2D", ([(5, 5, 8, 8)], None)),
        ({"bands": 1}, "convNeXt0_downSample_conv2D", ([(4, 4, 1, 4)], [(4, 4, 3, 4)])),
    ],
)
def test_what_does_not_fit_is_reported_with_both_shapes(options, name, shapes):
    classifier = model(2)
    before = weights(classifier)
    transfer = move_weights(model(1, **options), classifier)
    assert transfer.unmoved[name] == shapes
    assert not set(transfer.unmoved) & set(transfer.moved)
    for unmoved in set(transfer.unmoved) & set(before):
        assert classifier.get_layer(unmoved).trainable and unmoved in transfer.fresh
        assert same(classifier.get_layer(unmoved).get_weights(), before[unmoved])
    with pytest.raises(
        WorkError, match=r"e\.keras does not fit m\.keras: (the layer|\d+ layers|no layer) .*can.*be moved"
    ):
        check_transfer(transfer, "e.keras", "m.keras")
    if "filters" in options:  # with another width nothing fits
        with pytest.raises(WorkError, match="no layer can be moved"):
            check_transfer(transfer, "e.keras", "m.keras", partial=True)
    else:
        check_transfer(transfer, "e.keras", "m.keras", partial=True)


def test_nothing_in_common_is_an_error_even_if_partial():
    inputs = keras.Input((8,))
    other = keras.Model(inputs, keras.layers.Dense(3, name="somebody")(inputs))
    with pytest.raises(WorkError, match="no layer can be moved"):
        check_transfer(move_weights(other, model(2)), "e", "m", partial=True)


def test_layers_before_one_are_frozen_and_those_after_it_are_not():
    frozen = model(1)
    for name in ("output_gap", "convNeXt2_downSample_layerNormalization", "rescale"):  # as unfreezing goes on
        freeze_before(frozen, name)
        names = [layer.name for layer in frozen.layers]
        for number, layer in enumerate(frozen.layers):
            assert layer.trainable == (number >= names.index(name)), (name, layer.name)
    assert len(frozen.trainable_weights) == len(frozen.weights)
    freeze_before(frozen, "output_gap")
    assert len(frozen.trainable_weights) == 4


def test_an_unknown_layer_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=".*'output_gab'.*nearest are output_gap, "):
        freeze_before(model(1), "output_gab")
    with pytest.raises(UsageError, match=r"convNeXt2_downSample_layerNormalization"):
        freeze_before(model(1), "convNeXt2_downsample_layernormalization")


def test_a_model_that_was_frozen_as_a_whole_can_be_trained_again():
    frozen = model(1)
    frozen.trainable = False
    move_weights(model(2), frozen)
    assert len(frozen.trainable_weights) == 4
    frozen.trainable = False
    freeze_before(frozen, "rescale")
    assert len(frozen.trainable_weights) == len(frozen.weights)


def test_a_hidden_output_that_does_not_fit_or_has_no_place_is_named():
    encoder = with_hidden_output()
    other_width = move_weights(encoder, model(2, polish=7))
    assert other_width.unmoved == {"hidden_output": ([(32, 6)], [(32, 7)])}
    with pytest.raises(WorkError, match="the layer hidden_output can't be moved; use ⟦standard⟧"):
        check_transfer(other_width, "e", "m")
    assert move_weights(encoder, model(2)).unmoved == {"hidden_output": ([(32, 6)], None)}
    assert not move_weights(encoder, model(2), standard=True).unmoved

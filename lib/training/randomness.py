"""The random streams of a training, and the draws of a model's layers, such as noise.

The layers are seeded in each epoch, so that a resumed training repeats their draws.
"""

import keras
import numpy as np
import tensorflow as tf

# A stream is seeded by the training's seed, its own number here, the epoch, and perhaps more.
ORDER, BATCH, LAYERS, CHANGES = 0, 1, 2, 3


def start(seed, deterministic):
    """Seed all random draws; if `deterministic`, let each run give the same bits."""
    keras.utils.set_random_seed(seed % 2**32)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    # Layers built from now on draw from variables, which can be saved, rather than from hidden states.
    if keras.__version__.startswith("2."):
        keras.backend.experimental.enable_tf_random_generator()


def states(model):
    """The variables of the layers' random generators, in the layers' order."""
    return [generator.state for generator in _generators(model)]


def reseed(model, seed, epoch):
    """Seed the layers' generators for an epoch."""
    for number, generator in enumerate(_generators(model)):
        words = np.random.SeedSequence([seed, LAYERS, epoch, number]).generate_state(2)
        if hasattr(generator, "reset_from_seed"):  # TensorFlow's, in Keras 2
            generator.reset_from_seed(int(words[0]))
        else:
            generator.state.assign(words.astype(generator.state.dtype))


def _generators(model):
    found = []
    for layer in model._flatten_layers():
        found.extend(getattr(layer, "_seed_generators", ()))  # Keras 3
        generator = getattr(getattr(layer, "_random_generator", None), "_generator", None)  # Keras 2
        if generator is not None:
            found.append(generator)
    return found

"""A model and nothing else, the floor of what scores it: `bare_model.py RESULT MODEL SIZE`.

Its compiled function on batches that lie ready, on all cores: as Keras has the model, with scales folded into its
convolutions, and by OpenVINO. Writes the images a second of each as JSON, and the seconds that it takes to load weights
of another candidate, by OpenVINO to compile it.
"""

import json
import sys
import time

import numpy as np

from lib.models.openvino_networks import compile_network, read_network
from lib.system.devices import select_device
from lib.system.parallel import STEP, cores, in_order

BATCHES, TIMES = 32, 4


def fastest(work):
    """The seconds that a piece of work takes, the fewest of some times."""
    seconds = []
    for _ in range(TIMES):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def rate(compute):
    """Images a second, where `compute` does one batch."""
    compute()
    return BATCHES * STEP / fastest(lambda: list(in_order(lambda _: compute(), range(BATCHES), cores(), BATCHES)))


def main(result, path, size):
    """Measure, the fastest of some times."""
    select_device(cpu=True, processors=cores(), threads_per_operation=1)

    import tensorflow as tf

    from lib.models.inference import compile_logits
    from lib.models.keras_files import load_weights, open_model

    opened, shape = open_model(path), (STEP, int(size), int(size), 3)
    model, array = opened.model, np.random.default_rng(1).integers(0, 256, shape).astype("float32")
    pixels = tf.constant(array)
    plain = tf.function(lambda pixels: model(pixels, training=False), autograph=False)
    folded = compile_logits(model, shape, changing=True)

    def compiled():
        return compile_network(read_network(path), int(size), STEP, cores())

    found = {
        "plain": rate(lambda: np.asarray(plain(pixels))),
        "folded": rate(lambda: np.asarray(folded(pixels))),
        "loading": fastest(lambda: load_weights(opened, path)),
        "compiling": fastest(compiled),
    }
    network = compiled()
    found["OpenVINO"] = rate(lambda: network.compute(array))
    with open(result, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])

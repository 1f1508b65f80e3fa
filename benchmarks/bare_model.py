"""A model and nothing else, the floor of what scores it: `bare_model.py RESULT MODEL SIZE`.

Its compiled function on batches that lie ready, on all cores, as Keras has the model and with scales folded into its
convolutions. Writes the images a second of both as JSON.
"""

import json
import sys
import time

import numpy as np

from lib.system.devices import select_device
from lib.system.parallel import STEP, cores, in_order

BATCHES, TIMES = 32, 4


def main(result, path, size):
    """Measure, the fastest of some times."""
    select_device(cpu=True, processors=cores(), threads_per_operation=1)

    import tensorflow as tf

    from lib.models.inference import compile_logits
    from lib.models.keras_files import load_model

    model, shape = load_model(path), (STEP, int(size), int(size), 3)
    pixels = tf.constant(np.random.default_rng(1).integers(0, 256, shape).astype("float32"))
    plain = tf.function(lambda pixels: model(pixels, training=False), autograph=False)
    found = {}
    for name, compute in (("plain", plain), ("folded", compile_logits(model, shape, changing=True))):
        np.asarray(compute(pixels))
        seconds = []
        for _ in range(TIMES):
            start = time.perf_counter()
            for _ in in_order(lambda _, compute=compute: np.asarray(compute(pixels)), range(BATCHES), cores(), BATCHES):
                pass
            seconds.append(time.perf_counter() - start)
        found[name] = BATCHES * STEP / min(seconds)
    with open(result, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""Measure how OpenVINO computes fastest: steps of 8 to 128 images, a stream on each core or its hints, 1 core or more.

    .venv/bin/python benchmarks/streams.py

The model is ConvNeXt-N, its batches lie ready. Prints the table of benchmarks/README.md.
"""

import argparse
import multiprocessing
import os
import sys
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import machine, print_table
from lib.models.openvino_networks import build_graph, import_openvino, read_network
from lib.models.published import find_model
from lib.system.parallel import in_order

SIZE, IMAGES, TIMES, STEPS = 96, 512, 3, (8, 16, 32, 64, 128)


def ways(cores):
    """How it may be told to use so many cores: name -> its settings, and the number of batches at once."""
    return {
        "a stream on each core": ({"NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores}, cores),
        "one stream on all cores": ({"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": cores}, 1),
        "hint LATENCY": ({"PERFORMANCE_HINT": "LATENCY"}, 1),
        "hint THROUGHPUT": ({"PERFORMANCE_HINT": "THROUGHPUT"}, cores),
    }


def rate(graph, settings, at_once, pixels):
    """Images a second: the fastest of some times."""
    exact = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    compiled = import_openvino().Core().compile_model(graph, "CPU", {**settings, **exact})
    free = [compiled.create_infer_request() for _ in range(at_once)]
    for request in free:  # here first, since threads whose first call this is can lock up
        request.infer([pixels], share_inputs=True)

    def work(_):
        request = free.pop()
        request.infer([pixels], share_inputs=True)
        free.append(request)

    seconds = []
    for _ in range(TIMES):
        start = time.perf_counter()
        for _ in in_order(work, range(IMAGES // len(pixels)), at_once, 2 * at_once):
            pass
        seconds.append(time.perf_counter() - start)
    return IMAGES / min(seconds)


def rates(cores):
    """The rows of the table for so many cores, which is all that this process may use."""
    network, rows = read_network(find_model("ConvNeXt-N")), []
    images = np.random.default_rng(1).integers(0, 256, (max(STEPS), SIZE, SIZE, 3)).astype("float32")
    for name, (settings, at_once) in ways(cores).items():
        graphs = {step: build_graph(network, (step, SIZE, SIZE, 3), False) for step in STEPS}
        found = [rate(graphs[step], settings, at_once, images[:step]) for step in STEPS]
        rows.append([str(cores), name, *(f"{each:.0f}" for each in found)])
    return rows


def main():
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    usable, rows = sorted(os.sched_getaffinity(0)), []
    for cores in (2**power for power in range(len(usable).bit_length())):
        # In a process of its own, since OpenVINO counts the cores once.
        with multiprocessing.get_context("spawn").Pool(1, os.sched_setaffinity, (0, usable[:cores])) as process:
            rows += process.apply(rates, (cores,))
    print(machine() + "\n")
    print_table(["cores", "images a second, by steps of", *map(str, STEPS)], rows)


if __name__ == "__main__":
    main()

"""Which processor TensorFlow computes on. Imports TensorFlow: only after the options have been checked."""

import contextlib
import os
import sys
from typing import NamedTuple

from lib.errors import UsageError


class Device(NamedTuple):
    """Where to compute: the kind, `cpu` or `gpu`, and TensorFlow's name for it."""

    kind: str
    name: str


def import_tensorflow():
    """Import TensorFlow without what its C++ parts say about themselves, and return it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _silent_stderr():
        import tensorflow
    return tensorflow


def select_device(cpu=False, gpu=0, processors=None, threads_per_operation=None):
    """Import TensorFlow and bind it to one device. To be called before anything else uses TensorFlow, which
    takes no other settings once it has started.

    Without any GPU the CPU is used, with a warning on stderr unless it was asked for.

    Args:
        cpu: whether to use the CPU though there be a GPU.
        gpu: the index of the GPU.
        processors: how many cores TensorFlow may use; None for all.
        threads_per_operation: how many cores one operation may use; None for as many as `processors`. A stage that
            runs batches side by side is faster with 1.

    Raises:
        UsageError: there are GPUs, but not that one.
    """
    if cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    tf = import_tensorflow()
    with _silent_stderr():
        gpus = [] if cpu else tf.config.list_physical_devices("GPU")
    if gpus and gpu >= len(gpus):
        raise UsageError(
            "-g/--gpu: there is no GPU {}; give 0{}, or -c for the CPU.".format(
                gpu, f" to {len(gpus) - 1}" if len(gpus) > 1 else ""
            )
        )
    with _silent_stderr(), contextlib.suppress(RuntimeError):  # which says that TensorFlow has started already
        if gpus:
            tf.config.set_visible_devices(gpus[gpu], "GPU")
            tf.config.experimental.set_memory_growth(gpus[gpu], True)
        if processors or threads_per_operation:
            tf.config.threading.set_intra_op_parallelism_threads(threads_per_operation or processors)
            tf.config.threading.set_inter_op_parallelism_threads(processors or 0)
        tf.config.list_logical_devices()  # starts TensorFlow's runtime, which has something to say, too
    if gpus:
        return Device("gpu", "/GPU:0")
    if not cpu:
        print("There is no GPU that TensorFlow can use: using the CPU.", file=sys.stderr)
    return Device("cpu", "/CPU:0")


@contextlib.contextmanager
def enough_memory(advice):
    """Raise MemoryError with advice, such as "give fewer", where TensorFlow says in its own way that memory is full."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError(f"there is not enough memory; {advice}.") from error


@contextlib.contextmanager
def _silent_stderr():
    """Keep what TensorFlow's C++ parts say while starting, which no setting silences, off the terminal."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)

"""What TensorFlow computes on: a CPU, one or several GPUs, those of several machines.

Imports TensorFlow: only after the options have been checked.
"""

import contextlib
import json
import logging
import os
import re
import sys
from typing import Any, NamedTuple

from lib.errors import UsageError, WorkError, option

log = logging.getLogger(__name__)


class Device(NamedTuple):
    """Where to compute: the kind, `cpu` or `gpu`, and TensorFlow's name for it."""

    kind: str
    name: str


# What Keras imports where it is installed, for parts of it that nothing here uses: a third of the time that
# TensorFlow 2.21 needs to start. Stages that use one of these themselves import it later, as ever.
_NOT_FOR_KERAS = ("matplotlib", "pandas", "scipy", "sklearn")


def import_tensorflow():
    """Import TensorFlow without its messages, and return it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _silent_stderr(), _as_if_missing(_NOT_FOR_KERAS):
        import keras  # noqa: F401  # which TensorFlow would import later, at its first use
        import tensorflow
    tensorflow.get_logger().setLevel("ERROR")
    return tensorflow


@contextlib.contextmanager
def _as_if_missing(names):
    """Let imports of packages fail as if they weren't installed, but for those that are imported already."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def select_device(cpu=False, gpu=0, processors=None, threads_per_operation=None):
    """Import TensorFlow and bind it to its devices, before anything else uses it: once started, it can't be bound anew.

    Without any GPU the CPU is used, with a warning unless `cpu`.

    Args:
        cpu: whether to use the CPU even if there is a GPU.
        gpu: the index of the GPU, or those of several.
        processors: how many cores TensorFlow may use; None for all.
        threads_per_operation: how many cores one operation may use; None for as many as `processors`. A stage that
            runs several batches at once is faster with 1.

    Returns:
        The first `Device`.

    Raises:
        UsageError: there are GPUs, but not that one.
    """
    kind = bind_devices(cpu, gpu, processors, threads_per_operation)
    tf = import_tensorflow()
    with _silent_stderr(), contextlib.suppress(RuntimeError):  # raised if TensorFlow has started already
        tf.config.list_logical_devices()  # starts TensorFlow's runtime, which prints messages, too
    return Device(kind, f"/{kind.upper()}:0")


def bind_devices(cpu=False, gpu=0, processors=None, threads_per_operation=None):
    """The same as `select_device` without starting TensorFlow's runtime; returns the kind of the devices."""
    if cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    tf = import_tensorflow()
    with _silent_stderr():
        gpus = [] if cpu else tf.config.list_physical_devices("GPU")
    wanted = (gpu,) if isinstance(gpu, int) else gpu
    missing = [number for number in wanted if number >= len(gpus)]
    if gpus and missing:
        raise UsageError(
            "there is no GPU {}; give 0{}, or {} for the CPU.".format(
                missing[0], f" to {len(gpus) - 1}" if len(gpus) > 1 else "", option("cpu")
            ),
            "gpu",
        )
    with _silent_stderr(), contextlib.suppress(RuntimeError):
        if gpus:
            tf.config.set_visible_devices([gpus[number] for number in wanted], "GPU")
            for number in wanted:
                tf.config.experimental.set_memory_growth(gpus[number], True)
        if processors or threads_per_operation:
            tf.config.threading.set_intra_op_parallelism_threads(threads_per_operation or processors)
            tf.config.threading.set_inter_op_parallelism_threads(processors or 0)
    if not gpus and not cpu:
        log.warning("There is no GPU that TensorFlow can use: using the CPU.")
    return "gpu" if gpus else "cpu"


@contextlib.contextmanager
def enough_memory(advice):
    """Raise MemoryError, with advice such as "give fewer", where TensorFlow runs out of memory."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError(f"there is not enough memory; {advice}.") from error


@contextlib.contextmanager
def applying(named, shape):
    """Raise UsageError where a model can't be applied to images.

    Only for the call of a model: elsewhere the same errors are defects.

    Args:
        named: the model in words, such as its file.
        shape: that of the images: batch, height, width, bands.

    Raises:
        MemoryError: there is not enough memory.
    """
    import tensorflow as tf

    images = f"images of {shape[2]} x {shape[1]} pixels"
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError(f"there is not enough memory to apply {named} to {shape[0]} {images} at once.") from error
    except (tf.errors.OpError, TypeError, ValueError) as error:
        raise UsageError(f"{named} can't be applied to {images} ({_reason(error)}).") from error


# What TensorFlow and Keras put before and around the reason in an error's message.
_NO_REASON = re.compile(
    r"(Graph execution error|Detected at node|<stack traces|Node:|Exception encountered|in user code:|\s).*"
)
_AROUND_REASON = re.compile(r"\x1b\[[0-9;]*m|\{\{.*?\}\}|\s*\[Op:.*")


def _reason(error):
    """The line of TensorFlow's or Keras's message that says what is wrong."""
    lines = [line for line in str(error).splitlines() if line and not _NO_REASON.fullmatch(line)]
    return _AROUND_REASON.sub("", lines[0]).strip()[:200].rstrip(".") if lines else type(error).__name__


@contextlib.contextmanager
def _silent_stderr():
    """Hide what TensorFlow's C++ parts print while starting, which no setting silences."""
    sys.stderr.flush()
    terminal = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)


class Team(NamedTuple):
    """The devices that compute together.

    Attributes:
        strategy: the `tf.distribute.Strategy` over them.
        workers: how many processes they belong to.
        chief: whether this process is the one that writes files and messages.
    """

    strategy: Any
    workers: int = 1
    chief: bool = True


def start_team(cpu=False, gpus=(0,), processors=None):
    """Import TensorFlow, bind it to devices and choose a strategy for them, before anything else uses TensorFlow.

    With `TF_CONFIG` naming several workers, or in a step of a Slurm job with several tasks, this process is one of the
    workers. Where the tasks of a Slurm job see all GPUs of their node, each takes its own share of them.

    Args:
        cpu: whether to use the CPU even if there are GPUs.
        gpus: the indices of the GPUs.
        processors: how many cores TensorFlow may use; None for all.

    Returns:
        A `Team`.

    Raises:
        UsageError: there are GPUs, but not those; or `TF_CONFIG` is not valid.
    """
    workers = _workers()
    if workers > 1:
        gpus = _own_gpus(gpus)
        tf = import_tensorflow()
        bind_devices(cpu, gpus, processors)  # and no more: the strategy must be made before TensorFlow's runtime starts
        resolver = _resolver(tf)
        strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        chief = resolver.task_type == "chief" or (resolver.task_id == 0 and "chief" not in _tasks(resolver))
        return Team(strategy, workers, chief)
    device = select_device(cpu, gpus, processors)
    tf = import_tensorflow()
    if device.kind == "gpu" and len(gpus) > 1:
        return Team(tf.distribute.MirroredStrategy([f"/GPU:{number}" for number in range(len(gpus))]))
    return Team(tf.distribute.OneDeviceStrategy(device.name))


@contextlib.contextmanager
def together(team):
    """Raise WorkError where TensorFlow fails since another worker has ended."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        if team.workers == 1 or isinstance(error, tf.errors.ResourceExhaustedError):
            raise
        reason = re.sub(r"^\{\{.*?\}\}\s*", "", str(error).splitlines()[0])
        raise WorkError(
            f"One of the {team.workers} workers is gone, so the others stop, too; to resume, run the same command on "
            f"each of them, without {option('fresh')} ({reason})."
        ) from error


def _workers():
    """How many workers the environment names."""
    if os.environ.get("TF_CONFIG"):
        try:
            cluster = json.loads(os.environ["TF_CONFIG"]).get("cluster", {})
            return sum(len(cluster.get(job, ())) for job in ("chief", "worker"))
        except (ValueError, AttributeError, TypeError):
            raise UsageError(
                "TF_CONFIG is not the JSON that TensorFlow expects; unset it to use one machine."
            ) from None
    if "SLURM_PROCID" in os.environ:
        return int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1)
    return 1


def _resolver(tf):
    if os.environ.get("TF_CONFIG"):
        return tf.distribute.cluster_resolver.TFConfigClusterResolver()
    # The GPUs are divided already. The resolver would divide by the number that one task sees: 0 without GPUs, and too
    # few if each task sees only its own.
    return tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=_first_port(), auto_set_gpu=False, gpus_per_task=1, gpus_per_node=max(_tasks_per_node())
    )


def _first_port():
    """The port of a node's first task, which depends on the job, since jobs may share a node."""
    return 12000 + 16 * (int(os.environ.get("SLURM_JOB_ID") or 0) % 1280)


def _tasks_per_node():
    """The number of a Slurm step's tasks on each of its nodes."""
    text = os.environ.get("SLURM_STEP_TASKS_PER_NODE") or "1"
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(tasks) for tasks, times in found for _ in range(int(times or 1))]


def _own_gpus(gpus):
    """The indices of this worker's GPUs; the others are hidden from it. `gpus`: the indices given to each worker."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    nodes, node = _tasks_per_node(), int(os.environ.get("SLURM_NODEID") or 0)
    tasks = nodes[node] if node < len(nodes) else 1
    if os.environ.get("TF_CONFIG") or tuple(gpus) != (0,) or tasks == 1 or len(visible) < tasks:
        return gpus
    each, place = len(visible) // tasks, int(os.environ.get("SLURM_LOCALID") or 0)
    own = visible[each * place : each * (place + 1)]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(own)
    return tuple(range(len(own)))


def _tasks(resolver):
    return resolver.cluster_spec().as_dict()

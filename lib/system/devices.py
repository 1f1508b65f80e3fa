"""What TensorFlow computes on: a CPU, one or several GPUs, those of several machines.

Importing this module is quick; its functions import TensorFlow, so they are called after the options have been checked.
"""

import contextlib
import glob
import json
import logging
import os
import re
import sys
from typing import Any, NamedTuple

from lib.errors import UsageError, WorkError, option
from lib.system.packages import installed, versions_of

log = logging.getLogger(__name__)


# Packages that Keras imports if they are installed, for parts of it that nothing here uses: a third of the time that
# TensorFlow 2.21 needs to start. Stages that use one of them import it later.
_NOT_FOR_KERAS = ("matplotlib", "pandas", "scipy", "sklearn")


def import_tensorflow():
    """Import TensorFlow without its messages, and return it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _silent_stderr(), as_if_missing(_NOT_FOR_KERAS):
        import keras  # noqa: F401  # which TensorFlow would import later, at its first use
        import tensorflow
    tensorflow.get_logger().setLevel("ERROR")
    return tensorflow


def has_gpu():
    """Whether TensorFlow finds a GPU; it is only imported, which takes seconds, where there might be one."""
    if not may_have_gpu():
        return False
    tf = import_tensorflow()
    with _silent_stderr():
        return bool(tf.config.list_physical_devices("GPU"))


def may_have_gpu():
    """Whether TensorFlow might find a GPU, without importing it."""
    packages = versions_of("tensorflow", "tensorflow-cpu", "tensorflow-metal")
    if not installed("tensorflow") or ("tensorflow-cpu" in packages and "tensorflow" not in packages):
        return False
    nvidia = glob.glob("/dev/nvidia*") or os.path.exists("/dev/dxg")  # the latter under Windows
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1")
    return bool(nvidia and visible) or os.path.exists("/dev/kfd") or "tensorflow-metal" in packages


@contextlib.contextmanager
def as_if_missing(names):
    """Let imports of packages fail as if they weren't installed, except those already imported."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _silent_stderr():
    """Hide what TensorFlow's C++ parts print while starting, which no setting silences."""
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


class Device(NamedTuple):
    """Where to compute: the kind, `cpu` or `gpu`, and TensorFlow's name for it."""

    kind: str
    name: str


def select_device(cpu=False, gpu=0, processors=None, threads_per_operation=None, exact=False):
    """Import TensorFlow and bind it to one or several devices, before anything else uses it.

    Without any GPU the CPU is used, with a warning unless `cpu`.

    Args:
        cpu: whether to use the CPU even if there is a GPU.
        gpu: the index of the GPU, or those of several.
        processors: the number of cores that TensorFlow may use; None for all.
        threads_per_operation: the number of cores for one operation; None for `processors`. A stage that runs several
            batches at once is faster with 1.
        exact: compute in float32 also where a GPU would round to TensorFloat-32, of 10 bits.

    Returns:
        The first `Device`.

    Raises:
        UsageError: there are GPUs, but not that one.
    """
    tf, kind = _bind(cpu, gpu, processors, threads_per_operation)
    if exact:
        tf.config.experimental.enable_tensor_float_32_execution(False)
    with _silent_stderr(), contextlib.suppress(RuntimeError):  # raised if TensorFlow has started already
        tf.config.list_logical_devices()  # starts TensorFlow's runtime, which prints messages, too
    return Device(kind, f"/{kind.upper()}:0")


def _bind(cpu, gpu, processors, threads_per_operation=None):
    """`select_device` without starting TensorFlow's runtime; returns TensorFlow and the kind of the devices."""
    if cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    tf = import_tensorflow()
    with _silent_stderr():
        gpus = [] if cpu else tf.config.list_physical_devices("GPU")
    wanted = (gpu,) if isinstance(gpu, int) else gpu
    missing = [number for number in wanted if number >= len(gpus)]
    if gpus and missing:
        choice = f"0 to {len(gpus) - 1}" if len(gpus) > 1 else "0"
        raise UsageError(f"there is no GPU {missing[0]}; give {choice}, or {option('cpu')} for the CPU.", "gpu")
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
    return tf, "gpu" if gpus else "cpu"


class Team(NamedTuple):
    """The devices that compute together.

    Attributes:
        strategy: the `tf.distribute.Strategy` over them.
        workers: the number of processes that they belong to.
        chief: whether this process writes the files and messages.
    """

    strategy: Any
    workers: int = 1
    chief: bool = True


def start_team(cpu=False, gpus=(0,), processors=None):
    """Import TensorFlow, bind it to devices and choose a strategy for them, before anything else uses it.

    With `TF_CONFIG` naming several workers, or in a step of a Slurm job with several tasks, this process is one of the
    workers. Where the tasks of a Slurm job see all GPUs of their node, each takes its own share of them.

    Args:
        cpu: whether to use the CPU even if there are GPUs.
        gpus: the indices of the GPUs.
        processors: the number of cores that TensorFlow may use; None for all.

    Returns:
        A `Team`.

    Raises:
        UsageError: there are GPUs, but not those; or `TF_CONFIG` is not valid.
    """
    workers = _workers()
    if workers == 1:
        device = select_device(cpu, gpus, processors)
        tf = import_tensorflow()
        if device.kind == "gpu" and len(gpus) > 1:
            return Team(tf.distribute.MirroredStrategy([f"/GPU:{number}" for number in range(len(gpus))]))
        return Team(tf.distribute.OneDeviceStrategy(device.name))
    tf, _ = _bind(cpu, _own_gpus(gpus), processors)  # the strategy must be made before TensorFlow's runtime starts
    resolver = _resolver(tf)
    strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    jobs = resolver.cluster_spec().as_dict()
    return Team(strategy, workers, resolver.task_type == "chief" or (resolver.task_id == 0 and "chief" not in jobs))


@contextlib.contextmanager
def together(team):
    """Raise WorkError where TensorFlow fails because another worker has ended."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        if team.workers == 1 or isinstance(error, tf.errors.ResourceExhaustedError):
            raise
        advice = f"to resume, run the same command on each of them, without {option('fresh')}"
        gone = f"One of the {team.workers} workers is gone, so the others stop, too"
        raise WorkError(f"{gone}; {advice} ({_reason(error)}).") from error


def _workers():
    """The number of workers in the environment."""
    if os.environ.get("TF_CONFIG"):
        try:
            cluster = json.loads(os.environ["TF_CONFIG"]).get("cluster", {})
            return sum(len(cluster.get(job, ())) for job in ("chief", "worker"))
        except (ValueError, AttributeError, TypeError):
            raise UsageError(
                "TF_CONFIG is not the JSON that TensorFlow expects; unset it to use one machine."
            ) from None
    return int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1) if "SLURM_PROCID" in os.environ else 1


def _resolver(tf):
    if os.environ.get("TF_CONFIG"):
        return tf.distribute.cluster_resolver.TFConfigClusterResolver()
    port = 12000 + 16 * (int(os.environ.get("SLURM_JOB_ID") or 0) % 1280)  # jobs may share a node
    # The GPUs are divided already. The resolver would divide by the number that one task sees: 0 without GPUs, and too
    # few if each task sees only its own.
    gpus = {"auto_set_gpu": False, "gpus_per_task": 1, "gpus_per_node": max(_tasks_per_node())}
    return tf.distribute.cluster_resolver.SlurmClusterResolver(port_base=port, **gpus)


def _tasks_per_node():
    """The number of a Slurm step's tasks on each of its nodes."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE") or "1")
    return [int(tasks) for tasks, times in found for _ in range(int(times or 1))]


def _own_gpus(gpus):
    """The indices of this worker's GPUs, of those given to each worker; the others are hidden from it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    nodes, node = _tasks_per_node(), int(os.environ.get("SLURM_NODEID") or 0)
    tasks = nodes[node] if node < len(nodes) else 1
    if os.environ.get("TF_CONFIG") or tuple(gpus) != (0,) or tasks == 1 or len(visible) < tasks:
        return gpus
    each, place = len(visible) // tasks, int(os.environ.get("SLURM_LOCALID") or 0)
    own = visible[each * place : each * (place + 1)]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(own)
    return tuple(range(len(own)))


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
_NO_REASON = r"(Graph execution error|Detected at node|<stack traces|Node:|Exception encountered|in user code:|\s).*"
_AROUND_REASON = r"\x1b\[[0-9;]*m|\{\{.*?\}\}|\s*\[Op:.*"


def _reason(error):
    """The line of TensorFlow's or Keras's message that says what is wrong."""
    lines = [line for line in str(error).splitlines() if line and not re.fullmatch(_NO_REASON, line)]
    return re.sub(_AROUND_REASON, "", lines[0]).strip()[:200].rstrip(".") if lines else type(error).__name__

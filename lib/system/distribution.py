"""On which devices a training runs: one, several of this machine, or those of several machines."""

import contextlib
import json
import os
import re
from typing import Any, NamedTuple

from lib.errors import UsageError, WorkError
from lib.system.devices import bind_devices, import_tensorflow, select_device


class Team(NamedTuple):
    """The devices that compute together.

    Attributes:
        strategy: the `tf.distribute.Strategy` over them.
        workers: how many processes they belong to.
        chief: whether this process is the one that writes files and speaks.
    """

    strategy: Any
    workers: int = 1
    chief: bool = True


def start_team(cpu=False, gpus=(0,), processors=None):
    """Import TensorFlow, bind it to devices and choose how to compute on them. To be called before anything else uses
    TensorFlow.

    With `TF_CONFIG` naming several workers, or in a step of a Slurm job with several tasks, this process is one of the
    workers. Where the tasks of a Slurm job see all GPUs of their node, each takes its own share of them.

    Args:
        cpu: whether to use the CPU though there be GPUs.
        gpus: the indices of the GPUs.
        processors: how many cores TensorFlow may use; None for all.

    Returns:
        A `Team`.

    Raises:
        UsageError: there are GPUs, but not those; or `TF_CONFIG` can't be understood.
    """
    workers = _workers()
    if workers > 1:
        gpus = _own_gpus(gpus)
        tf = import_tensorflow()
        bind_devices(cpu, gpus, processors)  # and no more: the strategy wants to be TensorFlow's first act
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
    """Raise WorkError where TensorFlow says in its own way that another worker is gone."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        if team.workers == 1 or isinstance(error, tf.errors.ResourceExhaustedError):
            raise
        reason = re.sub(r"^\{\{.*?\}\}\s*", "", str(error).splitlines()[0])
        raise WorkError(
            f"One of the {team.workers} workers is gone, so the others stop, too; to resume, run the same command on "
            f"each of them, without --fresh ({reason})."
        ) from error


def _workers():
    """How many processes the environment speaks of."""
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
    # Which GPU is whose is settled already. By itself the resolver would divide by the number of those that one task
    # sees, which is none without GPUs, and too few if each task sees its own.
    return tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=_first_port(), auto_set_gpu=False, gpus_per_task=1, gpus_per_node=max(_tasks_per_node())
    )


def _first_port():
    """The port of a node's first task: another for another job, since jobs may share a node."""
    return 12000 + 16 * (int(os.environ.get("SLURM_JOB_ID") or 0) % 1280)


def _tasks_per_node():
    """How many tasks a Slurm step has on each of its nodes."""
    text = os.environ.get("SLURM_STEP_TASKS_PER_NODE") or "1"
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(tasks) for tasks, times in found for _ in range(int(times or 1))]


def _own_gpus(gpus):
    """The indices of the GPUs for this worker, of those that it sees from then on.

    Args:
        gpus: those that were asked for, in each worker.
    """
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

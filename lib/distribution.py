"""On which devices a training runs: one, several of this machine, or those of several machines."""

import contextlib
import json
import os
import re
from typing import Any, NamedTuple

from lib.device import bind_devices, import_tensorflow, select_device
from lib.errors import UsageError, WorkError


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
    workers.

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
            f"One of the {team.workers} workers is gone, so the others stop, too; the same command on each of "
            f"them, without --fresh, goes on ({reason})."
        ) from error


def _workers():
    """How many processes the environment speaks of."""
    if os.environ.get("TF_CONFIG"):
        try:
            cluster = json.loads(os.environ["TF_CONFIG"]).get("cluster", {})
            return sum(len(cluster.get(job, ())) for job in ("chief", "worker"))
        except (ValueError, AttributeError, TypeError):
            raise UsageError("TF_CONFIG is not the JSON that TensorFlow wants; unset it to use one machine.") from None
    if "SLURM_PROCID" in os.environ:
        return int(os.environ.get("SLURM_STEP_NUM_TASKS") or 1)
    return 1


def _resolver(tf):
    if os.environ.get("TF_CONFIG"):
        return tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.cluster_resolver.SlurmClusterResolver()
    # Without GPUs it would divide by their number.
    tasks = int(os.environ.get("SLURM_STEP_TASKS_PER_NODE", "1").split("(")[0].split(",")[0])
    return tf.distribute.cluster_resolver.SlurmClusterResolver(auto_set_gpu=False, gpus_per_task=1, gpus_per_node=tasks)


def _tasks(resolver):
    return resolver.cluster_spec().as_dict()

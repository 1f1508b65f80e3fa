"""Choosing devices: one of a machine, or a worker's share in a Slurm job. GPUs and Slurm are simulated."""

import os
import subprocess
import sys

import pytest
import tensorflow as tf
from conftest import ROOT

from lib.errors import UsageError
from lib.system import devices
from lib.system.devices import applying, select_device


def test_it_starts_without_what_keras_would_import_and_these_can_be_imported_later():
    code = (
        "import sys; from lib.system.devices import import_tensorflow; import_tensorflow(); "
        "print(sorted({'matplotlib', 'pandas', 'scipy', 'sklearn'} & set(sys.modules))); "
        "import matplotlib.pyplot, pandas, scipy.stats, sklearn.metrics, keras; print(keras.Input((1,)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "[]\n(None, 1)\n"), done.stderr


def test_without_a_gpu_there_is_one_line_and_the_cpu(capfd, caplog):
    assert select_device(gpu=3).kind == "cpu"
    assert [record.getMessage() for record in caplog.records] == [
        "There is no GPU that TensorFlow can use: using the CPU."
    ]
    assert capfd.readouterr().out == ""


def test_the_cpu_is_taken_silently_when_asked_for(capfd):
    assert select_device(cpu=True) == ("cpu", "/CPU:0")
    assert capfd.readouterr().err == ""


def test_exact_numbers_are_float32_on_every_gpu():
    code = (
        "from lib.system.devices import select_device, import_tensorflow\n"
        "for exact in (False, True):\n"
        "    select_device(cpu=True, exact=exact)\n"
        "    print(import_tensorflow().config.experimental.tensor_float_32_execution_enabled())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_a_gpu_that_is_not_there_is_a_wrong_call(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0", "GPU:1"])
    with pytest.raises(UsageError, match="no GPU 2; give 0 to 1, or ⟦cpu⟧"):
        select_device(gpu=2)


def test_the_gpu_that_is_asked_for_is_used(monkeypatch):
    used = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0", "GPU:1"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *given: used.append(given))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda *given: used.append(given))
    assert select_device(gpu=1) == ("gpu", "/GPU:0")
    assert used == [(["GPU:1"], "GPU"), ("GPU:1", True)]


def test_several_gpus(monkeypatch):
    used = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0", "GPU:1", "GPU:2"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *given: used.append(given))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda *given: used.append(given))
    assert select_device(gpu=(0, 2)) == ("gpu", "/GPU:0")
    assert used == [(["GPU:0", "GPU:2"], "GPU"), ("GPU:0", True), ("GPU:2", True)]
    with pytest.raises(UsageError, match="no GPU 3; give 0 to 2, or ⟦cpu⟧"):
        select_device(gpu=(0, 3))


def test_stderr_is_back_afterwards(capfd):
    select_device(cpu=True)
    print("still here", file=sys.stderr)
    assert "still here" in capfd.readouterr().err


def test_running_out_of_memory_names_the_model():
    words = "not enough memory to apply a.keras to 2 images of 8 x 6 pixels at once"
    with pytest.raises(MemoryError, match=words), applying("a.keras", (2, 6, 8, 3)):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


@pytest.fixture
def task(monkeypatch):
    """Sets the environment of a task of a step."""

    def set_environment(node, place, rank, tasks="2(x2),1", visible="0,1,2,3"):
        monkeypatch.delenv("TF_CONFIG", raising=False)
        variables = {
            "SLURM_JOB_ID": "1285",
            "SLURM_STEP_NUM_TASKS": "5",
            "SLURM_STEP_NODELIST": "n[1-3]",
            "SLURM_STEP_TASKS_PER_NODE": tasks,
            "SLURM_PROCID": str(rank),
            "SLURM_NODEID": str(node),
            "SLURM_LOCALID": str(place),
            "CUDA_VISIBLE_DEVICES": visible,
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_environment


def test_each_task_has_its_own_address(task):
    task(1, 1, 3)
    resolver = devices._resolver(tf)
    places = ["n1:12080", "n1:12081", "n2:12080", "n2:12081", "n3:12080"]
    assert resolver.cluster_spec().as_dict() == {"worker": places}
    assert (resolver.task_type, resolver.task_id) == ("worker", 3)
    assert devices._workers() == 5
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"


@pytest.mark.parametrize(
    ("visible", "node", "place", "asked", "own", "left"),
    [
        ("0,1,2,3", 0, 0, (0,), (0, 1), "0,1"),  # all of a node's GPUs, shared by two tasks
        ("0,1,2,3", 1, 1, (0,), (0, 1), "2,3"),
        ("4,7", 0, 1, (0,), (0,), "7"),
        ("0,1,2,3", 2, 0, (0,), (0,), "0,1,2,3"),  # one task: what it asks for
        ("5", 0, 1, (0,), (0,), "5"),  # Slurm has given each task its own
        ("0,1,2,3", 0, 1, (0, 2), (0, 2), "0,1,2,3"),
        ("", 0, 1, (0,), (0,), ""),
    ],
)
def test_each_task_has_its_own_gpus(task, visible, node, place, asked, own, left):
    task(node, place, 0, visible=visible)
    assert devices._own_gpus(asked) == own
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left


def test_another_job_on_the_same_node_has_other_ports(task, monkeypatch):
    task(0, 0, 0)
    monkeypatch.setenv("SLURM_JOB_ID", "1286")
    assert devices._resolver(tf).cluster_spec().as_dict()["worker"][0] == "n1:12096"

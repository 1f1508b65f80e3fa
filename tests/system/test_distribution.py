"""Which worker is where in a Slurm job. There is neither: the environment is what it would be."""

import os

import pytest
import tensorflow as tf

from lib.system import devices as module


@pytest.fixture
def task(monkeypatch):
    """Sets the environment of a task of a step."""

    def set_environment(node, place, rank, tasks="2(x2),1", devices="0,1,2,3"):
        monkeypatch.delenv("TF_CONFIG", raising=False)
        variables = {
            "SLURM_JOB_ID": "1285",
            "SLURM_STEP_NUM_TASKS": "5",
            "SLURM_STEP_NODELIST": "n[1-3]",
            "SLURM_STEP_TASKS_PER_NODE": tasks,
            "SLURM_PROCID": str(rank),
            "SLURM_NODEID": str(node),
            "SLURM_LOCALID": str(place),
            "CUDA_VISIBLE_DEVICES": devices,
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_environment


def test_each_task_has_its_own_address(task):
    task(1, 1, 3)
    resolver = module._resolver(tf)
    places = ["n1:12080", "n1:12081", "n2:12080", "n2:12081", "n3:12080"]
    assert resolver.cluster_spec().as_dict() == {"worker": places}
    assert (resolver.task_type, resolver.task_id) == ("worker", 3)
    assert module._workers() == 5
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"


@pytest.mark.parametrize(
    ("devices", "node", "place", "asked", "own", "left"),
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
def test_each_task_has_its_own_gpus(task, devices, node, place, asked, own, left):
    task(node, place, 0, devices=devices)
    assert module._own_gpus(asked) == own
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left


def test_another_job_on_the_same_node_has_other_ports(task, monkeypatch):
    task(0, 0, 0)
    one = module._first_port()
    monkeypatch.setenv("SLURM_JOB_ID", "1286")
    assert module._first_port() == one + 16

"""Choosing the device. There is no GPU here: TensorFlow's list of them is replaced."""

import subprocess
import sys

import pytest
import tensorflow as tf
from conftest import ROOT

from lib.errors import UsageError
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


def test_memory_that_a_model_fills_is_told():
    words = "not enough memory to apply a.keras to 2 images of 8 x 6 pixels at once"
    with pytest.raises(MemoryError, match=words), applying("a.keras", (2, 6, 8, 3)):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

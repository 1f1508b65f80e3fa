"""What is read of `.keras` files without Keras; what is refused of them is tested with `load_model`."""

import subprocess
import sys

import pytest
from conftest import FIXTURES, ROOT

from lib.models.keras_files import load_model

CODE = """
import sys
from lib.models.keras_archives import array, group, groups_by_class, open_archive

with open_archive(sys.argv[1]) as content:
    layers = [layer["class_name"] for layer in content.description["config"]["layers"]]
    layers.count("Dense") == 3 or sys.exit("not all layers")
    parent = content.arrays if content.named else group(content.arrays, sys.argv[2])
    names = ["output_dense/output_dense"] if content.named else groups_by_class(parent)["dense"][-1:]
    kernel = "kernel:0" if content.named else "vars/0"
    print(array(group(parent, names[0]), kernel, 1000).sum())
{"keras", "tensorflow"} & set(sys.modules) and sys.exit("Keras is imported")
"""


@pytest.mark.parametrize(
    ("name", "container"),
    [("2.12-hdf5", ""), ("2.13", "_layer_checkpoint_dependencies"), ("3.0", "layers"), ("3.15", "layers")],
)
def test_description_and_arrays_without_keras(name, container):
    path = FIXTURES / "keras" / f"reference-{name}.keras"
    command = [sys.executable, "-c", CODE, str(path), container]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    expected = load_model(path).get_layer("output_dense").get_weights()[0].sum()
    assert float(done.stdout) == pytest.approx(float(expected), rel=1e-5)

"""What is read of `.keras` files without Keras; what is refused of them is tested with `load_model`."""

import subprocess
import sys

import pytest
from conftest import FIXTURES, ROOT

from lib.models.keras_files import load_model

CODE = """
import sys
from lib.models.keras_archives import layer_arrays, layer_groups, open_archive

with open_archive(sys.argv[1]) as content:
    for name, group in layer_groups(content).items():
        print(name, *(value.sum() for value in layer_arrays(group, content.named, 10_000)))
{"keras", "tensorflow"} & set(sys.modules) and sys.exit("Keras is imported")
"""


@pytest.mark.parametrize("version", ["2.12-hdf5", "2.12", "2.13", "3.0", "3.15"])
def test_the_arrays_of_each_layer_without_keras(version):
    path = FIXTURES / "keras" / f"reference-{version}.keras"
    done = subprocess.run([sys.executable, "-c", CODE, str(path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = {name: list(map(float, sums)) for name, *sums in map(str.split, done.stdout.splitlines())}
    expected = {layer.name: [float(value.sum()) for value in layer.get_weights()] for layer in load_model(path).layers}
    expected = {name: sums for name, sums in expected.items() if sums and "crop" not in name and "noise" not in name}
    assert {*found} == {*expected}
    for name, sums in expected.items():
        assert found[name] == pytest.approx(sums, rel=1e-4, abs=1e-4), name

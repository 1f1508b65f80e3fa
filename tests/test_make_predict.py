"""`make predict` on a machine with nothing but a Python: its packages, and what they can do."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.once  # since it installs some 400 MB
def test_a_fresh_environment_without_tensorflow_writes_the_rows(shared, tmp_path):
    clone = tmp_path / "clone"
    clone.mkdir()
    for pattern in ("Makefile", "requirements*.txt", "*.py", "lib"):
        for source in ROOT.glob(pattern):
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, clone / source.name)
    environment = dict(os.environ, HERBARIOGRAPH_MODELS=str(shared / "models"), PYTHONPATH="")
    # An environment's own packages are not those of a fresh machine.
    base = os.path.realpath(sys.executable)
    # Nor are the environment that is active, and what a `make` that runs the tests was called with.
    for name in ("VIRTUAL_ENV", "VENV", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS"):
        environment.pop(name, None)
    command = ["make", "predict", f"PYTHON={base}", f"DATA={shared / 'images'}", "OUTPUT=p.tsv"]
    more = "OPTIONS=--report p.html --embeddings p.npz"
    done = subprocess.run([*command, more], cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "OpenVINO computes on the CPU." in done.stderr.splitlines()
    assert len((clone / "p.tsv").read_text().splitlines()) == 141
    listing = [clone / ".venv" / "bin" / "python", "-m", "pip", "list", "--format=freeze"]
    installed = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.lower()
    assert "openvino==" in installed and "tensorflow" not in installed and "keras" not in installed


@pytest.mark.once
@pytest.mark.parametrize("python", ["3.9", "3.10", "3.14"])
def test_the_packages_have_wheels_for_pythons_that_are_not_here(python, tmp_path):
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    wheels = ["--python-version", python, "--only-binary=:all:", "--target", str(tmp_path)]
    command = [*install, *wheels, "-r", str(ROOT / "requirements-predict.txt")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

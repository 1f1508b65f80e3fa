"""The Dockerfile's steps, run without Docker in a clean Python 3.8 that already has TensorFlow 2.13.0."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT


def instructions():
    """The Dockerfile's instructions as pairs of keyword and argument, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def test_it_builds_on_the_published_image_and_ends_as_an_ordinary_user():
    assert instructions()[0] == ("FROM", "tensorflow/tensorflow:2.13.0-gpu")
    users = [argument for keyword, argument in instructions() if keyword == "USER"]
    assert users and users[-1] not in ("0", "root")
    assert not any("tensorflow" in argument for keyword, argument in instructions() if keyword == "RUN")


@pytest.mark.skipif(sys.version_info[:2] != (3, 8), reason="the image has Python 3.8; this is another")
def test_its_steps_leave_tensorflow_alone_and_give_a_working_toolkit(shared, tmp_path):
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    install = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "tensorflow-cpu==2.13.0"], check=True)
    freeze = [home / "bin" / "python", "-m", "pip", "freeze"]
    before = set(subprocess.run(freeze, capture_output=True, text=True, check=True).stdout.split())
    environment = {"PATH": f"{home / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    environment.update({name: value for name, value in os.environ.items() if name.startswith("PIP_")})
    root = tmp_path / "image"
    here = root
    for keyword, argument in instructions():
        if keyword == "WORKDIR":
            here = root / argument.lstrip("/")
            here.mkdir(parents=True, exist_ok=True)
        elif keyword == "COPY":
            *sources, target = argument.split()
            for pattern in sources:
                for source in ROOT.glob(pattern):
                    copy = shutil.copytree if source.is_dir() else shutil.copy
                    copy(source, here / target if source.is_dir() else here)
        elif keyword == "ENV":
            for name, value in re.findall(r'(\w+)=("[^"]*"|\S+)', argument):
                parts = value.strip('"').replace("${PATH}", environment["PATH"]).split(":")
                moved = [f"{root}{part}" if part.startswith(("/opt/", "/data/")) else part for part in parts]
                environment[name] = ":".join(moved)
        elif keyword == "RUN" and "pip" in argument:
            subprocess.run(argument, shell=True, cwd=here, env=environment, check=True)
        else:
            assert keyword in ("FROM", "USER", "CMD") or argument.startswith("useradd "), argument
    after = set(subprocess.run(freeze, capture_output=True, text=True, check=True).stdout.split())
    assert before <= after, "a package of the image was changed"
    assert not {package for package in after - before if package.startswith(("tensorflow", "keras", "numpy"))}

    shutil.copytree(shared / "models", root / "data" / "models")
    shutil.copytree(shared / "images" / "unpressed", root / "data" / "images")
    command = "predictImages.py -d images -o predictions.tsv"  # as the Dockerfile's first lines say
    assert command in (ROOT / "Dockerfile").read_text()
    subprocess.run(command, shell=True, cwd=here, env=environment, check=True)
    rows = (root / "data" / "predictions.tsv").read_text().splitlines()
    assert len(rows) == 1 + len(list((root / "data" / "images").iterdir()))

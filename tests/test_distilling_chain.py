"""From drawn fractals and a checkpoint to a distilled student, by its page's command as it stands but for sizes."""

import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT
from documents import commands
from trainings import images_of
from vits import take_arrays

from lib.models import vit
from lib.models.porting import NORMALIZATIONS

CLASSES, SIZE = 20, 32


def write_safetensors(path, arrays):
    """Write arrays, name -> float32, as a `.safetensors` file."""
    header, place = {}, 0
    for name, values in arrays.items():
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [place, place + values.nbytes]}
        place += values.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(values.tobytes() for values in arrays.values()))


def train_vit(path, epochs=12):
    """Train a small vision transformer on records; its design and model."""
    images = images_of(str(path))
    mean, deviation = (np.array(values, "float32") for values in NORMALIZATIONS["imagenet"])
    pixels = (images.take(np.arange(len(images))) / 255 - mean) / deviation
    keras.utils.set_random_seed(1)
    design = vit.Design(SIZE, 8, 3, 48, 2, 3, 96, CLASSES)
    model = vit.build_vit(design)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.002), loss, metrics=["accuracy"])
    history = model.fit(pixels, images.records.category, batch_size=32, epochs=epochs, verbose=0)
    assert history.history["accuracy"][-1] > 0.8, "the teacher has learnt nothing: the test shows nothing"
    return design, model


@pytest.mark.slow
@pytest.mark.once
def test_fractals_teacher_student(tmp_path):
    for script in ROOT.glob("*.py"):
        (tmp_path / script.name).symlink_to(script)
    for name in ("lib", "tools", "manual"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}

    def bash(text):
        done = subprocess.run(
            ["bash", "-euc", text],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**environment, "CUDA_VISIBLE_DEVICES": "-1"},
        )
        assert done.returncode == 0, done.stderr
        return done

    bash(f"./fractals.py -n {CLASSES} -s {SIZE} --views 30 -r 3 -o fractals")
    design, model = train_vit(tmp_path / "fractals-train.tfr")
    write_safetensors(tmp_path / "vit.safetensors", take_arrays(model, design))
    bash(
        "./vitTeacher.py -c vit.safetensors -o teacher --heads 3\n"
        f"./convnext.py -a {CLASSES} -i {SIZE} -x 8 -n 1:1:1:1 -o student.keras"
    )
    text = "\n".join(commands("docs/distillOptimizeImagesR.md"))
    for published, ours in (
        ("SIZE=224", f"SIZE={SIZE}"),
        ('MODEL="ConvNeXt-T.keras"', "MODEL=student.keras"),
        ("-a 21000 -e 32", f"-a {CLASSES} -e 24"),
        ("3DOFDB21kViTB16-224-TF", "teacher"),
        ("3D-OFDB-21k-224-train-microcosm.tfr", "fractals-train.tfr"),
        ("3D-OFDB-21k-224-test.tfr", "fractals-test.tfr"),
    ):
        assert text.count(published) == 1
        text = text.replace(published, ours)
    done = bash(text)
    student = tmp_path / done.stdout.strip()
    assert student.name == "best-model.keras" and student.is_file()
    found = re.findall(r"^Epoch \d+ of .*? agreement ([\d.]+).*val_agreement ([\d.]+)", done.stderr, re.MULTILINE)
    trained, validated = zip(*(map(float, values) for values in found))
    # By chance they would agree in one of CLASSES images. Single epochs jump: there is one test image for a category.
    assert np.mean(trained[-6:]) > 5 / CLASSES and np.mean(validated[-6:]) > 5 / CLASSES, (trained, validated)

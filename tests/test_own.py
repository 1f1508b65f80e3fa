"""own.sh: from a folder with a subfolder for each category to a tested classifier and its card."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from tools import sample


def own(here, *arguments, **settings):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = dict(os.environ, PATH=path, CUDA_VISIBLE_DEVICES="-1", **settings)
    command = ["bash", ROOT / "own.sh", *arguments]
    return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)


@pytest.mark.once
@pytest.mark.slow  # seven stages, each with a start of TensorFlow
def test_a_folder_becomes_a_tested_model_with_its_card(tmp_path, shared):
    assert sample.main([str(tmp_path / "all"), "--count", "14"]) == 0
    (tmp_path / "collection").mkdir()
    for name, label in (("letters", "Text"), ("beetles", "Animal"), ("sheets", "Ordinary")):
        (tmp_path / "all" / label).rename(tmp_path / "collection" / name)
    encoder = str(shared / "models" / "ConvNeXt-distilled.keras")
    done = own(tmp_path, "collection", ENCODER=encoder, HEAD_EPOCHS="2", EPOCHS="3", OWN="my own")
    assert done.returncode == 0, done.stderr
    model = shlex.split(done.stdout.splitlines()[-1])[-1]  # of the command to be pasted
    assert re.fullmatch(r"my own/model/(best|soup)-model\.keras", model) and (tmp_path / model).is_file()
    card = (tmp_path / "my own" / "model" / "README.md").read_text()
    tested = json.loads((tmp_path / "my own" / "test.json").read_text())
    assert tested["images"] == 6 and f"| accuracy | {tested['accuracy']:.1%} |" in card.split("## In test")[1]
    assert re.findall(r"^\| \d \| (\w+) \|", card, re.MULTILINE) == ["beetles", "letters", "sheets"]
    assert (tmp_path / "my own" / "model" / "categories.tsv").read_text().count("\n") == 4
    better = re.search(r"The result is (no soup|the soup), .*: macro F1 ([\d.]+) against ([\d.]+) ", done.stderr)
    assert (better[1] == "the soup") == (float(better[2]) > float(better[3])) == ("soup-model" in model)


def test_a_wrong_call_is_one_line_and_help_tells_the_settings(tmp_path):
    for arguments in ([], ["nowhere"], ["a", "b"]):
        done = own(tmp_path, *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "give a folder with a subfolder for each category" in done.stderr
        assert ("nowhere is not an existing folder" in done.stderr) == (arguments == ["nowhere"])
    helped = own(tmp_path, "--help").stdout
    assert "./own.sh collection" in helped and re.search(r"EPOCHS=60 +RATE=0\.0005 +BATCH=32 +AUGMENT=small", helped)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def collection(tmp_path):
    """Two categories of six images."""
    for number, name in enumerate(("fern", "moss")):
        write(tmp_path / "collection" / name, range(6 * number, 6 * number + 6))
    return tmp_path / "collection"


def write(folder, numbers):
    folder.mkdir(parents=True)
    for number in numbers:
        pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), "uint8")  # no two are alike
        Image.fromarray(pixels).resize((32, 32)).save(folder / f"{number}.png")


@pytest.mark.parametrize(
    "name, value, status, said",
    [
        ("EPOCHS", "abc", 2, "EPOCHS: 'abc' is not a whole number of 1 or more."),
        ("AUGMENT", "foo", 2, "AUGMENT: 'foo' is not KEY=NUMBER of docs/trainImagesC.md#augmentation, nor first "),
        ("ENCODER", "nix", 2, "ENCODER: 'nix' is neither ConvNeXt-N nor ConvNeXt-T nor an existing .keras file."),
        ("HERBARIOGRAPH_MODELS", "none", 1, "ENCODER: none/ConvNeXt-distilled.keras is missing and can't be dow"),
        ("OWN", "collection/own", 2, "OWN: 'collection/own' lies in the collection, whose folders are categories."),
    ],
)
def test_a_wrong_setting_is_named_before_the_first_stage(collection, name, value, status, said):
    nowhere = {"https_proxy": "http://127.0.0.1:9"}  # where nothing listens: there is no network
    done = own(collection.parent, "collection", **nowhere, **{name: value})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1)
    assert done.stderr.startswith(f"own.sh: {said}") and len(done.stderr) < 300
    assert not (collection.parent / "own").exists() and sorted(os.listdir(collection)) == ["fern", "moss"]


def refused(here, **settings):
    """What own.sh says last of a collection with which it can't go on, after its records are made."""
    encoder = here / "any.keras"
    encoder.touch()
    done = own(here, "collection", ENCODER=str(encoder), **settings)
    assert done.returncode == 2 and not (here / "own" / "fresh.keras").exists()
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_collection_that_can_t_be_learnt_from_is_refused(collection):
    here, few = collection.parent, collection / "palm"
    write(few, [20])
    said = "own.sh: no image for training: palm; add images, remove the folder, or give other SHARES"
    assert refused(here, SHARES="0.2:0.4:0.4") == said
    assert (here / "own" / "counts.tsv").read_text().splitlines()[3].startswith("palm\t0\t")
    for folder in (collection / "fern", collection / "moss"):
        for path in sorted(folder.iterdir())[1:]:
            path.unlink()
    assert refused(here) == "own.sh: no category has an image for validation; add images, or give other SHARES"


def test_the_counts_of_records_that_failed_are_not_taken_for_counts(collection):
    (collection.parent / "own" / "records-index.tsv.draft").mkdir(parents=True)
    (collection.parent / "own" / "records-index.tsv").mkdir()
    (collection.parent / "own" / "counts.tsv").write_text("former")
    done = own(collection.parent, "collection", ENCODER=str(collection / "fern" / "0.png"))
    assert done.returncode == 1 and (collection.parent / "own" / "counts.tsv").read_text() == "former"


def test_what_is_wrong_with_a_folder_is_said_by_make(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    for data, said in (("", "give DATA=FOLDER"), ("/no where", "DATA: /no where is not an existing folder")):
        command = ["make", "folder-is-given", f"DATA={data}"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 2 and f"make own: {said}" in done.stderr

"""own.sh: from a folder with a subfolder for each category to a tested classifier and its card."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

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
    done = own(tmp_path, "collection", ENCODER=encoder, HEAD_EPOCHS="2", EPOCHS="3")
    assert done.returncode == 0, done.stderr
    model = re.search(r"-m (own/model/(?:best|soup)-model\.keras)\n", done.stdout)[1]
    assert (tmp_path / model).is_file()
    card = (tmp_path / "own" / "model" / "README.md").read_text()
    tested = json.loads((tmp_path / "own" / "test.json").read_text())
    assert tested["images"] == 6 and f"| accuracy | {tested['accuracy']:.1%} |" in card.split("## In test")[1]
    assert re.findall(r"^\| \d \| (\w+) \|", card, re.MULTILINE) == ["beetles", "letters", "sheets"]
    assert (tmp_path / "own" / "model" / "categories.tsv").read_text().count("\n") == 4
    better = re.search(r"The result is (no soup|the soup), .*: macro F1 ([\d.]+) against ([\d.]+) ", done.stderr)
    assert (better[1] == "the soup") == (float(better[2]) > float(better[3])) == ("soup-model" in model)


def test_a_wrong_call_is_one_line_and_help_tells_the_settings(tmp_path):
    for arguments in ([], ["nowhere"], ["a", "b"]):
        done = own(tmp_path, *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "give a folder with a subfolder for each category" in done.stderr
    helped = own(tmp_path, "--help").stdout
    assert "./own.sh collection" in helped and re.search(r"EPOCHS=60 +RATE=0\.0005 +BATCH=32 +AUGMENT=small", helped)
    assert not list(tmp_path.iterdir())

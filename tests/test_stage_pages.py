"""The commands of the stages' pages run as they stand, on the sample collection."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from documents import commands


@pytest.mark.slow
@pytest.mark.once
def test_from_drawing_pictures_to_an_evaluated_soup(tmp_path):
    for script in ROOT.glob("*.py"):
        (tmp_path / script.name).symlink_to(script)
    for folder in ("lib", "tools"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    lines = [
        line for page in ("sample", "trainImagesC", "imageSoup", "testImages") for line in commands(f"docs/{page}.md")
    ]
    assert len(lines) == 12
    text = "\n".join(lines).replace(".venv/bin/python", "python")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-euc", text],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PATH": path, "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert done.returncode == 0, done.stderr
    trained = [tmp_path / line for line in done.stdout.splitlines() if line.endswith("best-model.keras")]
    assert len(trained) == 3 and all(path.is_file() for path in trained)
    assert re.search(r"^MODEL\tF1$", done.stdout, re.MULTILINE) and re.search(
        r"^Test macro F1: \d", done.stdout, re.MULTILINE
    )
    assert len(list((tmp_path / "figures").iterdir())) == 4
    history = (trained[0].parent / "training-history.tsv").read_text().splitlines()
    scores = [float(line.split("\t")[history[0].split("\t").index("VAL_F1")]) for line in history[1:]]
    assert max(scores) > 0.3, "it does not learn: by chance there would be 0.06"

"""A reader that is replayed: what it saves is what adaptImages.py takes, and audited images stay apart."""

import csv
import json

import numpy as np
import pytest
from conftest import FIXTURES

from lib.storage.files import checksum
from tools import replay

MODEL = str(FIXTURES / "keras" / "reference-2.13.keras")


@pytest.fixture
def features(tmp_path):
    """Features of 90 images in three folders, one of which is no category of the model's."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 90)
    names = [f"scans/{['A', 'B', 'Moss'][label]}/{number:02d}.jpg" for number, label in enumerate(labels)]
    embeddings = (3 * np.eye(3, 8)[labels] + rng.normal(size=(90, 8))).astype("float32")
    path, about = tmp_path / "f.npz", {"model_sha256": checksum(MODEL)}
    order = np.argsort(names)
    np.savez(path, embeddings=embeddings[order], paths=np.array(names)[order], settings=np.array(json.dumps(about)))
    (tmp_path / "labels.tsv").write_text("INDEX\tLABEL\n" + "".join(f"{i}\t{name}\n" for i, name in enumerate("ABCDE")))
    return path


def test_a_reader_teaches_and_audits(features, tmp_path, capsys):
    table = tmp_path / "c.tsv"
    call = [
        str(features),
        str(table),
        "-m",
        MODEL,
        "--labels",
        str(tmp_path / "labels.tsv"),
        "--taught",
        "30",
        "--audited",
        "20",
    ]
    assert replay.main(call) == 0
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len({row["FILE"] for row in rows}) == 50 and all(
        row["CATEGORY"] == row["FILE"].split("/")[1] for row in rows
    )
    assert [row["ROLE"] for row in rows].count("audit") == 20
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["TAUGHT", "0", "10", "20", "30"]
    assert float(lines[-1][1][:-1]) > 80 > float(lines[1][1][:-1])
    content = table.read_bytes()
    assert replay.main(call) == 0 and table.read_bytes() == content, "the same each time"
    assert (
        replay.main([*call[:-1], "80"]) == 2
        and "are fewer than are to be taught and audited" in capsys.readouterr().err
    )

"""What the page of a model's answers shows."""

import numpy as np
import pytest

from lib.evaluation import report


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, *rows):
    path.write_text("".join("\t".join(row) + "\n" for row in rows))


def test_records_are_called_by_the_files_that_they_were_made_of(here):
    class Records:
        files = ("x/r-test.tfr",)
        file, number = np.zeros(2, int), np.array([0, 2])

        def __len__(self):
            return 2

        def name(self, index):
            return f"x/r-test.tfr, record {self.number[index]}"

    (here / "x").mkdir()
    assert report._names_of_records(Records()) == (["x/r-test.tfr, record 0", "x/r-test.tfr, record 2"], False)
    header = ("FILE", "CATEGORY", "SPLIT", "RECORD", "SHA256", "DHASH", "TFR")
    rows = [(f"scans/{n}.jpg", "Live", "test", str(n), "", "", "r-test.tfr") for n in range(3)]
    write(here / "x" / "r-index.tsv", header, *rows, ("scans/u.jpg", "Live", "unused", "", "", "", ""))
    assert report._names_of_records(Records()) == (["scans/0.jpg", "scans/2.jpg"], True)
    write(here / "x" / "r-index.tsv", header, *rows[:2])  # of other records
    assert not report._names_of_records(Records())[1]


def test_the_telling_images_are_of_all_kinds_of_mistakes():
    true = np.zeros(100, int)
    chosen = np.r_[np.zeros(60, int), np.full(37, 1), [2, 2, 3]]
    certainty = np.random.default_rng(0).random(100)
    taken = report.most_telling(np.arange(100), true, chosen, certainty, 12)
    kinds = np.bincount(chosen[taken], minlength=4)
    assert kinds.tolist() == [4, 5, 2, 1] or kinds.tolist() == [5, 4, 2, 1]
    right = [index for index in taken if chosen[index] == 0]
    assert right == taken[-len(right) :] and right == np.argsort(certainty[:60])[: len(right)].tolist()
    most_certain = 60 + np.argsort(-certainty[60:97])
    assert set(taken) >= set(most_certain[:4].tolist())

"""The sample collection: all categories, the same for the same seed, varied."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from lib.data.categories import LABELS
from lib.data.duplicates import difference_hash
from tools.sample import DRAWERS, draw, write_picture


def test_every_category_can_be_drawn():
    assert set(DRAWERS) == set(LABELS)


@pytest.mark.parametrize("label", LABELS)
def test_a_picture_follows_from_its_seed_and_no_two_are_alike(label):
    pictures = [np.asarray(draw(label, np.random.default_rng([1, number]))) for number in range(8)]
    again = np.asarray(draw(label, np.random.default_rng([1, 3])))
    np.testing.assert_array_equal(again, pictures[3])
    assert all(picture.ndim == 3 and picture.shape[2] == 3 and min(picture.shape[:2]) >= 300 for picture in pictures)
    assert all(picture.std() > 5 for picture in pictures)
    assert len({difference_hash(picture) for picture in pictures}) >= 7


def test_grey_categories_are_grey():
    for label in ("EM", "Reproduction"):
        small = np.asarray(draw(label, np.random.default_rng(2)).resize((32, 32)), "int16")
        colours = small - small.mean(axis=2, keepdims=True)
        assert abs(colours - colours.mean(axis=(0, 1))).mean() < 4


def test_a_corrupted_picture_is_a_whole_file(tmp_path):
    (tmp_path / "Corrupted").mkdir()
    write_picture(str(tmp_path), "Corrupted", 4, 1)
    with Image.open(tmp_path / "Corrupted" / "00004.jpg") as picture:
        picture.load()


@pytest.mark.slow
def test_the_collection_is_written_and_written_the_same_again(tmp_path):
    for name, processors in (("one", "1"), ("two", "2")):
        more = ("--count", "2", "--seed", "5", "-p", processors)
        command = [sys.executable, "-m", "tools.sample", tmp_path / name, *more]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and "34 pictures" in done.stderr, done.stderr
    paths = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert [str(path) for path in paths] == sorted(f"{label}/{n:05d}.jpg" for label in LABELS for n in range(2))
    for path in paths:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_fewer_pictures_than_are_there_are_refused(tmp_path):
    (tmp_path / "Live").mkdir()
    (tmp_path / "Live" / "00002.jpg").touch()
    command = [sys.executable, "-m", "tools.sample", tmp_path, "--count", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "holds more than 2 pictures, such as 00002.jpg; choose another OUT" in done.stderr
    assert not list(tmp_path.rglob("00000.jpg"))


def test_a_wrong_count_is_one_line(tmp_path):
    command = [sys.executable, "-m", "tools.sample", tmp_path / "no", "--count", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "--count" in done.stderr
    assert not (tmp_path / "no").exists()

"""Parts of a prediction together are the whole."""

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from conftest import FIXTURES, script
from test_predictImages import FIVE, draw

import predictImages
from lib.prediction import predict as prediction
from lib.prediction.model import Model

MODEL = str(FIXTURES / "keras" / "reference-2.13.keras")
BESIDE = ("", ".errors.tsv", ".settings.json", ".files.tsv")  # the endings of a table's files


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with 70 images, some files that are none, and the table of one call for all."""
    parent = tmp_path_factory.mktemp("parts")
    (parent / "scans" / "below").mkdir(parents=True)
    for number in range(70):
        draw(parent / "scans" / f"{['', 'below/'][number % 2]}{number:02d}.{['jpg', 'PNG'][number % 2]}", number)
    for name in ("00b.jpg", "below/99.png", "~.jpg"):
        (parent / "scans" / name).write_text("no picture")
    (parent / "scans" / "circle").symlink_to("circle")
    (parent / "scans" / "notes.txt").write_text("not mentioned")
    shutil.copy(MODEL, parent / "model.keras")
    (parent / "categories.tsv").write_text(FIVE)
    here = os.getcwd()
    os.chdir(parent)
    try:
        assert run("-d", "scans", "-o", "whole.tsv") == 0
        with open("all.list", "wb") as file:
            names = [os.path.join(folder, name) for folder, _, files in os.walk("scans") for name in files]
            file.write(b"".join(os.fsencode(name) + b"\n" for name in sorted(names, reverse=True)))
        assert run("--list", "all.list", "-o", "listed.tsv") == 0
    finally:
        os.chdir(here)
    return parent


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of it to work in."""
    shutil.copytree(made, tmp_path / "work", symlinks=True)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def run(*arguments):
    return predictImages.main(["-c", "-m", "model.keras", *arguments])


def parts(count, *arguments, ending="tsv"):
    names = [f"part{number}.{ending}" for number in range(1, count + 1)]
    for number, name in enumerate(names, start=1):
        assert run("--shard", f"{number}/{count}", "-o", name, *arguments) == 0
    return names


def content(path):
    with open(path, "rb") as file:
        return file.read()


def bytes_of(name):
    return [content(name + ending) for ending in BESIDE]


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.slow
def test_a_folders_parts_merged_are_the_whole(folder, capsys, count):
    names = parts(count, "-d", "scans")
    capsys.readouterr()
    assert predictImages.main(["--merge", "merged.tsv", *reversed(names)]) == 0
    assert bytes_of("merged.tsv") == bytes_of("whole.tsv")
    summary, line = capsys.readouterr().err.splitlines()
    assert summary.startswith("70 images: ")
    assert line == "70 images categorised, 4 errors, listed in merged.tsv.errors.tsv."
    assert predictImages.main(["--merge", "merged.tsv", *names]) == 0  # again, as a job that was requeued
    assert run("-d", "scans", "-o", "merged.tsv") == 0  # which can be gone on with


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_other_tables_and_the_report(folder, ending):
    more = ["--top", "2", "--probabilities"]
    assert run("-d", "scans", "-o", f"whole.{ending}", *more) == 0
    assert predictImages.main(["--report-from", f"whole.{ending}", "--report", "whole.html"]) == 0
    names = parts(3, "-d", "scans", *more, ending=ending)
    merged = f"merged.{ending}"
    assert predictImages.main(["--merge", merged, *names, "--report", "merged.html"]) == 0
    assert bytes_of(merged) == bytes_of(f"whole.{ending}")
    own = re.compile(rb'Made [-0-9]+ [0-9:]+\.|(merged|whole)\.\w+|data-identity="\w+"')
    page, whole = (own.sub(b"", content(f"{name}.html")) for name in ("merged", "whole"))
    assert page == whole


@pytest.mark.once
@pytest.mark.slow
def test_a_lists_parts_merged_are_the_whole_whatever_its_order(folder):
    assert content("listed.tsv") == content("whole.tsv")
    names = parts(4, "--list", "all.list")
    assert predictImages.main(["--merge", "merged.tsv", *names]) == 0
    assert bytes_of("merged.tsv") == bytes_of("listed.tsv")
    lines = sorted(content("all.list").splitlines())
    (folder / "all.list").write_bytes(b"\0".join(lines))
    assert run("--list", "all.list", "--shard", "2/4", "-o", "part2.tsv") == 0  # the same list, so it is done already
    assert parts(4, "--list", "all.list", "--overwrite") == names
    assert predictImages.main(["--merge", "merged.tsv", *names]) == 0
    assert bytes_of("merged.tsv") == bytes_of("listed.tsv")


@pytest.mark.slow
def test_the_features_of_parts_merged_are_those_of_the_whole_and_the_page_learns_from_them(folder, capsys):
    assert run("-d", "scans", "-o", "whole.tsv", "--report", "whole.html", "--overwrite") == 0
    names = []
    for number in (1, 2, 3):
        names += [f"part{number}.tsv"]
        beside = ("--embeddings", f"{names[-1]}.features.npz")
        assert run("-d", "scans", "--shard", f"{number}/3", "-o", names[-1], "--top", "2", *beside) == 0
    assert predictImages.main(["--merge", "merged.tsv", *names, "--report", "merged.html"]) == 0
    assert content("merged.tsv.features.npz") == content("whole.tsv.features.npz")
    assert 'id="tab-teach"' in (folder / "merged.html").read_text()
    assert "can't learn" not in capsys.readouterr().err
    assert predictImages.main(["--merge", "merged.tsv", *names, "--embeddings", "all.npz"]) == 0
    assert content("all.npz") == content("whole.tsv.features.npz")

    def refused(*arguments):
        return predict_error(capsys, ["--merge", "again.tsv", *names, *arguments])

    shutil.copy("part1.tsv.features.npz", "other.npz")
    assert "other.npz has features of something else" in refused("--embeddings", "other.npz")
    with np.load("part2.tsv.features.npz") as stored:
        np.savez("other.npz", **{**stored, "settings": np.array('{"model": "other"}')})
    shutil.move("other.npz", "part2.tsv.features.npz")
    assert "part2.tsv.features.npz has the features of another call than part2.tsv" in refused(
        "--embeddings", "new.npz"
    )
    assert not os.path.exists("again.tsv"), "nothing is written before all is known to be right"
    os.unlink("part3.tsv.features.npz")
    assert "part3.tsv.features.npz does not exist" in refused("--embeddings", "new.npz")
    assert not os.path.exists("new.npz")


@pytest.mark.slow
def test_features_that_are_not_the_parts_are_left_out_and_named(folder, capsys):
    def merged(*arguments):
        capsys.readouterr()
        status = predictImages.main(["--merge", "merged.tsv", *(f"part{number}.tsv" for number in (1, 2)), *arguments])
        return status, capsys.readouterr().err

    for number in (1, 2):
        beside = ("--embeddings", f"part{number}.tsv.features.npz")
        assert run("-d", "scans", "--shard", f"{number}/2", "-o", f"part{number}.tsv", *beside) == 0
    draw("scans/70.jpg", 70)
    for number in (1, 2):
        assert run("-d", "scans", "--shard", f"{number}/2", "-o", f"part{number}.tsv", "--overwrite") == 0
    status, said = merged("--report", "m.html")
    assert status == 0 and "left out: part1.tsv.features.npz has the features of another call than part1.tsv" in said
    assert not os.path.exists("merged.tsv.features.npz") and os.path.exists("m.html")
    assert merged("--embeddings", "all.npz")[0] == 2 and not os.path.exists("all.npz")
    (folder / "part1.tsv.features.npz").write_bytes(b"damaged")
    status, said = merged("--report", "m.html")
    assert status == 0 and "left out: part1.tsv.features.npz holds no features of images" in said


def test_parts_are_answered_at_the_same_places_as_the_whole(folder, monkeypatch):
    def compute(pixels):  # answers follow from the place alone
        return np.arange(160, dtype="float32").reshape(32, 5) % 7, None

    monkeypatch.setattr(prediction, "open_model", lambda *arguments: Model(8, compute, "openvino"))
    assert run("-d", "scans", "-o", "whole.tsv", "--overwrite") == 0
    names = parts(3, "-d", "scans")
    assert predictImages.main(["--merge", "merged.tsv", *names]) == 0
    assert content("merged.tsv") == content("whole.tsv")


def test_a_part_without_images_and_one_that_is_stopped(folder, capsys):
    os.makedirs("few")
    for name in ("1.jpg", "2.jpg"):
        shutil.copy("scans/00.jpg", f"few/{name}")
    names = parts(3, "-d", "few")
    assert run("-d", "few", "-o", "few.tsv") == 0
    assert predictImages.main(["--merge", "merged.tsv", *names]) == 0
    assert content("merged.tsv") == content("few.tsv")
    (folder / "part2.tsv.partial").write_text("rows")
    assert predictImages.main(["--merge", "merged.tsv", *names]) == 2
    assert "part2.tsv is incomplete" in capsys.readouterr().err


@pytest.mark.slow
def test_parts_that_do_not_fit(folder, capsys):
    names = parts(3, "-d", "scans")

    def refused(*arguments):
        capsys.readouterr()
        assert predictImages.main(["--merge", "merged.tsv", *arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and not os.path.exists("merged.tsv")
        return error

    assert "of 3 parts, 1 are missing: 2" in refused(names[0], names[2])
    assert "both part 1/3" in refused(names[0], *names)
    assert "missing.tsv does not exist" in refused(*names, "missing.tsv")
    assert "whole.tsv is not a part" in refused("whole.tsv", *names)
    assert "are of different formats" in predict_error(capsys, ["--merge", "merged.csv", *names])
    assert run("-d", "scans", "--shard", "1/4", "-o", "other.tsv") == 0
    assert "is part 1/3" in refused(names[0], "other.tsv")
    assert run("-d", "scans", "--shard", "2/3", "-o", "other.tsv", "--exact", "--overwrite") == 0
    assert "was made with --exact" in refused(names[0], "other.tsv", names[2])
    draw("scans/new.jpg", 1)
    assert run("-d", "scans", "--shard", "2/3", "-o", "other.tsv", "--overwrite") == 0
    assert "a different list of images" in refused(names[0], "other.tsv", names[2])
    assert "begun with listed" in predict_error(
        capsys, ["-c", "-m", "model.keras", "-d", "scans", "--shard", "2/3", "-o", names[1]]
    )
    lines = (folder / names[1]).read_text().splitlines(keepends=True)
    (folder / names[1]).write_text("".join(lines[:-1]))
    assert re.search(r"part2.tsv and its errors have \d+ of its \d+ images", refused(*names))
    (folder / names[1]).write_text("".join([*lines[:-1], lines[-2]]))
    assert "the tables were changed" in refused(*names)
    (folder / names[1]).write_text("".join([*lines[:-1], lines[-1][:-1]]))
    assert "part2.tsv can't be read as a table" in refused(*names)
    assert os.listdir(".") == [name for name in os.listdir(".") if not name.endswith(".tmp")]


def test_a_part_is_not_gone_on_with_as_the_whole(folder, capsys):
    assert run("-d", "scans", "--shard", "1/2", "-o", "t.tsv") == 0
    for arguments in (["-d", "scans"], ["-d", "scans", "--shard", "2/2"], ["--list", "all.list"]):
        assert "was begun with" in predict_error(capsys, ["-c", "-m", "model.keras", *arguments, "-o", "t.tsv"])
    assert "was made with other settings" in predict_error(capsys, ["--merge", "listed.tsv", *parts(2, "-d", "scans")])


def predict_error(capsys, arguments):
    capsys.readouterr()
    assert predictImages.main(arguments) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-d", "scans", "-o", "t.tsv", "--shard", "5/4"], "--shard"),
        (["-d", "scans", "--list", "all.list", "-o", "t.tsv"], "--list: it replaces -d"),
        (["--list", "none", "-o", "t.tsv"], "'none' is not an existing file"),
        (["-d", "scans", "-o", "t.tsv", "--shard", "1/2", "--report", "t.html"], "--report: can't be made for a part"),
        (["-d", "scans", "-o", "t.tsv", "--shard", "1/2", "--sort", "x"], "--sort: can't be made for a part"),
        (["--merge", "t.tsv"], "--merge: give the table"),
        (["--merge", "t.tsv", "u.tsv", "-d", "scans"], "-d/--data: can't be combined with --merge"),
        (["--merge", "t.tsv", "u.tsv", "--list", "all.list"], "--list: can't be combined with --merge"),
        (["--merge", "t.tsv", "u.tsv"], "u.tsv does not exist"),
    ],
)
def test_wrong_calls(folder, environment, arguments, words):
    done = subprocess.run(
        [*script("predictImages.py"), *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not os.path.exists("t.tsv")


def test_a_list_that_is_none(folder, capsys):
    (folder / "empty.list").write_text(" \n")
    assert "--list: empty.list lists no files" in predict_error(
        capsys, ["--list", "empty.list", "-o", "t.tsv", "-c", "-m", "model.keras"]
    )
    (folder / "twice.list").write_text("scans/2.jpg\nscans/1.jpg\nscans/2.jpg\n")
    assert "repeats scans/2.jpg" in predict_error(
        capsys, ["--list", "twice.list", "-o", "t.tsv", "-c", "-m", "model.keras"]
    )

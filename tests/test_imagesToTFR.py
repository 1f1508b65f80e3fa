"""imagesToTFR.py as its users call it."""

import contextlib
import io
import os
import random
import signal
import subprocess
import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from conftest import script
from PIL import Image

import imagesToTFR
from lib.data import reading
from lib.data.conversion import Settings, convert
from lib.data.images import read_image
from lib.data.record_format import decode
from lib.data.records import open_records, read_jpeg
from lib.storage.journal import Journal
from tools import sample

LABELS = ("Animal", "Live", "Text")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Eight different pictures in each of three categories' folders."""
    folder = tmp_path_factory.mktemp("drawn")
    for label in LABELS:
        (folder / label).mkdir()
        for number in range(8):
            sample.write_picture(str(folder), label, number, 3)
    return folder


@pytest.fixture
def here(drawn, tmp_path):
    """A folder to work in, with the drawn pictures in `images`, to be changed at will."""
    for label in LABELS:
        (tmp_path / "images" / label).mkdir(parents=True)
        for path in (drawn / label).iterdir():
            os.link(path, tmp_path / "images" / label / path.name)
    return tmp_path


def run(here, *arguments):
    """Call the script in a folder, in this process; its exit status and what it said."""
    former, out, err = os.getcwd(), io.StringIO(), io.StringIO()
    os.chdir(here)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = imagesToTFR.main([str(argument) for argument in arguments])
    except SystemExit as ended:
        status = ended.code
    finally:
        os.chdir(former)
    return SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())


def run_as_process(here, *arguments):
    command = [*script("imagesToTFR.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=here)


def index(here, prefix="r"):
    lines = [line.split("\t") for line in (here / f"{prefix}-index.tsv").read_text().splitlines()]
    return [dict(zip(lines[0], line)) for line in lines[1:]]


def record_files(here):
    return {path.name: path.read_bytes() for path in here.glob("r-*")}


def test_a_folder_becomes_records_that_plain_tensorflow_reads(here):
    done = run_as_process(here, "-d", "images", "-o", "r", "--per-class", "0.5:0.25:0.25", "-s", "64")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["CATEGORY\tTRAIN\tVALIDATION\tTEST\tUNUSED"] + [
        f"{label}\t4\t2\t2\t0" for label in LABELS
    ]
    assert done.stderr.splitlines()[-1] == "24 images in 3 files, no errors."
    assert set(record_files(here)) == {
        *("r-train.tfr", "r-validation.tfr", "r-test.tfr", "r-categories.tsv", "r-index.tsv"),
    }
    assert (here / "r-categories.tsv").read_text() == (
        "CATEGORY\tINDEX\tLABEL\nAnimal\t0\tAnimal\nLive\t1\tLive\nText\t2\tText\n"
    )
    rows = {(row["TFR"], int(row["RECORD"])): row for row in index(here)}
    features = {"category": tf.io.FixedLenFeature([], tf.int64), "image": tf.io.FixedLenFeature([], tf.string)}
    found = 0
    for name in ("train", "validation", "test"):
        for number, record in enumerate(tf.data.TFRecordDataset(str(here / f"r-{name}.tfr"))):
            parsed = tf.io.parse_single_example(record, features)
            row = rows[f"r-{name}.tfr", number]
            assert row["SPLIT"] == name and LABELS[int(parsed["category"])] == row["CATEGORY"]
            pixels = tf.io.decode_jpeg(parsed["image"]).numpy().astype("float32")
            expected = io.BytesIO()  # what is predicted on, as a JPEG
            predicted_on = np.rint(read_image(str(here / row["FILE"]), 64)).astype("uint8")
            Image.fromarray(predicted_on).save(expected, "JPEG", quality=94, subsampling=2)
            assert abs(pixels - tf.io.decode_jpeg(expected.getvalue()).numpy()).mean() < 1.5
            found += 1
    assert found == len(rows) == 24
    train = [rows["r-train.tfr", number]["CATEGORY"] for number in range(12)]
    assert train != sorted(train)  # shuffled


def test_the_real_images_have_the_right_statistics(here, shared):
    done = run(here, "-d", shared / "images", "-o", "real", "--herbariograph")
    assert done.returncode == 0, done.stderr
    files = [str(here / f"real-{name}.tfr") for name in ("train", "validation", "test")]
    found = open_records(files, "data", 17)
    expected = {0: 19, 4: 16, 5: 14, 6: 14, 7: 6, 9: 12, 10: 4, 12: 2, 13: 18, 14: 12, 15: 12, 16: 11}
    assert {int(c): int(n) for c, n in zip(*np.unique(found.category, return_counts=True))} == expected
    golden = open_records([str(shared / "golden" / "sample-96.tfr")], "train")
    # The same pictures, there decoded at full size: equal on the whole, by category.
    for category in expected:
        means = []
        for records in (found, golden):
            members = np.flatnonzero(records.category == category)
            means.append(np.mean([decode(read_jpeg(records, member)).mean(axis=(0, 1)) for member in members], axis=0))
        np.testing.assert_allclose(*means, atol=2)
    assert "Too few images to put any in test: Occluded specimens." in done.stderr
    assert "near" in done.stderr


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_threads_and_another_does_not(here):
    results = []
    for more in (["-p", "1"], ["-p", "2"], ["-d", f"{here}/images"], ["-r", "7"]):
        done = run(here, "-d", "images", "-o", "r", *more)
        assert done.returncode == 0, done.stderr
        results.append({name: content for name, content in record_files(here).items() if name.endswith(".tfr")})
    assert results[0] == results[1] == results[2]
    assert results[3]["r-train.tfr"] != results[0]["r-train.tfr"]


def many(here, count):
    """Links to the drawn pictures, so that reading takes a while."""
    for label in LABELS:
        folder = here / "images" / label
        for number in range(8, count):
            os.link(folder / f"{number % 8:05d}.jpg", folder / f"{number:05d}.jpg")


def start(here, *arguments):
    """Start a run; returns when images that it read are in its journal."""
    process = subprocess.Popen(
        [*script("imagesToTFR.py"), "-d", "images", "-o", "r", "-p", "1", *arguments],
        cwd=here,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    path = here / "r-partial.sqlite"
    before = path.stat().st_size if path.exists() else 30_000  # more than there is of a journal without entries
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.stat().st_size > before:
            return process
        time.sleep(0.01)
    raise AssertionError(f"the run ended too early: {process.communicate()[1]}")


@pytest.mark.slow
@pytest.mark.once
def test_a_killed_run_resumes_and_ends_with_the_same_bytes(here):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    many(here, 300)
    assert run(here, "-d", "images", "-o", "r", "--duplicates", "off").returncode == 0
    undisturbed = record_files(here)
    for path in here.glob("r-*"):
        path.unlink()
    for most in (0.01, 0.8):  # perhaps before much is safe, and after
        process = start(here, "--duplicates", "off")
        time.sleep(draw.uniform(0, most))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = run(here, "-d", "images", "-o", "r", "--duplicates", "off")
    assert done.returncode == 0 and "images have already been read" in done.stderr, done.stderr
    assert record_files(here) == undisturbed


def test_near_duplicates_and_groups_stay_in_one_split_and_mislabels_are_listed(here):
    folder = here / "images"
    for number in range(8):  # each animal three times: as it is, as a copy, and smaller and recompressed
        original = folder / "Animal" / f"{number:05d}.jpg"
        (folder / "Animal" / f"copy{number}.jpg").write_bytes(original.read_bytes())
        with Image.open(original) as picture:
            picture.resize((300, 300), Image.BILINEAR).save(folder / "Animal" / f"small{number}.jpg", quality=70)
    (folder / "Text" / "stray.jpg").write_bytes((folder / "Live" / "00002.jpg").read_bytes())
    done = run(here, "-d", "images", "-o", "r", "--per-class", "0.4:0.3:0.3")
    assert done.returncode == 0, done.stderr
    split = {row["FILE"]: row["SPLIT"] for row in index(here)}
    for number in range(8):
        names = (f"{number:05d}", f"copy{number}", f"small{number}")
        assert len({split[f"images/Animal/{name}.jpg"] for name in names}) == 1
    assert {split[f"images/Animal/{n:05d}.jpg"] for n in range(8)} == {"train", "validation", "test"}
    assert split["images/Text/stray.jpg"] == split["images/Live/00002.jpg"]
    listed = [line.split("\t") for line in (here / "r-mislabels.tsv").read_text().splitlines()]
    assert listed[0] == ["GROUP", "FILE", "CATEGORY"]
    assert sorted(line[1:] for line in listed[1:]) == [
        ["images/Live/00002.jpg", "Live"],
        ["images/Text/stray.jpg", "Text"],
    ]
    assert "r-mislabels.tsv" in done.stderr
    (folder / "Text" / "stray.jpg").unlink()
    assert run(here, "-d", "images", "-o", "r").returncode == 0
    assert not (here / "r-mislabels.tsv").exists()


def test_byte_equal_files_stay_together_also_without_hashes(here):
    for label in LABELS:
        for number in range(8):
            os.link(here / "images" / label / f"{number:05d}.jpg", here / "images" / label / f"again{number}.jpg")
    assert run(here, "-d", "images", "-o", "r", "--duplicates", "off", "--per-class", "0.5:0.25:0.25").returncode == 0
    splits = {}
    for row in index(here):
        splits.setdefault(row["SHA256"], set()).add(row["SPLIT"])
    assert len(splits) == 24 and all(len(names) == 1 for names in splits.values())


def table(here, rows, header="FILE\tCATEGORY\tGROUP\tSPLIT"):
    (here / "table.tsv").write_text("\n".join([header, *("\t".join(row) for row in rows)]) + "\n")


def test_a_table_gives_categories_groups_and_splits(here):
    rows = [
        (f"images/{label}/{number:05d}.jpg", label.lower(), f"specimen{number // 2}" if label == "Live" else "", "")
        for label in LABELS
        for number in range(8)
    ]
    rows[0] = (*rows[0][:3], "test")
    rows[1] = (*rows[1][:3], "validation")
    table(here, rows)
    done = run(here, "-t", "table.tsv", "-o", "r", "--per-class", "0.5:0.25:0.25", "--herbariograph")
    assert done.returncode == 0, done.stderr
    made = {row["FILE"]: row for row in index(here)}
    assert made["images/Animal/00000.jpg"]["SPLIT"] == "test"
    assert made["images/Animal/00001.jpg"]["SPLIT"] == "validation"
    for number in range(0, 8, 2):
        assert len({made[f"images/Live/{n:05d}.jpg"]["SPLIT"] for n in (number, number + 1)}) == 1
    assert made["images/Live/00000.jpg"]["CATEGORY"] == "Live plants"
    assert len((here / "r-categories.tsv").read_text().splitlines()) == 18
    found = open_records([str(here / "r-train.tfr")], "train")
    assert set(found.category.tolist()) == {0, 6, 15}


def test_corrections_become_records_and_the_audited_ones_are_the_test(here):
    rows = [
        (f"images/{label}/{number:05d}.jpg", label, "audit" if number < 3 else "teach")
        for label in LABELS
        for number in range(8)
    ]
    table(here, rows, "FILE\tCATEGORY\tROLE")
    done = run(here, "-t", "table.tsv", "-o", "r", "--herbariograph", "--duplicates", "off")
    assert done.returncode == 0 and "9 audited images for the test, 15 for training and validation." in done.stderr
    audited = {row[0] for row in rows if row[2] == "audit"}
    assert {row["FILE"] for row in index(here) if row["SPLIT"] == "test"} == audited
    assert {row["SPLIT"] for row in index(here) if row["FILE"] not in audited} == {"train", "validation"}


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        ([("a.jpg",)], "FILE", "columns FILE and CATEGORY"),
        ([("a.jpg", "")], "FILE\tCATEGORY", "line 2 needs a FILE and a CATEGORY"),
        ([("a.jpg", "x"), ("a.jpg", "y")], "FILE\tCATEGORY", "line 3 repeats the FILE a.jpg"),
        ([("a.jpg", "x", "dev")], "FILE\tCATEGORY\tSPLIT", "SPLIT 'dev'; it must be one of train, validation, test"),
        ([], "FILE\tCATEGORY", "lists no files"),
        (
            [("images/Live/00000.jpg", "Live", "g", "train"), ("images/Live/00001.jpg", "Live", "g", "test")],
            "FILE\tCATEGORY\tGROUP\tSPLIT",
            "00000.jpg is in train and images/Live/00001.jpg in test",
        ),
    ],
)
def test_a_wrong_table_is_one_line(rows, header, words, here):
    table(here, rows, header)
    done = run(here, "-t", "table.tsv", "-o", "r")
    assert done.returncode == 2 and words in done.stderr.splitlines()[-1], done.stderr
    assert not list(here.glob("r-*.t*"))


def test_bad_images_are_listed_and_the_others_are_used(here):
    (here / "images" / "Text" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (here / "images" / "Text" / "empty.png").write_bytes(b"")
    (here / "images" / "loose.jpg").write_bytes((here / "images" / "Text" / "00000.jpg").read_bytes())
    done = run(here, "-d", "images", "-o", "r")
    assert done.returncode == 0 and "24 images in 3 files, 3 errors, listed in r-errors.tsv." in done.stderr
    listed = dict(line.split("\t") for line in (here / "r-errors.tsv").read_text().splitlines())
    assert set(listed) == {"FILE", "images/Text/broken.jpg", "images/Text/empty.png", "images/loose.jpg"}
    assert listed["images/Text/empty.png"] == "an empty file"
    assert listed["images/loose.jpg"] == "it lies in no category's folder"


def test_too_few_images_are_an_error_that_names_the_category_before_anything_is_written(here):
    for number in range(6):
        (here / "images" / "Live" / f"{number:05d}.jpg").unlink()
    done = run(here, "-d", "images", "-o", "r", "--per-class", "4:2:2")
    assert done.returncode == 2 and "Live has 2 images" in done.stderr
    assert [path.name for path in here.glob("r-*")] == ["r-partial.sqlite"]  # what was read
    for path in (here / "images" / "Live").iterdir():
        path.unlink()
        path.write_bytes(b"")
    done = run(here, "-d", "images", "-o", "r")
    assert done.returncode == 0 and "Live" not in done.stdout and "Animal\t" in done.stdout
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("without a readable image"))
    assert "Live (for example, images/Live/00006.jpg: an empty file)" in line
    assert run(here, "-d", "images", "-o", "r").returncode == 0  # whose categories.tsv has no Live
    picture = next((here / "images" / "Animal").iterdir()).read_bytes()
    (here / "images" / "Live" / "00006.jpg").write_bytes(picture)
    done = run(here, "-d", "images", "-o", "r")
    assert done.returncode == 2 and "'Live' is not one of the categories in r-categories.tsv" in done.stderr


def test_shards_hold_all_of_train_and_former_ones_go(here):
    assert run(here, "-d", "images", "-o", "r", "--shards", "4").returncode == 0
    names = [f"r-train-{part:05d}-of-00004.tfr" for part in range(4)]
    assert sorted(path.name for path in here.glob("r-train*")) == names
    found = open_records([str(here / name) for name in names], "train")
    rows = [row for row in index(here) if row["SPLIT"] == "train"]
    assert len(found) == len(rows) and {row["TFR"] for row in rows} == set(names)
    assert run(here, "-d", "images", "-o", "r").returncode == 0
    assert [path.name for path in here.glob("r-train*")] == ["r-train.tfr"]


def test_given_categories_are_used_as_they_stand(here):
    text = "CATEGORY\tINDEX\tLABEL\nText\t0\tT\nAnimal\t2\tA\nLive\t1\tL\nFern\t3\tF\n"
    (here / "r-categories.tsv").write_text(text)
    done = run(here, "-d", "images", "-o", "r")
    assert done.returncode == 0 and done.stdout.splitlines()[1].startswith("Text\t")
    assert open_records([str(here / "r-test.tfr")], "train").category.max() <= 2
    (here / "r-categories.tsv").write_text(text.replace("Live\t1\tL", "Palm\t1\tP"))
    done = run(here, "-d", "images", "-o", "r")
    assert done.returncode == 2 and "'Live' is not one of the categories" in done.stderr
    done = run(here, "-d", "images", "-o", "r", "--herbariograph")
    assert done.returncode == 2 and "--herbariograph" in done.stderr


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([], ["-d/--data", "-t/--table", "required"]),
        (["-d", "images", "-t", "images"], ["-t/--table"]),
        (["-d", "missing"], ["-d/--data", "missing"]),
        (["-t", "missing.tsv"], ["-t/--table", "missing.tsv"]),
        (["-d", "images", "-o", "nowhere/r"], ["-o/--output", "nowhere"]),
        (["-d", "images", "-o", "./"], ["-o/--output"]),
        (["-d", "images", "-s", "0"], ["-s/--size"]),
        (["-d", "images", "-q", "101"], ["-q/--quality"]),
        (["-d", "images", "--per-class", "0.9:0.2:0.1"], ["--per-class", "shares such as"]),
        (["-d", "images", "--duplicates", "64"], ["--duplicates"]),
        (["-d", "images", "--shards", "0"], ["--shards"]),
        (["-d", "images/Text"], ["-d/--data", "one per category"]),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_nothing(wrong, words, here):
    done = run(here, "-o", "r", *wrong)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert not list(here.glob("r*"))


@pytest.mark.slow
@pytest.mark.once
def test_ctrl_c_is_one_line_and_what_was_read_is_kept(here):
    many(here, 300)
    process = start(here)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1].splitlines()[-1] == "imagesToTFR.py: stopped by Ctrl-C."
    assert process.returncode == 130
    done = run(here, "-d", "images", "-o", "r")
    assert done.returncode == 0 and "images have already been read" in done.stderr, done.stderr


def test_drafts_of_a_run_that_was_killed_while_writing_are_removed(here):
    (here / "r-train.tfr.draft.123.tmp").write_bytes(b"half")
    (here / "r-index.tsv.draft").write_bytes(b"half")
    (here / "r-mine.tfr.tmp").write_bytes(b"somebody's")
    assert run(here, "-d", "images", "-o", "r").returncode == 0
    assert [path.name for pattern in ("*.tmp", "*.draft*") for path in here.glob(pattern)] == ["r-mine.tfr.tmp"]


def test_two_runs_at_once_are_refused(here):
    with Journal(str(here / "r-partial.sqlite"), "images", {}):
        done = run(here, "-d", "images", "-o", "r")
    assert done.returncode == 2 and "r-partial.sqlite is being written by another process" in done.stderr
    assert run(here, "-d", "images", "-o", "r").returncode == 0


def test_somebody_elses_file_in_the_journals_place_is_left_alone(here):
    (here / "r-partial.sqlite").write_bytes(b"no database " * 100)
    done = run(here, "-d", "images", "-o", "r")
    assert done.returncode == 2 and "r-partial.sqlite was not written by this command" in done.stderr
    assert (here / "r-partial.sqlite").read_bytes() == b"no database " * 100


def test_images_that_changed_or_are_wanted_otherwise_are_read_again(here):
    assert run(here, "-d", "images", "-o", "r", "--per-class", "9:9:9").returncode == 2  # and all are read
    path = here / "images" / "Text" / "00000.jpg"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    done = run(here, "-d", "images", "-o", "r", "--per-class", "9:9:9")
    assert "23 of 24 images have already been read." in done.stderr
    done = run(here, "-d", "images", "-o", "r", "-s", "64")
    assert done.returncode == 0 and "already been read" not in done.stderr


def test_memory_does_not_grow_with_pictures(here):
    """A thousand images through the function: they are in the journal, not in memory."""
    rows = []
    for number in range(1000):
        path = here / "images" / "Text" / f"many{number}.jpg"
        os.link(here / "images" / "Text" / f"{number % 8:05d}.jpg", path)
        rows.append((str(path), "Text"))
    table(here, rows, "FILE\tCATEGORY")
    tracemalloc.start()
    convert(Settings(str(here / "r"), table=str(here / "table.tsv"), per_class="1.0:0:0"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1000 * 96 * 96 * 3 / 2


def test_small_files_are_handed_over_together_and_large_ones_one_by_one(here, monkeypatch):
    """So that a kill loses no more work with scans than with thumbnails."""
    handed, read = [], reading._read_all
    monkeypatch.setattr(reading, "_read_all", lambda settings, paths: handed.append(paths) or read(settings, paths))
    rows = []
    for number in range(3):
        path = str(here / "images" / f"large{number}.bmp")
        Image.new("RGB", (600, 600), (number, 0, 0)).save(path)
        rows.append((path, "Text"))
    for number in range(40):
        path = str(here / "images" / f"small{number}.png")
        Image.new("RGB", (30, 30), (number, 0, 0)).save(path)
        rows.append((path, "Text"))
    table(here, [*rows, ("missing.jpg", "Text")], "FILE\tCATEGORY")
    assert run(here, "-t", "table.tsv", "-o", "r", "--per-class", "1.0:0:0").returncode == 0
    assert sum(map(len, handed)) == 44 and max(map(len, handed)) == 32
    assert sum(paths[-1].endswith(".bmp") for paths in handed) == 3


def test_a_second_run_keeps_its_records_also_with_a_doubled_slash(here):
    (here / "out").mkdir()
    for _ in range(2):
        assert run(here, "-d", "images", "-o", "out//x").returncode == 0
        assert sorted(path.name for path in (here / "out").glob("*.tfr")) == [
            *("x-test.tfr", "x-train.tfr", "x-validation.tfr")
        ]


def test_a_failed_write_changes_nothing(here):
    assert run(here, "-d", "images", "-o", "r").returncode == 0
    before = record_files(here)
    (here / "r-train.tfr").unlink()
    (here / "r-train.tfr").mkdir()
    done = run(here, "-d", "images", "-o", "r", "-r", "9")
    assert done.returncode == 1 and "r-train.tfr is a directory" in done.stderr
    (here / "r-train.tfr").rmdir()
    after = {name: content for name, content in record_files(here).items() if not name.endswith("sqlite")}
    assert after == {name: content for name, content in before.items() if name != "r-train.tfr"}


def test_more_shards_than_files_may_be_open(here):
    command = " ".join(script("imagesToTFR.py")) + " -d images -o r --shards 20"
    done = subprocess.run(["sh", "-c", f"ulimit -n 20; {command}"], capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr


def test_unpublished_categories_are_matched_exactly(here):
    for name in ("Rosa alba", "C"):
        os.rename(here / "images" / ("Live" if name == "C" else "Text"), here / "images" / name)
    assert run(here, "-d", "images", "-o", "r").returncode == 0
    os.rename(here / "images" / "C", here / "images" / "C++")
    done = run(here, "-d", "images", "-o", "r")
    assert done.returncode == 2 and "'C++' is not one of the categories" in done.stderr


def test_a_given_table_of_categories_stays_as_it_is(here):
    text = "LABEL\tINDEX\tCATEGORY\r\nText\t2\tText\r\nLive\t1\tLive\r\nAnimal\t0\tAnimal\r\n"
    (here / "r-categories.tsv").write_bytes(text.encode())
    assert run(here, "-d", "images", "-o", "r").returncode == 0
    assert (here / "r-categories.tsv").read_bytes() == text.encode()


def test_parts_read_apart_make_the_records_of_one_call(here):
    (here / "images" / "Text" / "bad.jpg").write_text("no picture")
    for name, copy in (("Animal/0.jpg", "Text/zz.jpg"), ("Live/0.jpg", "Live/zz.jpg")):  # the same in two parts
        source = next(path for path in sorted((here / "images" / name.split("/")[0]).iterdir()))
        (here / "images" / copy).write_bytes(source.read_bytes())
    assert run(here, "-d", "images", "-o", "r").returncode == 0
    (here / "other").mkdir()
    for number in (3, 1, 2):
        done = run(here, "-d", "images", "-o", "other/r", "--shard", f"{number}/3", "-p", str(number))
        assert done.returncode == 0 and done.stdout == "", done.stderr
    assert "bad.jpg" in (here / "other" / "r-part-00003-of-00003-errors.tsv").read_text()
    done = run(here, "-d", "images", "-o", "other/r", "--merge", "3")
    assert done.returncode == 0 and "26 of 27 images have already been read." in done.stderr, done.stderr
    assert record_files(here / "other") == record_files(here)
    assert "r-mislabels.tsv" in record_files(here), "the images that are the same were not noticed"


def test_parts_that_do_not_fit_are_refused(here):
    def merge(count, *more):
        done = run(here, "-d", "images", "-o", "r", "--merge", str(count), *more)
        assert done.returncode == 2 and not (here / "r-train.tfr").exists()
        return done.stderr

    assert run(here, "-d", "images", "-o", "r", "--shard", "1/2").returncode == 0
    assert "--merge: r-part-00002-of-00002.sqlite doesn't exist. Run --shard 2/2 to make it." in merge(2)
    assert "00001-of-00003.sqlite doesn't exist" in merge(3)
    assert run(here, "-d", "images", "-o", "r", "--shard", "2/2", "-s", "64").returncode == 0
    assert "00002-of-00002.sqlite was made with other options" in merge(2)
    assert "--merge: it can't be combined with --shard" in merge(2, "--shard", "1/2")
    assert run(here, "-d", "images", "-o", "r", "--shard", "2/2").returncode == 0
    os.link(here / "images" / "Text" / os.listdir(here / "images" / "Text")[0], here / "images" / "Text" / "new.jpg")
    assert "was made from different images. Run --shard 1/2" in merge(2)
    for number in (1, 2):
        assert run(here, "-d", "images", "-o", "r", "--shard", f"{number}/2").returncode == 0
    assert run(here, "-d", "images", "-o", "r", "--merge", "2").returncode == 0
    assert not list(here.glob("r-part*"))


def test_a_part_that_was_killed_or_begun_anew_is_not_finished(here):
    kind = {"size": 96, "quality": 94, "max_pixels": 500_000_000}
    path = str(here / "r-part-00001-of-00001.sqlite")
    assert run(here, "-d", "images", "-o", "r", "--shard", "1/1", "-s", "64").returncode == 0
    with Journal(path, "images", kind, replace=True) as journal:
        journal.add(b"images/Text/00000.jpg", b"", [1, 1, "", 1])
    done = run(here, "-d", "images", "-o", "r", "--merge", "1")
    assert done.returncode == 2 and f"{os.path.basename(path)} is incomplete. Run --shard 1/1" in done.stderr
    assert run(here, "-d", "images", "-o", "r", "--shard", "1/1").returncode == 0
    assert run(here, "-d", "images", "-o", "r", "--merge", "1").returncode == 0


def test_a_part_without_images_is_a_part(here):
    for label in LABELS[1:]:
        for path in (here / "images" / label).iterdir():
            path.unlink()
    for number in range(7):
        (here / "images" / "Animal" / f"{number:05d}.jpg").unlink()
    for number in (1, 2):
        assert run(here, "-d", "images", "-o", "r", "--shard", f"{number}/2").returncode == 0
    done = run(here, "-d", "images", "-o", "r", "--merge", "2", "--per-class", "1.0:0:0")
    assert done.returncode == 0 and not list(here.glob("r-part*")), done.stderr

"""predictImages.py as its users call it."""

import csv
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pytest
from conftest import FIXTURES, ROOT, script
from PIL import Image

import predictImages
from lib.data import images
from lib.data.categories import LABELS
from lib.prediction import pending
from lib.storage.formats import read_rows

MODEL = str(FIXTURES / "keras" / "reference-2.13.keras")
FIVE = "CATEGORY\tINDEX\tLABEL\n" + "".join(f"{name}\t{index}\t{name}\n" for index, name in enumerate("ABCDE"))


JOIN = ("-d", "scans", "-o", "t.tsv", "-m", "model.keras", "--join")


def draw(path, seed, width=120, height=90):
    """A picture of its own for each seed."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype="uint8"))
    small.resize((width, height), Image.BICUBIC).save(path)


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a folder of 70 images, a model of five outputs and its labels."""
    monkeypatch.chdir(tmp_path)
    os.makedirs("scans/below/deep")
    for number in range(70):
        draw(f"scans/{['', 'below/', 'below/deep/'][number % 3]}{number:02d}.{['jpg', 'PNG'][number % 2]}", number)
    shutil.copy(MODEL, "model.keras")
    (tmp_path / "categories.tsv").write_text(FIVE)
    return tmp_path


def run(*arguments):
    return predictImages.main(["-c", "-d", "scans", "-o", "t.tsv", "-m", "model.keras", *arguments])


def test_a_folder_becomes_a_table(folder, capsys):
    assert run() == 0
    rows = table("t.tsv")
    assert list(rows[0]) == ["MODEL", "FILE", "PREDICTION", "PROBABILITY"]
    assert len(rows) == 70
    files = [row["FILE"] for row in rows]
    assert files == sorted(files, key=os.fsencode)
    assert "scans/below/deep/02.jpg" in files and "scans/below/01.PNG" in files
    assert {row["MODEL"] for row in rows} == {"model.keras"}
    assert {row["PREDICTION"] for row in rows} <= set("ABCDE")
    assert all(0.2 <= float(row["PROBABILITY"]) <= 1 for row in rows)
    assert capsys.readouterr().err.splitlines()[-1] == "70 images categorised, no errors."
    beside = ["t.tsv", "t.tsv.files.tsv", "t.tsv.settings.json"]
    assert sorted(os.listdir(".")) == ["categories.tsv", "model.keras", "scans", *beside]


def test_each_file_has_its_own_answer(folder):
    from lib.data.images import read_image
    from lib.models.keras_files import load_model

    (folder / "scans" / "33b.jpg").write_bytes(b"broken")
    run("--probabilities")
    model = load_model("model.keras")
    for row in table("t.tsv"):
        logits = np.asarray(model(read_image(row["FILE"], 96)[None], training=False))[0].astype("float64")
        chances = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose([float(row[f"PROBABILITY_{label}"]) for label in "ABCDE"], chances, atol=2e-4)
        assert row["PREDICTION"] == "ABCDE"[chances.argmax()]
        assert float(row["PROBABILITY"]) == pytest.approx(chances.max(), abs=2e-4)


def test_further_columns(folder):
    run("--top", "3", "--probabilities")
    row = table("t.tsv")[0]
    assert list(row)[4:8] == ["PREDICTION_2", "PROBABILITY_2", "PREDICTION_3", "PROBABILITY_3"]
    assert list(row)[8:] == [f"PROBABILITY_{label}" for label in "ABCDE"]
    ranked = sorted("ABCDE", key=lambda label: -float(row[f"PROBABILITY_{label}"]))
    assert [row["PREDICTION"], row["PREDICTION_2"], row["PREDICTION_3"]] == ranked[:3]
    assert sum(float(row[f"PROBABILITY_{label}"]) for label in "ABCDE") == pytest.approx(1, abs=3e-4)


def test_csv_and_jsonl_hold_what_the_tsv_holds(folder):
    run()
    expected = table("t.tsv")
    assert run("-o", "t.csv") == 0 and run("-o", "t.jsonl") == 0
    with open("t.csv", newline="", encoding="utf-8-sig") as file:
        assert list(csv.DictReader(file)) == expected
    with open("t.jsonl") as file:
        lines = [json.loads(line) for line in file]
    assert [dict(line, PROBABILITY=f"{line['PROBABILITY']:.4f}") for line in lines] == expected


def test_a_table_becomes_another_as_if_it_had_been_predicted_so(folder, capsys):
    (folder / "scans" / "05b.jpg").write_text("no picture")
    run("--top", "2")
    for ending in ("csv", "jsonl", "xlsx"):
        assert run("-o", f"predicted.{ending}", "--top", "2") == 0
        assert predictImages.main(["--convert", "t.tsv", "-o", f"made.{ending}"]) == 0
        assert capsys.readouterr().err.splitlines()[-1] == f"70 rows of t.tsv written to made.{ending}."
        endings = [".settings.json", ".errors.tsv", ".files.tsv"] + ([""] if ending != "xlsx" else [])
        for more in endings:
            assert (folder / f"made.{ending}{more}").read_bytes() == (folder / f"predicted.{ending}{more}").read_bytes()
    before = (folder / "t.tsv").read_bytes()
    assert predictImages.main(["--convert", "made.xlsx", "-o", "t.tsv"]) == 2
    assert "t.tsv exists; choose another file or pass --overwrite" in capsys.readouterr().err
    assert predictImages.main(["--convert", "made.xlsx", "-o", "t.tsv", "--overwrite"]) == 0
    assert (folder / "t.tsv").read_bytes() == before
    capsys.readouterr()
    assert run("-o", "made.xlsx", "--top", "2") == 0
    assert "70 of 71 images are already done." in capsys.readouterr().err
    (folder / "c.tsv").write_text("FILE\tCATEGORY\nscans/00.jpg\tE\nscans/06.jpg\tD\n")
    assert run("--top", "2", "--corrections", "c.tsv") == 0  # a person's decisions go with it, and the model's answers
    assert predictImages.main(["--convert", "t.tsv", "-o", "decided.xlsx"]) == 0
    assert run("--top", "2", "-o", "decided.xlsx") == 0
    assert predictImages.main(["--convert", "decided.xlsx", "-o", "again.tsv"]) == 0
    assert (folder / "again.tsv").read_bytes() == (folder / "t.tsv").read_bytes()
    (folder / "none.tsv").write_text("FILE\tCATEGORY\nscans/12.jpg\tE\n")
    assert run("--top", "2", "-o", "decided.xlsx", "--corrections", "none.tsv") == 0
    assert run("--top", "2", "--corrections", "none.tsv") == 0
    assert predictImages.main(["--convert", "decided.xlsx", "-o", "again.tsv", "--overwrite"]) == 0
    assert (folder / "again.tsv").read_bytes() == (folder / "t.tsv").read_bytes()
    (folder / "german.csv").write_text("FILE;PREDICTION;PROBABILITY\nscans/00.jpg;A;0,5\n")
    assert predictImages.main(["--convert", "german.csv", "-o", "english.csv"]) == 0
    assert (folder / "english.csv").read_text("utf-8-sig") == "FILE,PREDICTION,PROBABILITY\nscans/00.jpg,A,0.5000\n"


@pytest.mark.parametrize("more", [["-p", "1"], ["-p", "7"], ["-b", "40"], ["-b", "100000"]])
def test_threads_and_batch_change_nothing(folder, more):
    run()
    assert run("-o", "u.tsv", *more) == 0
    assert (folder / "u.tsv").read_bytes() == (folder / "t.tsv").read_bytes()


def test_bad_files_are_listed_and_harm_no_other(folder, capsys):
    run()
    good = table("t.tsv")
    scans = folder / "scans"
    (scans / "05b.jpg").write_text("no picture")
    (scans / "07b.TIF").write_bytes(b"")
    whole = (scans / "02.jpg").read_bytes() if (scans / "02.jpg").exists() else (scans / "06.jpg").read_bytes()
    (scans / "09b.jpg").write_bytes(whole[: len(whole) // 2])
    (scans / "folder.jpg").mkdir()
    draw(scans / "folder.jpg" / "inside.jpg", 99)
    (scans / "link.png").symlink_to("nowhere")
    (scans / "notes.txt").write_text("only counted")
    (scans / "circle").symlink_to(scans)
    capsys.readouterr()
    assert run("-o", "u.tsv") == 0
    rows = table("u.tsv")
    assert [row for row in rows if "inside" not in row["FILE"]] == good
    assert [row["FILE"] for row in rows if "inside" in row["FILE"]] == ["scans/folder.jpg/inside.jpg"]
    errors = {row["FILE"]: row["ERROR"] for row in table("u.tsv.errors.tsv")}
    assert list(errors) == [
        "scans/05b.jpg",
        "scans/07b.TIF",
        "scans/09b.jpg",
        "scans/link.png",
    ]
    assert errors["scans/07b.TIF"] == "an empty file"
    assert capsys.readouterr().err.splitlines()[-1] == "71 images categorised, 4 errors, listed in u.tsv.errors.tsv."
    assert run("-o", "v.tsv", "--strict") == 1
    assert (folder / "v.tsv").read_bytes() == (folder / "u.tsv").read_bytes()


def test_a_link_to_itself_hides_nothing_else(folder, capsys):
    for name in ("000", "zzz", "below/link", "loop.jpg"):
        os.symlink(os.path.basename(name), f"scans/{name}")
    assert run() == 0
    assert len(table("t.tsv")) == 70
    errors = [row["FILE"] for row in table("t.tsv.errors.tsv")]
    assert errors == ["scans/000", "scans/below/link", "scans/loop.jpg", "scans/zzz"]
    os.makedirs("other")
    os.symlink("x", "other/x")
    assert run("-d", "other", "-o", "u.tsv") == 2
    assert "other/x can't be looked at" in capsys.readouterr().err


def test_a_finished_table_is_written_again_only_if_there_is_something_new(folder):
    (folder / "scans" / "05b.jpg").write_text("no picture")  # which is tried again each time
    run("--embeddings", "e.npz")
    before = {name: os.stat(name).st_mtime_ns for name in ("t.tsv", "t.tsv.settings.json", "e.npz")}
    assert run("--embeddings", "e.npz") == 0
    assert {name: os.stat(name).st_mtime_ns for name in before} == before
    draw("scans/zz.jpg", 99)
    assert run("--embeddings", "e.npz") == 0
    assert all(os.stat(name).st_mtime_ns > moment for name, moment in before.items())


@pytest.mark.parametrize("ending", ["tsv", "xlsx"])
def test_a_join_can_come_go_and_change(folder, capsys, ending):
    """Without an image being read again; and the table is as if it had been joined from the start."""

    def rows(path):
        header, *found = [values for _, values in read_rows(path)]
        return [dict(zip(header, values)) for values in found]

    output, again = f"p.{ending}", f"q.{ending}"
    (folder / "export.csv").write_bytes("\ufefffile;Number;MODEL\r\n00.jpg;007;x\r\nelsewhere.jpg;8;y\r\n".encode())
    assert run("-o", output) == 0
    plain = (folder / output).read_bytes()
    assert run("-o", output, "--join", "export.csv") == 0
    assert "1 of 70 images have a row in export.csv." in capsys.readouterr().err.splitlines()
    found = rows(output)
    assert list(found[0])[-3:] == ["PROBABILITY", "Number", "MODEL_JOINED"]
    assert {row["FILE"]: row["Number"] for row in found if row["Number"]} == {"scans/00.jpg": "007"}
    assert run("-o", again, "--join", "export.csv") == 0
    assert rows(again) == found
    found_first = found
    # A row more, and another join.
    draw("scans/zz.jpg", 99)
    (folder / "export.csv").write_text("FILE,Licence\nscans/zz.jpg,CC0\n./scans/00.jpg,CC BY\n")
    assert run("-o", output, "--join", "export.csv") == 0
    assert "70 of 71 images are already done." in capsys.readouterr().err
    found = {row["FILE"]: row["Licence"] for row in rows(output)}
    assert len(found) == 71 and (found["scans/zz.jpg"], found["scans/00.jpg"]) == ("CC0", "CC BY")
    moment = os.stat(output).st_mtime_ns
    assert run("-o", output) == run("-o", output, "--join", "export.csv") == 0
    assert os.stat(output).st_mtime_ns == moment
    os.unlink("scans/zz.jpg")
    assert predictImages.main(["--convert", again, "-o", f"c.{ending}", "--join", "export.csv"]) == 0
    assert list(rows(f"c.{ending}")[0]) == ["MODEL", "FILE", "PREDICTION", "PROBABILITY", "Licence"]
    draw("scans/zzz.jpg", 98)
    assert run("-o", again) == 0
    assert rows(again)[:70] == found_first and set(rows(again)[70].values()) >= {"scans/zzz.jpg", ""}
    # A person's decision comes before what is joined, and changes nothing of it.
    (folder / "c.tsv").write_text("FILE\tCATEGORY\nscans/00.jpg\tE\n")
    assert run("-o", again, "--corrections", "c.tsv") == 0
    decided = rows(again)
    assert list(decided[0])[4:] == ["SOURCE", "Number", "MODEL_JOINED"]
    assert [row["Number"] for row in decided] == [row["Number"] for row in found_first] + [""]
    assert [row["FILE"] for row in decided if row["SOURCE"] == "person"] == ["scans/00.jpg"]
    assert run("-o", again, "--join", "export.csv") == 0
    assert list(rows(again)[0])[4:] == ["SOURCE", "Licence"]
    assert [row["SOURCE"] for row in rows(again)] == [row["SOURCE"] for row in decided]
    if ending == "tsv":
        os.unlink(again)
        assert run("-o", again) == 0
        assert (folder / again).read_bytes().startswith(plain)


def test_a_table_in_another_order_is_continued(folder):
    run()
    header, *lines = (folder / "t.tsv").read_text().splitlines(keepends=True)
    whole = (folder / "t.tsv").read_bytes()
    (folder / "t.tsv").write_text("".join([header, *lines[:0:-1]]))
    assert run() == 0
    assert (folder / "t.tsv").read_bytes() == whole


def test_somebody_elses_files_are_not_overwritten(folder, capsys):
    (folder / "t.tsv.errors.tsv").write_text("my notes\n")
    assert run() == 2
    assert "errors.tsv is not a table of errors" in capsys.readouterr().err
    assert (folder / "t.tsv.errors.tsv").read_text() == "my notes\n"


def test_an_answer_that_is_no_number_is_an_error(folder):
    from lib.models.keras_files import load_model, save_model

    model = load_model("model.keras")
    model.set_weights([np.full_like(weight, 3e38) for weight in model.get_weights()])
    save_model(model, "model.keras")
    assert run("-o", "t.jsonl") == 0
    assert (folder / "t.jsonl").read_text() == ""
    assert {row["ERROR"] for row in table("t.jsonl.errors.tsv")} == {"the model's logits are NaN or infinite"}


@pytest.mark.slow
def test_a_process_without_standard_streams_does_its_work(folder):
    line = " ".join(script("predictImages.py")) + " -c -d scans -m model.keras -o t.tsv 0<&- 1>&- 2>&-"
    subprocess.run(["bash", "-c", line], check=True)
    assert len(table("t.tsv")) == 70


def test_the_same_command_goes_on(folder, capsys, monkeypatch):
    (folder / "scans" / "05b.jpg").write_text("not yet a picture")
    run()
    assert (folder / "t.tsv.errors.tsv").exists()
    draw(folder / "scans" / "05b.jpg", 5)
    draw(folder / "scans" / "00new.jpg", 6)
    read = []
    reader = pending.read_image
    monkeypatch.setattr(pending, "read_image", lambda path, *rest: read.append(path) or reader(path, *rest))
    capsys.readouterr()
    assert run() == 0
    assert sorted(read) == ["scans/00new.jpg", "scans/05b.jpg"]
    assert "70 of 72 images are already done." in capsys.readouterr().err
    assert not (folder / "t.tsv.errors.tsv").exists()
    before = (folder / "t.tsv").read_bytes()
    assert run() == 0 and len(read) == 2
    assert (folder / "t.tsv").read_bytes() == before
    assert run("-o", "u.tsv") == 0
    assert (folder / "u.tsv").read_bytes() == before


def replace(path, seed, size=None):
    """Put another picture in the place of one, of `size` bytes, as a scan that was made again."""
    draw("new.jpg", seed)
    content = Path("new.jpg").read_bytes()
    Path(path).write_bytes(content + bytes((size or len(content) + 1) - len(content)))
    os.unlink("new.jpg")


def test_a_file_that_changed_is_answered_again_and_one_that_was_only_touched_is_not(folder, capsys, monkeypatch):
    replace("scans/06.jpg", 6, 9000)
    os.utime("scans/06.jpg", ns=(10**18, 10**18))
    assert run("--probabilities", "--embeddings", "e.npz") == 0
    replace("scans/00.jpg", 100)
    replace("scans/06.jpg", 106, 9000)  # of the same size
    os.utime("scans/12.jpg", ns=(10**18, 10**18))
    read, reader = [], pending.read_image
    monkeypatch.setattr(pending, "read_image", lambda path, *rest: read.append(path) or reader(path, *rest))
    for _ in range(2):  # the second time nothing is left to do
        capsys.readouterr()
        assert run("--probabilities", "--embeddings", "e.npz") == 0
        error = capsys.readouterr().err
        assert ("2 changed since they were categorised, and were read again." in error) == bool(read)
        assert sorted(read) in (["scans/00.jpg", "scans/06.jpg"], [])
        assert "67 of 70 images are already done." in error if read else "70 of 70 images" in error
        read.clear()
    assert run("--probabilities", "-o", "u.tsv", "--embeddings", "u.npz") == 0
    for ending in ("", ".files.tsv"):
        assert (folder / f"t.tsv{ending}").read_bytes() == (folder / f"u.tsv{ending}").read_bytes()
    assert (folder / "e.npz").read_bytes() == (folder / "u.npz").read_bytes()


def test_a_file_that_can_no_longer_be_read_loses_its_answer(folder, capsys):
    run("--embeddings", "e.npz")
    (folder / "scans" / "00.jpg").write_text("broken since")
    assert run("--embeddings", "e.npz") == 0
    assert "69 images categorised, 1 error" in capsys.readouterr().err.splitlines()[-1]
    assert "scans/00.jpg" not in {row["FILE"] for row in table("t.tsv")} | {*np.load("e.npz")["paths"].tolist()}
    assert [row["FILE"] for row in table("t.tsv.errors.tsv")] == ["scans/00.jpg"]
    os.unlink("scans/06.jpg")  # but one that was moved away keeps it
    run("--embeddings", "e.npz")
    assert "scans/06.jpg" in {row["FILE"] for row in table("t.tsv")}


@pytest.mark.slow
def test_a_changed_file_is_noticed_by_a_stopped_run_the_page_the_folders_and_the_search(folder, capsys, monkeypatch):
    from lib.errors import WorkError
    from lib.storage import tables

    writer = tables.write_table

    def stop(*_):
        raise WorkError("stopped")

    monkeypatch.setattr(tables, "write_table", stop)
    assert run() == 1
    monkeypatch.setattr(tables, "write_table", writer)
    replace("scans/00.jpg", 100)
    capsys.readouterr()
    assert run("--embeddings", "e.npz") == 0
    assert "1 changed since it was categorised, and was read again." in capsys.readouterr().err
    replace("scans/00.jpg", 101)
    assert predictImages.main(["--report-from", "t.tsv", "--report", "p.html", "--sort", "sorted"]) == 0
    told = "1 image changed since t.tsv was made, such as scans/00.jpg; run the prediction again."
    assert capsys.readouterr().err.count(told) == 2
    assert (folder / "p.html").read_text().count("the file changed since it was categorised") == 1
    search = ["--similar", "scans/00.jpg", "--embeddings", "e.npz", "--top", "2", "-m", "model.keras", "-c"]
    assert predictImages.main(search) == 0
    found = capsys.readouterr()
    assert "scans/00.jpg changed since it was put into e.npz, so it is read again." in found.err
    shutil.copy("scans/00.jpg", "elsewhere.jpg")
    assert predictImages.main([search[0], "elsewhere.jpg", *search[2:]]) == 0
    elsewhere = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("scans/00.jpg")]
    assert found.out.splitlines()[:2] == elsewhere[:2]
    nearest = found.out.splitlines()[1].split("\t")[0]
    replace(nearest, 102)
    assert predictImages.main(search) == 0
    told = f"1 image listed changed since e.npz was made, such as {nearest}; run the prediction again"
    assert told in capsys.readouterr().err


def test_a_table_without_fingerprints_is_continued_and_says_so(folder, capsys):
    run()
    os.unlink("t.tsv.files.tsv")
    replace("scans/00.jpg", 100)
    draw("scans/zz.jpg", 99)
    capsys.readouterr()
    assert run() == 0
    assert "t.tsv has no t.tsv.files.tsv beside it, so images that changed since" in capsys.readouterr().err
    assert [row["FILE"] for row in table("t.tsv.files.tsv")] == ["scans/zz.jpg"]
    (folder / "t.tsv.files.tsv").write_text("FILE\tBYTES\tMODIFIED\tCRC32C\nscans/00.jpg\t1\n")
    assert run() == 2
    assert "t.tsv.files.tsv is damaged; remove it, or start over with --overwrite" in capsys.readouterr().err
    (folder / "t.tsv.files.tsv").write_text("my notes\n")
    assert run() == 2
    assert "t.tsv.files.tsv is no list of fingerprints" in capsys.readouterr().err
    assert (folder / "t.tsv.files.tsv").read_text() == "my notes\n"


@pytest.mark.parametrize(
    "more",
    [
        ["--exact"],
        ["--top", "2"],
        ["--probabilities"],
        ["-m", "./model.keras"],
        ["-d", "./scans"],
        ["--labels", "other.tsv"],
    ],
    ids=" ".join,
)
def test_another_call_over_the_same_table_is_refused(folder, capsys, more):
    (folder / "other.tsv").write_text(FIVE.replace("\tE\n", "\tOther\n"))
    run()
    before = (folder / "t.tsv").read_bytes()
    capsys.readouterr()
    assert run(*more) == 2
    error = capsys.readouterr().err
    assert "t.tsv was begun with" in error and "--overwrite" in error and error.count("\n") == 1
    assert (folder / "t.tsv").read_bytes() == before
    assert run("-d", "scans/") == 0  # which means the same
    assert run(*more, "--overwrite") == 0
    assert run(*more) == 0


def test_another_model_under_the_same_name_is_refused(folder, capsys):
    run()
    from lib.models.keras_files import load_model, save_model

    model = load_model("model.keras")
    model.set_weights([weight * 0.5 for weight in model.get_weights()])
    save_model(model, "model.keras")
    assert run() == 2
    assert "was begun with model_sha256" in capsys.readouterr().err


def test_memory_for_decoding_is_by_the_cores_that_are_asked_for(folder, monkeypatch):
    monkeypatch.setattr(images, "cores", lambda processors=None: min(processors or 8, 8))
    monkeypatch.setattr(images, "_DECODING", images._Budget(1))
    assert run("-p", "2") == 0
    assert images._DECODING.total == 2 * images._DECODING_BYTES


def test_names_with_any_bytes(folder):
    shutil.rmtree("scans")
    names = [b"tab\t.jpg", b"line\nend.jpg", b"caf\xe9.jpg", "Ähre\\.jpg".encode(), b"' \".jpg", b"-o.jpg"]
    os.makedirs("scans")
    for number, name in enumerate(names):
        draw("first.jpg", number)
        os.rename(b"first.jpg", b"scans/" + name)
    for output in ("t.tsv", "t.csv", "t.jsonl"):
        assert run("-o", output) == 0
    from lib.storage.names import unescape_name

    files = [row["FILE"] for row in table("t.tsv")]
    assert [os.fsencode(unescape_name(file)) for file in files] == sorted(b"scans/" + name for name in names)
    assert "scans/caf\\xe9.jpg" in files and "scans/tab\\t.jpg" in files
    before = (folder / "t.tsv").read_bytes()
    assert run() == 0  # all are found to be done
    assert (folder / "t.tsv").read_bytes() == before


def test_pandas_reads_the_tables_as_they_stand(folder):
    draw('scans/a "quoted", name.jpg', 1)
    for output in ("t.tsv", "t.csv", "t.jsonl", "t.xlsx"):
        assert run("-o", output, "--top", "2") == 0
    tables = [
        pandas.read_excel("t.xlsx"),
        pandas.read_csv("t.tsv", sep="\t", quoting=csv.QUOTE_NONE),
        pandas.read_csv("t.csv"),
        pandas.read_json("t.jsonl", lines=True),
    ]
    for other in tables[1:]:
        pandas.testing.assert_frame_equal(tables[0], other)
    assert (tables[0]["PROBABILITY"] >= tables[0]["PROBABILITY_2"]).all()
    assert 'scans/a "quoted", name.jpg' in set(tables[0]["FILE"])


def test_labels(folder, capsys):
    os.rename("categories.tsv", "mine.tsv")
    assert run() == 0
    assert "model.keras doesn't say what its 5 outputs are; put its categories.tsv beside it, or pass --labels." in (
        capsys.readouterr().err
    )
    assert {row["PREDICTION"] for row in table("t.tsv")} <= {f"category {index}" for index in range(5)}
    (folder / "four.tsv").write_text("INDEX\tLABEL\n0\tA\n1\tB\n2\tC\n3\tD\n")
    assert run("--labels", "four.tsv", "--overwrite") == 2
    error = capsys.readouterr().err
    assert "has 5 outputs where 4 are needed" in error and "--labels" in error
    assert run("--labels", "mine.tsv", "--overwrite") == 0
    assert {row["PREDICTION"] for row in table("t.tsv")} <= set("ABCDE")


@pytest.mark.slow
def test_a_page_of_the_run_and_the_same_one_later(folder):
    (folder / "scans" / "05b.jpg").write_text("no picture")
    assert run("--report", "t.html") == 0
    page = (folder / "t.html").read_text()
    assert list(table("t.tsv")[0])[4:] == ["PREDICTION_2", "PROBABILITY_2"]  # for the runners-up
    data = data_of(page)
    assert len(data["names"]) == 70 and data["problems"] == {} and len(data["audited"]) == 17
    assert data["modelCategories"] == 5 and "scans/05b.jpg" in page
    before = (folder / "t.tsv").read_bytes()
    assert run() == 0 and run("--report", "u.html") == 0  # without --top it goes on as it was begun
    assert (folder / "t.tsv").read_bytes() == before
    assert predictImages.main(["--report-from", "t.tsv", "--report", "u.html"]) == 0
    date = re.compile(r"Made [-0-9]+ [0-9:]+\.")
    assert date.sub("", (folder / "u.html").read_text()) == date.sub("", page)
    few = ["--report-images", "4", "--audit", "0"]
    assert predictImages.main(["--report-from", "t.tsv", "--report", "u.html", *few]) == 0
    counts = [sum(row["PREDICTION"] == label for row in table("t.tsv")) for label in "ABCDE"]
    assert len(data_of((folder / "u.html").read_text())["names"]) == sum(min(count, 4) for count in counts)
    os.unlink("model.keras")  # without which there is nothing to learn with
    assert predictImages.main(["--report-from", "t.tsv", "--report", "u.html"]) == 0
    data = data_of((folder / "u.html").read_text())
    assert len(data["names"]) == 70 and data["audited"] == [] and data["command"] is None


def data_of(page):
    """What the script of a page shows."""
    return json.loads(re.search(r'id="data">(.*?)</script>', page)[1])


def test_a_table_that_was_begun_keeps_its_columns(folder, capsys):
    run()
    assert run("--report", "t.html") == 0
    assert list(table("t.tsv")[0]) == ["MODEL", "FILE", "PREDICTION", "PROBABILITY"]
    assert "--top 2" in capsys.readouterr().err
    assert run("--report", "t.html", "--overwrite") == 0
    assert "PREDICTION_2" in table("t.tsv")[0]


def test_sorted_into_folders(folder, capsys):
    assert run("--sort", "sorted") == 0
    assert capsys.readouterr().err.splitlines()[-1] == "70 new links in sorted, 0 unchanged, 0 removed."
    for row in table("t.tsv"):
        links = [path for path in (folder / "sorted" / row["PREDICTION"]).iterdir() if path.samefile(row["FILE"])]
        assert len(links) == 1 and not os.path.isabs(os.readlink(links[0]))
    assert predictImages.main(["--report-from", "t.tsv", "--sort", "sorted", "--copy"]) == 0
    assert "70 new copies in sorted, 0 unchanged" in capsys.readouterr().err
    assert run("--sort", "scans/sorted") == 2
    assert "is inside scans" in capsys.readouterr().err


def test_features_are_those_of_the_model_and_change_no_label(folder, capsys):
    from lib.data.images import read_image
    from lib.models.keras_files import load_model

    (folder / "scans" / "33b.jpg").write_bytes(b"broken")
    run("--probabilities")
    assert run("--probabilities", "-o", "u.tsv", "--embeddings", "e.npz") == 0
    assert (folder / "u.tsv").read_bytes() == (folder / "t.tsv").read_bytes()
    stored = np.load("e.npz")
    assert stored["paths"].tolist() == [row["FILE"] for row in table("t.tsv")]
    import keras

    model = load_model("model.keras")
    pooled = keras.Model(model.input, model.get_layer("output_layerNormalization").output)
    pixels = np.stack([read_image(path, 96) for path in stored["paths"].tolist()])
    np.testing.assert_allclose(stored["embeddings"], np.asarray(pooled(pixels, training=False)), atol=2e-5)
    capsys.readouterr()
    arguments = ["--embeddings", "e.npz", "--top", "3", "-m", "model.keras", "-c"]
    assert predictImages.main(["--similar", "scans/06.jpg", *arguments]) == 0
    known = capsys.readouterr().out
    shutil.copy("scans/06.jpg", "elsewhere.jpg")
    assert predictImages.main(["--similar", "elsewhere.jpg", *arguments]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["FILE", "SIMILARITY"] and lines[1] == ["scans/06.jpg", "1.0000"] and len(lines) == 4
    assert [line.split("\t") for line in known.splitlines()][1:3] == lines[2:]
    scores = [float(line[1]) for line in lines[1:]]
    assert scores == sorted(scores, reverse=True)


def test_features_of_a_table_that_is_complete_and_of_one_that_grows(folder, capsys, monkeypatch):
    run("-o", "whole.tsv", "--embeddings", "whole.npz")
    run()
    before = (folder / "t.tsv").read_bytes()
    assert run("--embeddings", "e.npz") == 0
    assert (folder / "e.npz").read_bytes() == (folder / "whole.npz").read_bytes()
    assert (folder / "t.tsv").read_bytes() == before
    draw("scans/zz.jpg", 99)
    read = []
    reader = pending.read_image
    monkeypatch.setattr(pending, "read_image", lambda path, *rest: read.append(path) or reader(path, *rest))
    assert run("--embeddings", "e.npz") == 0 and read == ["scans/zz.jpg"]
    assert np.load("e.npz")["paths"].tolist()[-1] == "scans/zz.jpg" and len(np.load("e.npz")["paths"]) == 71
    os.unlink("scans/zz.jpg")
    assert run("--embeddings", "f.npz") == 0
    assert len(np.load("f.npz")["paths"]) == 70 and len(table("t.tsv")) == 71
    (folder / "scans" / "00.jpg").write_text("broken since")
    os.unlink("t.tsv.files.tsv")  # without which that isn't noticed
    capsys.readouterr()
    assert run("--embeddings", "g.npz") == 0
    assert "1 image in the table can no longer be read and is missing from g.npz." in capsys.readouterr().err
    assert run("--exact", "--embeddings", "e.npz", "--overwrite") == 0
    assert run("-o", "v.tsv", "--embeddings", "e.npz") == 2
    assert "--embeddings: e.npz was begun with --exact true" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--report", "t.txt"], "--report"),
        (["--report", "scans/00.jpg"], "must end in .html"),
        (["--embeddings", "t.npy"], "must end in .npz"),
        (["--copy"], "--copy: it needs --sort"),
        (["--sort", "scans/sorted"], "is inside scans"),
        (["--sort", "x", "--copy", "--hardlink"], "--hardlink"),
        (["--similar", "scans/00.jpg"], "give --embeddings FILE.npz"),
        (["--similar", "none.jpg", "--embeddings", "e.npz"], "--similar"),
        (["--report-from", "categories.tsv"], "-d/--data: can't be combined with --report-from"),
    ],
)
def test_options_that_do_not_go_together(folder, environment, arguments, words):
    line = [*script("predictImages.py"), "-c", "-d", "scans", "-o", "t.tsv", "-m", "model.keras", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (folder / "t.tsv").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--report-from", "categories.tsv"], "give --report FILE.html"),
        (["--report-from", "categories.tsv", "--report", "t.html"], "needs the columns FILE and PREDICTION"),
        (["--similar", "scans/00.jpg", "--embeddings", "e.npz"], "e.npz does not exist"),
        (
            ["--similar", "scans/00.jpg", "--embeddings", "e.npz", "--sort", "x"],
            "--sort: can't be combined with --similar",
        ),
        (["-d", "scans", "--report", "t.html"], "required: -o/--output"),
        (
            ["-d", "scans", "-o", "t.tsv", "-m", "model.keras", "--join", "model.keras"],
            "--join: model.keras can't be read as a table",
        ),
        (
            ["-d", "scans", "-o", "t.tsv", "-m", "model.keras", "--join", "categories.tsv"],
            "--join: categories.tsv needs a column FILE",
        ),
        (["--report-from", "model.keras", "--report", "r.html", "--join", "model.keras"], "--join: it needs -d/--data"),
        (["--convert", "categories.tsv"], "--convert: give -o/--output FILE"),
        (["--convert", "categories.tsv", "-d", "scans", "-o", "t.tsv"], "-d/--data: can't be combined with --convert"),
    ],
)
def test_options_that_are_missing_something(folder, capsys, arguments, words):
    assert predictImages.main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["-d/--data (or --list)", "-o/--output"]),
        (["-d", "missing", "-o", "t.tsv"], ["-d/--data", "'missing'"]),
        (["-d", "scans", "-o", "no/t.tsv"], ["-o/--output", "'no'"]),
        (["-d", "scans", "-o", "t.json"], ["-o/--output", "t.json ends in .json, which isn't written"]),
        (["-d", "scans", "-o", "t.tsv", "-m", "ConvNeXt-X"], ["-m/--model", "ConvNeXt-X"]),
        (["-d", "scans", "-o", "t.tsv", "-m", "ConvNeXt-T"], ["-m/--model", "put it there"]),
        (["-d", "scans", "-o", "t.tsv", "-b", "0"], ["-b/--batch", "1 or more"]),
        (["-d", "scans", "-o", "t.tsv", "-g", "-1"], ["-g/--gpu"]),
        (["-d", "scans", "-o", "t.tsv", "--labels", "none"], ["--labels"]),
    ],
)
def test_a_wrong_call_answers_in_one_line_before_tensorflow(folder, environment, arguments, parts):
    tripwire = folder / "tripwire"
    tripwire.mkdir()
    for name in ("tensorflow", "keras"):
        (tripwire / f"{name}.py").write_text("raise SystemExit('imported')\n")
    process = subprocess.run(
        script("predictImages.py") + arguments,
        capture_output=True,
        text=True,
        env=dict(environment, PYTHONPATH=str(tripwire)),
        check=False,
    )
    assert process.returncode == 2 and process.stdout == ""
    assert process.stderr.count("\n") == 1
    assert all(part in process.stderr for part in parts), process.stderr


def test_other_wrong_calls(folder, capsys):
    assert run("--top", "6") == 2
    assert "--top" in capsys.readouterr().err
    os.makedirs("empty")
    assert run("-d", "empty") == 2
    assert "-d/--data" in capsys.readouterr().err
    (folder / "categories.tsv").write_text("nonsense")
    assert run() == 2
    assert "categories.tsv" in capsys.readouterr().err
    (folder / "model.keras").write_text("nonsense")
    os.unlink("categories.tsv")
    assert run() == 2
    assert "is not a whole .keras file" in capsys.readouterr().err
    assert sorted(os.listdir(".")) == ["empty", "model.keras", "scans"]


@pytest.mark.parametrize("shape", [(64, 96, 3), (None, None, 1), (3,)])
def test_a_model_that_takes_no_square_colour_images_is_refused(folder, capsys, shape):
    import keras

    inputs = keras.Input(shape)
    x = inputs if len(shape) == 1 else keras.layers.GlobalAveragePooling2D()(inputs)
    keras.Model(inputs, keras.layers.Dense(5)(x)).save("model.keras")
    assert run() == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "square images of 3 bands" in error
    assert not (folder / "t.tsv.partial").exists()


def test_a_model_of_a_fixed_size_gets_images_of_that_size(folder):
    import keras

    inputs = keras.Input((40, 40, 3))
    keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Flatten()(inputs))).save("model.keras")
    assert run() == 0
    assert len(table("t.tsv")) == 70
    if keras.__version__.startswith("2."):  # HDF5 under the ending .keras, as Keras 2.12 writes it
        keras.models.load_model("model.keras").save("model.h5")
        os.rename("model.h5", "model.keras")
        assert run("--overwrite") == 0


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit) as exit_:
        predictImages.main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for option in ("--batch", "--cpu", "--data", "--gpu", "--model", "--output", "--processors", "--exact", "--strict"):
        assert option in text


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A folder that takes seconds to categorise, and the table that an undisturbed run makes."""
    parent = tmp_path_factory.mktemp("large")
    (parent / "scans").mkdir()
    for number in range(12):
        draw(parent / "scans" / f"{number:04d}.jpg", number, 1500, 1000)
    for number in range(12, 900):
        os.link(parent / "scans" / f"{number % 12:04d}.jpg", parent / "scans" / f"{number:04d}.jpg")
    (parent / "scans" / "0500b.jpg").write_text("no picture")
    shutil.copy(MODEL, parent / "model.keras")
    (parent / "categories.tsv").write_text(FIVE)
    subprocess.run(command("whole.tsv"), cwd=parent, check=True, capture_output=True)
    return parent


def command(output):
    return [*script("predictImages.py"), "-c", "-d", "scans", "-m", "model.keras", "-o", output, "--top", "5"]


@pytest.mark.once
@pytest.mark.slow
def test_killed_at_any_moment_the_result_is_that_of_an_undisturbed_run(large):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    partial = large / "killed.tsv.partial"
    killed = 0
    for _ in range(4):
        before = partial.stat().st_size if partial.exists() else 0
        process = subprocess.Popen(command("killed.tsv"), cwd=large, stderr=subprocess.DEVNULL)
        threshold = before + rng.randrange(30000)
        while process.poll() is None:
            if partial.exists() and partial.stat().st_size > threshold:
                time.sleep(rng.random() / 50)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        killed += process.wait() == -signal.SIGKILL
    assert killed
    process = subprocess.run(command("killed.tsv"), cwd=large, check=True, capture_output=True, text=True)
    assert process.stderr.splitlines()[-1].startswith("900 images categorised, 1 error,")
    for ending in ("", ".errors.tsv"):
        assert (large / f"killed.tsv{ending}").read_bytes() == (large / f"whole.tsv{ending}").read_bytes()
    assert not partial.exists()


@pytest.mark.once
@pytest.mark.slow
def test_a_full_disk_is_an_error_and_what_was_written_stays(large):
    process = subprocess.run(
        command("full.tsv"),
        cwd=large,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000)),
    )
    assert process.returncode == 1
    assert "full.tsv can't be written" in process.stderr and "Traceback" not in process.stderr
    assert 0 < (large / "full.tsv.partial").stat().st_size <= 60000
    assert not (large / "full.tsv").exists()
    process = subprocess.run(command("full.tsv"), cwd=large, check=True, capture_output=True, text=True)
    assert "images are already done" in process.stderr
    assert (large / "full.tsv").read_bytes() == (large / "whole.tsv").read_bytes()


@pytest.mark.once
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.slow
def test_a_signal_stops_at_once_and_in_order(large, number, status):
    output = f"signal{status}.tsv"
    process = subprocess.Popen(
        command(output),
        cwd=large,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell runs in the background ignores Ctrl-C, and so would this process then.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.time() + 100
    while not (large / f"{output}.partial").exists() or (large / f"{output}.partial").stat().st_size < 40000:
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    errors = process.communicate(timeout=20)[1]
    assert process.returncode == status
    assert "Traceback" not in errors


def test_the_golden_labels(shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["-c", "-d", str(shared / "images"), "--models", str(shared / "models"), "-b", "1024", "-p", "4"]
    assert predictImages.main([*arguments, "-o", "exact.tsv", "--exact"]) == 0
    golden = table(shared / "golden" / "predictions.tsv")
    ours = {os.path.relpath(row["FILE"], shared / "images"): row["PREDICTION"] for row in table("exact.tsv")}
    assert ours == {row["FILE"]: row["PREDICTION"] for row in golden}
    assert predictImages.main([*arguments, "-o", "default.tsv"]) == 0
    default = {os.path.relpath(row["FILE"], shared / "images"): row["PREDICTION"] for row in table("default.tsv")}
    truth = {row["FILE"]: row["CATEGORY"] for row in golden}

    def right(answers):
        return sum(answers[file] == truth[file] for file in truth)

    assert set(default.values()) <= set(LABELS)
    assert right(default) >= right(ours)  # the default pixels are there because they are no worse


def test_the_published_line_runs_without_a_gpu(shared, tmp_path):
    (tmp_path / "image-directory").mkdir()
    shutil.copy(next((shared / "images" / "ordinary").iterdir()), tmp_path / "image-directory")
    line = f"{ROOT}/predictImages.py -b 1024 -g $GPU -d $UNKNOWN -m ConvNeXt-N -o $OUTPUT -p 4"
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    environment = dict(os.environ, PATH=path, HERBARIOGRAPH_MODELS=str(shared / "models"))
    environment.update(GPU="0", UNKNOWN="image-directory", OUTPUT="file.tsv")
    shell = ["bash", "-c", line]
    process = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    warning, summary, last = process.stderr.splitlines()
    assert warning == "There is no GPU that TensorFlow can use: OpenVINO computes on the CPU."
    assert re.fullmatch(r"1 image: 1 \w+; (0|100) % with a probability below 40 %\.", summary)
    assert last == "1 image categorised, no errors."
    assert len(table(tmp_path / "file.tsv")) == 1

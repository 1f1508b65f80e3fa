"""The report on records."""

import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image
from toys import jpeg

from lib.data.record_format import make_record
from tools import show_records

LINES = [
    *("CATEGORY\ta.tfr\tb.tfr", "fern\t2\t2", "moss\t2\t1", "palm\t1\t1", "all\t5\t4"),
    "9 images of 16 x 12 pixels",
    "a.tfr and b.tfr share 1 equal images and 0 that are nearly the same",
]


@pytest.fixture
def two_files(tmp_path):
    """Nine records in two files, of which one is in both."""
    for name, numbers in (("a", range(5)), ("b", [5, 6, 7])):
        content = b"".join(make_record(number % 3, jpeg(number)) for number in numbers)
        (tmp_path / f"{name}.tfr").write_bytes(content + (make_record(0, jpeg(1)) if name == "b" else b""))
    (tmp_path / "labels.tsv").write_text("INDEX\tLABEL\n0\tfern\n1\tmoss\n2\tpalm\n")
    return str(tmp_path / "a.tfr"), str(tmp_path / "b.tfr")


def test_what_is_left_out_is_said_by_the_program(two_files, tmp_path):
    with open(two_files[1], "ab") as file:
        file.write(b"end")
    command = [sys.executable, "-m", "tools.show_records", *two_files, "--skip-bad"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (
        done.returncode == 0
        and done.stderr == f"Left out: {two_files[1]}, record 4, is cut short, and so is the file\n"
    )


def test_it_counts_finds_duplicates_and_draws_a_sheet(two_files, tmp_path, capsys):
    sheet = str(tmp_path / "s.png")
    assert show_records.main([*two_files, "--labels", str(tmp_path / "labels.tsv"), "--sheet", sheet]) == 0
    assert capsys.readouterr().out.splitlines() == [*LINES, f"contact sheet: {sheet}"]
    with Image.open(sheet) as picture:
        assert picture.width > 3 * 96 and picture.height > 3 * 96


def test_bad_records_are_named_and_can_be_left_out(two_files, tmp_path, capsys):
    with open(two_files[0], "ab") as file:
        file.write(make_record(2, b"\xff\xd8nothing"))
    assert show_records.main([two_files[0]]) == 1
    assert "a.tfr, record 5, holds a JPEG that can't be decoded" in capsys.readouterr().err
    assert show_records.main([*two_files, "--skip-bad", "--labels", str(tmp_path / "labels.tsv")]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[: len(LINES)] == LINES and "Left out: " in said.err
    assert (tmp_path / "a.png").is_file()


@pytest.mark.parametrize(
    ("wrong", "words"), [(["missing.tfr"], "missing.tfr"), (["--duplicates", "11"], "--duplicates")]
)
def test_a_wrong_call_is_one_line(wrong, words, two_files):
    command = [sys.executable, "-m", "tools.show_records", two_files[0], *wrong]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert words in done.stderr

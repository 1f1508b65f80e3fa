"""The benchmarks' one table: what they hand over is in it, and none of them is missing."""

import datetime
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from documents import text_of

from benchmarks import common, summary

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
BENCHMARKS = re.search(r"^BENCHMARKS \?= (.*)$", MAKEFILE, re.MULTILINE)[1].split()


def table_of(text):
    """The cells of the first table in a text, the line below its header aside."""
    lines = re.search(r"(?:^\|.*\|\n)+", text, re.MULTILINE)[0].splitlines()
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return header, rows


README_HEADER, README_ROWS = table_of(text_of("benchmarks/README.md"))


def test_rows_that_are_handed_over_come_out_as_a_table(tmp_path, monkeypatch, capsys):
    path = tmp_path / "rows"
    monkeypatch.setenv(common.ROWS, str(path))
    common.hand_over("predict", "/there/predict.py", "500 JPEGs of 320 × 240", "1,394 images/s", 1821.4, "1.49")
    common.hand_over("fractals", "/there/fractals.py", "2,000 fractals", "295 fractals/s")
    summary.main([str(path)])
    header, rows = table_of(capsys.readouterr().out)
    assert header == list(common.COLUMNS)
    assert [row[:6] for row in rows] == [
        ["predict", "`benchmarks/predict.py`", "500 JPEGs of 320 × 240", "1,394 images/s", "1,821 MiB", "1.49"],
        ["fractals", "`benchmarks/fractals.py`", "2,000 fractals", "295 fractals/s", "", ""],
    ]
    for *_, tensorflow, python, date in rows:
        assert re.fullmatch(r"2\.\d+\.\d+", tensorflow)
        assert python == "{}.{}.{}".format(*sys.version_info[:3])
        assert datetime.date.fromisoformat(date) <= datetime.date.today()


def test_nothing_is_written_unless_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv(common.ROWS, raising=False)
    monkeypatch.chdir(tmp_path)
    common.hand_over("predict", "predict.py", "500 JPEGs", "1,394 images/s")
    assert not list(tmp_path.iterdir())


def test_the_benchmarks_of_make_are_all_there_are():
    programs = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "hand_over(" in path.read_text("utf-8")}
    assert set(BENCHMARKS) == programs - {"common"}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_a_row_in_the_readmes_table(name):
    assert f"`benchmarks/{name}.py`" in {row[1] for row in README_ROWS}


def test_the_readmes_table_is_the_one_that_is_printed():
    assert list(common.COLUMNS) == README_HEADER
    assert {len(row) for row in README_ROWS} == {len(common.COLUMNS)}


def test_make_bench_ends_with_the_table(tmp_path):
    """With a stand-in for the Python of its environment, which hands over a row instead of measuring anything."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    cells = "\\t".join(["stage", "$1", *"1234567"])
    python.write_text(
        f'#!/bin/sh\ncase $1 in\n*summary.py) exec {sys.executable} "$@" ;;\n'
        f'*) printf \'%b\\n\' "{cells}" >> "${common.ROWS}" ;;\nesac\n'
    )
    python.chmod(0o755)
    for name in (".made", ".ready-predict", ".ready", ".ready-test"):
        (tmp_path / name).touch()
    rows = tmp_path / "rows"
    rows.write_text("what an earlier run left\n")
    command = ["make", "--no-print-directory", "bench", f"VENV={tmp_path}", f"BENCH_ROWS={rows}"]
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, found = table_of(done.stdout)
    assert [row[1] for row in found] == [f"benchmarks/{name}.py" for name in BENCHMARKS]

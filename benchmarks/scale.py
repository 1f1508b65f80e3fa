#!/usr/bin/env python3
"""Measure what a million files and 200,000 records cost: how soon the work starts, and how much memory it takes.

    .venv/bin/python benchmarks/scale.py [--quick]

The files are hard links to 20 drawn pictures. `--quick` takes a fiftieth of everything, to see that it works. Prints
the table of benchmarks/README.md.
"""

import argparse
import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import ROOT, hand_over, machine, measure, print_table
from benchmarks.predict import draw
from benchmarks.train import CLASSES, make_model
from lib.data.categories import LABELS
from lib.data.record_format import make_record
from lib.prediction.predict import columns_of
from lib.storage.fingerprints import fingerprint
from lib.storage.tables import Table, open_rows, settings_begun_with
from tools.sample import draw as draw_sample

DIFFERENT = 20
IN_A_FOLDER = 1000
LEFT = 2000  # files that a resumed run has left to do
SIZE = 96
BEGUN = 2  # commits to a journal before its first row: of its tables, and of what it is for


def link_files(parent, count):
    """A folder with folders of hard links to a few pictures."""
    folder = os.path.join(parent, "files")
    pictures = [os.path.join(parent, f"{number}.jpg") for number in range(DIFFERENT)]
    for number, path in enumerate(pictures):
        draw(path, 320, 240, number)
    for number in range(count):
        where = os.path.join(folder, f"{number // IN_A_FOLDER:05d}")
        if number % IN_A_FOLDER == 0:
            os.makedirs(where)
        os.link(pictures[number % DIFFERENT], os.path.join(where, f"{number:07d}.jpg"))
    return folder


def command_of(folder, output):
    """How predictImages.py is called."""
    return [sys.executable, os.path.join(ROOT, "predictImages.py"), "-d", folder, "-o", output, "-c"]


def until_first_row(folder, output, go_on=3):
    """Start predicting, and kill it some seconds after the first row that is new; seconds to that row, and peak MiB."""
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    before = commits(output) or BEGUN
    begin, first, peak = time.perf_counter(), None, 0
    process = subprocess.Popen(command_of(folder, output), env=environment, stdout=sys.stderr)
    while first is None or time.perf_counter() < begin + first + go_on:
        if process.poll() is not None:
            raise RuntimeError("predictImages.py ended too early")
        with contextlib.suppress(OSError), open(f"/proc/{process.pid}/status") as file:
            peak = max([peak] + [int(line.split()[1]) for line in file if line.startswith("VmHWM")])
        if first is None and commits(output) > before:
            first = time.perf_counter() - begin
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return first, peak / 1024


def commits(output):
    """How often something was written to the journal, as the header of its database says; 0 without one."""
    with contextlib.suppress(OSError), open(output + ".partial", "rb") as file:
        return int.from_bytes(file.read(28)[24:], "big")
    return 0


def fill_journal(folder, output, count):
    """Put rows for all but LEFT files into the journal of a run that was killed."""
    settings = settings_begun_with(output)
    table, parent = Table(output, columns_of(settings["labels"]), settings), os.path.dirname(folder)
    known = [fingerprint(os.path.join(parent, f"{number}.jpg")) for number in range(DIFFERENT)]

    def entries():
        for number in range(count - LEFT):
            name = os.path.join(folder, f"{number // IN_A_FOLDER:05d}", f"{number:07d}.jpg")
            yield name.encode(), known[number % DIFFERENT], table.line([settings["model"], name, "Ordinary", 0.5])

    with open_rows(table) as rows:
        rows.extend(entries())


def write_records(path, count):
    """Write records of 170 drawn pictures, over and over."""
    rng, pictures = np.random.default_rng(1), []
    for number in range(CLASSES * 10):
        content = io.BytesIO()
        draw_sample(LABELS[number % CLASSES], rng).convert("RGB").resize((SIZE, SIZE)).save(content, "JPEG")
        pictures.append(content.getvalue())
    with open(path, "wb") as file:
        for number in range(count):
            which = number % len(pictures)
            file.write(make_record(which % CLASSES, pictures[which]))


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fiftieth")
    share = 50 if parser.parse_args().quick else 1
    count, images = 1_000_000 // share, 200_000 // share
    print(machine() + "\n")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder, output = link_files(scratch, count), os.path.join(scratch, "out.tsv")
        seconds, peak = until_first_row(folder, output)
        rows.append([f"predicting {count:,} files: the first row", f"{seconds:.1f} s", f"{peak:.0f} MiB"])
        hand_over("scale", __file__, rows[-1][0], rows[-1][1], peak)
        fill_journal(folder, output, count)
        seconds, peak = until_first_row(folder, output, go_on=0)
        rows.append([f"going on after {count - LEFT:,} rows: the first new row", f"{seconds:.1f} s", f"{peak:.0f} MiB"])
        whole = measure(command_of(folder, output))
        rows.append(
            [f"the same to the sorted table, {LEFT:,} images", f"{whole.seconds:.1f} s", f"{whole.peak_mib:.0f} MiB"]
        )
        with open(output, "rb") as file:
            names = [line.split(b"\t")[1] for line in file][1:]
        if len(names) != count or names != sorted(names):
            raise RuntimeError("the table is not what it should be")
        again = measure(command_of(folder, output))
        rows.append(["the same again, all done", f"{again.seconds:.1f} s", f"{again.peak_mib:.0f} MiB"])
    with tempfile.TemporaryDirectory() as scratch:
        train, validation = (os.path.join(scratch, f"{name}.tfr") for name in ("train", "validation"))
        write_records(train, images)
        write_records(validation, CLASSES * 20)
        model = make_model(scratch, "small", "-x", "8", "-n", "1:1:1:1", "-i", str(SIZE))
        options = ["-a", str(CLASSES), "-b", "256", "-e", "1", "-i", str(SIZE), "-m", model, "-o", scratch, "-c"]
        script = os.path.join(ROOT, "trainImagesC.py")
        found = measure([sys.executable, script, *options, "-t", train, "-v", validation])
        cached = images * SIZE * SIZE * 3 / 2**20
        rows.append(
            [f"training on {images:,} records, one epoch", f"{found.seconds:.0f} s", f"{found.peak_mib:.0f} MiB"]
        )
        hand_over("scale", __file__, rows[-1][0], rows[-1][1], found.peak_mib)
        rows.append(["of that the images themselves", "", f"{cached:.0f} MiB"])
        rows.append(["the rest (promised: 1,536 MiB)", "", f"{found.peak_mib - cached:.0f} MiB"])
    print_table(["what", "time", "peak memory"], rows)


if __name__ == "__main__":
    main()

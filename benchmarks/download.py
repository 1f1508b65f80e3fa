#!/usr/bin/env python3
"""Measure downloadImages.py against a loop of `requests`, and how it reads large archives.

    .venv/bin/python benchmarks/download.py [--quick]

`--quick` does a tenth of everything, to see that it works. Prints the tables of benchmarks/README.md. The server is on
this machine, and takes 20 ms for each answer; all of 127.0.0.0/8 are its hosts.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import zipfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import ROOT, hand_over, machine, measure, print_table

PLAIN_FILES = 1_000
# Files, hosts, and what more the command has.
KINDS = ((20_000, 16, ()), (4_000, 1, ()), (4_000, 1, ("--per-host", "16")))
ROWS = (100_000, 1_000_000)


@contextlib.contextmanager
def server():
    """The server, as a process; yields its port."""
    command = [sys.executable, os.path.join(ROOT, "benchmarks", "image_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield int(process.stdout.readline())
        process.terminate()


def listed(path, count, hosts, port):
    """Write a table of addresses of so many files on so many hosts."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("id,identifier\n")
        file.writelines(f"{n},http://127.0.0.{1 + n % hosts}:{port}/{n}.jpg\n" for n in range(count))


def downloads(scratch, share):
    """Rows of the table."""
    few, rows = PLAIN_FILES // share, []
    with server() as port:
        for number, (files, hosts, more) in enumerate(KINDS):
            count = files // share
            table, output = os.path.join(scratch, f"{number}.csv"), os.path.join(scratch, str(number))
            listed(table, few, hosts, port)
            plain = (
                few / measure([sys.executable, os.path.join(ROOT, "benchmarks", "plain_download.py"), table]).seconds
            )
            listed(table, count, hosts, port)
            command = [sys.executable, os.path.join(ROOT, "downloadImages.py"), "-i", table, "-o", output]
            done = measure([*command, "--allow-private", *more])
            rate, ratio = count / done.seconds, f"{count / done.seconds / plain:.1f}"
            options = f"`{' '.join(more)}`" if more else ""
            rows.append(
                [
                    f"{count:,}",
                    str(hosts),
                    options,
                    f"{rate:.0f}/s",
                    f"{done.peak_mib:.0f} MiB",
                    f"{plain:.0f}/s",
                    ratio,
                ]
            )
            print(rows[-1], file=sys.stderr)
            if number == 0:
                work = f"{count:,} files of 100 kB from {hosts} hosts, 20 ms away"
                hand_over("download", __file__, work, f"{rate:.0f} images/s", done.peak_mib, ratio)
    return rows


def write_archive(path, count):
    """Write an archive like GBIF's of so many occurrences with an image each, its two tables in different orders."""
    tabs = r'encoding="UTF-8" fieldsTerminatedBy="\t" linesTerminatedBy="\n" fieldsEnclosedBy="" ignoreHeaderLines="1"'
    meta = (
        f'<archive xmlns="http://rs.tdwg.org/dwc/text/"><core {tabs} rowType="http://rs.tdwg.org/dwc/terms/Occurrence">'
        '<files><location>occurrence.txt</location></files><id index="0"/></core>'
        f'<extension {tabs} rowType="http://rs.gbif.org/terms/1.0/Multimedia"><files><location>multimedia.txt</location>'
        '</files><coreid index="0"/></extension></archive>'
    )
    licence = "http://creativecommons.org/licenses/by/4.0/legalcode"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("meta.xml", meta)
        with archive.open("occurrence.txt", "w", force_zip64=True) as file:
            file.write(b"gbifID\tcatalogNumber\trightsHolder\n")
            for n in range(count):
                file.write(f"{4_000_000_000 + n * 7 % count}\tK{n:09d}\tRoyal Botanic Gardens, Kew\n".encode())
        with archive.open("multimedia.txt", "w", force_zip64=True) as file:
            file.write(b"gbifID\ttype\tidentifier\tlicense\n")
            for n in range(count):
                address = f"https://host{n % 50}.example.org/images/{n:09d}.jpg"
                file.write(f"{4_000_000_000 + n}\tStillImage\t{address}\t{licence}\n".encode())


READ = """
import collections, sys
from lib.download.plan import about_plan, open_plan
from lib.download.settings import Settings
settings = Settings(sys.argv[1], sys.argv[2])
with open_plan(settings, about_plan(settings), sys.argv[2]) as plan:
    print(sum(plan.count_images().values()), collections.deque(plan.media(), 1)[0][1].catalogue, file=sys.stderr)
    plan.remove()
"""


def archives(scratch, share):
    """Rows of the table."""
    rows = []
    for count in (count // share for count in ROWS):
        path = os.path.join(scratch, "archive.zip")
        write_archive(path, count)
        done = measure([sys.executable, "-c", READ, path, scratch])
        rows.append([f"{count:,}", f"{done.seconds:.0f} s", f"{done.peak_mib:.0f} MiB"])
        print(rows[-1], file=sys.stderr)
        os.unlink(path)
    hand_over(
        "download", __file__, f"planning for an archive of {count:,} images", f"{done.seconds:.0f} s", done.peak_mib
    )
    return rows


def main(argv=None):
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    share = 10 if parser.parse_args(argv).quick else 1
    with tempfile.TemporaryDirectory() as scratch:
        fetched, read = downloads(scratch, share), archives(scratch, share)
    print(f"{machine()}\n")
    print_table(("files", "hosts", "options", "here", "peak here", "plain", "ratio"), fetched)
    print()
    print_table(("images in the archive", "list of images made and read", "peak"), read)


if __name__ == "__main__":
    main()

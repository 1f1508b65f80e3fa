#!/usr/bin/env python3
"""Measure what it costs to predict in parts: 1, 2, 4 and 8 of them, one after the other, and the merge.

    .venv/bin/python benchmarks/shards.py [--quick]

The pictures are scans of 24 megapixels: 8 are drawn, the rest are hard links to them. `--quick` takes a tenth of
everything, to see that it works. Prints the tables of benchmarks/README.md.
"""

import argparse
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import ROOT, hand_over, machine, measure, print_table
from benchmarks.predict import folder_of
from lib.data.listing import of_file
from lib.prediction.predict import columns_of
from lib.storage.tables import Table, write_settings
from lib.system.shard import Shard

SCANS, LISTED = 1200, 10_000_000
COUNTS = (1, 2, 4, 8)


def command(*arguments):
    """How predictImages.py is called."""
    return [sys.executable, os.path.join(ROOT, "predictImages.py"), *arguments]


def write_list(path, names):
    """A list of paths."""
    with open(path, "w") as file:
        file.writelines(f"{name}\n" for name in names)


def in_parts(scratch, listing, count):
    """Predict in so many parts, one after the other, and merge; what each took, and what the merge took."""
    parts, found = [], []
    for number in range(1, count + 1):
        parts.append(os.path.join(scratch, f"{count}-{number}.tsv"))
        arguments = ["--list", listing, "--shard", f"{number}/{count}", "-o", parts[-1], "-c"]
        found.append(measure(command(*arguments)))
    return found, measure(command("--merge", os.path.join(scratch, f"{count}.tsv"), *parts))


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth")
    share = 10 if parser.parse_args().quick else 1
    print(machine() + "\n")
    rows, first = [], None
    with tempfile.TemporaryDirectory() as scratch:
        folder = folder_of(scratch, "scans", SCANS // share, 8, 6000, 4000)
        size = sum(entry.stat().st_size for entry in os.scandir(folder)) / (SCANS // share)
        listing, one = os.path.join(scratch, "scans.list"), os.path.join(scratch, "one.list")
        names = sorted(entry.path for entry in os.scandir(folder))
        write_list(listing, names)
        write_list(one, names[:1])
        # The least of three: the files of the packages may have to come from the disk the first time.
        start = min(measure(command("--list", one, "-o", f"{one}-{place}.tsv", "-c")) for place in range(3))
        for count in COUNTS:
            parts, merge = in_parts(scratch, listing, count)
            seconds = sum(part.seconds for part in parts)
            first = first or seconds
            with open(os.path.join(scratch, f"{count}.tsv"), "rb") as file, open(
                os.path.join(scratch, "1.tsv"), "rb"
            ) as whole:
                if file.read() != whole.read():
                    raise RuntimeError("the table is another one in parts")
            rows.append(
                [
                    str(count),
                    f"{seconds:.1f} s",
                    f"{max(part.seconds for part in parts):.1f} s",
                    f"{100 * count * start.seconds / seconds:.0f} %",
                    f"{100 * (seconds / first - 1):+.0f} %",
                    f"{merge.seconds:.1f} s",
                ]
            )
            print(rows[-1], file=sys.stderr)
    work = f"{SCANS // share:,} scans of 24 megapixels in {count} parts, and the merge"
    seconds, peak = seconds + merge.seconds, max(one.peak_mib for one in (*parts, merge))
    hand_over("parts", __file__, work, f"{seconds:.1f} s", peak, f"{first / seconds:.2f} of one part")
    print(f"{SCANS // share:,} scans of {size / 1e6:.1f} MB; one image alone takes {start.seconds:.1f} s.\n")
    print_table(["parts", "all of them", "the longest", "start-up", "more than one", "merge"], rows)
    with tempfile.TemporaryDirectory() as scratch:
        count = LISTED // share
        listing = os.path.join(scratch, "all.list")
        write_list(listing, (f"scans/{number // 1000:05d}/{number:08d}.jpg" for number in range(count)))
        code = (
            "import sys; from lib.data.listing import of_file; from lib.system.shard import Shard; "
            "of_file(sys.argv[1], Shard(50, 100))"
        )
        read = measure([sys.executable, "-c", code, listing])
        print(f"\nReading a part of a list of {count:,} paths: {read.seconds:.0f} s, {read.peak_mib:.0f} MiB")
        merged = merge_of(scratch, listing, count)
        print(f"Merging 100 parts of {count:,} rows: {merged.seconds:.0f} s, {merged.peak_mib:.0f} MiB")
        hand_over("parts", __file__, f"merging {count:,} rows of 100 parts", f"{merged.seconds:.0f} s", merged.peak_mib)


def merge_of(scratch, listing, count, parts=100):
    """Write the tables of so many parts of a list, as predictImages.py would, and measure their merge."""
    tables, about = [], of_file(listing).about
    for number in range(1, parts + 1):
        shard = Shard(number, parts)
        names = (f"scans/{place // 1000:05d}/{place:08d}.jpg" for place in shard.range(count))
        tables.append(os.path.join(scratch, f"{number}.tsv"))
        table = Table(tables[-1], columns_of(()), {"shard": str(shard), "listed": about})
        with open(table.path, "wb") as file:
            file.write(table.header())
            file.writelines(table.line(["ConvNeXt-N", name, "Ordinary", 0.5]) for name in names)
        write_settings(table.path, table.settings, {})
    return measure(command("--merge", os.path.join(scratch, "merged.tsv"), *tables))


if __name__ == "__main__":
    main()

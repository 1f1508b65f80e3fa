#!/usr/bin/env python3
"""Measure fractals.py against the same done point by point.

    .venv/bin/python benchmarks/fractals.py [--quick]

`--quick` draws a tenth of the fractals, to see that it works. Prints the table of benchmarks/README.md.
"""

import argparse
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import ROOT, hand_over, machine, measure, print_table

# Categories, what more the command has, and whether the plain way does the same.
KINDS = (
    (2000, ("-s", "224"), True),
    (2000, ("-s", "224", "-p", "1"), True),
    (2000, ("-s", "32"), False),
    (1000, ("-s", "224", "--views", "12"), False),
    (200, ("-s", "1024"), False),
)
PLAIN = 100  # categories


def drawings(scratch, share):
    """Rows of the table."""
    plain = PLAIN // share
    command = [sys.executable, os.path.join(ROOT, "benchmarks", "plain_fractals.py"), str(plain)]
    plain_seconds, plain_work = timed([*command, os.path.join(scratch, "plain.tfr")], plain)
    rows = []
    for number, (categories, more, comparable) in enumerate(KINDS):
        count = categories // share
        prefix = os.path.join(scratch, str(number))
        command = [sys.executable, os.path.join(ROOT, "fractals.py"), "-n", str(count), *more, "-o", prefix]
        seconds, work = timed(command, count)
        row = [f"{count:,}", f"`{' '.join(more)}`", f"{1 / seconds:.0f}/s", f"{1000 * work:.1f} ms"]
        if comparable:
            row += [f"{1 / plain_seconds:.1f}/s", f"{1000 * plain_work:.1f} ms", f"{plain_seconds / seconds:.1f}"]
        rows.append(row + [""] * (7 - len(row)))
        print(rows[-1], file=sys.stderr)
        if number == 0:
            work = f"{count:,} fractals of 224 × 224, two pictures each"
            hand_over(
                "fractals", __file__, work, f"{1 / seconds:.0f} fractals/s", ratio=f"{plain_seconds / seconds:.1f}"
            )
    return rows


def timed(command, count):
    """Seconds that a command takes for each of so many things; and what processors work, its processes together."""
    before = os.times()
    seconds = measure(command).seconds
    after = os.times()
    work = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds / count, work / count


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the fractals")
    share = 10 if parser.parse_args().quick else 1
    print(machine() + "\n")
    with tempfile.TemporaryDirectory() as scratch:
        header = ["categories", "options", "here", "processors", "plain, one core", "processor", "ratio"]
        print_table(header, drawings(scratch, share))


if __name__ == "__main__":
    main()

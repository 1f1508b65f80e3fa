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

from benchmarks.common import ROOT, machine, measure, print_table

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
    plain_rate = plain / measure([*command, os.path.join(scratch, "plain.tfr")]).seconds
    rows = []
    for number, (count, more, comparable) in enumerate(KINDS):
        prefix = os.path.join(scratch, str(number))
        command = [sys.executable, os.path.join(ROOT, "fractals.py"), "-n", str(count // share), *more, "-o", prefix]
        rate = count // share / measure(command).seconds
        compared = [f"{plain_rate:.1f}/s", f"{rate / plain_rate:.1f}"] if comparable else ["", ""]
        rows.append([f"{count // share:,}", f"`{' '.join(more)}`", f"{rate:.0f}/s", *compared])
        print(rows[-1], file=sys.stderr)
    return rows


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the fractals")
    share = 10 if parser.parse_args().quick else 1
    print(machine() + "\n")
    with tempfile.TemporaryDirectory() as scratch:
        print_table(["categories", "options", "categories here", "plain, one core", "ratio"], drawings(scratch, share))


if __name__ == "__main__":
    main()

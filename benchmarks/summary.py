#!/usr/bin/env python3
"""Print the one table of all benchmarks, at the top of benchmarks/README.md, of the rows that they handed over.

    HERBARIOGRAPH_BENCH_ROWS=rows.tsv .venv/bin/python benchmarks/fractals.py
    .venv/bin/python benchmarks/summary.py rows.tsv

`make bench` calls it at the end.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import COLUMNS, print_table, processor
from lib.cli.types import existing_file


def main(argv=None):
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=existing_file, metavar="FILE", help="the rows that the benchmarks handed over")
    with open(parser.parse_args(argv).rows, encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    print(f"{processor()}\n")
    print_table(COLUMNS, rows)


if __name__ == "__main__":
    main()

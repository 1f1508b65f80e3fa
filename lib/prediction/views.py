"""The options that make a prediction visible: pages, folders, features."""

import os

from lib.cli import legacy as cli
from lib.errors import UsageError
from lib.prediction.sorting import check_apart


def add_report_options(options):
    """Add `--report` and `--report-images`."""
    options.add_argument(
        "--report",
        type=cli.output_ending(".html", ".htm"),
        metavar="FILE",
        help="a page to view in a browser, .html, with thumbnails for finding doubtful images",
    )
    options.add_argument(
        "--report-images",
        type=cli.whole_number(0),
        default=300,
        metavar="COUNT",
        help="maximum number of thumbnails per category in it (300)",
    )


def add_options(options):
    """Add all of them to a parser."""
    group = options.add_argument_group("viewing and searching")
    add_report_options(group)
    add = group.add_argument
    add(
        "--report-from",
        type=cli.existing_file,
        metavar="FILE",
        help="make --report or --sort from this table instead of predicting",
    )
    add("--sort", type=cli.output_directory, metavar="DIR", help="make a folder per category with links to its images")
    kinds = group.add_mutually_exclusive_group()
    kinds.add_argument("--copy", action="store_true", help="with --sort, make copies instead of links")
    kinds.add_argument("--hardlink", action="store_true", help="with --sort, make hard links instead of symbolic links")
    add(
        "--embeddings",
        type=cli.output_ending(".npz"),
        metavar="FILE",
        help="write the pooled features of the images, .npz; with --similar alone, read them",
    )
    add(
        "--similar",
        type=cli.existing_file,
        metavar="IMAGE",
        help="list the --top images (10) of --embeddings that are most similar to this one",
    )


def check(arguments):
    """Check what goes together.

    Returns:
        Whether there is anything to predict.

    Raises:
        UsageError: something is missing, or doesn't go together.
    """
    if arguments.data and arguments.list:
        raise UsageError("--list: it replaces -d/--data; give only one of them.")
    source = ("--list", arguments.list) if arguments.list else ("-d/--data", arguments.data)
    given = [source, ("-o/--output", arguments.output)]
    others = [*given, ("--embeddings", arguments.embeddings), ("--similar", arguments.similar)]
    _check_parts(arguments, others)
    if arguments.report_from:
        _refuse("--report-from", others)
        if not arguments.report and not arguments.sort:
            raise UsageError("--report-from: give --report FILE.html, --sort DIR or both, to make from the table.")
    only_similar = arguments.similar is not None and not source[1] and not arguments.output
    if arguments.similar and not arguments.embeddings:
        raise UsageError("--similar: give --embeddings FILE.npz, the images to compare with.")
    if only_similar:
        _refuse("--similar without -d/--data", [("--report", arguments.report), ("--sort", arguments.sort)])
        if not os.path.isfile(arguments.embeddings):
            raise UsageError(f"--embeddings: {arguments.embeddings} does not exist; give -d and -o to make it.")
    predicting = not arguments.report_from and not arguments.merge and not only_similar
    missing = [option for option, value in given if not value]
    if predicting and missing:
        raise UsageError(f"the following arguments are required: {', '.join(missing)}")
    if (arguments.copy or arguments.hardlink) and not arguments.sort:
        raise UsageError(f"--{'copy' if arguments.copy else 'hardlink'}: it needs --sort DIR.")
    if arguments.sort:
        check_apart([], arguments.sort, arguments.data)  # now rather than after hours
    if arguments.report and arguments.report in (arguments.output, arguments.report_from, *(arguments.merge or ())):
        raise UsageError(f"--report: {arguments.report} is the table itself; choose another FILE.")
    return predicting


def summary(done, errors, table):
    """How many images are in a table, as a sentence."""
    listed = f"{errors:,} errors, listed in {table}.errors.tsv" if errors else "no errors"
    return f"{done:,} images categorised, {listed}."


def _check_parts(arguments, others):
    """Check what goes together with `--shard` and `--merge`."""
    if arguments.merge:
        _refuse("--merge", [*others, ("--report-from", arguments.report_from), ("--shard", arguments.shard)])
        if len(arguments.merge) < 2:
            raise UsageError("--merge: give the table to write and then the parts' tables.")
    if arguments.shard:
        for option, value in (("--report", arguments.report), ("--sort", arguments.sort)):
            if value:
                raise UsageError(
                    f"{option}: can't be made for a part; use it with --merge, which makes the whole table."
                )
        if not arguments.data and not arguments.list:
            raise UsageError("--shard: it needs -d/--data or --list.")


def _refuse(reason, others):
    for option, value in others:
        if value:
            raise UsageError(f"{option}: can't be combined with {reason}, which predicts nothing.")

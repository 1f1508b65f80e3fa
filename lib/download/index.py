"""`index.tsv` and `errors.tsv`: what each downloaded file is, and what could not be downloaded."""

import collections
import os
import re

from lib.download.licences import read_licence, short_name
from lib.download.plan import host_of, name_of
from lib.errors import UsageError, option
from lib.storage.ascending import match
from lib.storage.files import whole_file
from lib.storage.names import escape_name
from lib.storage.untrusted import is_whole_number

COLUMNS = ("FILE", "URL", "GBIFID", "CATALOGNUMBER", "LICENCE", "RIGHTSHOLDER", "SHA256", "BYTES")
_PLACE = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{32}\.\w{2,5}$")  # of an image, below the directory
_ERRORS = ("URL", "GBIFID", "CATALOGNUMBER", "ERROR")


def check_directory(output):
    """Raise UsageError if the tables to be written are another program's."""
    for name, columns in (("index.tsv", COLUMNS), ("errors.tsv", _ERRORS)):
        path = os.path.join(output, name)
        if os.path.exists(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                if file.readline() != "\t".join(columns) + "\n":
                    cure = f"move it, or choose another {option('output')}"
                    raise UsageError(f"{path} was not written by this command; {cure}.", "output")


def known_images(path):
    """Yield the name of each image that an index lists, without its ending, and what a journal keeps about it.

    Raises:
        UsageError: a line is not one of an index.
    """
    last = None
    with open(path, encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                continue
            row = dict(zip(COLUMNS, line.rstrip("\n").split("\t")))
            place = _PLACE.search(row.get("FILE", ""))
            if len(row) != len(COLUMNS) or not place or not is_whole_number(row["BYTES"]):
                cure = f"remove it, or pass {option('overwrite')}"
                raise UsageError(f"{path} line {number} is not one that this command wrote; {cure}.", "output")
            name = name_of(row["URL"])
            if name != last:
                yield name, {"file": place.group(), "sha256": row["SHA256"], "bytes": int(row["BYTES"])}
            last = name


def write_index(path, output, plan, results):
    """Write the index: a row for each pair of an occurrence and an image that was downloaded, sorted by file.

    Args:
        path: the table.
        output: the directory of images, as it stands in the names of files.
        plan: the `Plan`.
        results: the journal of what was downloaded.

    Returns:
        How many images there are under each licence, a `collections.Counter`; and how many could not be downloaded.
    """
    licences, failed, last = collections.Counter(), 0, None
    with whole_file(path) as file:
        file.write("\t".join(COLUMNS) + "\n")
        for name, medium, about in _with_results(plan, results):
            downloaded = about and "file" in about
            if name != last:
                last = name
                failed += not downloaded
                if downloaded:
                    licences[_licence_name(medium.licence)] += 1
            if downloaded:
                place = escape_name(os.path.join(output, about["file"]))
                row = (place, *medium, about["sha256"], str(about["bytes"]))
                file.write("\t".join(row) + "\n")
    return licences, failed


def write_errors(path, plan, results, reasons):
    """Write the table of what could not be downloaded, sorted as the index is.

    Args:
        path, plan, results: as of `write_index`.
        reasons: host -> why it was given up, of those that were.
    """
    with whole_file(path) as file:
        file.write("\t".join(_ERRORS) + "\n")
        for _, medium, about in _with_results(plan, results):
            if not about or "file" not in about:
                error = about["error"] if about else f"not asked for: its host {reasons[host_of(medium.url)]}"
                file.write("\t".join((medium.url, medium.record, medium.catalogue, escape_name(error))) + "\n")


def _with_results(plan, results):
    """Yield the name of each image in the plan, its medium, and what is known of it; None for nothing."""
    known = ((name.decode(), about) for name, about in results.facts())
    return ((name, medium, about) for (name, medium), about in match(plan.media(), known))


def _licence_name(text):
    name, shown = read_licence(text)
    if name is None:
        return "another" if text else "none given"
    return shown if len(shown) <= 24 else short_name(name)

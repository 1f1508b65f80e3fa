"""Parts of a work that several machines share: which part is whose, and the tables of the parts put together."""

import contextlib
import hashlib
import heapq
import itertools
import json
import operator
import os
import re
from typing import NamedTuple

from lib.cli import legacy as cli
from lib.errors import UsageError, WorkError
from lib.storage.files import whole_file
from lib.storage.names import path_order, unescape_name
from lib.storage.tables import check_errors_table, read_errors_table, read_lines, settings_of, write_errors_table

MOST = 100_000  # parts; more than any scheduler takes in one array

_BLOCK = 1 << 20  # bytes of a list that are read at once

# The settings that a part's table has besides those of a whole one.
SHARD, LISTED = "--shard", "the list"


class Shard(NamedTuple):
    """One of several parts, counted from 1."""

    number: int = 1
    count: int = 1

    def __str__(self):
        return f"{self.number}/{self.count}"

    def range(self, total):
        """Which of `total` things in a row are this part's, counted from 0; parts differ by one thing at most."""
        return range(total * (self.number - 1) // self.count, total * self.number // self.count)


WHOLE = Shard()


class Listing(NamedTuple):
    """The images that a call has to do with.

    Attributes:
        paths: those of its part, sorted byte by byte.
        errors: what its part has besides and can't be used: path -> reason.
        first: how many images are in the parts before.
        about: the number and the checksum of what is in all parts, for JSON.
    """

    paths: list
    errors: dict
    first: int
    about: dict


def parse_shard(text):
    """`K/N` as a `Shard`; ValueError if it is something else."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    shard = Shard(*map(int, found.groups())) if found else None
    if shard is None or not 1 <= shard.number <= shard.count <= MOST:
        raise ValueError(f"{text!r} is not a part K/N, such as 1/8, with K from 1 to N and N up to {MOST}")
    return shard


def add_shard_option(options, what):
    """Add `--shard`."""
    options.add_argument("--shard", type=cli.parsed(parse_shard), metavar="K/N", help=what)


def add_options(options):
    """Add `--list`, `--shard` and `--merge` to a prediction's parser."""
    group = options.add_argument_group("several machines")
    group.add_argument(
        "--list",
        type=cli.existing_file,
        metavar="FILE",
        help="read the image paths from this file instead of searching -d: one per line or separated by NULs",
    )
    add_shard_option(group, "process the K-th of N parts of the sorted images; the table is for --merge")
    group.add_argument(
        "--merge",
        nargs="+",
        metavar="FILE",
        help="merge tables instead of predicting: the one to write, then those of all parts",
    )


def of_folder(paths, problems, shard=None):
    """The part of a folder's images.

    Args:
        paths: all of them, sorted byte by byte.
        problems: what else lies there and can't be used: path -> reason.
        shard: a `Shard`; None for all.

    Returns:
        `Listing`.
    """
    shard = shard or WHOLE
    images = set(paths) if problems else ()
    entries = sorted({*images, *problems}, key=os.fsencode) if problems else paths
    digest = hashlib.sha256()
    for path in entries:
        digest.update(os.fsencode(path) + b"\0")
    places = shard.range(len(entries))
    part = entries[places.start : places.stop]
    return Listing(
        [path for path in part if path in images] if problems else part,
        {path: problems[path] for path in part if path in problems},
        sum(path in images for path in entries[: places.start]) if problems else places.start,
        _about(len(entries), digest),
    )


def of_file(path, wanted, shard=None):
    """The part of the images that a file lists, in whatever order.

    A sorted list is not held in memory, only the part.

    Args:
        path: the file: paths in bytes as the file system has them, one a line, or with NULs between them.
        wanted: whether a path, as text, is one of an image; others are skipped.
        shard: a `Shard`; None for all.

    Returns:
        `Listing`.

    Raises:
        UsageError: it can't be read, lists no image, or one twice.
    """
    shard = shard or WHOLE
    try:
        _check_mark(path)
        total, ordered, last, digest = 0, True, b"", hashlib.sha256()
        for names in _listed(path, wanted):
            ordered = ordered and last < names[0] and all(map(operator.lt, names, itertools.islice(names, 1, None)))
            total, last = total + len(names), names[-1]
            digest.update(b"\0".join(names) + b"\0")
        places = shard.range(total)
        if ordered:
            everything = itertools.chain.from_iterable(_listed(path, wanted))
            part = list(itertools.islice(everything, places.start, places.stop))
        else:
            names = sorted(itertools.chain.from_iterable(_listed(path, wanted)))
            for one, other in zip(names, names[1:]):
                if one == other:
                    raise UsageError(f"--list: {path} repeats {os.fsdecode(one)}.")
            digest = hashlib.sha256(b"".join(name + b"\0" for name in names))
            part = names[places.start : places.stop]
    except OSError as error:
        raise UsageError(f"--list: {path} can't be read ({error.strerror}).") from error
    if not total:
        raise UsageError(f"--list: {path} lists no images (JPEG, PNG, BMP, GIF, TIFF, WebP, …){_cause(path)}.")
    return Listing([os.fsdecode(name) for name in part], {}, places.start, _about(total, digest))


def _listed(path, wanted):
    """The paths of images that a file lists, as bytes, in lists that are not empty."""
    with open(path, "rb") as file:
        separator = b"\0" if b"\0" in file.read(1 << 16) else b"\n"  # longer than any path
        file.seek(0)
        rest = b""
        for block in iter(lambda: file.read(_BLOCK), b""):
            *names, rest = (rest + block).split(separator)
            found = [name for name in names if name and wanted(os.fsdecode(name))]
            if found:
                yield found
        if rest and wanted(os.fsdecode(rest)):
            yield [rest]


def _check_mark(path):
    """Raise UsageError if a list begins with a byte order mark, and not with a file that is called so."""
    with open(path, "rb") as file:
        start = file.read(_BLOCK)  # never all: with NULs between its names a list is one line
    first = start.split(b"\0" if b"\0" in start else b"\n")[0]
    if first.startswith(b"\xef\xbb\xbf") and not os.path.lexists(first):
        raise UsageError(
            f"--list: {path} begins with a byte order mark, which would belong to the first name; write it without."
        )


def _cause(path):
    """What a list that was written on another system has besides paths, as a clause; often none."""
    with open(path, "rb") as file:
        start = file.read(_BLOCK)
    return "; its lines end in CR and LF, of which the CR would belong to the names" if b"\r\n" in start else ""


def _about(count, digest):
    return {"entries": count, "SHA-256": digest.hexdigest()}


class _Part(NamedTuple):
    """A part's table: its path, its place, and what it was made with."""

    path: str
    shard: Shard
    listed: dict
    settings: dict
    versions: dict


def merge_tables(output, paths, overwrite=False):
    """Write the one table of those of all parts, its errors and its settings, as a call for all would have.

    Args:
        output: the table to write; its ending is that of the parts'.
        paths: the parts' tables, in whatever order.
        overwrite: write though there be a table of other settings.

    Returns:
        How many images are in it, and how many errors.

    Raises:
        UsageError: a part is missing, repeated, not finished, or has other settings than the others; or a row is.
        WorkError: it can't be written.
    """
    parts = _checked(sorted(map(_part, paths), key=lambda part: part.shard.number))
    settings, versions = parts[0].settings, parts[0].versions
    endings = {os.path.splitext(path)[1].lower() for path in (output, *paths)}
    if len(endings) > 1:
        raise UsageError(f"--merge: {output} and the parts have different endings ({', '.join(sorted(endings))}).")
    if any(os.path.exists(output) and os.path.samefile(output, path) for path in paths):
        raise UsageError(f"--merge: {output} is one of the parts; name the table to write first.")
    if os.path.exists(output) and not overwrite and settings_of(output)[0] != settings:
        raise UsageError(f"--merge: {output} was made with other settings; choose another file or pass --overwrite.")
    check_errors_table(f"{output}.errors.tsv", "--merge")
    try:
        rows, errors = 0, {}
        with whole_file(output, "wb") as file:
            digest, header = hashlib.sha256(), None
            for part in parts:
                failed, done = read_errors_table(f"{part.path}.errors.tsv"), 0
                lines = read_lines(part.path)
                first = next(lines)
                if header is None:
                    header = first
                    file.write(header)
                elif header != first:
                    raise UsageError(f"--merge: {part.path} has other columns than {parts[0].path}.")
                wrong = sorted((path_order(name), b"") for name in failed)
                for name, line in heapq.merge(((path_order(name), line) for name, line in lines), wrong):
                    digest.update(name + b"\0")
                    file.write(line)
                    done += 1
                due = len(part.shard.range(part.listed["entries"]))
                if done != due:
                    raise UsageError(f"--merge: {part.path} and its errors have {done:,} of its {due:,} images.")
                rows += done - len(failed)
                errors.update((unescape_name(name), reason) for name, reason in failed.items())
            if digest.hexdigest() != parts[0].listed["SHA-256"]:
                raise UsageError(
                    "--merge: the images in the parts are not those of the list they were made from; the tables were "
                    "changed since."
                )
        with whole_file(f"{output}.settings.json") as file:
            json.dump({"settings": settings, "versions": versions}, file, indent=2, ensure_ascii=False)
            file.write("\n")
    except OSError as error:
        raise WorkError(f"{output} can't be written ({error.strerror or error}).") from error
    write_errors_table(f"{output}.errors.tsv", errors)
    return rows, len(errors)


def _part(path):
    """What is known of a part's table. UsageError if it is not there, not finished, or no part's."""
    if os.path.exists(f"{path}.partial"):
        raise UsageError(f"--merge: {path} is incomplete; rerun the command that created it.")
    if not os.path.isfile(path):
        raise UsageError(f"--merge: {path} does not exist.")
    settings, versions = settings_of(path)
    shard, listed = None, settings.pop(LISTED, None)
    with contextlib.suppress(ValueError):
        shard = parse_shard(str(settings.pop(SHARD, "")))
    if shard is None or not isinstance(listed, dict) or not isinstance(listed.get("entries"), int):
        raise UsageError(f"--merge: {path} is not a part made with --shard, or lacks its .settings.json.")
    return _Part(path, shard, listed, settings, versions)


def _checked(parts):
    """The parts, if each is there once and all were made alike; else UsageError."""
    first = parts[0]
    for part in parts[1:]:
        if part.shard.count != first.shard.count:
            raise UsageError(f"--merge: {first.path} is part {first.shard}, but {part.path} is part {part.shard}.")
        if part.listed != first.listed:
            raise UsageError(f"--merge: {part.path} was made from a different list of images than {first.path}.")
        for ours, theirs in ((part.settings, first.settings), (part.versions, first.versions)):
            for key in sorted({*ours, *theirs}):
                if ours.get(key) != theirs.get(key):
                    told = [json.dumps(value.get(key), ensure_ascii=False)[:60] for value in (theirs, ours)]
                    raise UsageError(
                        f"--merge: {first.path} was made with {key} {told[0]}, {part.path} with {told[1]}."
                    )
    for one, other in zip(parts, parts[1:]):
        if one.shard == other.shard:
            raise UsageError(f"--merge: {one.path} and {other.path} are both part {one.shard}.")
    missing = sorted(set(range(1, first.shard.count + 1)) - {part.shard.number for part in parts})
    if missing:
        shown = ", ".join(map(str, missing[:10])) + (", …" if len(missing) > 10 else "")
        raise UsageError(f"--merge: of {first.shard.count} parts, {len(missing)} are missing: {shown}.")
    return parts

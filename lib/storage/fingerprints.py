"""What files were like when they were read, so that a later call notices those that changed.

A table `PATH` has its files' fingerprints beside it in `PATH.files.tsv`: `FILE BYTES MODIFIED CRC32C`, in the order of
the table, MODIFIED in nanoseconds.
"""

import contextlib
import os
from typing import NamedTuple

import google_crc32c

from lib.errors import UsageError, option
from lib.storage.files import whole_file
from lib.storage.names import escape_name, path_order

_HEADER = b"FILE\tBYTES\tMODIFIED\tCRC32C\n"
_BLOCK = 1 << 20
_UNSTABLE = -1  # instead of the checksum of a file that changed while it was read


class Fingerprint(NamedTuple):
    """A file's size in bytes, its time of modification in nanoseconds, and the CRC-32C of its content."""

    bytes: int
    modified: int
    crc32c: int


def fingerprint(path, before=None):
    """The `Fingerprint` of a file.

    Args:
        path: the file.
        before: its `os.stat` from before it was read for another purpose; None for now. If it has changed since, the
            fingerprint is like no other.

    Raises:
        OSError: it can't be read.
    """
    before, crc = before or os.stat(path), 0
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            crc = google_crc32c.extend(crc, block)
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        crc = _UNSTABLE
    return Fingerprint(before.st_size, before.st_mtime_ns, crc)


def difference(path, recorded):
    """Compare a file with a fingerprint, by its size and time alone.

    Args:
        path: the file.
        recorded: three numbers, as of `Fingerprint`; None if nothing is known.

    Returns:
        None if it is unchanged, unknown or gone; else the checksum by which its content can be compared, one that no
        content has if its size differs.
    """
    if recorded is None:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    size, modified, crc = recorded
    if status.st_size != size:
        return _UNSTABLE
    return None if status.st_mtime_ns == modified else crc


def has_changed(path, recorded):
    """Whether a file's content differs from that of a fingerprint; False if nothing is known or the file is gone."""
    crc = difference(path, recorded)
    if crc is None or crc == _UNSTABLE:
        return crc is not None
    with contextlib.suppress(OSError):
        return fingerprint(path).crc32c != crc
    return False


def fingerprints_path(table):
    """Where a table's fingerprints are."""
    return f"{table}.files.tsv"


def check_fingerprints(table):
    """Raise UsageError if a file that has no fingerprints has the name of a table's."""
    path = fingerprints_path(table)
    if os.path.isfile(path):
        with open(path, "rb") as file:
            if file.readline() != _HEADER:
                raise UsageError(f"{path} is no list of fingerprints; move it, or choose another {option('output')}.")


def write_fingerprints(table, facts):
    """Write the fingerprints of a table's files, which appear whole or not at all.

    Args:
        table: its path.
        facts: pairs of a path as bytes and a fingerprint, None for unknown, ascending; None instead of them removes
            former ones.
    """
    path = fingerprints_path(table)
    if facts is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    with whole_file(path, "wb") as file:
        file.write(_HEADER)
        for name, known in facts:
            if known is not None:
                size, modified, crc = known
                file.write(f"{escape_name(os.fsdecode(name))}\t{size}\t{modified}\t{crc}\n".encode())


def read_fingerprints(table):
    """Yield what `write_fingerprints` wrote, pairs of a path and the numbers of a `Fingerprint`; nothing if there are
    none.

    Raises:
        UsageError: it is damaged.
    """
    path = fingerprints_path(table)
    if not os.path.isfile(path):
        return
    try:
        with open(path, "rb") as file:
            if file.readline() != _HEADER:
                raise ValueError
            for line in file:
                name, *numbers = line.split(b"\t")
                if b"\\" in name:
                    name = path_order(name.decode())
                size, modified, crc = map(int, numbers)
                yield name, (size, modified, crc)  # a tuple is made in half the time of a `Fingerprint`
    except (OSError, ValueError, TypeError):
        raise UsageError(f"{path} is damaged; remove it, or start over with {option('overwrite')}.") from None


def changed_files(table, names):
    """The escaped names, among some of a table's, of the files that changed since they were categorised."""
    wanted = {path_order(name): name for name in names}
    return {wanted[path] for path, known in read_fingerprints(table) if path in wanted and has_changed(path, known)}

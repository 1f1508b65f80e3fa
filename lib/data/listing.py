"""Which images a call has to do with: those below a folder, or those that a file lists, or a part of them.

Paths are bytes here, as the file system has them, and ascend byte by byte.
"""

import bisect
import collections
import collections.abc
import hashlib
import heapq
import itertools
import operator
import os
from typing import NamedTuple, Sequence

from lib.errors import UsageError, concerning
from lib.system.shard import WHOLE

# Names that end like this, in any case, are taken for images.
ENDINGS = frozenset(
    b".jpg .jpeg .jpe .jfif .mpo .png .bmp .dib .gif .tif .tiff .webp .jp2 .j2k .jpf .jpx .j2c .jpc".split()
)

_KINDS = "JPEG, PNG, BMP, GIF, TIFF, WebP, …"
_MOST_VISITS = 1000  # to one directory, by links
_BLOCK = 1 << 20  # bytes of a list that are read at once
_IN_A_BLOCK = 1000  # paths


class Paths(collections.abc.Sequence):
    """Paths in hardly more memory than their bytes: a list of a million takes twice as much."""

    def __init__(self, paths=()):
        self._blocks, self._length, self._opened = [], 0, (None, ())
        rest = iter(paths)
        for block in iter(lambda: list(itertools.islice(rest, _IN_A_BLOCK)), []):
            self._blocks.append(b"\0".join(block))
            self._length += len(block)

    def __len__(self):
        return self._length

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Paths(itertools.islice(self, index.start, index.stop))
        number, place = divmod(range(self._length)[index], _IN_A_BLOCK)
        if self._opened[0] != number:
            self._opened = number, self._blocks[number].split(b"\0")
        return self._opened[1][place]

    def __iter__(self):
        for block in self._blocks:
            yield from block.split(b"\0")


class Listing(NamedTuple):
    """The images that a call has to do with.

    Attributes:
        paths: those of its part.
        errors: what its part has besides and can't be used: path -> reason.
        first: how many images are in the parts before.
        about: the number and the checksum of what is in all parts, for JSON.
    """

    paths: Sequence[bytes]
    errors: dict
    first: int
    about: dict


def is_image_name(name):
    """Whether a file's name, or path, text or bytes, ends like an image's, in any case."""
    if isinstance(name, str):
        name = os.fsencode(name)
    # What os.path.splitext says, but in half the time, which counts with a list of millions.
    stem, dot, ending = name.rpartition(b".")
    if dot + ending.lower() not in ENDINGS:
        return False
    return stem[-1:] not in (b"", b"/", b".") or os.path.splitext(name)[1] != b""


def find_images(directory, list_file=None, shard=None):
    """The `Listing` of the images below a directory, or of a list. UsageError if there are none at all."""
    if list_file is not None:
        return of_file(list_file, shard)
    problems = {}
    paths = Paths(walk(directory, problems))
    if not paths and problems:
        path, reason = next(iter(problems.items()))
        raise UsageError(f"{os.fsdecode(path)} {reason}.", "data")
    if not paths:
        raise UsageError(f"no images found in {directory} ({_KINDS}).", "data")
    return of_folder(paths, problems, shard)


def list_images(directory):
    """What `walk` yields, as a list, and its problems; all paths as text."""
    problems = {}
    paths = list(map(os.fsdecode, walk(directory, problems)))
    return paths, {os.fsdecode(path): reason for path, reason in problems.items()}


def walk(directory, problems):
    """Find the images below a directory, by the endings of their names, symbolic links followed.

    A directory whose name ends like an image's is both listed (it will fail to be read) and descended into; one that is
    linked from very many places only so often.

    Args:
        directory: where to look.
        problems: a dictionary that gets what can't be listed: path -> reason.

    Yields:
        The paths: `directory` as given joined with the path below it.
    """
    directory, status, visits = os.fsencode(directory), os.stat(directory), collections.Counter()
    root = ((status.st_dev, status.st_ino),)
    waiting = [(os.path.join(directory, b""), root, *_entries(directory, root, visits, problems))]
    while waiting:
        folder, ancestors, names, directories = waiting[-1]
        for name in names:
            if name in directories:
                path, below = folder + name, (*ancestors, directories[name])
                waiting.append((path, below, *_entries(path[:-1], below, visits, problems)))
                break
            yield folder + name
        else:
            waiting.pop()


def _entries(folder, ancestors, visits, problems):
    """The images and directories in a folder, an iterator of their names in the order of the paths, those of
    directories with a slash behind; and of those the devices and inodes: name -> pair."""
    names, directories = [], {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                image = is_image_name(entry.name)
                if image:
                    names.append(entry.name)
                try:
                    if entry.is_dir():
                        status = entry.stat()
                        directories[entry.name + b"/"] = status.st_dev, status.st_ino
                except OSError as error:  # such as a link to itself
                    if not image:
                        problems[entry.path] = f"can't be looked at: {error.strerror}"
    except OSError as error:
        problems[folder] = f"the directory can't be listed: {error.strerror}"
    for name, identity in sorted(directories.items()):
        if identity in ancestors:  # a link in a circle
            del directories[name]
            continue
        # Of folders that are linked with each other there are more paths than can ever be followed.
        visits[identity] += 1
        if visits[identity] > _MOST_VISITS:
            del directories[name]
        if visits[identity] == _MOST_VISITS + 1:
            problems[os.path.join(folder, name[:-1])] = (
                f"the directory is linked from more than {_MOST_VISITS:,} places, of which the others are left out"
            )
    return iter(sorted([*names, *directories])), directories


def of_folder(paths, problems, shard=None):
    """The part of a folder's images.

    Args:
        paths: all of them, ascending; bytes, or text if there are no problems.
        problems: what else is in the folder and can't be used: path -> reason; some may be among the paths.
        shard: a `Shard`; None for all.
    """
    shard = shard or WHOLE
    others = sorted(path for path in problems if not _is_in(path, paths))
    digest = hashlib.sha256()
    for path in heapq.merge(paths, others):
        digest.update(os.fsencode(path) + b"\0")
    total = len(paths) + len(others)
    range_ = shard.range(total)
    # Where the others are among all, so how many of them come before the part, and are in it.
    places = [bisect.bisect_left(paths, path) + number for number, path in enumerate(others)]
    first, last = (end - sum(place < end for place in places) for end in (range_.start, range_.stop))
    part = paths if len(range_) == total and not others else paths[first:last]
    mine = {path for path, place in zip(others, places) if place in range_}
    errors = {path: reason for path, reason in problems.items() if path in mine or _is_in(path, part)}
    return Listing(part, errors, first, {"entries": total, "SHA-256": digest.hexdigest()})


def _is_in(path, paths):
    place = bisect.bisect_left(paths, path)
    return place < len(paths) and paths[place] == path


def of_file(path, shard=None):
    """The part of the images that a file lists, in whatever order.

    A sorted list is not held in memory, only the part.

    Args:
        path: the file: paths in bytes as the file system has them, one a line, or with NULs between them; those that
            don't end like an image's are skipped.
        shard: a `Shard`; None for all.

    Raises:
        UsageError: it can't be read, lists no image, or one twice.
    """
    with concerning("list_file"):
        try:
            _check_mark(path)
            total, ordered, last, digest = 0, True, b"", hashlib.sha256()
            for names in _listed(path):
                ordered = ordered and last < names[0] and all(map(operator.lt, names, itertools.islice(names, 1, None)))
                total, last = total + len(names), names[-1]
                digest.update(b"\0".join(names) + b"\0")
            places = (shard or WHOLE).range(total)
            names = itertools.chain.from_iterable(_listed(path))
            if not ordered:
                names = sorted(names)
                for one, other in zip(names, names[1:]):
                    if one == other:
                        raise UsageError(f"{path} repeats {os.fsdecode(one)}.")
                digest = hashlib.sha256(b"".join(name + b"\0" for name in names))
            part = Paths(itertools.islice(names, places.start, places.stop))
        except OSError as error:
            raise UsageError(f"{path} can't be read ({error.strerror}).") from error
        if not total:
            raise UsageError(f"{path} lists no images ({_KINDS}){_cause(path)}.")
    return Listing(part, {}, places.start, {"entries": total, "SHA-256": digest.hexdigest()})


def _listed(path):
    """The paths of images that a file lists, in lists that are not empty."""
    with open(path, "rb") as file:
        separator = b"\0" if b"\0" in file.read(1 << 16) else b"\n"  # longer than any path
        file.seek(0)
        rest = b""
        for block in iter(lambda: file.read(_BLOCK), b""):
            *names, rest = (rest + block).split(separator)
            found = list(filter(is_image_name, names))
            if found:
                yield found
        if is_image_name(rest):
            yield [rest]


def _check_mark(path):
    """Raise UsageError if a list begins with a byte order mark, and not with a file that is called so."""
    with open(path, "rb") as file:
        start = file.read(_BLOCK)  # never all: with NULs between its names a list is one line
    first = start.split(b"\0" if b"\0" in start else b"\n")[0]
    if first.startswith(b"\xef\xbb\xbf") and not os.path.lexists(first):
        raise UsageError(
            f"{path} begins with a byte order mark, which would belong to the first name; write it without."
        )


def _cause(path):
    """What a list that was written on another system has besides paths, as a clause; often none."""
    with open(path, "rb") as file:
        start = file.read(_BLOCK)
    return "; its lines end in CR and LF, of which the CR would belong to the names" if b"\r\n" in start else ""

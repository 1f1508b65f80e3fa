"""Listing the images to work on: those below a folder or in a list, or a part of them.

Paths are bytes here, as the file system has them, and ascend byte by byte.
"""

import codecs
import collections
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


class Paths:
    """Paths that can be iterated over, in hardly more memory than their bytes; a list takes twice as much."""

    def __init__(self, paths=()):
        self._blocks, self._length = [], 0
        rest = iter(paths)
        for block in iter(lambda: list(itertools.islice(rest, _IN_A_BLOCK)), []):
            self._blocks.append(b"\0".join(block))
            self._length += len(block)

    def __len__(self):
        return self._length

    def __getitem__(self, part):
        """The paths of a slice without a step."""
        return Paths(itertools.islice(self, part.start, part.stop))

    def __iter__(self):
        for block in self._blocks:
            yield from block.split(b"\0")


class Listing(NamedTuple):
    """The images to work on.

    Attributes:
        paths: those of this part.
        errors: what can't be used in this part: path -> reason.
        first: the number of images in the parts before.
        about: the number and the checksum of the paths of all parts, for JSON.
    """

    paths: Sequence[bytes]
    errors: dict
    first: int
    about: dict


def is_image_name(name):
    """Whether a file's name, or path, text or bytes, ends like an image's, in any case."""
    # As os.path.splitext, but in half the time, which counts with a list of millions.
    stem, dot, ending = os.fsencode(name).rpartition(b".")
    if dot + ending.lower() not in ENDINGS:
        return False
    return stem[-1:] not in (b"", b"/", b".") or len(os.path.splitext(name)[1]) > 0


def find_images(directory, list_file=None, shard=None):
    """The `Listing` of the images below a directory, or in a list. UsageError if there are none."""
    if list_file is not None:
        return of_file(list_file, shard)
    problems = {}
    paths = Paths(walk(directory, problems))
    if not paths:
        for path, reason in problems.items():
            raise UsageError(f"{os.fsdecode(path)} {reason}.", "data")
        raise UsageError(f"no images found in {directory} ({_KINDS}).", "data")
    return of_folder(paths, problems, shard)


def list_images(directory):
    """The images that `walk` finds, as a list, and the problems, path -> reason; all paths as text."""
    problems = {}
    paths = list(map(os.fsdecode, walk(directory, problems)))
    return paths, {os.fsdecode(path): reason for path, reason in problems.items()}


def walk(directory, problems):
    """Find the images below a directory, by the endings of their names, also through symbolic links.

    A directory whose name ends like an image's is both listed (it will fail to be read) and searched. No directory is
    searched again below itself, nor by way of more than 1,000 paths.

    Args:
        directory: the directory.
        problems: a dictionary to which what can't be listed is added: path -> reason.

    Yields:
        The paths: `directory` as given joined with the path below it.
    """
    directory, status, visits = os.fsencode(directory), os.stat(directory), collections.Counter()
    # A list rather than recursion: folders may be nested deeper than Python's stack is.
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
    """The images and directories in a folder: an iterator of their names in the order of the paths, those of
    directories with a slash at the end; and the directories' devices and inodes, name -> pair.
    """
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
        paths: of all images, ascending; bytes, or text if there are no problems.
        problems: what can't be used: path -> reason, for images or other paths.
        shard: a `Shard`; None for all.
    """
    others, mine, digest = problems.keys() - paths, set(), hashlib.sha256()
    total = len(paths) + len(others)
    places = (shard or WHOLE).range(total)
    first, last = places.start, places.stop  # among the paths alone, without the others before
    for place, path in enumerate(heapq.merge(paths, sorted(others))):
        digest.update(os.fsencode(path) + b"\0")
        if path in others:
            first -= place < places.start
            last -= place < places.stop
            if place in places:
                mine.add(path)
    part = paths if last - first == len(paths) else paths[first:last]
    errors = {path: problems[path] for path in sorted(mine | (problems.keys() & part))}
    return Listing(part, errors, first, {"entries": total, "SHA-256": digest.hexdigest()})


def of_file(path, shard=None):
    """The part of the images in a list, in any order. Of a sorted list, only the part is held in memory.

    Args:
        path: the file: paths in bytes as the file system has them, one a line, or separated by NULs; those that don't
            end like an image's are skipped.
        shard: a `Shard`; None for all.

    Raises:
        UsageError: it can't be read, lists no image, or one twice.
    """
    with concerning("list_file"):
        try:
            with open(path, "rb") as file:
                start = file.read(_BLOCK)  # longer than any path
            separator = b"\0" if b"\0" in start else b"\n"
            mark = start.split(separator, 1)[0]
            if mark.startswith(codecs.BOM_UTF8) and not os.path.lexists(mark):
                reason = "which would belong to the first name; write it without"
                raise UsageError(f"{path} begins with a byte order mark, {reason}.")
            total, ordered, last, digest = 0, True, b"", hashlib.sha256()
            for names in _blocks(path, separator):
                ordered = ordered and last < names[0] and all(map(operator.lt, names, names[1:]))
                total, last = total + len(names), names[-1]
                digest.update(b"\0".join(names) + b"\0")
            if not total:
                cause = "; its lines end in CR and LF, of which the CR would belong to the names"
                cause = cause if b"\r\n" in start else ""
                raise UsageError(f"{path} lists no images ({_KINDS}){cause}.")
            places = (shard or WHOLE).range(total)
            names = itertools.chain.from_iterable(_blocks(path, separator))
            if not ordered:
                names = sorted(names)
                for one, other in zip(names, names[1:]):
                    if one == other:
                        raise UsageError(f"{path} repeats {os.fsdecode(one)}.")
                digest = hashlib.sha256(b"".join(name + b"\0" for name in names))
            part = Paths(itertools.islice(names, places.start, places.stop))
        except OSError as error:
            raise UsageError(f"{path} can't be read ({error.strerror}).") from error
    return Listing(part, {}, places.start, {"entries": total, "SHA-256": digest.hexdigest()})


def _blocks(path, separator):
    """Yield the images' paths in a list, in lists that are not empty."""
    with open(path, "rb") as file:
        rest = b""
        for block in iter(lambda: file.read(_BLOCK), b""):
            *names, rest = (rest + block).split(separator)
            found = list(filter(is_image_name, names))
            if found:
                yield found
        if is_image_name(rest):
            yield [rest]

"""Listing the images to work on: those below a folder or in a list, or a part of them.

Paths are bytes here, as the file system has them, and ascend byte by byte.
"""

import collections
import hashlib
import heapq
import itertools
import operator
import os
from typing import NamedTuple, Sequence

from lib.data.left_out import LeftOut
from lib.data.list_files import read_names, style_of
from lib.errors import UsageError, concerning
from lib.system.shard import WHOLE

# Names that end like this, in any case, are taken for images: phones', cameras' raw files', and others.
_OF_PHONES = frozenset(b".heic .heif .hif .avif".split())
_OF_CAMERAS = frozenset(
    b".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .rw2 .rwl .sr2"
    b" .srf .srw .x3f".split()
)
ENDINGS = _OF_PHONES | _OF_CAMERAS
ENDINGS |= set(b".jpg .jpeg .jpe .jfif .mpo .png .bmp .dib .gif .tif .tiff .webp .jp2 .j2k .jpf .jpx .j2c .jpc".split())

_KINDS = "JPEG, PNG, BMP, GIF, TIFF, WebP, HEIC, …"
_LEAST_BYTES = 100  # of a phone's picture; fewer hold its kind at most, as in placeholders for what is in a cloud
_MOST_VISITS = 1000  # to one directory, by links
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


def find_images(directory, list_file=None, shard=None, exclude=None):
    """The `Listing` of the images below a directory, or in a list. UsageError if there are none.

    What is left out is said in a line; `exclude` is that of `LeftOut`.
    """
    if list_file is not None:
        return of_file(list_file, shard)
    problems, left_out = {}, LeftOut(exclude)
    paths = Paths(walk(directory, problems, left_out))
    if not paths:
        for path, reason in problems.items():
            raise UsageError(f"{os.fsdecode(path)} {reason}.", "data")
        others = f"; left out: {left_out}" if str(left_out) else ""
        raise UsageError(f"no images found in {directory} ({_KINDS}{others}).", "data")
    left_out.tell()
    return of_folder(paths, problems, shard)


def list_images(directory, left_out=None):
    """The images that `walk` finds, as a list, and the problems, path -> reason; all paths as text."""
    problems = {}
    paths = list(map(os.fsdecode, walk(directory, problems, left_out)))
    return paths, {os.fsdecode(path): reason for path, reason in problems.items()}


def walk(directory, problems, left_out=None):
    """Find the images below a directory, by the endings of their names, also through symbolic links.

    Hidden files and folders, and those of systems, are no images. No directory is searched again below itself, nor by
    way of more than 1,000 paths.

    Args:
        directory: the directory.
        problems: a dictionary to which what can't be listed is added: path -> reason.
        left_out: a `LeftOut`, which decides and counts.

    Yields:
        The paths: `directory` as given joined with the path below it.
    """
    directory, status, visits = os.fsencode(directory), os.stat(directory), collections.Counter()
    left_out = LeftOut() if left_out is None else left_out
    # A list rather than recursion: folders may be nested deeper than Python's stack is.
    root, start = ((status.st_dev, status.st_ino),), len(os.path.join(directory, b""))
    waiting = [(os.path.join(directory, b""), root, *_entries(directory, start, root, visits, problems, left_out))]
    while waiting:
        folder, ancestors, names, directories = waiting[-1]
        for name in names:
            if name in directories:
                path, below = folder + name, (*ancestors, directories[name])
                found = _entries(path[:-1], start, below, visits, problems, left_out)
                waiting.append((path, below, *found))
                break
            yield folder + name
        else:
            waiting.pop()


def _entries(folder, start, ancestors, visits, problems, left_out):
    """The images and directories in a folder: an iterator of their names in the order of the paths, those of
    directories with a slash at the end; and the directories' devices and inodes, name -> pair.

    `start` is where in a path what is below the searched folder begins; the others are those of `walk`.
    """
    names, directories, parent = [], {}, folder[start:] + b"/" if len(folder) > start else b""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if left_out.leave_out(entry.name, parent):
                    continue
                image = is_image_name(entry.name)
                try:
                    if entry.is_dir():
                        status = entry.stat()
                        directories[entry.name + b"/"] = status.st_dev, status.st_ino
                        continue
                except OSError as error:  # such as a link to itself
                    if not image:
                        problems[entry.path] = f"can't be looked at: {error.strerror}"
                        continue
                if image and not _is_placeholder(entry):
                    names.append(entry.name)
                else:
                    left_out.count(entry.name)
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


def _is_placeholder(entry):
    """Whether a phone's picture, an `os.DirEntry`, is too short to hold one."""
    if os.path.splitext(entry.name)[1].lower() not in _OF_PHONES:
        return False
    try:
        return entry.stat().st_size < _LEAST_BYTES
    except OSError:
        return False


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
    """The part of the files in a list, in any order, whatever their endings. Of a sorted list, only the part is held in
    memory.

    Args:
        path: the file: paths in bytes as the file system has them, or in UTF-16, one a line with any line ends, perhaps
            in quotes and with blanks around them; or separated by NULs, and then as they stand.
        shard: a `Shard`; None for all.

    Raises:
        UsageError: it can't be read, lists nothing, or a file twice.
    """
    with concerning("list_file"):
        try:
            style = style_of(path)
            total, ordered, last, digest = 0, True, b"", hashlib.sha256()
            for names in read_names(path, style):
                ordered = ordered and last < names[0] and all(map(operator.lt, names, names[1:]))
                total, last = total + len(names), names[-1]
                digest.update(b"\0".join(names) + b"\0")
            if not total:
                raise UsageError(f"{path} lists no files.")
            places = (shard or WHOLE).range(total)
            names = itertools.chain.from_iterable(read_names(path, style))
            if not ordered:
                names = sorted(names)
                for one, other in zip(names, names[1:]):
                    if one == other:
                        raise UsageError(f"{path} repeats {os.fsdecode(one)}.")
                digest = hashlib.sha256(b"".join(name + b"\0" for name in names))
            part = Paths(itertools.islice(names, places.start, places.stop))
        except OSError as error:
            raise UsageError(f"{path} can't be read ({error.strerror}).") from error
        except UnicodeError as error:
            raise UsageError(f"{path} begins as UTF-16 but is none ({error}); save it as UTF-8.") from error
    return Listing(part, {}, places.start, {"entries": total, "SHA-256": digest.hexdigest()})

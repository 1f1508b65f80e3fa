"""Listing the images to work on: those below a folder or in a list, or a part of them.

Paths are bytes here, as the file system has them, and ascend byte by byte.
"""

import codecs
import collections
import fnmatch
import hashlib
import heapq
import itertools
import logging
import operator
import os
import re
from typing import NamedTuple, Optional, Sequence

from lib.errors import UsageError, concerning
from lib.storage.names import escape_name
from lib.system.shard import WHOLE
from lib.system.words import counted

log = logging.getLogger(__name__)

# Names that end like this, in any case, are taken for images.
ENDINGS = frozenset(
    b".jpg .jpeg .jpe .jfif .mpo .png .bmp .dib .gif .tif .tiff .webp .jp2 .j2k .jpf .jpx .j2c .jpc".split()
)

# What systems put into folders, in lower case; hidden names, which begin with a point, are left out, too.
SYSTEM = frozenset(
    b"@eadir @recycle #recycle #snapshot $recycle.bin __macosx lost+found thumbs.db ehthumbs.db desktop.ini".split()
) | {b"system volume information"}

_KINDS = "JPEG, PNG, BMP, GIF, TIFF, WebP, …"
_MOST_KINDS = 20  # that are told apart in a message
_MOST_VISITS = 1000  # to one directory, by links
_BLOCK = 1 << 20  # bytes of a list that are read at once
_IN_A_BLOCK = 1000  # paths
_AROUND = (b" ", b"\t", b"\r", b"\v", b"\f", b'"', b"'")  # what names in lists may have around them


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


class LeftOut:
    """What a folder has beside its images: decides about names, and counts them by kind.

    Args:
        exclude: globs of further names to leave out. One with a slash is compared with the path below the folder that
            is searched, another with the name of each file and folder; `*` stands for any characters.
    """

    def __init__(self, exclude=None):
        self._patterns = [("/" in glob.rstrip("/"), _pattern_of(glob)) for glob in exclude or ()]
        self._counts = collections.Counter()

    def takes(self, name, parent):
        """Whether a name, in a folder whose path below the searched one is `parent`, is left out by itself."""
        if name[:1] == b".":
            kind = "hidden"
        elif name.lower() in SYSTEM:
            kind = name.decode()
        elif self._patterns and self._excludes(os.fsdecode(name), os.fsdecode(parent)):
            kind = "excluded"
        else:
            return False
        self._counts[kind] += 1
        return True

    def _excludes(self, name, parent):
        return any(pattern.fullmatch(parent + name if whole else name) for whole, pattern in self._patterns)

    def count(self, name):
        """Count a file that is no image by its ending."""
        ending = os.path.splitext(os.fsdecode(name))[1].lower()
        rest = re.sub(r"^\.\w*", "", ending)  # such as the query of a web address
        shown = ending[: len(ending) - len(rest[1:])] + ("…" if rest[1:] else "")
        kind = escape_name(shown) if len(ending) > 1 else "without an ending"
        self._counts[kind if kind in self._counts or len(self._counts) < 1000 else "others"] += 1

    def __str__(self):
        """Such as `120 .heic, 3 without an ending, 14 hidden`; empty for nothing."""
        first = sorted(self._counts.items(), key=lambda each: (-each[1], each[0]))[:_MOST_KINDS]
        others = sum(self._counts.values()) - sum(count for _, count in first)
        shown = [f"{count:,} {kind}" for kind, count in first]
        return ", ".join(shown + ([counted(others, "other")] if others else []))

    def tell(self):
        """Say in one line what was left out, if anything was."""
        if self._counts:
            log.info(f"left out: {self}.")


def _pattern_of(glob):
    return re.compile(fnmatch.translate(glob.rstrip("/")))


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
                if left_out.takes(entry.name, parent):
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
                if image:
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


class _Style(NamedTuple):
    """How a list is written.

    Attributes:
        separator: between the names, as a byte.
        encoding: in which the file has to be decoded; None for names in bytes as the file system has them.
        skipped: the number of bytes of a byte order mark.
        returns: whether each line ends in CR and LF.
    """

    separator: bytes
    encoding: Optional[str]
    skipped: int
    returns: bool


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
            style = _style_of(path)
            total, ordered, last, digest = 0, True, b"", hashlib.sha256()
            for names in _blocks(path, style):
                ordered = ordered and last < names[0] and all(map(operator.lt, names, names[1:]))
                total, last = total + len(names), names[-1]
                digest.update(b"\0".join(names) + b"\0")
            if not total:
                raise UsageError(f"{path} lists no files.")
            places = (shard or WHOLE).range(total)
            names = itertools.chain.from_iterable(_blocks(path, style))
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


def _style_of(path):
    """How a list is written, by its first block."""
    with open(path, "rb") as file:
        start = file.read(_BLOCK)  # longer than any path
    if start.startswith((b"PK\x03\x04", b"\x1f\x8b", b"\xd0\xcf\x11\xe0")):
        raise UsageError(f"{path} is a workbook or compressed; save it as text, with one path per line.")
    encoding, skipped = None, 0
    if start.startswith(codecs.BOM_UTF8) and not os.path.lexists(re.split(b"[\0\r\n]", start, maxsplit=1)[0]):
        skipped = len(codecs.BOM_UTF8)
    elif start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        encoding = "utf-16"
    elif b"\n\0" in start and start[1:2] == b"\0":  # and not names separated by NULs
        encoding = "utf-16-le"
    elif b"\0\n" in start and start[:1] == b"\0":
        encoding = "utf-16-be"
    if encoding:
        start = os.fsencode(codecs.getincrementaldecoder(encoding)().decode(start))
    if b"\0" in start:
        return _Style(b"\0", encoding, skipped, False)
    if b"\n" not in start and b"\r" in start:
        return _Style(b"\r", encoding, skipped, False)
    *lines, _ = start.split(b"\n")
    return _Style(b"\n", encoding, skipped, all(line.endswith(b"\r") for line in lines))


def _blocks(path, style):
    """Yield the names in a list, in lists that are not empty."""
    decoder = codecs.getincrementaldecoder(style.encoding)() if style.encoding else None
    with open(path, "rb") as file:
        file.seek(style.skipped)
        rest = b""
        for block in itertools.chain(iter(lambda: file.read(_BLOCK), b""), [b""]):
            data = block if decoder is None else decoder.decode(block, final=not block).encode()
            *names, rest = (rest + data).split(style.separator)
            names += [] if block else [rest]
            if style.separator != b"\0":
                names = [find_named(name[:-1] if style.returns and name[-1:] == b"\r" else name) for name in names]
            names = list(filter(None, names))
            if names:
                yield names


def find_named(name):
    """The path of a file that a person named: without blanks, line ends and quotes around it, with slashes for
    Windows's backslashes, and in UTF-8 if it is in Windows-1252, unless a file has the name as it stands.

    Args:
        name: bytes, of one line.

    Returns:
        bytes; empty for a name of blanks only.
    """
    clean = name[:1] not in _AROUND and name[-1:] not in _AROUND and b"\\" not in name
    if clean and (name.isascii() or _is_utf8(name)):  # nearly always; it would take long to look up millions of files
        return name
    bare = name.strip()
    quote = bare[:1]
    if len(bare) > 1 and quote == bare[-1:] and quote in (b'"', b"'"):
        bare = bare[1:-1].replace(2 * quote, quote)
    wanted = [name, name.strip(), bare, bare.replace(b"\\", b"/")]
    wanted += [each.decode("cp1252", "replace").encode() for each in wanted if not _is_utf8(each)]
    return next((each for each in wanted if each and os.path.lexists(each)), bare)


def _is_utf8(name):
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True

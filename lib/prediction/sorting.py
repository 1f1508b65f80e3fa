"""Sorting images into a folder for each category, as links or copies.

Nothing outside these folders is changed, and in them only the links and copies of an earlier call, which `sorted.tsv`
lists.
"""

import contextlib
import errno
import os
import shutil
import unicodedata
from typing import NamedTuple

from lib.errors import UsageError, WorkError, option
from lib.storage.files import temporary_name, whole_file
from lib.storage.names import escape_name, path_order, unescape_name

INDEX = "sorted.tsv"
_HEADER = "PLACE\tFILE\n"
_LONGEST_NAME = 255  # bytes, on all usual file systems
_LONGEST_ENDING = 32  # bytes; a longer one is a part of the name


class Sorted(NamedTuple):
    """The result of sorting.

    Attributes:
        made: how many links or copies are new.
        unchanged: how many existed already.
        removed: how many of an earlier call were removed.
        missing: names of the images that no longer exist.
        left: places, below the folder, of an earlier call's links or copies that were changed since.
    """

    made: int
    unchanged: int
    removed: int
    missing: list
    left: list


def sort_images(categories, folder, kind="link", data=None):
    """Sort images into folders by their categories; running it again changes only what has changed.

    Args:
        categories: a dictionary: escaped name of an image -> its category.
        folder: the parent of the categories' folders, created if missing.
        kind: `link` for relative symbolic links, `copy`, or `hardlink`.
        data: the folder that is searched for images, which must not contain the folders; None if it is not known.

    Returns:
        `Sorted`.

    Raises:
        UsageError: the folder contains the images or lies among them, or has another program's `sorted.tsv`; a
            category's folder is a link.
        WorkError: something can't be written, or is on another disk than an image to be hard-linked.
    """
    folders = _folder_names(categories.values())
    sources = {name: unescape_name(name) for name in sorted(categories, key=path_order)}
    check_apart(sources.values(), folder, data)
    former = _read_index(folder)
    missing = [name for name, source in sources.items() if not os.path.exists(source)]
    for name in missing:
        del sources[name]
    own = {name: folders[categories[name]] for name in sources}
    try:
        _make_folders(folder, folders.values(), set(own.values()))
        places = _places(sources, own, former, folder)
        # Before anything is made, so that the next call knows the links and copies of one that was killed.
        _write_index(folder, {**former, **places})
        removed, left = _remove(folder, dict(former.items() - places.items()))
        made = sum(_make(sources[name], os.path.join(folder, place), kind) for place, name in places.items())
        for name in {os.path.dirname(place) for place in former} - set(own.values()):
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(os.path.join(folder, name))
        _write_index(folder, places)
    except OSError as error:
        if error.errno == errno.EXDEV:
            sentence = f"{folder} is not on the same disk as the images; use {option('copy')}."
            raise WorkError(sentence, "hardlink") from error
        raise WorkError(f"{error.filename or folder} can't be written ({error.strerror}).", "sort") from error
    return Sorted(made, len(places) - made, removed, missing, left)


def _make_folders(folder, names, used):
    """Make the folders that are used, of all that have a name; UsageError if one is a link or a file."""
    for name in names:
        path = os.path.join(folder, name)
        if os.path.islink(path) or os.path.isfile(path):
            raise UsageError(f"{path} is a link or a file, not a folder; move it, or choose another DIR.", "sort")
    for name in ("", *used):
        os.makedirs(os.path.join(folder, name), exist_ok=True)


def _remove(folder, former):
    """Remove links and copies of an earlier call.

    Args:
        folder: see `sort_images`.
        former: place -> name.

    Returns:
        How many were removed, and the places of those that were changed since.
    """
    present = {place: name for place, name in former.items() if os.path.lexists(os.path.join(folder, place))}
    left = [p for p, name in present.items() if not _is_made_from(os.path.join(folder, p), unescape_name(name))]
    for place in present.keys() - left:
        os.unlink(os.path.join(folder, place))
    return len(present) - len(left), left


def _folder_names(categories):
    """Category -> the name of its folder: its own, without characters that a folder's name can't have."""
    found = {}
    for category in sorted(set(categories)):
        name = escape_name(category).replace("/", "_").replace("\\", "_")
        name = "_" + name if name.startswith(".") or name in ("", INDEX) else name
        found[category] = _free(name, {_key(other) for other in found.values()})
    return found


def check_apart(sources, folder, data):
    """Raise UsageError if an image lies in the folder for sorted images, or this among the images.

    Args:
        sources: paths of images.
        folder, data: see `sort_images`.
    """
    here = os.path.realpath(folder)
    parents = {os.path.dirname(source) or "." for source in sources}
    for parent in parents:
        if _is_within(os.path.realpath(parent), here):
            raise UsageError(f"{folder} contains images to be sorted, in {parent}; choose another DIR.", "sort")
    for parent in [*parents, *([data] if data else [])]:
        if _is_within(here, os.path.realpath(parent)):
            reason = "so its links would be taken for images; choose another DIR"
            raise UsageError(f"{folder} is inside {parent}, {reason}.", "sort")


def _is_within(path, parent):
    return os.path.commonpath([path, parent]) == parent


def _read_index(folder):
    """The links and copies of an earlier call: place -> name."""
    path = os.path.join(folder, INDEX)
    if not os.path.lexists(path):
        return {}
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            if os.path.islink(path) or file.readline() != _HEADER:
                raise ValueError
            rows = [line.rstrip("\n").split("\t") for line in file]
        found = {unescape_name(place): name for place, name in rows}
        if any(place.count("/") != 1 or place.startswith("../") for place in found):
            raise ValueError
    except (OSError, ValueError):
        sentence = f"{path} was not written by {option('sort')}; move it, or choose another DIR."
        raise UsageError(sentence, "sort") from None
    return {place: found[place] for place in found if not os.path.islink(os.path.join(folder, os.path.dirname(place)))}


def _write_index(folder, places):
    with whole_file(os.path.join(folder, INDEX)) as file:
        file.write(_HEADER)
        for place in sorted(places, key=os.fsencode):
            file.write(f"{escape_name(place)}\t{places[place]}\n")


def _places(sources, folders, former, folder):
    """Choose a place for each image: place -> name. Former places are kept, other programs' files avoided."""
    places = {}
    for place, name in former.items():
        if folders.get(name) == os.path.dirname(place):
            path = os.path.join(folder, place)
            if not os.path.lexists(path) or _is_made_from(path, sources[name]):
                places[place] = name
    taken = {sub: set(map(_key, os.listdir(os.path.join(folder, sub)))) for sub in set(folders.values())}
    for place in [*places, *former]:
        taken.get(os.path.dirname(place), set()).add(_key(os.path.basename(place)))
    placed = set(places.values())
    for name, source in sources.items():
        if name not in placed:
            sub = folders[name]
            own = _free(os.path.basename(source), taken[sub])
            taken[sub].add(_key(own))
            places[f"{sub}/{own}"] = name
    return places


def _free(name, taken):
    """A name like `name` whose key is not taken: `a.jpg`, `a~2.jpg`, `a~3.jpg`."""
    stem, ending = os.path.splitext(name)
    if len(os.fsencode(ending)) > _LONGEST_ENDING:
        stem, ending = name, ""
    number = 1
    while _key(name) in taken or len(os.fsencode(name)) > _LONGEST_NAME:
        number += 1
        room = _LONGEST_NAME - len(os.fsencode(f"~{number}{ending}"))
        name = os.fsdecode(os.fsencode(stem)[:room]) + f"~{number}{ending}"
    return name


def _key(name):
    """What names are compared by: some file systems ignore case, or normalise accents."""
    return unicodedata.normalize("NFC", name).casefold()


def _target(source, path):
    """The relative target of a link at `path` to `source`, between the real folders of both."""
    parent = os.path.realpath(os.path.dirname(source) or ".")
    return os.path.relpath(os.path.join(parent, os.path.basename(source)), os.path.realpath(os.path.dirname(path)))


def _is_made_from(path, source):
    """Whether `path` is a link to `source` or an unchanged copy, of any kind, so that it may be removed."""
    if os.path.islink(path):
        return os.readlink(path) == _target(source, path)
    if not os.path.exists(source):
        return False  # it may be the last copy
    own, original = os.stat(path), os.stat(source)
    same = (own.st_size, own.st_mtime_ns) == (original.st_size, original.st_mtime_ns)
    return os.path.samestat(own, original) or (same and os.path.isfile(path))


def _make(source, path, kind):
    """Make a link or copy unless there is one of that kind; returns whether there was not."""
    if os.path.lexists(path):
        present = "link" if os.path.islink(path) else "hardlink" if os.path.samefile(path, source) else "copy"
        if present == kind:
            return False
    temporary = temporary_name(os.path.join(os.path.dirname(path), ""))
    try:
        if kind == "link":
            os.symlink(_target(source, path), temporary)
        elif kind == "hardlink":
            os.link(os.path.realpath(source), temporary)
        else:
            shutil.copy2(source, temporary)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return True

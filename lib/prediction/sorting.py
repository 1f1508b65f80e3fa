"""A folder for each category, with links to the images that were put into it, or copies of them.

Nothing outside the folder is changed, and in it only what an earlier call made: that is written in `sorted.tsv`.
"""

import contextlib
import errno
import os
import shutil
import unicodedata
from typing import NamedTuple

from lib.errors import UsageError, WorkError, option
from lib.storage.files import check_regular, whole_file
from lib.storage.names import escape_name, path_order, unescape_name

INDEX = "sorted.tsv"
_HEADER = "PLACE\tFILE\n"
_LONGEST_NAME = 255  # bytes, on all usual file systems
_LONGEST_ENDING = 32  # bytes; what is longer is no ending but a part of the name

KINDS = ("link", "copy", "hardlink")


class Sorted(NamedTuple):
    """What was done.

    Attributes:
        made: how many links or copies are new.
        unchanged: how many existed already.
        removed: how many of an earlier call were removed.
        missing: names of the images that no longer exist, so that there is nothing to link to.
        left: places, below the folder, that an earlier call made but that hold something else now.
    """

    made: int
    unchanged: int
    removed: int
    missing: list
    left: list


def sort_images(categories, folder, kind="link", data=None):
    """Sort images into folders by their categories; running it again changes only what has changed.

    Args:
        categories: a dictionary: name of an image as in tables -> its category.
        folder: where the categories' folders go; made when it is not there.
        kind: `link` for relative symbolic links, `copy`, or `hardlink`.
        data: the folder that is searched for images, in which the folders must not lie; None if that is not known.

    Returns:
        `Sorted`.

    Raises:
        UsageError: the folder holds the images themselves or lies among them, or somebody else's `sorted.tsv`; a
            category's folder is a link to somewhere else.
        WorkError: something can't be written, or hard links can't reach that far.
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
        # Before anything is made: what a call that is killed has made is known to the next one.
        _write_index(folder, {**former, **places})
        removed, left = _remove(folder, {place: name for place, name in former.items() if places.get(place) != name})
        made = sum(_make(sources[name], os.path.join(folder, place), kind) for place, name in places.items())
        for name in {os.path.dirname(place) for place in former} - set(own.values()):
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(os.path.join(folder, name))
        _write_index(folder, places)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise WorkError(
                f"{folder} is not on the same disk as the images; use {option('copy')}.", "hardlink"
            ) from error
        raise WorkError(f"{error.filename or folder} can't be written ({error.strerror}).", "sort") from error
    return Sorted(made, len(places) - made, removed, missing, left)


def _make_folders(folder, names, used):
    """Make the folders that are used, of all that have a name; UsageError if one leads elsewhere."""
    os.makedirs(folder, exist_ok=True)
    for name in names:
        path = os.path.join(folder, name)
        if os.path.islink(path) or (os.path.exists(path) and not os.path.isdir(path)):
            raise UsageError(f"{path} is a link or a file, not a folder; move it, or choose another DIR.", "sort")
    for name in used:
        os.makedirs(os.path.join(folder, name), exist_ok=True)


def _remove(folder, places):
    """Remove what an earlier call made, place -> name; how many that were, and the places that hold something else."""
    removed, left = 0, []
    for place, name in places.items():
        path = os.path.join(folder, place)
        if os.path.lexists(path):
            if _is_made_from(path, unescape_name(name)):
                os.unlink(path)
                removed += 1
            else:
                left.append(place)
    return removed, left


def _folder_names(categories):
    """For each category the name of its folder: the category's, but for what no folder can be called."""
    found = {}
    for category in sorted(set(categories)):
        name = escape_name(category).replace("/", "_").replace("\\", "_")
        name = "_" + name if name.startswith(".") or name in ("", INDEX) else name
        found[category] = _free(name, {_key(other) for other in found.values()})
    return found


def check_apart(sources, folder, data):
    """Check that images and the folder they are sorted into are apart.

    Args:
        sources: paths of images.
        folder, data: see `sort_images`.

    Raises:
        UsageError: an image lies in the folder, or the folder where images are searched for.
    """
    here = os.path.realpath(folder)
    parents = {os.path.dirname(source) or "." for source in sources}
    for parent in parents:
        if _is_within(os.path.realpath(parent), here):
            raise UsageError(f"{folder} contains images to be sorted, in {parent}; choose another DIR.", "sort")
    for parent in [*parents, *([data] if data else [])]:
        if _is_within(here, os.path.realpath(parent)):
            raise UsageError(
                f"{folder} is inside {parent}, so its links would be taken for images; choose another DIR.", "sort"
            )


def _is_within(path, parent):
    return os.path.commonpath([path, parent]) == parent


def _read_index(folder):
    """What an earlier call made: place -> name."""
    path = os.path.join(folder, INDEX)
    found = {}
    if os.path.lexists(path):
        try:
            check_regular(path)
            with open(path, encoding="utf-8", newline="\n") as file:
                if os.path.islink(path) or file.readline() != _HEADER:
                    raise ValueError
                for line in file:
                    place, name = line.rstrip("\n").split("\t")
                    place = unescape_name(place)
                    parts = place.split("/")
                    wrong = len(parts) != 2 or not set(parts).isdisjoint(("", ".", ".."))
                    if wrong or "\0" in place + unescape_name(name):
                        raise ValueError
                    if not os.path.islink(os.path.join(folder, parts[0])):
                        found[place] = name
        except (OSError, ValueError):
            raise UsageError(
                f"{path} was not written by {option('sort')}; move it, or choose another DIR.", "sort"
            ) from None
    return found


def _write_index(folder, places):
    with whole_file(os.path.join(folder, INDEX)) as file:
        file.write(_HEADER)
        for place in sorted(places, key=os.fsencode):
            file.write(f"{escape_name(place)}\t{places[place]}\n")


def _places(sources, folders, former, folder):
    """Where each image goes: place -> name. One keeps its place; what is somebody else's is not taken."""
    at = {name: place for place, name in former.items()}
    places, taken = {}, {}
    for name, source in sources.items():
        place = at.get(name)
        if place and os.path.dirname(place) == folders[name]:
            path = os.path.join(folder, place)
            if not os.path.lexists(path) or _is_made_from(path, source):
                places[place] = name
    for sub in set(folders.values()):
        with os.scandir(os.path.join(folder, sub)) as entries:
            taken[sub] = {_key(entry.name) for entry in entries if f"{sub}/{entry.name}" not in former}
        taken[sub].update(
            _key(os.path.basename(place)) for place in [*places, *former] if os.path.dirname(place) == sub
        )
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
    """What names are compared by: some file systems take large and small letters for the same."""
    return unicodedata.normalize("NFC", name).casefold()


def _target(source, path):
    """What a link at `path` says that leads to `source`: relative, between the folders that there really are."""
    parent = os.path.realpath(os.path.dirname(source) or ".")
    return os.path.relpath(os.path.join(parent, os.path.basename(source)), os.path.realpath(os.path.dirname(path)))


def _is_made_from(path, source):
    """Whether `path` is what some kind of sorting makes of `source`, so that it may go."""
    if os.path.islink(path):
        return os.readlink(path) == _target(source, path)
    try:
        own, original = os.lstat(path), os.stat(source)
    except OSError:
        return False  # who knows whether it is the last copy
    alike = (own.st_size, own.st_mtime_ns) == (original.st_size, original.st_mtime_ns)
    return os.path.samestat(own, original) or (alike and os.path.isfile(path))


def _is_kind(path, source, kind):
    """Whether what was made at `path` is of that kind already."""
    if not os.path.lexists(path):
        return False
    linked = os.path.islink(path)
    return kind == "link" if linked else kind == ("hardlink" if os.path.samefile(path, source) else "copy")


def _make(source, path, kind):
    """Make a link or copy where there is none of that kind; whether it was necessary."""
    if _is_kind(path, source, kind):
        return False
    temporary = os.path.join(os.path.dirname(path), f".{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
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

"""The list of what to download: each pair of an occurrence and an image, once, in a file."""

import collections
import hashlib
import json
import os
from typing import NamedTuple
from urllib.parse import urlsplit

from lib.download.archive import open_archive
from lib.download.media import Medium, find_media
from lib.errors import UsageError, concerning
from lib.storage.files import checksum
from lib.storage.journal import Journal, settings_of_journal

_KIND, _NAME = "images to download", "plan"
_CHUNK = 64  # images of a host in memory


class Image(NamedTuple):
    """An image to download: the name of its file without the ending, and its address."""

    name: str
    url: str


def name_of(url):
    """The name, without an ending, of the file of an address: 32 hexadecimal digits."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def host_of(url):
    """The host of an address, in lower case; empty if it has none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


class Plan(Journal):
    """A `Journal` of media. Keys: host, zero byte, name of the file, zero byte, record; contents: the `Medium`."""

    def fill(self, media):
        """Add all media, sorted first: adding millions of them in any order would write each page many times."""
        with self.resumable(), self._database:
            self._database.execute("BEGIN")
            self._database.execute("CREATE TEMP TABLE unsorted (key BLOB, content BLOB)")
            self._database.executemany("INSERT INTO unsorted VALUES (?, ?)", map(_entry, media))
            self._database.execute(
                "INSERT OR REPLACE INTO entries SELECT key, NULL, content FROM unsorted ORDER BY key, rowid"
            )
            self._database.execute("DROP TABLE unsorted")

    def count_images(self):
        """How many images each host has: a `collections.Counter`."""
        counts, last = collections.Counter(), None
        for key in self.keys():
            host, name, _ = key.split(b"\0", 2)
            if (host, name) != last:
                last = (host, name)
                counts[host.decode()] += 1
        return counts

    def images_of(self, host):
        """Yield each `Image` of a host once, by name."""
        last, after, end = None, host.encode() + b"\0", host.encode() + b"\1"
        while True:
            query = "SELECT key, content FROM entries WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
            found = self._rows(query, (after, end, _CHUNK))
            for key, content in found:
                name = key.split(b"\0", 2)[1].decode()
                if name != last:
                    last = name
                    yield Image(name, self._medium(content).url)
            if len(found) < _CHUNK:
                return
            after = found[-1][0]

    def media(self):
        """Yield pairs of a file's name, ascending, and a `Medium`, by record."""
        by_name = "SELECT key, content FROM entries ORDER BY substr(key, instr(key, x'00') + 1)"
        for key, content in self._stream(by_name):
            yield key.split(b"\0", 2)[1].decode(), self._medium(content)

    def _medium(self, content):
        try:
            return Medium(*json.loads(content))
        except (TypeError, ValueError) as error:
            raise self._damaged(error) from error


def open_plan(settings, about, folder):
    """Open the plan of a download; make it, by reading the archive once, unless a former call has made the same.

    Args:
        settings: `lib.download.settings.Settings`.
        about: of `about_plan`.
        folder: the directory for it, which exists.

    Returns:
        The `Plan`, whose `finished` is a dictionary: how many were `left_out`, by the reason.

    Raises:
        UsageError: the archive can't be read, or has no image that is wanted.
        WorkError: the plan can't be written.
    """
    path = os.path.join(folder, _NAME)
    plan = Plan(path, _KIND, about, settings.output, replace=True)
    if plan.finished is None and len(plan):  # the call that made it was stopped
        with plan:
            plan.remove()
        plan = Plan(path, _KIND, about, settings.output)
    if plan.finished is None:
        try:
            _make(plan, settings, folder)
        except BaseException:
            with plan:
                plan.remove()
            raise
    return plan


def settings_of_plan(folder):
    """What the plan in a directory depends on, see `about_plan`; empty if there is none."""
    return settings_of_journal(os.path.join(folder, _NAME), _KIND)


def about_plan(settings):
    """What a plan depends on, as a dictionary; the input is read for its checksum."""
    names = ("column", "licences", "kind", "limit", "sample", "seed")
    chosen = {name: getattr(settings, name) for name in names}
    return {"input_sha256": checksum(settings.input), **chosen}


def _make(plan, settings, folder):
    with concerning("input"):
        media, left_out = find_media(open_archive(settings.input), settings, folder)
        plan.fill(media)
        if not len(plan):
            raise UsageError(f"{settings.input} has no image that is wanted{in_words(left_out)}.")
    plan.finish({"left_out": dict(left_out)})


def in_words(left_out):
    """What was left out, as a clause; empty for nothing."""
    kinds = sorted(left_out.items(), key=lambda kind: (-kind[1], kind[0]))
    return "; left out: " + ", ".join(f"{count:,} {reason}" for reason, count in kinds) if kinds else ""


def _entry(medium):
    # Without an identifier, a catalogue number tells two specimens on one image apart.
    key = "\0".join((host_of(medium.url), name_of(medium.url), medium.record or medium.catalogue))
    return key.encode("utf-8", "surrogatepass"), json.dumps(medium, ensure_ascii=False).encode()

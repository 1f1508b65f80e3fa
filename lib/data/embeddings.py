"""Features of images in a `.npz` file that can be continued and searched by similarity.

The file holds `embeddings`, float32 `(images, width)`; `paths`, their escaped names; `settings`, what they depend on,
as JSON; and `files`, the fingerprints of the images' files. `numpy.load` opens it.
"""

import json
import os
import zipfile
from typing import NamedTuple, Optional, Sequence

import numpy as np

from lib.data.listing import Paths
from lib.errors import UsageError, concerning
from lib.storage.ascending import look_up, match
from lib.storage.files import whole_file
from lib.storage.journal import Journal, compare_settings
from lib.storage.names import escape_name, path_order
from lib.storage.untrusted import SHRINKING, SMALL_BYTES, check_text, check_zip_member, parse_json

# The settings that features depend on.
OF_FEATURES = ("model", "model_sha256", "data", "list_file", "exact", "shard", "listed")

_CHUNK = 4096  # rows at once
_UNKNOWN = (-1, -1, -1)  # a fingerprint


class Stored(NamedTuple):
    """The content of a file of features.

    Attributes:
        paths: text `(images,)`.
        embeddings: float32 `(images, width)`, mapped from the file.
        settings: a dictionary.
        files: int64 `(images, 3)`, see `Fingerprint`; None if the file lacks them.
    """

    paths: np.ndarray
    embeddings: np.ndarray
    settings: dict
    files: Optional[np.ndarray] = None

    def names(self):
        """Yield the escaped names as Python's texts."""
        for start in range(0, len(self.paths), _CHUNK):
            yield from self.paths[start : start + _CHUNK].tolist()

    # Features are read from the file where they are many or far apart: the pages of a mapped file that were touched
    # stay in memory, and those around them.

    def parts(self):
        """Yield the names and the features of some images at a time: a list, and float32 `(images, width)`."""
        for start in range(0, len(self.paths), _CHUNK):
            names = self.paths[start : start + _CHUNK].tolist()
            yield names, self._read(start, len(names))

    def take(self, rows):
        """The features of some images, by their rows: float32 `(images, width)`."""
        return np.concatenate([self._read(row, 1) for row in rows])

    def _read(self, start, count):
        width = self.embeddings.shape[1]
        if not self.embeddings.size:
            return np.empty((count, width), "float32")
        place = self.embeddings.offset + 4 * width * start
        return np.fromfile(self.embeddings.filename, "<f4", count * width, offset=place).reshape(count, width)

    def fingerprint(self, number):
        """The fingerprint of an image's file; None if nothing is known."""
        known = _UNKNOWN if self.files is None else self.files[number].tolist()
        return None if known[0] < 0 else known

    def facts(self):
        """Yield pairs of each file's path as bytes and its fingerprint or None."""
        return ((path_order(name), self.fingerprint(number)) for number, name in enumerate(self.names()))

    def entries(self):
        """Yield the images' features as entries of a `Journal`: path, fingerprint or None, float32 bytes."""
        for number, (path, known) in enumerate(self.facts()):
            yield path, known, self.embeddings[number].tobytes()


def open_features(path, settings, overwrite=False):
    """Open the `Journal` of images' features: path -> float32 bytes. It continues the file if that is finished.

    Args:
        path: the `.npz` file to write.
        settings: what the features depend on, a dictionary that JSON can hold.
        overwrite: start over. Until `write_features`, a former file stays as it was.

    Raises:
        UsageError: there are features of other settings, or something else; another process is writing.
        WorkError: it can't be written.
    """
    former = None
    if not overwrite and os.path.exists(path):
        former = load_features(path)
        with concerning("embeddings"):
            compare_settings(former.settings, settings, path, "embeddings")
    features = Journal(path + ".partial", "features", settings, path, "embeddings", fresh=overwrite)
    if former is not None:
        features.continue_from(former)
    return features


def write_features(path, settings, features, paths):
    """Write a file of features, and remove their journal.

    Args:
        path, settings: see `open_features`.
        features: the journal. A finished file that has the right features stays as it is.
        paths: of the images to write features of, ascending bytes; those without features are left out.
    """
    wanted = Paths(path for path, known in look_up(paths, features.keys()) if known)
    if features.former is not None and len(wanted) == len(features.former.paths):
        return
    with features.resumable():
        _write(path, settings, features, wanted)
    features.remove()


class Parts(NamedTuple):
    """The features of parts as those of one file, of which one at a time is open.

    Attributes:
        files: the parts' files, whose images ascend, also from one to the next.
    """

    files: Sequence[str]

    def facts(self):
        """See `Stored.facts`."""
        return (fact for file in self.files for fact in load_features(file).facts())

    def entries(self):
        """See `Stored.entries`."""
        return (entry for file in self.files for entry in load_features(file).entries())


def merge_features(path, settings, files):
    """Write the features of parts as one file, as of one call for all images.

    Args:
        path, settings: see `open_features`.
        files: see `Parts`.
    """
    parts = Parts(files)
    _write(path, settings, parts, Paths(name for name, _ in parts.facts()))


def _write(path, settings, source, paths):
    """Write the features that a journal, or something like it, has of all of `paths`."""
    with whole_file(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        _write_features(archive, source, paths)
        _write_names(archive, paths)
        _write_fingerprints(archive, source, paths)
        text = np.array(json.dumps(settings, ensure_ascii=False))
        _write_member(archive, "settings", text.dtype.str, (), [text.tobytes()])


def _write_features(archive, source, paths):
    first = next(source.entries(), None)
    width = len(first[2]) // 4 if first else 0
    # Every one of the paths is among the keys.
    found = match(zip(paths), ((path, content) for path, _, content in source.entries()))
    contents = (content for _, content in found)
    _write_member(archive, "embeddings", "<f4", (len(paths), width), contents)


def _write_fingerprints(archive, source, paths):
    known = (about or _UNKNOWN for _, about in match(zip(paths), source.facts()))
    chunks = (np.array(about, "<i8").tobytes() for about in known)
    _write_member(archive, "files", "<i8", (len(paths), len(_UNKNOWN)), chunks, zipfile.ZIP_DEFLATED)


def _write_names(archive, paths):
    def names():
        return (escape_name(os.fsdecode(path)) for path in paths)

    kind = np.dtype(f"<U{max(map(len, names()), default=1)}")
    chunks = (np.array(name, kind).tobytes() for name in names())
    _write_member(archive, "paths", kind.str, (len(paths),), chunks, zipfile.ZIP_DEFLATED)


def _write_member(archive, name, kind, shape, chunks, compression=zipfile.ZIP_STORED):
    """Write an array, in chunks of its bytes, into a `.npz` file; equal arrays make equal files."""
    info = zipfile.ZipInfo(f"{name}.npy")  # whose date is fixed
    info.compress_type = compression
    with archive.open(info, "w", force_zip64=True) as member:
        header = {"descr": kind, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        for chunk in chunks:
            member.write(chunk)


def load_features(path):
    """Open a file of features.

    Returns:
        `Stored`.

    Raises:
        UsageError: it is something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            for member in file.zip.infolist():
                check_zip_member(member, os.path.getsize(path), SHRINKING, SMALL_BYTES)
            embeddings = _map(path, file.zip, "embeddings.npy")
            paths, settings = file["paths"], check_text(parse_json(str(file["settings"])))
            files = file["files"] if "files" in file.files else None
        sound = isinstance(settings, dict) and embeddings.ndim == 2 and paths.shape == embeddings.shape[:1]
        if not sound or embeddings.dtype != "<f4" or paths.dtype.kind != "U":
            raise ValueError
        if files is not None and (files.dtype != "<i8" or files.shape != (len(paths), len(_UNKNOWN))):
            raise ValueError
        for start in range(0, len(paths), _CHUNK):
            "".join(paths[start : start + _CHUNK].tolist()).encode()  # raises for lone surrogates
    except OSError as error:
        raise UsageError(f"{path} can't be read ({error.strerror or error}).", "embeddings") from error
    except Exception:  # whatever numpy, zipfile and zlib raise on something else, also MemoryError
        raise UsageError(f"{path} holds no features of images; give another file.", "embeddings") from None
    return Stored(paths, embeddings, settings, files)


def _map(path, archive, name):
    """Map an uncompressed array of a `.npz` file into memory."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    with archive.open(name) as member:
        start = archive.fp.tell()  # of the member's content, whose header was just read
        np.lib.format.read_magic(member)
        shape, _, kind = np.lib.format.read_array_header_1_0(member)
        start += member.tell()
    return np.zeros(shape, kind) if 0 in shape else np.memmap(path, kind, "r", start, shape)


def nearest(stored, query, count, without=None):
    """The images that are most similar to one, by the cosine of the angle between their features.

    Args:
        stored: `Stored`.
        query: float `(width,)`: the features to compare with.
        count: how many images.
        without: a path to leave out.

    Returns:
        Pairs of a path and the cosine, the most similar first.
    """
    query = np.asarray(query, "float64")
    query = query / (np.linalg.norm(query) or 1)
    cosines = np.empty(len(stored.paths))
    for start in range(0, len(cosines), _CHUNK):
        part = np.asarray(stored.embeddings[start : start + _CHUNK], "float64")
        lengths = np.linalg.norm(part, axis=1)
        cosines[start : start + _CHUNK] = part @ query / np.where(lengths > 0, lengths, 1)
    order = [index for index in np.argsort(-cosines, kind="stable")[: count + 1] if stored.paths[index] != without]
    return [(str(stored.paths[index]), float(cosines[index])) for index in order[:count]]

"""Features of images in a `.npz` file: written in chunks, continued where it was stopped, searched by likeness.

The file holds `embeddings`, float32 `(images, width)`; `paths`, their names as in the tables of predictions; and
`settings`, what they depend on, as JSON. `numpy.load` opens it.
"""

import json
import os
import struct
import zipfile
from typing import NamedTuple

import numpy as np

from lib.errors import UsageError, WorkError
from lib.storage.files import open_locked, whole_file
from lib.storage.untrusted import check_text, parse_json

# How a partial file begins, before the settings, so that somebody's own file is not taken for one.
_JOURNAL_START = b"herbariograph embeddings "

_HEAD = struct.Struct("<II")  # of a row in the partial file: the bytes of its name, and the width
_LOCAL_HEADER = 30  # bytes of a ZIP member's own header, before its name
_CHUNK = 4096  # rows

# A member that is greater, and so many times greater than the whole file, is not read. Names, which begin alike and
# take four bytes a character, shrink much.
_LARGEST_SHRINKING = 200
_SMALL_BYTES = 64 << 20


class Stored(NamedTuple):
    """What a file of features holds.

    Attributes:
        paths: text `(images,)`.
        embeddings: float32 `(images, width)`, read from the file as it is needed.
        settings: a dictionary.
    """

    paths: np.ndarray
    embeddings: np.ndarray
    settings: dict


class Embeddings:
    """Features, a row for each image; while the work goes on, in `PATH.partial`.

    Args:
        path: the `.npz` file to write.
        settings: what the features depend on, a dictionary that JSON can hold, its keys named as a user would.
        overwrite: start anew, whatever there is.

    Raises:
        UsageError: there are features of other settings, or something else; another process is writing.
        WorkError: it can't be written.
    """

    def __init__(self, path, settings, overwrite=False):
        self._path, self._partial = path, path + ".partial"
        self._settings = json.loads(json.dumps(settings))
        self._former = {}  # name -> row of the file as it is
        self._rows = {}  # name -> offset of its features in the partial file
        self._width = 0
        self._fresh = overwrite or not os.path.exists(path)
        if not self._fresh:
            stored = load(path)
            self._compare(stored.settings)
            self._former = {name: row for row, name in enumerate(stored.paths.tolist())}
            self._width = stored.embeddings.shape[1] if self._former else 0
        try:
            self._journal = open_locked(self._partial)
            if self._journal is None:
                raise UsageError(f"{path} is being written by another process.")
            try:
                self._start(overwrite)
            except BaseException:
                self._journal.close()
                raise
        except OSError as error:
            raise WorkError(f"{self._path} can't be written ({error.strerror or error}).") from error

    def __contains__(self, name):
        return name in self._rows or name in self._former

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if not self._journal.closed:
            self._journal.close()
            if not self._rows:
                os.unlink(self._partial)

    def append(self, names, features):
        """Add the features, float32 `(images, width)`, of images by their names; those that have some keep them."""
        parts, offset = [], self._end
        for name, row in zip(names, np.asarray(features, "<f4")):
            if name in self:
                continue
            head = name.encode()
            parts.append(_HEAD.pack(len(head), len(row)) + head + row.tobytes())
            self._rows[name] = offset + _HEAD.size + len(head)
            offset += len(parts[-1])
            self._width = len(row)
        try:
            self._journal.write(b"".join(parts))
            self._journal.flush()
        except OSError as error:
            raise self._failure(error) from error
        self._end = offset

    def finish(self, names):
        """Let the file appear with the features of those of `names` that have any, in that order."""
        names = [name for name in names if name in self]
        try:
            if self._fresh or self._rows or names != list(self._former):
                former = load(self._path).embeddings if self._former else np.zeros((0, 0), "float32")
                self._write(names, self._width or former.shape[1], former)
            self._journal.close()
            os.unlink(self._partial)
        except OSError as error:
            raise self._failure(error) from error

    def _start(self, overwrite):
        """Read the partial file's first line, or write it, and find all rows there are."""
        journal = self._journal
        journal.seek(0)
        first = journal.readline()
        if first and not first.startswith(_JOURNAL_START[: len(first)]):
            raise UsageError(
                f"{self._partial} holds no features that were started here; move it, or choose another file."
            )
        if overwrite or not first.endswith(b"\n"):
            journal.truncate(0)
            first = _JOURNAL_START + json.dumps(self._settings).encode() + b"\n"
            journal.write(first)
            journal.flush()
        else:
            self._compare(self._begun_with(first))
        end, size = len(first), journal.seek(0, os.SEEK_END)
        while end + _HEAD.size <= size:
            journal.seek(end)
            length, width = _HEAD.unpack(journal.read(_HEAD.size))
            features = end + _HEAD.size + length
            if features + 4 * width > size or width != (self._width or width):
                break  # the row that was being written when the process was killed
            try:
                name = journal.read(length).decode()
            except UnicodeDecodeError:
                break
            self._rows[name] = features
            end, self._width = features + 4 * width, width
        self._end = end
        journal.truncate(end)

    def _begun_with(self, first):
        """The settings in the partial file's first line."""
        try:
            begun = parse_json(first[len(_JOURNAL_START) :])
            if isinstance(begun, dict):
                return begun
        except ValueError:
            pass
        raise UsageError(f"{self._partial} is damaged; remove it, or --overwrite.")

    def _write(self, names, width, former):
        with whole_file(self._path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            _write_member(archive, "embeddings", "<f4", (len(names), width), self._chunks(names, width, former))
            kind = f"<U{max(map(len, names), default=1)}"
            parts = (np.array(names[start : start + _CHUNK], kind) for start in range(0, len(names), _CHUNK))
            _write_member(archive, "paths", kind, (len(names),), parts, zipfile.ZIP_DEFLATED)
            text = np.array(json.dumps(self._settings, ensure_ascii=False))
            _write_member(archive, "settings", text.dtype.str, (), [text])

    def _chunks(self, names, width, former):
        for start in range(0, len(names), _CHUNK):
            part = names[start : start + _CHUNK]
            chunk = np.empty((len(part), width), "<f4")
            for place, name in enumerate(part):
                if name in self._rows:
                    self._journal.seek(self._rows[name])
                    chunk[place] = np.frombuffer(self._journal.read(4 * width), "<f4")
                else:
                    chunk[place] = former[self._former[name]]
            yield chunk

    def _compare(self, recorded):
        for key, value in self._settings.items():
            if recorded.get(key) != value:
                raise UsageError(
                    f"--embeddings: {self._path} was begun with {key} {json.dumps(recorded.get(key))[:60]}, this call "
                    f"has {json.dumps(value)[:60]}; call as before, give another file, or --overwrite."
                )

    def _failure(self, error):
        return WorkError(
            f"{self._path} can't be written ({error.strerror or error}); what was written is kept, and the same "
            "command goes on from there."
        )


def _write_member(archive, name, kind, shape, chunks, compression=zipfile.ZIP_STORED):
    """Write an array into a `.npz` file chunk by chunk, the same bytes whenever it is done."""
    info = zipfile.ZipInfo(f"{name}.npy")  # whose date is fixed
    info.compress_type = compression
    with archive.open(info, "w", force_zip64=True) as member:
        header = {"descr": kind, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        for chunk in chunks:
            member.write(chunk.tobytes())


def load(path):
    """Open a file of features.

    Returns:
        `Stored`.

    Raises:
        UsageError: it is something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            _check_sizes(file.zip, os.path.getsize(path))
            paths, settings = file["paths"], check_text(parse_json(str(file["settings"])))
        embeddings = _mapped(path, "embeddings.npy")
        sound = isinstance(settings, dict) and embeddings.ndim == 2 and paths.shape == embeddings.shape[:1]
        if not sound or embeddings.dtype != "<f4" or paths.dtype.kind != "U":
            raise ValueError
        "".join(paths.tolist()).encode()  # else they are no text
    except OSError as error:
        raise UsageError(f"--embeddings: {path} can't be read ({error.strerror or error}).") from error
    except Exception:  # whatever numpy, zipfile and zlib raise on something else, also MemoryError
        raise UsageError(f"--embeddings: {path} holds no features of images; give another file.") from None
    return Stored(paths, embeddings, settings)


def _check_sizes(archive, size):
    """Raise ValueError if a member of a zip of that size in bytes is made to fill the memory."""
    for member in archive.infolist():
        # What is packed in another way can be larger than it says.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{member.filename} is packed in another way than stored or deflated")
        if member.file_size > max(_LARGEST_SHRINKING * size, _SMALL_BYTES):
            raise ValueError(f"{member.filename} would take {member.file_size:,} bytes")


def _mapped(path, name):
    """An array of a `.npz` file that is not compressed, read as it is needed."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
        with archive.open(info) as member:
            np.lib.format.read_magic(member)
            shape, _, kind = np.lib.format.read_array_header_1_0(member)
            header = member.tell()
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    with open(path, "rb") as file:
        file.seek(info.header_offset + _LOCAL_HEADER - 4)
        lengths = struct.unpack("<HH", file.read(4))
    if 0 in shape:
        return np.zeros(shape, kind)
    return np.memmap(path, kind, "r", info.header_offset + _LOCAL_HEADER + sum(lengths) + header, shape)


def nearest(stored, query, count, without=None):
    """The images that are most like one, by the cosine of the angle between their features.

    Args:
        stored: `Stored`.
        query: float `(width,)`: the features to compare with.
        count: how many.
        without: a path to leave out.

    Returns:
        Pairs of a path and the cosine, the likest first.
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

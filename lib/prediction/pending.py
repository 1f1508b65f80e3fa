"""Which images have no answer yet, or one of a file that has changed since, and reading them."""

import array
import os
from typing import Mapping, NamedTuple, Optional, Sequence

import numpy as np

from lib.data.images import ImageError, read_image
from lib.storage.ascending import with_facts
from lib.storage.fingerprints import Fingerprint, difference, fingerprint

ROW, FEATURES = KINDS = 1, 2  # what is made of an image, as bits


class Pending(NamedTuple):
    """What is to be made of the images.

    Attributes:
        wanted: for each image the bits of what is to be made.
        stale: of these, the bits of what was made of a file that seems to have changed since.
        checksums: bit -> for each image the checksum of the file that it was made of, if only the file's time differs,
            else -1; empty where that is so for no image.
    """

    wanted: bytearray
    stale: bytearray
    checksums: Mapping[int, Sequence[int]]

    def done(self):
        """Of how many images nothing is to be made."""
        return self.wanted.count(0)


def find_pending(paths, journals):
    """What is to be made of the images by what the journals have, `Pending`; files are looked at, but not opened."""
    pending = Pending(bytearray(len(paths)), bytearray(len(paths)), {kind: array.array("q") for kind in journals})
    for kind, journal in journals.items():
        for number, (path, known, recorded) in enumerate(with_facts(paths, journal.facts())):
            crc = difference(path, recorded) if known else None
            if crc is not None:
                crcs = pending.checksums[kind]
                crcs.extend([-1] * (len(paths) - len(crcs)))
                crcs[number] = crc
                pending.stale[number] |= kind
            if not known or crc is not None:
                pending.wanted[number] |= kind
    return pending


class Answer(NamedTuple):
    """An image's answer.

    Attributes:
        path: as bytes.
        wanted, stale: see `Pending`.
        unchanged: the bits of what is not wanted after all, since only the file's time has changed.
        file: the file's fingerprint.
        problem: the reason why there is no answer; None for none.
        probabilities: float64 `(categories,)`.
        features: float32 `(width,)` or None.
    """

    path: bytes
    wanted: int
    stale: int = 0
    unchanged: int = 0
    file: Optional[Fingerprint] = None
    problem: Optional[str] = None
    probabilities: Optional[np.ndarray] = None
    features: Optional[np.ndarray] = None


def read_pending(answer, crcs, pixels, settings):
    """Read an image, unless its file turns out to be unchanged.

    Args:
        answer: its `Answer` so far.
        crcs: for the bits that are stale the checksum of the content that they were made of.
        pixels: float32 `(size, size, 3)`, to be written to.
        settings: `Settings`.

    Returns:
        The `Answer` with what is known then.
    """
    try:
        file, before = None, os.stat(answer.path) if os.path.exists(answer.path) else None
        if crcs:
            file = fingerprint(answer.path, before)
            unchanged = sum(kind for kind, crc in crcs.items() if 0 <= crc == file.crc32c)
            answer = answer._replace(file=file, wanted=answer.wanted & ~unchanged, unchanged=unchanged)
            if not answer.wanted:
                return answer
        path = os.fsdecode(answer.path)
        pixels[:] = read_image(path, len(pixels), settings.exact, settings.max_pixels)
        return answer._replace(file=file or fingerprint(answer.path, before))
    except ImageError as error:
        return answer._replace(problem=str(error))
    except OSError as error:
        return answer._replace(problem=f"can't be read: {error.strerror}")

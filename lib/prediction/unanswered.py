"""Which images lack an answer, since they have none or have changed since, and reading them."""

import array
import os
from typing import Mapping, NamedTuple, Optional, Sequence

import numpy as np

from lib.data.images import ImageError, read_image
from lib.storage.fingerprints import Fingerprint, difference, fingerprint
from lib.storage.journal import with_facts

ROW, FEATURES = BITS = 1, 2  # what an image lacks, as bits
BOTH = ROW | FEATURES
FORMER = 2  # places by which the bits are shifted


class Lacks(NamedTuple):
    """What the images lack.

    Attributes:
        bits: a byte for each image: `ROW` and `FEATURES`; shifted by `FORMER`, whether there are such of a file that
            has changed.
        checksums: bit -> for each image the checksum of the file that its row or features are of, if only the file's
            time differs; empty where that is so for no image.
    """

    bits: bytearray
    checksums: Mapping[int, Sequence[int]]

    def done(self):
        """How many images lack nothing."""
        return self.bits.count(0)


def find_lacks(paths, journals):
    """What the images lack in the journals, as `Lacks`; files are looked at, but not opened."""
    lacks = Lacks(bytearray(len(paths)), {bit: array.array("q") for bit in journals})
    for bit, journal in journals.items():
        for number, (path, known, recorded) in enumerate(with_facts(paths, journal.facts())):
            crc = difference(path, recorded) if known else None
            if crc is not None:
                crcs = lacks.checksums[bit]
                crcs.extend([-1] * (len(paths) - len(crcs)))
                crcs[number] = crc
                lacks.bits[number] |= bit << FORMER
            if not known or crc is not None:
                lacks.bits[number] |= bit
    return lacks


class Answer(NamedTuple):
    """An image's answer.

    Attributes:
        path: as bytes.
        lack: the bits of what it lacked.
        same: those of what is of the file's content after all.
        file: the file's fingerprint.
        problem: the reason why there is no answer; None for none.
        probabilities: float64 `(categories,)`.
        features: float32 `(width,)` or None.
    """

    path: bytes
    lack: int
    same: int = 0
    file: Optional[Fingerprint] = None
    problem: Optional[str] = None
    probabilities: Optional[np.ndarray] = None
    features: Optional[np.ndarray] = None


def read(answer, crcs, pixels, settings):
    """Read an image, if it is not as it was: its pixels into `pixels`; returns its answer with what is known then.

    Args:
        answer: its `Answer`.
        crcs: bit of what it lacks -> the checksum of the content that its row or features are of.
        pixels: float32 `(size, size, 3)`, to be written to.
        settings: `Settings`.
    """
    try:
        file, before = None, os.stat(answer.path) if os.path.exists(answer.path) else None
        if crcs:
            file = fingerprint(answer.path, before)
            same = sum(bit for bit, crc in crcs.items() if 0 <= crc == file.crc32c)
            answer = answer._replace(file=file, same=same)
            if answer.lack & BOTH == same:
                return answer
        path = os.fsdecode(answer.path)
        pixels[:] = read_image(path, len(pixels), settings.exact, settings.max_pixels)
        return answer._replace(file=file or fingerprint(answer.path, before))
    except ImageError as error:
        return answer._replace(problem=str(error))
    except OSError as error:
        return answer._replace(problem=f"can't be read: {error.strerror}")

"""The settings of downloads."""

import dataclasses
from typing import Optional, Tuple


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of `downloadImages.py`.

    Attributes:
        input: a Darwin Core Archive or a table with addresses of images.
        output: the directory for the images, their index and the errors.
        column: the column of addresses; None for the usual ones.
        licences: the licences of images to take, of `lib.download.licences.KNOWN`; None for all, and for images without
            one.
        kind: the type of media to take, `any` for all.
        limit: how many images to take, the first; None for all.
        sample: how many images to take, drawn at random; None for all.
        seed: of the draw.
        contact: an e-mail address or web page of whoever downloads, which is sent to the servers.
        per_host: at most how many connections to one host.
        connections: at most how many connections in all.
        timeout: at most how many seconds one request takes.
        max_bytes: the largest file that is taken.
        longest: the longer side in pixels that larger images are shrunk to; None to keep files as they are.
        allow_private: whether addresses of the machine itself and of its network may be connected to.
        overwrite: whether to fetch again what is there already.
        strict: whether an image that can't be downloaded makes the exit status 1.
        processors: how many cores to use; None for all.
    """

    input: str
    output: str
    column: Optional[str] = None
    licences: Optional[Tuple[str, ...]] = None
    kind: str = "StillImage"
    limit: Optional[int] = None
    sample: Optional[int] = None
    seed: int = 123456789
    contact: Optional[str] = None
    per_host: int = 4
    connections: int = 64
    timeout: int = 300
    max_bytes: int = 200_000_000
    longest: Optional[int] = None
    allow_private: bool = False
    overwrite: bool = False
    strict: bool = False
    processors: Optional[int] = None

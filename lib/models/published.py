"""The published models: what their files are called, where they are, and where they come from."""

import contextlib
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from typing import NamedTuple, Optional

from lib.errors import UsageError, WorkError
from lib.storage.files import checksum, whole_file
from lib.storage.untrusted import one_line


class Published(NamedTuple):
    """A published model: its file's name, what to do if it is missing, and, if it can be fetched, its address, size in
    bytes and SHA-256."""

    file: str
    advice: str
    url: Optional[str] = None
    bytes: Optional[int] = None
    sha256: Optional[str] = None


MODELS = {
    "ConvNeXt-N": Published(
        "ConvNeXt-distilled.keras",
        "download it from {url} with a browser and put it there",
        url="https://github.com/dpl10/herbariograph/raw/refs/heads/main/ConvNeXt-distilled.keras",
        bytes=4152516,
        sha256="d987950a01fee8978a6b7708571d37020b9b84e64db9b9819575cef2f9040fa3",
    ),
    "ConvNeXt-T": Published(
        "ConvNeXt-T.keras",
        "its authors share it as https://drive.google.com/file/d/1j7GQTc1TrOvXmBRjeAJjGq799uuGnqDC "
        "(106 MB), which only a browser can download; put it there under that name",
    ),
}

PUBLISHED_SIZE = 96  # the height and width of the images that they were trained on, which their files don't say
TIMEOUT_SECONDS = 30


def model_directory(given=None):
    """The directory of published models: as given, else $HERBARIOGRAPH_MODELS, else ~/.cache/herbariograph."""
    return given or os.environ.get("HERBARIOGRAPH_MODELS") or os.path.expanduser("~/.cache/herbariograph")


def check_model_name(model, directory=None):
    """Raise UsageError unless `model` can be found or fetched: a published model's name or an existing file."""
    if model not in MODELS and not os.path.isfile(model):
        raise UsageError(f"{model!r} is neither {' nor '.join(MODELS)} nor an existing .keras file.", "model")
    if model in MODELS and MODELS[model].url is None:
        path = os.path.join(model_directory(directory), MODELS[model].file)
        if not os.path.isfile(path):
            raise UsageError(f"{path} does not exist; {MODELS[model].advice}.", "model")


def is_published(path):
    """Whether a file is a published model: by its content or, where that is not on record here, by its name, if it is
    not one that was made here."""
    return any(
        os.path.basename(path) == each.file and not _made_here(path)
        if each.sha256 is None
        else os.path.getsize(path) == each.bytes and checksum(path) == each.sha256
        for each in MODELS.values()
    )


def _made_here(path):
    """Whether a model file says the size of its images, as no published one does."""
    from lib.models.keras_archives import open_archive

    with contextlib.suppress(Exception), open_archive(path) as content:  # a damaged file raises anything
        return content.image_size is not None
    return False


def find_model(model, directory=None):
    """The file of a model, fetched into the model directory where it is a published one that is missing.

    Args:
        model: a published model's name or the path of a `.keras` file.
        directory: that of published models; None for the default.

    Raises:
        UsageError: no such model, or the file in the model directory is not the published one.
        WorkError: it could not be fetched; the message says where to put the file.
    """
    check_model_name(model, directory)
    if model not in MODELS:
        return model
    published = MODELS[model]
    path = os.path.join(model_directory(directory), published.file)
    if not os.path.exists(path):
        _fetch(published, path)
    elif published.sha256 and checksum(path) != published.sha256:
        cure = "remove it, or give its path instead"
        raise UsageError(f"{path} is not the published {model} (its SHA-256 differs); {cure}.", "model")
    return path


def _fetch(published, path):
    """Download a published model; it appears under its name only when size and SHA-256 are right."""
    advice = published.advice.format(url=published.url)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with urllib.request.urlopen(published.url, timeout=TIMEOUT_SECONDS) as response:
            content = response.read(published.bytes + 1)
        if hashlib.sha256(content).hexdigest() != published.sha256:
            cause = f"the download from {published.url} is not the published file"
            raise WorkError(f"{cause}; {path} is still missing: {advice}.")
        with whole_file(path, "wb") as file:
            file.write(content)
    except (OSError, http.client.HTTPException) as error:  # urllib.error.URLError is an OSError, too
        reason = one_line(getattr(error, "reason", error))
        raise WorkError(f"{path} is missing and can't be downloaded ({reason}); {advice}.") from error

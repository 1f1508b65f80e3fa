"""JSON, numbers and zips from outside: whatever they hold, these functions raise only the errors they name."""

import contextlib
import itertools
import json
import re
import zipfile

from lib.errors import UsageError


class RefusedError(ValueError):
    """A file is refused; the message is a clause that follows its name, such as "has no weights"."""


@contextlib.contextmanager
def refusing(path, kind):
    """Raise UsageError, naming a file, for whatever goes wrong while it is read in the block.

    Args:
        path: the file.
        kind: what it should be, such as "checkpoint".
    """
    try:
        yield
    except (UsageError, MemoryError):
        raise
    except RefusedError as error:
        raise UsageError(f"{path} {error}.") from error
    except FileNotFoundError:
        raise UsageError(f"{path} doesn't exist; give an existing {kind}.") from None
    except Exception as error:  # a damaged file makes zipfile, pickle, h5py and others raise anything
        raise UsageError(f"{path} is not a whole {kind} ({one_line(error)}).") from error


def one_line(error):
    """An error's message in one line; its class's name if it has none."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error  # else it would be in quotes
    return " ".join(str(message).split()) or type(error).__name__


# For members of tables and arrays: how many times larger than the zip, since rows and names that
# begin alike shrink much, and the bytes that any may have.
SHRINKING, SMALL_BYTES = 200, 64 << 20


def check_zip_member(member, archive_size, shrinking=1, small=0):
    """Raise ValueError if a member of a zip would fill the memory when it is read.

    Args:
        member: its `zipfile.ZipInfo`.
        archive_size: the bytes of the zip; what the zip itself says is not to be trusted.
        shrinking: how many times larger than the zip the member may be; 1 for formats that never compress.
        small: bytes that any member may have.
    """
    # By bzip2 and LZMA a few bytes become gigabytes before Python counts them against the member's size.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[: 1 + (shrinking > 1)]:
        raise ValueError(f"its {member.filename} is compressed in a way that this format never uses")
    if member.file_size > max(shrinking * archive_size, small):
        raise ValueError(f"its {member.filename} would take {member.file_size:,} bytes")


_MOST_LEVELS = 300


def parse_json(text):
    """The value of a JSON text, or of its bytes. Raises ValueError if it is not JSON or nested too deeply."""
    if isinstance(text, (bytes, bytearray)):
        text = text.decode(json.detect_encoding(text), "surrogatepass")
    # Rather than let Python notice: its limit may be met by whatever runs then, such as a finalizer, and 3.8 aborts.
    if isinstance(text, str) and text.count("[") + text.count("{") > _MOST_LEVELS < _levels(text):
        raise ValueError("it is nested too deeply")
    return json.loads(text)


def _levels(text):
    """How deeply a JSON text is nested, or one that is not JSON at least."""
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])  # without its texts
    steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", outside))
    return max(itertools.accumulate(steps), default=0)


def is_whole_number(text):
    """Whether a text is a whole number of 0 or more, of up to 18 ASCII digits, which every program's integers hold."""
    return text.isascii() and text.isdecimal() and len(text) <= 18


def check_text(value):
    """A parsed JSON value; raises ValueError if a text anywhere in it has a lone surrogate, which JSON can hold."""
    json.dumps(value, ensure_ascii=False).encode()
    return value


def json_text(value):
    """A value as indented JSON for a UTF-8 file: lone surrogates, as in names that are not UTF-8, stay escaped."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()

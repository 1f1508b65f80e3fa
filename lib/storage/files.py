"""Files that appear whole or not at all, and files that one process has for itself."""

import contextlib
import errno
import fcntl
import hashlib
import os
import time


@contextlib.contextmanager
def whole_file(path, mode="w", **options):
    """Open a temporary file beside `path` for writing; when the block ends well it becomes `path`, else it goes.

    A reader sees the former file or the new one, never a part. What is written reaches the disk before the name does.

    Args:
        path: the file to write.
        mode, **options: as of `open`; text is UTF-8 with unchanged newlines unless told otherwise.

    Raises:
        OSError: the folder is not there or can't be written to, or the disk is full; `path` is as it was.
    """
    path = os.path.realpath(path)  # of a link, what it leads to is written
    if "b" not in mode:
        options = dict({"encoding": "utf-8", "newline": ""}, **options)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename in (None, temporary):
            raise OSError(error.errno, error.strerror, path) from error  # the name that the caller knows
        raise


def check_regular(path):
    """Raise OSError if there is something else than a file at a path: to open a named pipe could take for ever."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, "it is not a regular file", path)


def patience():
    """How many seconds to wait for what another process has locked, before it is called in use.

    In a job that Slurm has begun again that may be its own former turn's: on a node that is gone, or not quite ended.
    """
    return 300.0 if (os.environ.get("SLURM_RESTART_COUNT") or "0") != "0" else 0.0


def lock(descriptor):
    """Lock an open file for this process alone, with `patience`.

    Returns:
        Whether it is; also true, without a lock, on a file system that has none.
    """
    end = time.monotonic() + patience()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.5)
        except OSError:
            return True
        else:
            return True


def open_locked(path):
    """Open a file for reading and appending bytes, made when it is not there; one process at a time may have it.

    Returns:
        The open file; None if another process has it.

    Raises:
        OSError: it is no regular file.
    """
    check_regular(path)
    while True:
        file = open(path, "a+b")  # noqa: SIM115 - the caller closes it
        if not lock(file):
            file.close()
            return None
        try:
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except FileNotFoundError:
            pass
        file.close()  # the process that had it removed it between opening and locking


def checksum(path):
    """The SHA-256 of a file's content, in hexadecimal."""
    check_regular(path)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def checksum_of(path):
    """The SHA-256 of a file's content, or of a directory's: of all that is in it, by name."""
    if not os.path.isdir(path):
        return checksum(path)
    digest = hashlib.sha256()
    for parent, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            place = os.path.join(parent, name)
            digest.update(f"{os.path.relpath(place, path)}\0{checksum(place)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()

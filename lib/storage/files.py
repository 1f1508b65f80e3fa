"""Files that appear whole or not at all, files that one process locks, checksums."""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import time


@contextlib.contextmanager
def whole_file(path, mode="w", **options):
    """Open a temporary file beside `path` for writing; when the block ends well it becomes `path`, else it goes.

    A reader sees the former file or the new one, never a part. What is written reaches the disk before the name does.

    Args:
        path: the file to write.
        mode, **options: as of `open`; text is UTF-8 with unchanged newlines by default.

    Raises:
        OSError: the folder is missing or can't be written to, or the disk is full; `path` is as it was.
    """
    path = os.path.realpath(path)  # of a link, what it leads to is written
    if "b" not in mode:
        options = dict({"encoding": "utf-8", "newline": ""}, **options)
    temporary = temporary_name(path)
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


def temporary_name(path):
    """A name beside `path` that nobody else writes to, also not a process of the same number on another machine."""
    return f"{path}.{os.getpid()}{secrets.randbelow(10**9):09d}.tmp"


def check_regular(path):
    """Raise OSError if a path exists and is no regular file: opening a named pipe could wait for ever."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, "it is not a regular file", path)


def open_locked(path):
    """Open a file for reading and appending bytes, create it if missing, and lock it until it is closed.

    Returns:
        The open file; None if another process holds the lock.

    Raises:
        OSError: it can't be opened, or is no regular file.
    """
    check_regular(path)
    while True:
        file = open(path, "a+b")  # noqa: SIM115 - the caller closes it
        if not lock(file):
            file.close()
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        file.close()  # the process that held the lock removed the file between our opening and locking it


def lock(descriptor):
    """Lock an open file for this process alone, without waiting, but for minutes in a job that Slurm has restarted.

    There the lock may still be that of the job's previous run, on a node that failed or in a process about to end.

    Returns:
        False if another process holds the lock; true, too, on a file system without locks.
    """
    restarted = (os.environ.get("SLURM_RESTART_COUNT") or "0") != "0"
    end = time.monotonic() + (300 if restarted else 0)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.5)
        except OSError:
            return True


def checksum(path):
    """The SHA-256 of a file's content, in hexadecimal."""
    check_regular(path)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def checksum_of(path):
    """The SHA-256 of a file's content, or of the names and contents of all files in a directory."""
    if not os.path.isdir(path):
        return checksum(path)
    digest = hashlib.sha256()
    for parent, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            place = os.path.join(parent, name)
            digest.update(f"{os.path.relpath(place, path)}\0{checksum(place)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()

"""Run a command and log how long it took and how much memory it used.

    python -m tools.stage_log LOG COMMAND ARGUMENT…

appends a line to the table LOG, with the header `STARTED SECONDS PEAK_MIB STATUS COMMAND`, and exits as the
command does. PEAK_MIB is the peak resident memory of one process: the command or a child that it waited for.
"""

import argparse
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import time
from typing import Tuple

from lib.cli.program import parser, run
from lib.cli.types import output_file
from lib.errors import UsageError
from lib.storage.names import escape_name

HEADER = ("STARTED", "SECONDS", "PEAK_MIB", "STATUS", "COMMAND")
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The command and its log.

    Attributes:
        log: the table to append to; it begins with a header when it is new.
        program: the program and its arguments.
    """

    log: str
    program: Tuple[str, ...]


def run_logged(settings):
    """Run a command to its end and append its line to a log.

    Returns:
        The exit status as a shell has it: 128 and the signal's number for a command that a signal ended.

    Raises:
        UsageError: there is no command.
        OSError: the command can't be started or the log not be written.
    """
    if not settings.program:
        raise UsageError("COMMAND: name a program to run.")
    started, begin = time.strftime("%Y-%m-%dT%H:%M:%S%z"), time.monotonic()
    process, early = None, []  # signals that come before the command has started

    def forward(number, _):
        if process is None:
            early.append(number)
        else:
            process.send_signal(number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    # Ctrl-C reaches the command directly, which decides what to do. (Ignoring the signal would be inherited.)
    signal.signal(signal.SIGINT, lambda *_: None)
    process = subprocess.Popen(settings.program)
    for number in early:
        process.send_signal(number)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    seconds, command = time.monotonic() - begin, escape_name(" ".join(map(shlex.quote, settings.program)))
    values = (started, f"{seconds:.1f}", f"{usage.ru_maxrss / unit:.0f}", str(status), command)
    with open(settings.log, "a", encoding="utf-8") as file:
        lines = [HEADER, values] if file.tell() == 0 else [values]
        file.write("".join("\t".join(line) + "\n" for line in lines))  # in one piece: a kill leaves no half line
    return status


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    made.add_argument("log", type=output_file, metavar="LOG", help="the table to append to")
    made.add_argument("program", nargs=argparse.REMAINDER, metavar="COMMAND", help="a program and its arguments")
    return made


def main(argv=None):
    """Run the command line; returns its exit status."""
    return run(options(), run_logged, Settings, argv)


if __name__ == "__main__":
    raise SystemExit(main())

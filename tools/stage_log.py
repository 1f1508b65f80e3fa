"""Run a command and log how long it took and how much memory it used.

    python -m tools.stage_log LOG COMMAND ARGUMENT…

appends a line to the table LOG, with the header `STARTED SECONDS PEAK_MIB STATUS COMMAND`, and exits as the
command does. PEAK_MIB is the peak resident memory of one process: the command or a child that it waited for.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time

from lib.cli import legacy as cli
from lib.errors import UsageError
from lib.storage.names import escape_name

HEADER = ("STARTED", "SECONDS", "PEAK_MIB", "STATUS", "COMMAND")
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def run_logged(log, command):
    """Run a command to its end and append its line to a log.

    Args:
        log: the table's path; it begins with a header when it is new.
        command: the program and its arguments.

    Returns:
        The exit status as a shell has it: 128 and the signal's number for a command that a signal ended.

    Raises:
        OSError: the command can't be started or the log not be written.
    """
    started, begin = time.strftime("%Y-%m-%dT%H:%M:%S%z"), time.monotonic()
    process, early = None, []  # signals that come before the command is there

    def forward(number, _):
        if process is None:
            early.append(number)
        else:
            process.send_signal(number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    # Ctrl-C reaches the command by itself, and what it makes of it is what counts. (Ignoring it would be inherited.)
    signal.signal(signal.SIGINT, lambda *_: None)
    process = subprocess.Popen(command)
    for number in early:
        process.send_signal(number)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    values = (
        started,
        f"{time.monotonic() - begin:.1f}",
        f"{usage.ru_maxrss / unit:.0f}",
        str(status),
        escape_name(" ".join(map(shlex.quote, command))),
    )
    with open(log, "a", encoding="utf-8") as file:
        lines = [HEADER, values] if file.tell() == 0 else [values]
        file.write("".join("\t".join(line) + "\n" for line in lines))  # in one piece: a kill leaves no half line
    return status


def main(argv=None):
    """Run the command line; returns its exit status."""
    parser = cli.parser(__doc__)
    parser.add_argument("log", type=cli.output_file, metavar="LOG", help="the table to append to")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="a program and its arguments")
    return cli.run(parser, _work, argv)


def _work(arguments):
    if not arguments.command:
        raise UsageError("COMMAND: name a program to run.")
    return run_logged(arguments.log, arguments.command)


if __name__ == "__main__":
    raise SystemExit(main())

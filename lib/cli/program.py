"""The frame of every script: parse the command line, run the stage, report errors, return the exit status.

Nothing here imports more than Python's own modules, so that `--help` and a wrong option answer at once.
"""

import argparse
import contextlib
import dataclasses
import errno
import logging
import os
import re
import signal
import sys

from lib.errors import StageError, UsageError
from lib.storage.names import JOINERS
from lib.system.processes import Interrupted, interrupt

RESULTS = "results"  # the logger for stdout

# Packages by the names of their modules, where these differ.
_PACKAGES = {"PIL": "pillow", "google": "protobuf", "sklearn": "scikit-learn"}

_MENTIONED = re.compile(r"⟦(\w+)⟧")  # of `lib.errors.option`


class Parser(argparse.ArgumentParser):
    """argparse whose complaint about a wrong call is one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {_one_line(message)} (--help lists the options)\n")


class Ignored(argparse.Action):
    """An option that is accepted, and checked, for the sake of users of other stages, and does nothing."""

    def __init__(self, *arguments, **options):
        options.update(default=argparse.SUPPRESS, help="accepted for compatibility; does nothing here")
        super().__init__(*arguments, **options)

    def __call__(self, *arguments):
        pass


class Collected(argparse.Action):
    """An option that may be given several times, and whose values, tuples, are then joined."""

    def __call__(self, parser, namespace, values, option_string=None):
        former = getattr(namespace, self.dest, None) or ()
        setattr(namespace, self.dest, tuple(dict.fromkeys((*former, *values))))


def parser(documentation, settings=None):
    """A parser for a script.

    Args:
        documentation: the script's docstring: its first paragraph says what it does, the rest follows the options.
        settings: the stage's dataclass of settings. Options have the names of its fields as `dest`, and its defaults.
    """
    summary, _, rest = documentation.partition("\n\n")
    made = Parser(description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter)
    made._negative_number_matcher = re.compile(r"-[\d.]")  # so that -1.0,2.0 is a value, not only -1.0
    if settings is not None:
        fields = dataclasses.fields(settings)
        made.set_defaults(**{each.name: each.default for each in fields if each.default is not dataclasses.MISSING})
    return made


def run(options, stage, settings, argv=None):
    """Parse the command line and run the stage.

    Args:
        options: the parser; its options are the fields of `settings`.
        stage: called with the settings; returns an exit status, None for 0.
        settings: the stage's dataclass. If it has a field `command` that is the command line, program first.
        argv: the arguments, by default those of the process.

    Returns:
        The exit status: 0, 1 for work that failed, 2 for a wrong call, 128 + the signal's number after a signal.
    """
    if argv is None:
        _use_utf8()
        argv = sys.argv[1:]
    _open_standard_streams()
    arguments = options.parse_args(argv)
    if any(field.name == "command" for field in dataclasses.fields(settings)):
        arguments.command = (options.prog, *argv)
    with _surroundings(options):
        try:
            return stage(settings(**vars(arguments))) or 0
        except StageError as error:
            about = f"{_spelled(options, error.setting)}: " if error.setting else ""
            return _complain(options, f"{about}{error}", 2 if isinstance(error, UsageError) else 1)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] in ("lib", "tools"):
                raise
            package = _PACKAGES.get(error.name.split(".")[0], error.name)
            cure = "enter the environment of `make setup` (`make predict` if you only categorise)"
            return _complain(options, f"the package {package} is missing; {cure} with `. .venv/bin/activate`.", 1)
        except MemoryError as error:
            return _complain(options, str(error) or "there is not enough memory.", 1)
        except OSError as error:
            return _complain(options, f"{error.filename}: {error.strerror}." if error.filename else error, 1)
        except KeyboardInterrupt:
            return _complain(options, "stopped by Ctrl-C.", 128 + signal.SIGINT)
        except Interrupted as interruption:
            number = signal.Signals(interruption.args[0])
            return _complain(options, f"stopped by {number.name}.", 128 + number)


@contextlib.contextmanager
def _surroundings(options):
    """Signals become exceptions, output may lose its reader, and messages are shown, while the block runs."""
    # nohup ignores SIGHUP, which is to stay so.
    traps = [signal.SIGTERM, *([signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else [])]
    former = {number: signal.signal(number, interrupt) for number in traps}
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_Lasting, streams)
    handlers = _log_to_the_terminal(options)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        sys.stdout.flush()
        sys.stdout, sys.stderr = streams
        for logger, handler in handlers:
            logger.removeHandler(handler)


class _Lasting:
    """A stream whose reader may go away, such as `head` or a terminal that is closed: the work goes on without it.

    Args:
        stream: what is written to until then.
    """

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        self._do(self._stream.write, text)
        return len(text)

    def flush(self):
        self._do(self._stream.flush)

    def _do(self, function, *arguments):
        try:
            function(*arguments)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class _Printer(logging.Handler):
    """Prints messages, with options spelled out, to the current stream, which tests replace."""

    def __init__(self, options, stream):
        super().__init__()
        self._options, self._stream = options, stream

    def emit(self, record):
        print(_with_options(self._options, record.getMessage()), file=getattr(sys, self._stream), flush=True)


def _log_to_the_terminal(options):
    """Send messages of `lib` and the tools to stderr, results to stdout; returns pairs of logger and handler."""
    found = []
    for name, stream in (("lib", "stderr"), ("tools", "stderr"), (RESULTS, "stdout")):
        logger, handler = logging.getLogger(name), _Printer(options, stream)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        found.append((logger, handler))
    return found


def _spelled(options, setting):
    """The script's option for a setting, such as `-s/--smooth`; the setting itself if there is none."""
    for action in options._actions:
        if action.dest == setting and action.option_strings:
            return "/".join(action.option_strings)
    return setting


def _with_options(options, message):
    """A message whose mentions of settings are replaced by options."""
    return _MENTIONED.sub(lambda match: _spelled(options, match[1]), message)


def _use_utf8():
    """Where the locale is of another encoding, start this process again in Python's UTF-8 mode (PEP 540).

    Names of files are UTF-8 nearly everywhere, whatever the terminal is set to: in Latin-1 Python would take each `Ä`
    for two other letters, and write those into tables. What is printed stays in the terminal's encoding.
    """
    encoding, started = sys.getfilesystemencoding(), "/proc/self/cmdline"
    if encoding == "utf-8" or os.environ.get("PYTHONUTF8") == "1" or not os.path.exists(started):
        return
    os.environ.update(PYTHONUTF8="1", PYTHONIOENCODING=os.environ.get("PYTHONIOENCODING") or encoding)
    with open(started, "rb") as file:  # in bytes: not every character that Python made of them can be turned back
        _, *arguments = file.read()[:-1].split(b"\0")
    os.execv(sys.executable, [os.fsencode(sys.executable), *arguments])


def _open_standard_streams():
    """Open those of stdin, stdout and stderr that are closed, since the next opened files would take their numbers.

    File names that are not UTF-8 go to a stdout in UTF-8 unchanged. In another encoding, what it lacks is printed as
    Python's escapes.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    if hasattr(sys.stdout, "reconfigure"):
        plain = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        sys.stdout.reconfigure(errors="surrogateescape" if plain else "backslashreplace")


def _complain(options, message, status):
    print(f"{options.prog}: {_one_line(_with_options(options, str(message)))}", file=sys.stderr)
    return status


def _one_line(message):
    """A message without line breaks and control characters, which file names may hold."""
    return "".join(sign if sign.isprintable() or sign in JOINERS else ascii(sign)[1:-1] for sign in str(message))

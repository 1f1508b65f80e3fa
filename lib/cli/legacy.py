"""The former `lib.cli.program`, for the scripts that are still called the former way; it goes with the last of them.

Nothing here imports more than Python's own modules, so that `--help` and a wrong option answer at once.
"""

import argparse
import contextlib
import glob
import os
import signal
import sys

from lib.cli.program import _log_to_the_terminal, _spelled, _with_options
from lib.errors import StageError, UsageError
from lib.system.processes import Interrupted, interrupt

IGNORED = "accepted for compatibility; does nothing here"  # the help of an option that other stages have

_JOINERS = "\u200c\u200d"  # which can't be seen, but scripts such as Persian need them within words


class Parser(argparse.ArgumentParser):
    """argparse whose complaint about a wrong call is one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {_one_line(message)} (--help lists the options)\n")


def parser(documentation):
    """A parser for a script: its docstring's first paragraph says what it does, the rest follows the options."""
    summary, _, rest = documentation.partition("\n\n")
    return Parser(description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_device_options(options, computes=True, parallel=True, several=False):
    """Add `-c`, `-g` and `-p`, which most stages have.

    Args:
        options: the parser.
        computes: False for a stage that accepts `-c` and `-g` only for the sake of the others.
        parallel: False for one that accepts `-p` so, too.
        several: whether `-g` may name several GPUs; it gives a tuple then.
    """
    group = options.add_argument_group("device")
    group.add_argument("-c", "--cpu", action="store_true", help="use the CPU only" if computes else IGNORED)
    group.add_argument(
        "-g",
        "--gpu",
        type=whole_numbers if several else whole_number(0),
        default=(0,) if several else 0,
        metavar="INDEX",
        help=f"the GPU to use, if any{', or several, such as 0,1' if several else ''} (0)" if computes else IGNORED,
    )
    group.add_argument(
        "-p",
        "--processors",
        type=whole_number(1, 4096),  # more than any machine has, and what TensorFlow still takes
        metavar="COUNT",
        help="number of CPU cores to use (all)" if parallel else IGNORED,
    )


def add_duplicates_option(options):
    """Add `--duplicates`: the number of bits, None for off."""

    def bits(text):
        return None if text == "off" else whole_number(0, 10)(text)

    options.add_argument(
        "--duplicates",
        type=bits,
        default=4,
        metavar="BITS",
        help="images whose 64-bit dHashes differ in at most this many bits are near-duplicates: 0 to 10, or off (4)",
    )


def add_skip_option(options):
    """Add `--skip-bad`."""
    options.add_argument("--skip-bad", action="store_true", help="leave out bad records instead of stopping at one")


def whole_number(lowest, highest=None):
    """An option's type: a whole number from `lowest` to `highest`."""

    def number(text):
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < lowest or (highest is not None and value > highest):
            limits = f"of {lowest} or more" if highest is None else f"from {lowest} to {highest}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limits}")
        return value

    return number


def whole_numbers(text):
    """An option's type: whole numbers of 0 or more with commas between them, as a tuple."""
    numbers = tuple(map(whole_number(0), text.split(",")))
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} names one twice")
    return numbers


def number(lowest, highest=None, ends=True, above=False):
    """An option's type: a number from `lowest` to `highest`; between them if not `ends`, above the first if `above`."""

    def parse(text):
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if above and value == lowest:
            value = float("nan")
        above_lowest = value >= lowest if ends else value > lowest
        below = value < float("inf") if highest is None else value <= highest if ends else value < highest
        if not (above_lowest and below):
            if highest is None:
                limits = f"of {lowest} or more" if ends else f"above {lowest}"
            else:
                limits = f"{'from' if ends else 'between'} {lowest} {'to' if ends else 'and'} {highest}"
                limits = f"above {lowest}, up to {highest}" if above else limits
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {limits}")
        return value

    return parse


def parsed(parse):
    """An option's type of a function that raises ValueError with a clause about a wrong text."""

    def convert(text):
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def existing_file(text):
    """An option's type: a file that is there."""
    if not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an existing file")
    return text


def existing_directory(text):
    """An option's type: a directory that is there."""
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an existing directory")
    return text


def teacher(text):
    """An option's type: a `.keras` file, or the directory of a SavedModel."""
    if os.path.isdir(text) and not os.path.isfile(os.path.join(text, "saved_model.pb")):
        raise argparse.ArgumentTypeError(f"{text!r} is a directory without a SavedModel's saved_model.pb")
    if not os.path.isdir(text) and not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a .keras file nor the directory of a SavedModel")
    return text


def record_files(text):
    """An option's type: record files, as a path, a glob, or a list of both with commas between them."""
    if os.path.isfile(text):
        return (text,)
    found = []
    for part in text.split(","):
        matching = [part] if os.path.isfile(part) else sorted(filter(os.path.isfile, glob.glob(part)))
        if not matching:
            raise argparse.ArgumentTypeError(f"{part!r} is not an existing file and matches none")
        found.extend(matching)
    return tuple(dict.fromkeys(found))


def output_file(text):
    """An option's type: a file to be written, in a directory that is there."""
    folder = os.path.dirname(text) or "."
    if not os.path.isdir(folder):
        raise argparse.ArgumentTypeError(f"{text!r} would be in {folder!r}, which is not a directory")
    if not os.path.basename(text) or (os.path.exists(text) and not os.path.isfile(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular file, so it can't be overwritten")
    return text


def output_directory(text):
    """An option's type: a directory to write into, there or to be made in one that is there."""
    if os.path.exists(text) and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is a file, not a directory")
    folder = os.path.dirname(os.path.abspath(text))
    if not os.path.isdir(folder):
        raise argparse.ArgumentTypeError(f"{text!r} would be in {folder!r}, which is not a directory")
    return text


def output_prefix(text):
    """An option's type: how the names of files to be written begin, in a directory that is there."""
    folder = os.path.dirname(text) or "."
    if not os.path.isdir(folder):
        raise argparse.ArgumentTypeError(f"{text!r} would be in {folder!r}, which is not a directory")
    if not os.path.basename(text):
        raise argparse.ArgumentTypeError(f"{text!r} needs a name prefix after the last slash")
    return text


def output_model(text):
    """An option's type: a `.keras` file to be written, in a directory that is there."""
    if not text.endswith(".keras"):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .keras")
    return output_file(text)


def output_ending(*endings):
    """An option's type: a file to be written whose name ends like one of these."""

    def check(text):
        if not text.lower().endswith(endings):
            raise argparse.ArgumentTypeError(f"{text!r} must end in {' or '.join(endings)}")
        return output_file(text)

    return check


@contextlib.contextmanager
def naming(option):
    """Put an option's name before what is wrong with its value."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from error


def report(message):
    """Tell the user something, on stderr: stdout is for results."""
    print(message, file=sys.stderr)


def run(options, work, argv=None):
    """Parse the command line and do the work.

    Args:
        options: the parser.
        work: called with the parsed arguments, whose `command_line` is the whole of it if `argv` is given; returns an
            exit status, None for 0.
        argv: the arguments, by default those of the process.

    Returns:
        The exit status: 0, 1 for work that failed, 2 for a wrong call, 128 + the signal's number after a signal.
    """
    _open_standard_streams()
    arguments = options.parse_args(argv)
    arguments.command_line = None if argv is None else [options.prog, *argv]
    former = signal.signal(signal.SIGTERM, interrupt)
    handlers = _log_to_the_terminal(options)
    try:
        return work(arguments) or 0
    except StageError as error:
        about = f"{_spelled(options, error.setting)}: " if error.setting else ""
        message = _with_options(options, f"{about}{error}")
        return _complain(options, message, 2 if isinstance(error, UsageError) else 1)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("lib", "tools"):
            raise
        return _complain(
            options, f"the package {error.name} is missing; run `make setup` and `. .venv/bin/activate`.", 1
        )
    except MemoryError as error:
        return _complain(options, str(error) or "there is not enough memory.", 1)
    except OSError as error:
        return _complain(options, f"{error.filename}: {error.strerror}." if error.filename else error, 1)
    except KeyboardInterrupt:
        return _complain(options, "stopped by Ctrl-C.", 128 + signal.SIGINT)
    except Interrupted:
        return _complain(options, "told to stop.", 128 + signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, former)
        for logger, handler in handlers:
            logger.removeHandler(handler)


def _open_standard_streams():
    """Open what of stdin, stdout and stderr is closed: else the first files to be opened would be taken for them.

    Names of files go to stdout as the bytes that they are, also those that are not UTF-8.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")


def _complain(options, message, status):
    print(f"{options.prog}: {_one_line(message)}", file=sys.stderr)
    return status


def _one_line(message):
    """A message whose names of files can neither end the line nor tell the terminal anything."""
    return "".join(sign if sign.isprintable() or sign in _JOINERS else ascii(sign)[1:-1] for sign in str(message))

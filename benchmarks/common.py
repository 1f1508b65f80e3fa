"""What the benchmarks share: whole processes measured from outside, the machine in words, and the one table."""

import argparse
import contextlib
import datetime
import logging
import os
import platform
import subprocess
import sys
import time
from typing import NamedTuple

from lib.system.packages import versions_of

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

ROWS = "HERBARIOGRAPH_BENCH_ROWS"  # the environment variable that names the file for the one table's rows
COLUMNS = (
    *("stage", "command", "worked on", "rate or time", "peak memory", "times the plain way"),
    *("TensorFlow", "Python", "date"),
)


class Measured(NamedTuple):
    """A process: seconds from start to end, peak memory in MiB, seconds of all cores together."""

    seconds: float
    peak_mib: float
    cpu_seconds: float


def measure(command):
    """Run a command to its end and measure it; its output goes to stderr. RuntimeError if it fails."""
    environment = dict(os.environ, PYTHONPATH=ROOT, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=sys.stderr)
    peak, ended = 0, 0
    while not ended:
        # Not the usage that is known when it has ended: that counts what this process had when it started it.
        with contextlib.suppress(OSError), open(f"/proc/{process.pid}/status") as file:
            peak = max([peak] + [int(line.split()[1]) for line in file if line.startswith("VmHWM")])
        time.sleep(0.02)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    seconds = time.perf_counter() - start
    process.returncode = status
    if status:
        raise RuntimeError(f"{' '.join(command)} failed")
    return Measured(seconds, peak / 1024, usage.ru_utime + usage.ru_stime)


def child_arguments(files):
    """The parsed command line of a training that is measured from within: so many files, and how to train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs=files)
    for name in ("size", "batch", "epochs", "seed", "classes"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--changes", type=float, default=0.0, help="how probable each change of an image is")
    parser.add_argument("--input", action="store_true")
    return parser.parse_args()


@contextlib.contextmanager
def message_times(*words):
    """A list of when, in seconds, `lib` logs a message with one of these words, while the block runs."""
    times, handler, logger = [], logging.Handler(), logging.getLogger("lib")

    def emit(record):
        if any(word in record.getMessage() for word in words):
            times.append(time.perf_counter())

    handler.emit = emit
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield times
    logger.removeHandler(handler)


def processor():
    """The machine without versions, in a phrase."""
    with open("/proc/cpuinfo") as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def machine():
    """The machine and the versions, in a line."""
    installed = versions_of("openvino", "tensorflow-cpu", "tensorflow", "keras", "pillow", "numpy")
    listed = ", ".join(f"{package} {version}" for package, version in installed.items())
    return f"{processor()}; Python {platform.python_version()}; {listed}"


def hand_over(stage, program, worked_on, speed, peak_mib=None, ratio=""):
    """Add a row to the one table of all benchmarks, to the file that `ROWS` names; without that, do nothing.

    Args:
        stage: what was measured, in a word.
        program: the benchmark's `__file__`.
        worked_on: what was worked on, with how many there were.
        speed: a rate or a time, with its unit.
        peak_mib: peak memory in MiB; None if it was not measured.
        ratio: how many times faster than the plain way it was, with what else it was compared to; empty if to nothing.
    """
    if not os.environ.get(ROWS):
        return
    tensorflow = versions_of("tensorflow-cpu", "tensorflow").values()
    row = (
        *(stage, f"`benchmarks/{os.path.basename(program)}`", worked_on, speed),
        *("" if peak_mib is None else f"{peak_mib:,.0f} MiB", ratio),
        *(next(iter(tensorflow), ""), platform.python_version(), datetime.date.today().isoformat()),
    )
    with open(os.environ[ROWS], "a", encoding="utf-8") as file:
        file.write("\t".join(row) + "\n")


def print_table(header, rows):
    """Print rows of strings as a Markdown table."""
    print("| " + " | ".join(header) + " |")
    print("| " + " | ".join("---" for _ in header) + " |")
    for row in rows:
        print("| " + " | ".join(row) + " |")

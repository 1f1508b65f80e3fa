"""What the benchmarks share: whole processes measured from outside, and the machine in words."""

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import time
from typing import NamedTuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


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


def machine():
    """The machine and the versions, in a line."""
    from importlib import metadata

    processor = platform.processor() or platform.machine()
    with open("/proc/cpuinfo") as file:
        names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    versions = []
    for package in ("tensorflow-cpu", "tensorflow", "keras", "pillow", "numpy"):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return "{}, {} cores; Python {}; {}".format(
        names[0] if names else processor, os.cpu_count(), platform.python_version(), ", ".join(versions)
    )


def print_table(header, rows):
    """Print rows of strings as a Markdown table."""
    print("| " + " | ".join(header) + " |")
    print("| " + " | ".join("---" for _ in header) + " |")
    for row in rows:
        print("| " + " | ".join(row) + " |")

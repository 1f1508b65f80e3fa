"""A Slurm on this machine's loopback for the tests, and jobs on it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time

from conftest import ROOT

NODES = 4
_SCRIPT = str(ROOT / "tests" / "slurm" / "cluster.sh")
_PATH = os.environ["PATH"] + os.pathsep + "/usr/sbin"


def what_is_missing():
    """What a machine lacks to run a Slurm, and how to get it; empty if nothing."""
    commands = (("slurmctld", "slurm-wlm"), ("slurmd", "slurm-wlm"), ("sbatch", "slurm-wlm"), ("munged", "munge"))
    missing = sorted({package for command, package in commands if not shutil.which(command, path=_PATH)})
    found = [f"apt-get install {' '.join(missing)}"] if missing else []
    return found + ([] if os.geteuid() == 0 else ["to be root, as whom its daemons run"])


class Cluster:
    """A Slurm that runs.

    Args:
        folder: for its own files; not a long path, since that of a socket is bounded.
    """

    def __init__(self, folder):
        self._folder = str(folder)
        self.host = socket.gethostname().partition(".")[0]  # that node's name leads to this machine
        done = subprocess.run([_SCRIPT, "start", self._folder, str(NODES)], capture_output=True, text=True)
        if done.returncode:
            self.stop()
            raise RuntimeError(f"no Slurm: {done.stderr}")

    def stop(self):
        subprocess.run([_SCRIPT, "stop", self._folder], check=True, capture_output=True)

    def call(self, here, *command, **variables):
        """Run a command of Slurm in a folder, with further environment variables; what it prints."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        environment.update(
            SLURM_CONF=os.path.join(self._folder, "slurm.conf"),
            PATH=os.pathsep.join([os.path.dirname(sys.executable), _PATH]),
            PYTHON=sys.executable,
            TOOLKIT=str(ROOT),
            PYTHONPATH=str(ROOT),
            **variables,
        )
        done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout.strip()

    def submit(self, here, *arguments, **variables):
        """Submit a batch file with arguments of sbatch; the job's number."""
        return self.call(here, "sbatch", "--parsable", *arguments, **variables)

    def states(self, here, job):
        """The states of a job's tasks, by their numbers; "" of a job without."""
        shown = self.call(here, "squeue", "--noheader", "--array", "--states=all", f"--jobs={job}", "--format=%i %T")
        found = dict(line.split() for line in shown.splitlines())
        return {name.partition("_")[2]: state for name, state in found.items()}

    def wait(self, here, job, seconds=240):
        """Wait until a job, and every task of one, is completed; AssertionError with the logs if it is not."""

        def told():
            return f"{self.states(here, job)} {[path.read_text() for path in sorted(here.glob('*.log'))]}"

        def completed():
            states = set(self.states(here, job).values())
            assert not states & {"FAILED", "CANCELLED", "TIMEOUT"}, told()
            return states == {"COMPLETED"}

        wait_for(completed, seconds, told)

    def restarts(self, here, job):
        """How often a job, or a task `JOB_TASK`, was begun again."""
        return int(re.search(r"Restarts=(\d+)", self.call(here, "scontrol", "show", "job", job)).group(1))


def wait_for(condition, seconds, told=str):
    """Wait until a function is true; AssertionError with what another one tells if it never is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.02)

"""What the tests share: the data beside the project, and a loud word when it is not there."""

import collections
import contextlib
import importlib
import io
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", os.path.join(tempfile.gettempdir(), "hypothesis"))

import pytest

# What a shell runs in the background, or nohup anywhere, ignores these, and so would the commands that the tests stop.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("HERBARIOGRAPH_SHARED", ROOT.parent / "shared"))
FIXTURES = ROOT / "tests" / "fixtures"

_NO_DATA = f"needs the real data in {SHARED} (HERBARIOGRAPH_SHARED names another place)"
_NO_BROWSER = "needs what the pages are tested with: "
_NO_SLURM = "needs a Slurm to be started here: "


@pytest.fixture
def shared():
    """The folder of real data with known answers; the test is skipped, loudly, where it is not there."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(_NO_DATA)
    return SHARED


@pytest.fixture(scope="module")
def needs_browser():
    """Skips tests, loudly, where there is no browser to run them in."""
    from browser import what_is_missing

    missing = what_is_missing()
    if missing:
        pytest.skip(_NO_BROWSER + ", ".join(missing))


@pytest.fixture(scope="module")
def window(needs_browser, tmp_path_factory):
    """A `browser.Browser`."""
    from browser import Browser

    opened = Browser(tmp_path_factory.mktemp("downloads"))
    yield opened
    opened.driver.quit()


@pytest.fixture(scope="module")
def cluster():
    """A Slurm on this machine, a `slurm_cluster.Cluster`; tests are skipped, loudly, where it can't be started."""
    from slurm_cluster import Cluster, what_is_missing

    missing = what_is_missing()
    if missing:
        pytest.skip(_NO_SLURM + ", ".join(missing))
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        running = Cluster(folder)
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture
def environment(tmp_path):
    """Environment variables for a script that is run as a process, with no model in its model directory."""
    return dict(os.environ, HERBARIOGRAPH_MODELS=str(tmp_path / "no-models"), PYTHONPATH="")


def pytest_collection_modifyitems(items):
    """Put files that take long first, so that none of them is left to one core alone at the end."""
    weights = collections.Counter()
    for item in items:
        weights[item.path] += sum({"slow": 1, "once": 10}.get(mark.name, 0) for mark in item.iter_markers())
    items.sort(key=lambda item: -weights[item.path])


def pytest_terminal_summary(terminalreporter):
    """Say at the end, where it can't be overlooked, that tests lacked the real data, a browser or Slurm."""
    # By the reports, since the tests themselves may have run in other processes.
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    for title, reason in (
        ("REAL DATA MISSING", _NO_DATA),
        ("BROWSER MISSING", _NO_BROWSER),
        ("SLURM MISSING", _NO_SLURM),
    ):
        missing = [text for text in skipped if reason in text]
        if missing:
            terminalreporter.section(title, red=True, bold=True)
            terminalreporter.line(f"{len(missing)} tests did not run: {missing[0]}")


def script(name):
    """The command that runs a script with this Python."""
    return [sys.executable, str(ROOT / name)]


def run_here(name, here, *arguments):
    """Run a script in this process and a folder; the `subprocess.CompletedProcess` that it would be as a process.

    That spares the start of TensorFlow, which takes longer than most of what is tested.
    """
    arguments, former = [str(argument) for argument in arguments], os.getcwd()
    main, out, err = importlib.import_module(name[: -len(".py")]).main, io.StringIO(), io.StringIO()
    os.chdir(here)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = main(arguments)
            except SystemExit as error:  # argparse's
                status = error.code
    finally:
        os.chdir(former)
    return subprocess.CompletedProcess([name, *arguments], status, out.getvalue(), err.getvalue())

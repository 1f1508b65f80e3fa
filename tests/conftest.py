"""What the tests share: the data beside the project, and a loud word when it is not there."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("HERBARIOGRAPH_SHARED", ROOT.parent / "shared"))
FIXTURES = ROOT / "tests" / "fixtures"

_missing = []
_without_browser = []


@pytest.fixture
def shared(request):
    """The folder of real data with known answers; the test is skipped, loudly, where it is not there."""
    if not (SHARED / "golden").is_dir():
        _missing.append(request.node.nodeid)
        pytest.skip(f"needs the real data in {SHARED} (HERBARIOGRAPH_SHARED names another place)")
    return SHARED


@pytest.fixture(scope="module")
def needs_browser(request):
    """Skips tests, loudly, where there is no browser to run them in."""
    from browser import what_is_missing

    missing = what_is_missing()
    if missing:
        _without_browser.append((request.node.nodeid, missing))
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture
def environment(tmp_path):
    """Environment variables for a script that is run as a process, with no model in its model directory."""
    return dict(os.environ, HERBARIOGRAPH_MODELS=str(tmp_path / "no-models"), PYTHONPATH="")


def pytest_terminal_summary(terminalreporter):
    """Say at the end, where it can't be overlooked, that tests lacked the real data or a browser."""
    if _missing:
        terminalreporter.section("REAL DATA MISSING", red=True, bold=True)
        terminalreporter.line(f"{len(_missing)} tests did not run, since {SHARED} is not there.")
    for module, missing in _without_browser:
        terminalreporter.section("BROWSER MISSING", red=True, bold=True)
        terminalreporter.line(f"{module} did not run; it needs {', '.join(missing)}.")


def script(name):
    """The command that runs a script with this Python."""
    return [sys.executable, str(ROOT / name)]

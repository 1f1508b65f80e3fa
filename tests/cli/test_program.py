"""What every script does with its command line, its messages and its errors."""

import dataclasses
import logging
import os
import signal
import subprocess
import sys
from typing import Tuple

import pytest
from conftest import ROOT

from lib.cli.program import Ignored, parser, run
from lib.cli.types import whole_number
from lib.errors import UsageError, WorkError, concerning, option


@dataclasses.dataclass(frozen=True)
class Settings:
    model: str = "m.keras"
    train_from: int = 3
    command: Tuple[str, ...] = ()


def options():
    made = parser("Do.\n\nMore of it.", Settings)
    made.add_argument("-m", "--model")
    made.add_argument("-s", "--smooth", dest="train_from", type=whole_number(1), help="(%(default)s)")
    made.add_argument("-c", "--cpu", action=Ignored, nargs=0)
    made.add_argument("-i", "--input", action=Ignored, type=whole_number(1))
    made.prog = "do.py"
    return made


def raising(error):
    def stage(settings):
        raise error

    return stage


def test_the_settings_are_what_was_given_and_their_own_defaults():
    made = []
    assert run(options(), made.append, Settings, ["-m", "a.keras", "-c", "-i", "7"]) == 0
    assert made == [Settings("a.keras", 3, ("do.py", "-m", "a.keras", "-c", "-i", "7"))]
    assert "(3)" in options().format_help()


def test_what_is_ignored_is_checked_all_the_same(capsys):
    with pytest.raises(SystemExit) as exit_:
        run(options(), print, Settings, ["-i", "0"])
    assert exit_.value.code == 2 and "-i/--input: '0' is not" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (UsageError("no such layer.", "train_from"), 2, "do.py: -s/--smooth: no such layer.\n"),
        (UsageError(f"too few; give {option('train_from')} or {option('seed')}."), 2, "give -s/--smooth or seed.\n"),
        (WorkError("the disk is full."), 1, "do.py: the disk is full.\n"),
        (OSError(28, "No space left on device", "a.tsv"), 1, "do.py: a.tsv: No space left on device.\n"),
        (MemoryError(), 1, "not enough memory"),
        (KeyboardInterrupt(), 130, "Ctrl-C"),
    ],
)
def test_errors_become_one_line_and_a_status(capsys, error, status, text):
    assert run(options(), raising(error), Settings, []) == status
    out, err = capsys.readouterr()
    assert out == "" and text in err and err.count("\n") == 1


def test_an_error_is_about_the_innermost_setting_that_is_named():
    for inner, found in ((None, "model"), ("train_from", "train_from")):
        with pytest.raises(UsageError) as raised, concerning("model"):
            raise UsageError("it is wrong.", inner)
        assert raised.value.setting == found


def test_messages_go_to_stderr_and_results_to_stdout_with_options_spelled(capsys):
    def stage(settings):
        logging.getLogger("lib.training").info(f"Resuming; {option('model')} is as before.")
        logging.getLogger("lib").warning("Slow.")
        logging.getLogger("lib").debug("Not for users.")
        logging.getLogger("results").info("loss 1")

    for _ in range(2):  # a second call says nothing twice
        run(options(), stage, Settings, [])
        assert capsys.readouterr() == ("loss 1\n", "Resuming; -m/--model is as before.\nSlow.\n")


# In a process of its own: where other tests had loaded much, a signal has ended the process of the tests.
SIGNALLED = """
import dataclasses, os, signal, sys
from lib.cli.program import parser, run

@dataclasses.dataclass(frozen=True)
class Settings:
    pass

number, ignored = int(sys.argv[1]), sys.argv[2] == "ignored"
signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)  # the tests may run under nohup
status = run(parser("Work.", Settings), lambda settings: os.kill(os.getpid(), number), Settings, [])
assert ignored or signal.getsignal(number) is signal.SIG_DFL
sys.exit(status)
"""


def signalled(number, how="deadly"):
    command = [sys.executable, "-c", SIGNALLED, str(int(number)), how]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_stop_ends_the_work_in_order(number):
    done = signalled(number)
    assert done.returncode == 128 + number and f"stopped by {number.name}" in done.stderr


def test_nohup_stays_in_force():
    assert signalled(signal.SIGHUP, "ignored").returncode == 0


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_work_goes_on_when_nobody_reads_what_it_says(tmp_path, stream):
    code = (
        "import dataclasses, sys, time; from lib.cli.program import parser, run\n"
        "@dataclasses.dataclass(frozen=True)\nclass Settings: pass\n"
        "def work(settings):\n"
        f"    for number in range(20000): print('a line of some length', number, file=sys.{stream})\n"
        f"    open({str(tmp_path / 'done')!r}, 'w').close()\n"
        "sys.exit(run(parser('Work.', Settings), work, Settings, []))"
    )
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, stream: subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **pipes)
    assert getattr(process, stream).readline() == "a line of some length 0\n"
    getattr(process, stream).close()
    said = process.stderr.read() if stream == "stdout" else ""
    assert (process.wait(30), said) == (0, "") and (tmp_path / "done").exists()
    if stream == "stdout":
        process.stderr.close()


def test_a_defect_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run(options(), lambda settings: 1 / 0, Settings, [])


def test_a_missing_package_is_one_line_that_says_how_to_get_it(capsys):
    def stage(settings):
        import no_such_package.part  # noqa: F401

    assert run(options(), stage, Settings, []) == 1
    assert "the package no_such_package is missing; enter the environment of `make setup` " in capsys.readouterr().err

    def another(settings):
        raise ModuleNotFoundError(name="google.protobuf")

    assert run(options(), another, Settings, []) == 1
    assert "the package protobuf is missing" in capsys.readouterr().err


def test_an_error_is_one_line_whatever_the_file_is_called(capsys):
    name = os.fsdecode(b"a\n\x1b[2J\xe2\x80\xae\xff")
    assert run(options(), raising(UsageError(f"{name} is wrong, غیرقابل\u200cاستفاده.")), Settings, []) == 2
    line = capsys.readouterr().err
    assert line.endswith(": a\\n\\x1b[2J\\u202e\\udcff is wrong, غیرقابل\u200cاستفاده.\n") and line.count("\n") == 1
    with pytest.raises(SystemExit):
        run(options(), print, Settings, [name])
    assert capsys.readouterr().err.count("\n") == 1


ECHO = """
import dataclasses, logging, os, sys
from lib.cli.program import parser, run

@dataclasses.dataclass(frozen=True)
class Settings:
    name: str = ""

def stage(settings):
    print("out", settings.name, *sorted(os.listdir("scans")))
    logging.getLogger("lib").info("err " + settings.name)
    with open("table.tsv", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(os.path.join(settings.name, *os.listdir("scans")))

made = parser("Do.", Settings)
made.add_argument("--name")
sys.exit(run(made, stage, Settings))
"""


@pytest.mark.parametrize(("name", "charset"), [("de_DE", "ISO-8859-1"), ("ja_JP", "EUC-JP")])
def test_names_of_files_are_utf8_on_a_terminal_of_another_encoding(tmp_path, monkeypatch, name, charset):
    locale = f"{name}.{charset}"
    try:
        line = ["localedef", "-i", name, "-f", charset, str(tmp_path / locale)]
        subprocess.run(line, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"needs localedef and the character set {charset} (Debian: locales)")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "Ähre 東京.jpg").touch()
    (tmp_path / "echo.py").write_text(ECHO)
    environment = {**os.environ, "LOCPATH": str(tmp_path), "LC_ALL": locale, "PYTHONPATH": str(ROOT)}
    for variable in ("PYTHONUTF8", "PYTHONIOENCODING"):
        environment.pop(variable, None)
    line = [sys.executable, "echo.py", "--name", "nö".encode()]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert (tmp_path / "table.tsv").read_text(encoding="utf-8") == "nö/Ähre 東京.jpg"
    shown = "out nö Ähre 東京.jpg".encode(charset, "backslashreplace")
    assert done.stdout.strip() == shown and done.stderr.strip() == "err nö".encode(charset)


def test_a_list_of_numbers_may_begin_with_a_minus():
    made = parser("Work.", Settings)
    made.add_argument("-M", "--means")
    for arguments in (["-M", "-1.0,2.0"], ["--means", "-.5,1"], ["-M=-1.0"]):
        assert made.parse_args(arguments).means.lstrip("=").startswith("-")

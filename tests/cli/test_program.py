"""The command line's common parts."""

import argparse
import dataclasses
import os
import signal

import pytest

from lib.cli import legacy as cli
from lib.cli import program
from lib.errors import UsageError, WorkError


def raising(error):
    def work(arguments):
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (UsageError("-x: no."), 2, "-x: no."),
        (WorkError("the disk is full."), 1, "the disk is full."),
        (OSError(28, "No space left on device", "a.tsv"), 1, "a.tsv: No space left on device."),
        (MemoryError(), 1, "not enough memory"),
        (KeyboardInterrupt(), 130, "Ctrl-C"),
    ],
)
def test_errors_become_one_line_and_a_status(capsys, error, status, text):
    assert cli.run(cli.parser("Do."), raising(error), []) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err
    assert err.count("\n") == 1


def test_the_command_is_the_one_that_was_given():
    parser = cli.parser("Do.")
    parser.prog = "do.py"
    parser.add_argument("-x")
    commands = []
    cli.run(parser, lambda arguments: commands.append(arguments.command_line), ["-x", "1"])
    assert commands == [["do.py", "-x", "1"]]


def test_a_signal_to_stop_ends_the_work_in_order(capsys):
    def work(arguments):
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    assert cli.run(cli.parser("Do."), work, []) == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert "told to stop" in capsys.readouterr().err


def test_a_defect_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        cli.run(cli.parser("Do."), lambda arguments: 1 / 0, [])


def test_a_missing_package_is_one_line_that_says_how_to_get_it(capsys):
    def work(arguments):
        import no_such_package.part  # noqa: F401

    assert cli.run(cli.parser("Do."), work, []) == 1
    assert "the package no_such_package is missing; run `make setup` and" in capsys.readouterr().err


def test_a_wrong_call_is_one_line(capsys):
    parser = cli.parser("Do.")
    parser.add_argument("-p", "--processors", type=cli.whole_number(1))
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(["-p", "0"])
    assert exit_.value.code == 2
    err = capsys.readouterr().err
    assert "-p/--processors" in err and "1 or more" in err
    assert err.count("\n") == 1


def test_more_processors_than_any_machine_has_are_a_wrong_call(capsys):
    parser = cli.parser("Do.")
    cli.add_device_options(parser)
    assert parser.parse_args(["-p", "4096"]).processors == 4096
    for count in ("4097", "99999999999999999999"):
        with pytest.raises(SystemExit):
            parser.parse_args(["-p", count])
        assert f"'{count}' is not a whole number from 1 to 4096" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "9", "1.5", "", "x"])
def test_numbers_out_of_range_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 to 8"):
        cli.whole_number(1, 8)(text)
    assert cli.whole_number(1, 8)("8") == 8


def test_files_and_folders_are_checked(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert cli.existing_file(str(file)) and cli.existing_directory(str(tmp_path)) and cli.output_file(str(file))
    for check, text in (
        (cli.existing_file, tmp_path),
        (cli.existing_directory, file),
        (cli.output_file, tmp_path),
        (cli.output_file, tmp_path / "missing" / "file"),
    ):
        with pytest.raises(argparse.ArgumentTypeError):
            check(str(text))


@dataclasses.dataclass(frozen=True)
class NoSettings:
    pass


def test_an_error_is_one_line_whatever_the_file_is_called(capsys):
    def stage(settings):
        raise UsageError(f"{os.fsdecode(name)} is wrong, غیرقابل\u200cاستفاده.")

    name = b"a\n\x1b[2J\xe2\x80\xae\xff"
    assert program.run(program.parser("Test."), stage, NoSettings, []) == 2
    line = capsys.readouterr().err
    assert line.endswith(": a\\n\\x1b[2J\\u202e\\udcff is wrong, غیرقابل\u200cاستفاده.\n") and line.count("\n") == 1
    with pytest.raises(SystemExit):
        program.run(program.parser("Test."), stage, NoSettings, [os.fsdecode(name)])
    assert capsys.readouterr().err.count("\n") == 1

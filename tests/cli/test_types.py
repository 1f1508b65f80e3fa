"""Types of options: what they take, and that all else is refused in a clause."""

import argparse

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.cli import types
from lib.cli.options import add_device_options
from lib.cli.program import parser
from lib.cli.types import band_numbers, band_variances, class_numbers, loss_weights

many = settings(derandomize=True, database=None, deadline=None)


@many
@given(st.text() | st.lists(st.sampled_from(list("{}[]():,.0123456789e+- ")), max_size=20).map("".join))
def test_any_text_is_taken_or_refused_in_a_clause(text):
    for parse in (class_numbers, loss_weights, band_numbers, band_variances):
        try:
            found = parse(text)
        except argparse.ArgumentTypeError as error:
            assert str(error)
        else:
            assert np.isfinite(list(found.values()) if isinstance(found, dict) else found).all()


@many
@given(st.dictionaries(st.integers(0, 10**9), st.floats(1e-30, 1e30) | st.integers(0, 10**9), min_size=1, max_size=5))
def test_numbers_of_classes_as_python_writes_them(numbers):
    assert class_numbers(repr(numbers)) == numbers
    assert class_numbers(repr(numbers).replace(" ", "").replace("}", ",}")) == numbers


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "{}",
            "[1]",
            "{0:'a'}",
            "{0:-1}",
            "{0:1e999}",
            "{0.5:1}",
            "{True:1}",
            "{-1:1}",
            "{0:1,0:2}",
            "{0:1, 1:1, 0:1}",
            "{0:x}",
            "print()",
        ),
        *("{0:1e300}", "{0:1e-300}", "{0:9e-31}", "{0:1.1e30}", "{0:5e-324}", "{0:1e400}", "{[]:1}"),
        *("{0:" + "9" * 100_000 + "}", "{" + "-" * 90_000 + "1:1}", "{" + "(" * 90_000, "{0:" + "1+" * 50_000 + "1}"),
    ],
    ids=lambda text: text[:12],
)
def test_other_numbers_of_classes_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not of the form|gives a class a number that is neither"):
        class_numbers(text)


def test_three_weights():
    assert loss_weights("[1.0,0,2.5]") == (1.0, 0, 2.5)
    for text in ("[1,2]", "[1,2,3,4]", "[1,2,-3]", "1", "[1,2,x]"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not of the form"):
            loss_weights(text)


def test_numbers_for_each_band():
    assert band_numbers("[127.5,0,-1]") == band_numbers("127.5, 0, -1") == (127.5, 0, -1)
    assert band_variances("(4,0.5)") == (4, 0.5)
    for text in ("", "[]", "1;2", "nan", "1,inf", "{0:1}"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not of the form"):
            band_variances(text)
    for text in ("0", "1,0,1", "1,-1,1"):
        with pytest.raises(argparse.ArgumentTypeError, match="has a number that is not above 0"):
            band_variances(text)


@pytest.mark.parametrize("text", ["0", "9", "1.5", "", "x"])
def test_numbers_out_of_range_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 to 8"):
        types.whole_number(1, 8)(text)
    assert types.whole_number(1, 8)("8") == 8


def test_more_processors_than_any_machine_has_are_a_wrong_call(capsys):
    made = parser("Do.")
    add_device_options(made)
    assert made.parse_args(["-p", "4096"]).processors == 4096
    for count in ("4097", "99999999999999999999"):
        with pytest.raises(SystemExit):
            made.parse_args(["-p", count])
        assert f"'{count}' is not a whole number from 1 to 4096" in capsys.readouterr().err


def test_files_and_folders_are_checked(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert types.existing_file(str(file)) and types.existing_directory(str(tmp_path)) and types.output_file(str(file))
    for check, text in (
        (types.existing_file, tmp_path),
        (types.existing_directory, file),
        (types.output_file, tmp_path),
        (types.output_file, tmp_path / "missing" / "file"),
    ):
        with pytest.raises(argparse.ArgumentTypeError):
            check(str(text))

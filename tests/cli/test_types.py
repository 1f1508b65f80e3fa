"""Numbers on the command line: what is taken, and that all else is refused in a clause."""

import argparse

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
        *("", "{}", "[1]", "{0:'a'}", "{0:-1}", "{0:1e999}", "{0.5:1}", "{True:1}", "{-1:1}", "{0:x}", "print()"),
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

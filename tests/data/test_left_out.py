"""Counting what is left out."""

from lib.data.left_out import LeftOut


def test_many_kinds_are_summed_up():
    left_out = LeftOut()
    for number in range(3000):
        left_out.count(b"a.%04d" % number)
    assert str(left_out).endswith(" others") and str(left_out).count(",") < 30

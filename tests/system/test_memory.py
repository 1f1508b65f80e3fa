"""Amounts of memory."""

from lib.system.memory import amount, free_memory


def test_amounts_are_told_in_units_that_fit():
    assert (amount(999), amount(1 << 20), amount(2.5e9), amount(1.2e12)) == ("0.0 MB", "1.0 MB", "2.5 GB", "1,200.0 GB")


def test_there_is_memory():
    assert 10_000_000 < free_memory() < 1 << 50

"""Free memory, and amounts of it in words."""

from lib.system.memory import amount, free_memory


def test_amounts_are_told_in_units_that_fit():
    assert (amount(999), amount(1 << 20), amount(2.5e9)) == ("0.0 MB", "1.0 MB", "2.5 GB")


def test_there_is_some_memory():
    assert 1 << 20 < free_memory() < 1 << 50

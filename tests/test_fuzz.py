"""A little fuzzing of every kind of input, and of the fuzzer itself."""

from pathlib import Path

import pytest
from fuzz import KINDS, tried

from lib.errors import UsageError


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", KINDS)
def test_spoilt_files_are_refused_in_a_sentence(name):
    count = {"keras": 12, "picture": 80, "exact-picture": 20, "collection": 25}.get(name, 40)
    tried_count, _, found = tried(name, seed=0, most=count)
    assert tried_count == count and not found, found


def test_the_fuzzer_finds_what_is_wrong(monkeypatch):
    def use(path):
        raise KeyError(path) if b"\xff" in Path(path).read_bytes() else UsageError(f"{path} is none.")

    monkeypatch.setitem(KINDS, "log", KINDS["log"]._replace(use=use))
    assert any("KeyError" in line for line in tried("log", seed=0, most=200)[2])

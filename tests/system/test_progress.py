"""How far the work is."""

import io

from lib.system import progress as module
from lib.system.progress import progress


def test_without_a_terminal_there_is_a_line_each_half_minute(monkeypatch):
    clock = iter(range(0, 10000, 20))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    monkeypatch.setattr(module.sys, "stderr", stream)
    with progress(1000, "images") as advance:
        for _ in range(4):
            advance(100)
    assert stream.getvalue().splitlines() == [
        "200 of 1,000 images, 5.0 a second, 2:40 left",
        "400 of 1,000 images, 5.0 a second, 2:00 left",
    ]


def test_on_a_terminal_there_is_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    monkeypatch.setattr(module.sys, "stderr", stream)
    with progress(10, "images") as advance:
        advance(10)
    assert "10/10" in stream.getvalue()
    assert "images/s" in stream.getvalue()

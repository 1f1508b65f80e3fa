"""Progress: a bar on a terminal, elsewhere a line each half minute."""

import contextlib
import sys
import time

LINE_SECONDS = 30


@contextlib.contextmanager
def progress(total, unit, stream=None, lines=True):
    """Report progress on stderr while the block runs.

    Args:
        total: the number of units to do.
        unit: what is counted, in the plural.
        stream: what is written to, by default stderr.
        lines: whether to print lines where the stream is no terminal, and to leave the bar standing where it is one.

    Yields:
        A function to be called with the number of units done since its last call.
    """
    stream = stream or sys.stderr
    if stream.isatty():
        from tqdm import tqdm  # Here, since it takes a while to import and most runs have no terminal.

        with tqdm(total=total, unit=" " + unit, file=stream, smoothing=0.1, dynamic_ncols=True, leave=lines) as bar:
            yield bar.update
    elif not lines:
        yield lambda count: None
    else:
        yield _Lines(total, unit, stream).update


class _Lines:
    def __init__(self, total, unit, stream):
        self._total, self._unit, self._stream = total, unit, stream
        self._done = 0
        self._start = self._last = time.monotonic()

    def update(self, count):
        self._done += count
        now = time.monotonic()
        if now - self._last >= LINE_SECONDS:
            self._last = now
            rate = self._done / (now - self._start)
            left = (self._total - self._done) / rate if rate else float("inf")
            print(
                f"{self._done:,} of {self._total:,} {self._unit}, {rate:.1f} a second, {_duration(left)} left",
                file=self._stream,
                flush=True,
            )


def _duration(seconds):
    """A time such as `1:02:03`, hours, or `2:03`, minutes."""
    if seconds == float("inf"):
        return "an unknown time"
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

"""Progress: a bar on a terminal, elsewhere a line every half minute."""

import contextlib
import sys
import time

from lib.system.memory import amount

LINE_SECONDS = 30


@contextlib.contextmanager
def progress(total, unit, lines=True, doing=None):
    """Report progress on stderr while the block runs.

    Args:
        total: the number of units to do.
        unit: what is counted, in the plural.
        doing: what is being done, shown before the bar; None for nothing.
        lines: whether to print lines without a terminal, and to leave the finished bar on a terminal.

    Yields:
        A function to be called with the number of units done since its last call, and with the number of bytes that
        these were, if the rate of bytes is to be shown, too.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm  # Here, since it takes a while to import and most runs have no terminal.

        with tqdm(total=total, unit=" " + unit, smoothing=0.1, dynamic_ncols=True, leave=lines, desc=doing) as bar:
            yield _bar_updater(bar)
    elif not lines:
        yield lambda count, size=0: None
    else:
        yield _line_printer(total, unit)


def _bar_updater(bar):
    start, received = time.monotonic(), 0

    def update(count, size=0):
        nonlocal received
        received += size
        if received:
            bar.set_postfix_str(f"{amount(received / (time.monotonic() - start))}/s", refresh=False)
        bar.update(count)

    return update


def _line_printer(total, unit):
    start = last = time.monotonic()
    done = received = 0

    def update(count, size=0):
        nonlocal done, received, last
        done += count
        received += size
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            rate = done / (now - start)
            left = duration((total - done) / rate) if rate else "an unknown time"
            speed = f"{rate:.1f}" + (f" and {amount(received / (now - start))}" if received else "")
            print(f"{done:,} of {total:,} {unit}, {speed} a second, {left} left", file=sys.stderr, flush=True)

    return update


def duration(seconds):
    """A time such as `1:02:03`, hours, or `2:03`, minutes."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

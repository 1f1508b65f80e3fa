"""The ways in which a stage can fail. Raised where they are found; `lib.cli` alone makes exit statuses of them.

The message is one sentence that names the file or option and says what would be right.
"""


class UsageError(Exception):
    """The call is wrong: an option, or a file that an option names. Exit status 2."""


class WorkError(Exception):
    """The call is right but the work could not be done: a full disk, no network, a bad record. Exit status 1."""


class DivergenceError(WorkError):
    """A training's loss has become infinite or no number."""

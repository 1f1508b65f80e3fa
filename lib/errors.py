"""The ways in which a stage can fail. Raised where they are found; `lib.cli` alone makes exit statuses of them.

A message is one sentence that names the file or setting and says what would be right. Settings have their names in the
code; `lib.cli` spells them as the options of the script that runs.
"""

import contextlib


class StageError(Exception):
    """What stops a stage, in a sentence.

    Attributes:
        setting: the name of the setting that the sentence is about; None for none.
    """

    def __init__(self, message, setting=None):
        super().__init__(message)
        self.setting = setting


class UsageError(StageError):
    """The call is wrong: a setting, or a file that a setting names. Exit status 2."""


class WorkError(StageError):
    """The call is right but the work could not be done: a full disk, no network, a bad record. Exit status 1."""


class DivergenceError(WorkError):
    """A training's loss has become infinite or NaN."""


def option(setting):
    """How a message mentions a setting: a mark that `lib.cli` replaces by the option, as in `⟦fresh⟧` -> `--fresh`."""
    return f"⟦{setting}⟧"


@contextlib.contextmanager
def concerning(setting):
    """Let errors from the block that name no setting be about this one."""
    try:
        yield
    except StageError as error:
        error.setting = error.setting or setting
        raise

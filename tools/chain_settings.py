"""What chain.sh was called with, checked before its first stage, since days may pass before another is reached.

    python -m tools.chain_settings NAME=VALUE…

Complaints are those of chain.sh.
"""

import dataclasses
from typing import Sequence, Tuple

from lib.cli import types
from lib.cli.program import parser, run
from tools.own_settings import check


@dataclasses.dataclass(frozen=True)
class Settings:
    """A call of chain.sh: the settings that name files, pairs of a name in `KINDS` and a text."""

    given: Sequence[Tuple[str, str]]


def _predictor(text):
    from lib.models.published import check_model_name

    if text != "soup":
        check_model_name(text)


KINDS = {
    "TEACHER": types.teacher,
    "OPTIMIZATION_LOG": types.existing_directory,
    **dict.fromkeys(("TEACHER_TRAIN", "TEACHER_VALIDATION", "TRAIN", "VALIDATION", "TEST"), types.record_files),
    "UNKNOWN": types.existing_directory,
    "OUTPUT": types.output_file,
    "PREDICTOR": _predictor,
    "REPORT": types.output_file,
}


def work(settings):
    """Check the call; UsageError if a setting is wrong."""
    for name, value in settings.given:
        check(name, KINDS[name], value)


def options():
    """The command line's options."""
    made = parser(__doc__, Settings)
    made.prog = "chain.sh"
    given = {"type": lambda text: tuple(text.split("=", 1)), "metavar": "NAME=VALUE"}
    made.add_argument("given", nargs="+", help="the settings that name files", **given)
    return made


def main(argv=None):
    """Run the program; returns its exit status."""
    return run(options(), work, Settings, argv)


if __name__ == "__main__":
    raise SystemExit(main())

"""A table of the runs in a directory: when, from which model, on how many records, how well, by which command.

    python -m tools.runs runs

lists the trainings, distillations and soups, the newest last, as a TSV on stdout.
"""

import dataclasses
import datetime
import os
import shlex
from typing import Optional

from lib.cli import program
from lib.cli.types import existing_directory
from lib.errors import UsageError
from lib.storage.names import escape_name
from lib.storage.runs import runs_in
from lib.storage.untrusted import parse_json
from lib.training.history import best_epoch, epochs_of, read_history
from lib.training.student import metric_of

COLUMNS = ("WHEN", "NAME", "MODEL", "RECORDS", "EPOCHS", "SCORE", "STATE", "RUN", "COMMAND")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to list.

    Attributes:
        folder: the directory of the runs.
        name: only the runs with this name; None for all.
    """

    folder: str
    name: Optional[str] = None


def options():
    """The command line's options."""
    made = program.parser(__doc__, Settings)
    made.add_argument("folder", type=existing_directory, metavar="DIR", help="the directory of the runs, their -o")
    made.add_argument("--name", metavar="NAME", help="only runs of this name")
    return made


def rows_of(folder):
    """Yield the rows of the runs in a directory, each a dictionary of `COLUMNS` to text, the oldest first."""
    for run in sorted(runs_in(folder), key=lambda run: (os.path.getmtime(run.settings), run.settings)):
        try:
            with open(run.settings, encoding="utf-8") as file:
                recorded = parse_json(file.read())
            yield _row(run, recorded)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
            raise UsageError(f"{run.settings} can't be read as the settings of a run ({error}).", "folder") from error


def _row(run, recorded):
    """The row of a `Run`, with what its settings file holds."""
    settings = recorded["settings"]
    if run.kind == "soup":
        epochs, score = "", recorded["result"][-1].split("\t")[-1]
    else:
        epochs, score = _progress(run, settings)
    return {
        "WHEN": datetime.datetime.fromtimestamp(os.path.getmtime(run.settings)).isoformat(" ", "minutes"),
        "NAME": str(recorded.get("name") or ""),
        "MODEL": str(settings.get("model") or settings.get("student") or settings["models"]),
        "RECORDS": str(recorded.get("training_records", "")),
        "EPOCHS": epochs,
        "SCORE": score,
        "STATE": "complete" if os.path.isfile(run.model) else "unfinished",
        "RUN": run.best,
        "COMMAND": " ".join(map(shlex.quote, recorded["command"])),
    }


def _progress(run, settings):
    """The number of a training's epochs, and the best value of what it monitors, as text; empty before the first."""
    if not os.path.isfile(run.history):
        return "0", ""
    history, monitor = read_history(run.history), metric_of(settings.get("monitor", "val_f1"))
    return str(epochs_of(history)), f"{history[monitor][best_epoch(history, monitor) - 1]:.4f}"


def work(settings):
    """Print the table."""
    print("\t".join(COLUMNS))
    for row in rows_of(settings.folder):
        if settings.name is None or row["NAME"] == settings.name:
            print("\t".join(escape_name(row[column]) for column in COLUMNS))


def main(argv=None):
    """Run the program; returns its exit status."""
    return program.run(options(), work, Settings, argv)


if __name__ == "__main__":
    raise SystemExit(main())

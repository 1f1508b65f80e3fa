"""What a person decided about the images of a table, from a file of corrections or from the table itself."""

import logging

from lib.data.corrections import Corrections, read_corrections, tell_nearly_known
from lib.errors import concerning
from lib.storage import tables
from lib.system.words import counted

log = logging.getLogger(__name__)


def find_decisions(settings, labels=()):
    """What a person decided: name -> category; None for nothing. Says which categories may be mistyped.

    Args:
        settings: `lib.prediction.settings.Settings`. Without corrections, those that its table has are kept.
        labels: of the model's categories; empty to say nothing.

    Raises:
        UsageError: the corrections can't be read.
    """
    if settings.corrections:
        with concerning("corrections"):
            found = read_corrections(settings.corrections)
        if labels:
            tell_nearly_known(found, labels)
        return found.decided
    return None if settings.overwrite else tables.decisions_in(settings.table)


def corrections_of(settings):
    """What a person decided, `Corrections`: of the file that is given, else of the table, which tells no roles."""
    if settings.corrections:
        with concerning("corrections"):
            return read_corrections(settings.corrections)
    return Corrections(settings.table, tables.decisions_in(settings.table) or {}, {})


def report_decisions(table, decided, images):
    """Log how many of a table's images a person has looked at.

    Args:
        table: its path.
        decided: of `find_decisions`.
        images: how many images it has.
    """
    present = tables.decisions_in(table) or {}
    log.info(f"{len(present):,} of {counted(images, 'image')} looked at.")
    strange = [name for name in decided if name not in present]
    if strange:
        log.info(f"{counted(len(strange), 'decision')} left out, about files that {table} lacks, such as {strange[0]}.")

"""A table in another format, without predicting again."""

import logging
import os

from lib.errors import UsageError, WorkError, concerning, option
from lib.storage import tables
from lib.storage.fingerprints import check_fingerprints, fingerprints_path, read_fingerprints, write_fingerprints
from lib.storage.formats import format_line, number_or_text, open_table, table_kind
from lib.storage.names import unescape_name
from lib.system.words import counted

log = logging.getLogger(__name__)


def convert_table(settings):
    """Write `settings.convert`, a table that predicting wrote or one like it, as `settings.output`.

    What lies beside the table goes with it, so that the new one can be continued by the same command as the former.

    Raises:
        UsageError: it is no table, or the output is there.
        WorkError: the output can't be written.
    """
    source, output = settings.convert, settings.output
    if os.path.exists(output) and not settings.overwrite:
        raise UsageError(f"{output} exists; choose another file or pass {option('overwrite')}.", "output")
    tables.check_errors_table(f"{output}.errors.tsv")
    check_fingerprints(output)
    kind, count = table_kind(output), 0
    with concerning("convert"):
        rows = tables.read_table(source)
        columns = next(rows, [])
        if os.path.exists(output) and os.path.samefile(source, output):
            raise UsageError(f"{source} is the output itself; choose another file.")
        try:
            with open_table(output, columns) as add:
                for values in rows:
                    add(format_line(kind, columns, list(map(number_or_text, columns, values))))
                    count += 1
            known = os.path.isfile(fingerprints_path(source))
            write_fingerprints(output, read_fingerprints(source) if known else None)
            recorded, versions = tables.settings_of(source)
            if recorded:
                tables.write_settings(output, recorded, versions, _answers_of(source, columns))
        except OSError as error:
            raise WorkError(f"{output} can't be written ({error.strerror or error}).", "output") from error
    errors = tables.read_errors_table(f"{source}.errors.tsv")
    tables.write_errors_table(f"{output}.errors.tsv", {unescape_name(name): errors[name] for name in errors})
    log.info(f"{counted(count, 'row')} of {source} written to {output}.")


def _answers_of(source, columns):
    """The model's own rows where a person decided otherwise, as `write_settings` takes them."""
    return {
        name: [number_or_text(column, "" if value is None else str(value)) for column, value in zip(columns, values)]
        for name, values in tables.answers_of(source).items()
    }

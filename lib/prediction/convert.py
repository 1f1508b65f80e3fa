"""A table in another format, without predicting again."""

import logging
import os

from lib.errors import UsageError, WorkError, concerning, option
from lib.storage import tables
from lib.storage.fingerprints import check_fingerprints, fingerprints_path, read_fingerprints, write_fingerprints
from lib.storage.formats import format_line, number_or_text, open_table, table_kind
from lib.storage.joins import Join
from lib.storage.names import path_order, unescape_name
from lib.system.words import counted

log = logging.getLogger(__name__)


def convert_table(settings):
    """Write `settings.convert`, a table that predicting wrote or one like it, as `settings.output`, perhaps joined.

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
    with concerning("convert"):
        if os.path.exists(output) and os.path.samefile(source, output):
            raise UsageError(f"{source} is the output itself; choose another file.")
        recorded, versions = tables.settings_of(source)
        columns, rows, join = _rows_of(source, recorded, settings.join)
        kind, count, values = table_kind(output), 0, ()
        try:
            with open_table(output, columns) as add:
                for count, values in enumerate(rows, start=1):  # noqa: B007 - for the message
                    add(format_line(kind, columns, list(map(number_or_text, columns, values))))
            known = os.path.isfile(fingerprints_path(source))
            write_fingerprints(output, read_fingerprints(source) if known else None)
            if recorded:
                settled = tables.with_join(recorded, join) if join else recorded
                tables.write_settings(output, settled, versions, _answers_of(source, columns))
        except OSError as error:
            raise WorkError(f"{output} can't be written ({error.strerror or error}).", "output") from error
    errors = tables.read_errors_table(f"{source}.errors.tsv")
    tables.write_errors_table(f"{output}.errors.tsv", {unescape_name(name): errors[name] for name in errors})
    log.info(f"{counted(count, 'row')} of {source} written to {output}.")
    if join:
        log.info(join.in_words(count, values[columns.index("FILE")] if values else ""))


def _rows_of(source, recorded, joined):
    """The columns and rows of a table, with what is joined to them, and the `Join`; None for none.

    Args:
        source: the table.
        recorded: its settings.
        joined: the table to join; None for none.
    """
    rows = tables.read_table(source)
    columns = next(rows, [])
    if not joined:
        return columns, rows, None
    columns = [name for name in columns if name not in tables.joined_columns(recorded)]  # which come anew
    if "FILE" not in columns:
        raise UsageError(f"{source} has no column FILE, to which something could be joined.")
    folder, place = recorded.get("data"), columns.index("FILE")
    join = Join(joined, columns, unescape_name(folder) if isinstance(folder, str) else None)
    cut = (values[: len(columns)] for values in rows)
    return [*columns, *join.columns], (values + join.values(path_order(values[place])) for values in cut), join


def _answers_of(source, columns):
    """The model's own rows where a person decided otherwise, as `write_settings` takes them."""
    return {
        name: [number_or_text(column, "" if value is None else str(value)) for column, value in zip(columns, values)]
        for name, values in tables.answers_of(source).items()
    }

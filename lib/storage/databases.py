"""Databases of SQLite that stages go on from: each kind has a number in its header, so that nobody else's is written to
or removed in its place.
"""

from lib.errors import UsageError

IMAGES = 0x48724731  # of `lib.storage.spool`
SEARCH = 0x48724732  # of `lib.training.search`


def check_ours(database, path, kind, former):
    """Raise UsageError if an open database holds something of another program; nothing is written.

    Args:
        database: the connection.
        path: what to call it.
        kind: the number that it is to have: `IMAGES` or `SEARCH`.
        former: called with what there is in it, name -> SQL: whether a former version of this toolkit, which set no
            number, made that.

    Raises:
        sqlite3.Error: it can't be read.
    """
    found = dict(database.execute("SELECT name, sql FROM sqlite_master WHERE sql NOT NULL"))
    (number,) = database.execute("PRAGMA application_id").fetchone()
    if number != kind and (number or (found and not former(found))):
        raise UsageError(f"{path} is a database of another program; move it elsewhere, or write to another place.")


def make_ours(database, kind):
    """Give a database its number."""
    database.execute(f"PRAGMA application_id = {kind}")

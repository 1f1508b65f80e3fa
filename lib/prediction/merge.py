"""Merging the tables of all parts into one."""

import hashlib
import heapq
import itertools
import json
import logging
import os
from typing import NamedTuple

from lib.data.embeddings import OF_FEATURES, load_features, merge_features
from lib.errors import UsageError, WorkError, concerning, option
from lib.prediction.decisions import find_decisions, report_decisions
from lib.storage import tables
from lib.storage.fingerprints import check_fingerprints, fingerprints_path, read_fingerprints, write_fingerprints
from lib.storage.names import path_order, unescape_name
from lib.system.shard import Shard, parse_shard

log = logging.getLogger(__name__)


class _Part(NamedTuple):
    """A part's table: its path, its shard, and the list of images, settings and versions that it was made with."""

    path: str
    shard: Shard
    listed: dict
    settings: dict
    versions: dict


def merge_tables(settings):
    """Write the tables of all parts as one, with its errors and settings, as one call for all images would have.

    So are the features, if they are wanted or, for a page, if all parts have them beside their tables.

    Args:
        settings: `Settings`: in `merge` the table to write, whose ending is that of the parts, and the parts' tables in
            any order.

    Returns:
        How many images are in it, and how many errors.

    Raises:
        UsageError: a part, or a row of one, is missing or repeated; a part is not finished or has other settings.
        WorkError: it can't be written.
    """
    output, paths = settings.merge[0], settings.merge[1:]
    decided = find_decisions(settings)
    with concerning("merge"):
        parts = sorted(map(_read_part, paths), key=lambda part: part.shard.number)
        _check_parts(parts)
        _check_output(output, paths, parts[0].settings, settings.overwrite)
        of_features = {key: parts[0].settings[key] for key in OF_FEATURES if key in parts[0].settings}
        features = _features(settings, parts, of_features)
        errors, digest = {}, hashlib.sha256()
        try:
            with tables.open_table(output, _columns_of(parts)) as add:
                rows = sum(_copy(part, add, errors, digest) for part in parts)
                if digest.hexdigest() != parts[0].listed["SHA-256"]:
                    raise UsageError("the images in the parts are not those of their list; the tables were changed.")
            known = all(os.path.isfile(fingerprints_path(part.path)) for part in parts)
            facts = itertools.chain.from_iterable(read_fingerprints(part.path) for part in parts)
            write_fingerprints(output, facts if known else None)
            tables.write_settings(output, parts[0].settings, parts[0].versions)
            if features:
                merge_features(settings.features, of_features, features)
            if decided is not None:
                tables.decide_table(output, decided)
        except OSError as error:
            raise WorkError(f"{output} can't be written ({error.strerror or error}).", "output") from error
    tables.write_errors_table(f"{output}.errors.tsv", errors)
    if decided is not None:
        report_decisions(output, decided, rows)
    return rows, len(errors)


def _features(settings, parts, about):
    """The parts' files of features, which are to be merged; none unless they are wanted or, for a page, all are right.

    Raises UsageError if they are wanted and one is not that of its table, or the file to write has features of other
    settings than `about`.
    """
    if not settings.embeddings and not settings.report:
        return ()
    files = [f"{part.path}.features.npz" for part in parts]
    missing = [file for file in files if not os.path.isfile(file)]
    if missing and settings.embeddings:
        beside = f"the parts' features are expected beside their tables, {option('embeddings')} PART.features.npz"
        raise UsageError(f"{missing[0]} does not exist; {beside}.")
    if missing:
        return ()
    for part, file in zip(parts, files):
        try:
            if load_features(file).settings != {**about, "shard": str(part.shard), "listed": part.listed}:
                raise UsageError(f"{file} has the features of another call than {part.path}; make it again.")
        except UsageError as error:
            if settings.embeddings:
                raise
            log.info(f"The parts' features are left out: {error}")
            return ()
    former = os.path.exists(settings.features) and not settings.overwrite
    if former and load_features(settings.features).settings != about:
        cure = f"choose another file or pass {option('overwrite')}"
        raise UsageError(f"{settings.features} has features of something else; {cure}.")
    return files


def _columns_of(parts):
    """The names of the parts' columns; UsageError if they differ."""
    found = {}
    for part in parts:
        columns = next(tables.read_table(part.path), [])
        if columns:  # but lines of JSON have none where there is no row
            found.setdefault(tuple(columns), part.path)
    if len(found) > 1:
        first, other = list(found.values())[:2]
        raise UsageError(f"{other} has other columns than {first}.")
    return next(iter(found), ())


def _copy(part, add, errors, digest):
    """Append a part's rows to a table, collect its errors, check that no image is missing, and return how many rows.

    Args:
        part: the `_Part`.
        add: of `open_table`.
        errors: path -> reason, of all parts so far.
        digest: of the paths of all images so far.
    """
    lines = tables.read_lines(part.path)
    next(lines)  # the header
    failed, done = tables.read_errors_table(f"{part.path}.errors.tsv"), 0
    for path, line in heapq.merge(lines, sorted((path_order(name), b"") for name in failed)):
        digest.update(path + b"\0")
        if line:
            add(line)
        done += 1
    due = len(part.shard.range(part.listed["entries"]))
    if done != due:
        raise UsageError(f"{part.path} and its errors have {done:,} of its {due:,} images.")
    errors.update((unescape_name(name), reason) for name, reason in failed.items())
    return done - len(failed)


def _read_part(path):
    """A part's table as a `_Part`. UsageError if it is missing, not finished, or not a part."""
    if os.path.exists(f"{path}.partial"):
        raise UsageError(f"{path} is incomplete; rerun the command that created it.")
    if not os.path.isfile(path):
        raise UsageError(f"{path} does not exist.")
    settings, versions = tables.settings_of(path)
    try:
        shard, listed = parse_shard(settings.pop("shard")), settings.pop("listed")
    except (KeyError, ValueError):
        raise UsageError(f"{path} is not a part made with {option('shard')}, or lacks its .settings.json.") from None
    return _Part(path, shard, listed, settings, versions)


def _check_parts(parts):
    """Raise UsageError unless each part is there once and all were made alike."""
    first = parts[0]
    for part in parts[1:]:
        if part.shard.count != first.shard.count:
            raise UsageError(f"{first.path} is part {first.shard}, but {part.path} is part {part.shard}.")
        if part.listed != first.listed:
            raise UsageError(f"{part.path} was made from a different list of images than {first.path}.")
        theirs, ours = ({**each.settings, **each.versions} for each in (first, part))
        for key in sorted({*ours, *theirs}):
            if ours.get(key) != theirs.get(key):
                one, other = (json.dumps(each.get(key), ensure_ascii=False)[:60] for each in (theirs, ours))
                raise UsageError(f"{first.path} was made with {option(key)} {one}, {part.path} with {other}.")
    for one, other in zip(parts, parts[1:]):
        if one.shard == other.shard:
            raise UsageError(f"{one.path} and {other.path} are both part {one.shard}.")
    missing = sorted(set(range(1, first.shard.count + 1)) - {part.shard.number for part in parts})
    if missing:
        shown = ", ".join(map(str, missing[:10])) + (", …" if len(missing) > 10 else "")
        raise UsageError(f"of {first.shard.count} parts, {len(missing)} are missing: {shown}.")


def _check_output(output, paths, settings, overwrite):
    kinds = {tables.table_kind(path) for path in (output, *paths)}
    if len(kinds) > 1:
        raise UsageError(
            f"{output} and the parts are of different formats ({', '.join(sorted(kinds))}); merge them into one of the "
            f"parts' format, from which {option('convert')} makes others."
        )
    if any(os.path.exists(output) and os.path.samefile(output, path) for path in paths):
        raise UsageError(f"{output} is one of the parts; name the table to write first.")
    if os.path.exists(output) and not overwrite and tables.settings_of(output)[0] != settings:
        raise UsageError(f"{output} was made with other settings; choose another file or pass {option('overwrite')}.")
    tables.check_errors_table(f"{output}.errors.tsv", "merge")
    check_fingerprints(output)

"""What comes from outside is read right or refused in a sentence."""

import json
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from lib.errors import UsageError, WorkError
from lib.storage.untrusted import (
    RefusedError,
    check_text,
    check_zip_member,
    is_whole_number,
    json_text,
    parse_json,
    read_tsv,
    refusing,
    whole_number,
)

many = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
names = st.binary(min_size=1, max_size=40).filter(lambda name: not set(name) & {0, 47}).map(os.fsdecode)
lines = st.text(st.characters(blacklist_categories=["Cs"]), max_size=30)


def folder():
    """A folder of one's own for each example."""
    return tempfile.TemporaryDirectory()


@pytest.fixture
def members(tmp_path):
    """Members of a zip of about 1 kB, packed in each way."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for way in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            archive.writestr(f"way-{way}", bytes(800), way)
        archive.writestr("large", bytes(50_000), zipfile.ZIP_DEFLATED)
        return {info.filename: info for info in archive.infolist()}


def test_members_of_a_zip_are_taken_up_to_a_size_and_in_known_ways(members):
    stored, deflated, *others = (members[f"way-{way}"] for way in (0, 8, 12, 14))
    check_zip_member(stored, 1000)
    for member in (stored, deflated, members["large"]):
        check_zip_member(member, 1000, shrinking=50)
        check_zip_member(member, 1000, shrinking=2, small=50_000)
    with pytest.raises(ValueError, match="its large would take 50,000 bytes"):
        check_zip_member(members["large"], 1000, shrinking=49)
    for member, shrinking in ((deflated, 1), *((other, 50) for other in others)):
        with pytest.raises(ValueError, match=f"its {member.filename} is compressed in a way"):
            check_zip_member(member, 1000, shrinking)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RefusedError("has no weights"), "a.keras has no weights."),
        (FileNotFoundError(2, "No such file"), "a.keras doesn't exist; give an existing .keras file."),
        (KeyError("layers\n  "), "a.keras is not a whole .keras file (layers)."),
        (IsADirectoryError(21, "Is a directory"), "a.keras is not a whole .keras file ([Errno 21] Is a directory)."),
        (zipfile.BadZipFile(), "a.keras is not a whole .keras file (BadZipFile)."),
        (UsageError("as it is."), "as it is."),
    ],
)
def test_errors_of_a_damaged_file_become_a_sentence(error, words):
    with pytest.raises(UsageError) as raised, refusing("a.keras", ".keras file"):
        raise error
    assert str(raised.value) == words
    with pytest.raises(MemoryError), refusing("a.keras", ".keras file"):
        raise MemoryError


def test_json_and_numbers_are_what_they_say_or_a_value_error():
    assert parse_json('{"a": [1, "é"]}') == check_text(parse_json('{"a": [1, "é"]}')) == {"a": [1, "é"]}
    for text in (DEEP, "{", LONG[:1] + "x"):
        with pytest.raises(ValueError, match=r"nested|Expecting|Extra"):
            parse_json(text)
    with pytest.raises(ValueError, match="surrogates not allowed"):
        check_text(parse_json('[{"a": "\\ud800"}]'))
    assert json.loads(json_text({"é": "\udcff"}).encode()) == {"é": "\udcff"}
    assert (whole_number("017"), is_whole_number("9" * 18)) == (17, True)
    for text in ("", "-1", "1.0", "٣", "9" * 19):
        assert not is_whole_number(text)
        with pytest.raises(ValueError, match="not a whole number"):
            whole_number(text)


def test_tables_are_read_with_any_line_ends(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes("\ufeffA\tB\r\n\r\n1\té\n".encode())
    assert read_tsv(path) == [(1, ["A", "B"]), (3, ["1", "é"])]
    path.write_bytes(b"\xff\n")
    with pytest.raises(UsageError, match="the map can't be read as a table"):
        read_tsv(path, "the map")


DEEP, LONG = "[" * 100_000, "9" * 5000


def test_numbers_and_json_that_python_itself_gives_up_on(tmp_path):
    for text in (DEEP, json.dumps({**json.loads(_whole_settings()), "batch": 10**400}), '{"batch": ' + LONG + "}"):
        for parse in (parse_settings, ranges_of):
            with pytest.raises(ValueError, match=r"not JSON|JSON object|SETTINGS|gives 'batch'|the key") as error:
                parse(text)
            assert len(str(error.value)) < 800
    for text in (
        "{[]:1}",
        "{0:" + LONG + "}",
        "{0:1e400}",
        "{" + "-" * 90_000 + "1:1}",
        "{" + "(" * 90_000,
        "{0:" + "1+" * 50_000 + "1}",
    ):
        with pytest.raises(ValueError, match="is not of the form|something else") as error:
            parse_class_numbers(text)
        assert len(str(error.value)) < 200


def test_names_that_no_file_has(tmp_path):
    from lib.prediction.reporting import read_predictions

    from lib.prediction.sorting import sort_images

    path = tmp_path / "t.tsv"
    path.write_text("FILE\tPREDICTION\tCATEGORY\na\\x00/b.jpg\tText\tx\n")
    with pytest.raises(UsageError, match="t.tsv .*zero byte"):
        read_predictions(str(path))
    (tmp_path / "sorted").mkdir()
    for line in ("x/a\\x00\tb", "x/a\tb\\x00"):
        (tmp_path / "sorted" / "sorted.tsv").write_text(f"PLACE\tFILE\n{line}\n")
        with pytest.raises(UsageError, match="sorted.tsv was not written by --sort"):
            sort_images({}, str(tmp_path / "sorted"))


def test_names_that_are_not_utf_8_are_told_and_recorded(tmp_path):
    from lib.storage.runs import find_run, write_settings

    run = find_run(str(tmp_path), "ab")
    os.mkdir(run.best)
    write_settings(run, {"command": [os.fsdecode(b"\xff.tfr"), "é"]})
    text = Path(run.file("settings.json")).read_text(encoding="utf-8")
    assert "é" in text and json.loads(text)["command"] == [os.fsdecode(b"\xff.tfr"), "é"]


def other_programs_database(path, *tables, number=0):
    """Write a database as another program does; returns its bytes."""
    import sqlite3

    database = sqlite3.connect(path)
    for table in tables:
        database.execute(table)
    database.execute(f"PRAGMA application_id = {number}")
    database.commit()
    database.close()
    return Path(path).read_bytes()


NOTES, SETTINGS = "CREATE TABLE notes (text TEXT)", "CREATE TABLE settings (text TEXT)"


@pytest.fixture
def at_once():
    """Raises within a few seconds what would else wait for ever."""
    import signal

    def stop(*_):
        raise AssertionError("it waits for ever")

    former = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, former)


def test_named_pipes_are_not_waited_for(tmp_path, at_once):
    import argparse

    from lib.cli import legacy as cli
    from lib.data.embeddings import Embeddings
    from lib.prediction.sorting import sort_images
    from lib.soup import _fingerprints
    from lib.storage.tables import ResumableTable, check_errors_table, settings_of
    from lib.training.hyperparameters import read_log

    def pipe(*names):
        os.makedirs(tmp_path / names[0], exist_ok=True)
        os.mkfifo(tmp_path.joinpath(*names))
        return str(tmp_path.joinpath(*names))

    path = pipe("models", "a.keras")
    said = []
    with pytest.raises(WorkError, match="-m/--model: there is no complete .keras file"):
        _fingerprints(os.path.dirname(path), said.append)
    assert said == [f"Left out: {path} can't be read (it is not a regular file)."]
    with pytest.raises(argparse.ArgumentTypeError, match="is neither a .keras file nor the directory of a SavedModel"):
        cli.teacher(path)
    log = pipe("log", "optimization-log.tsv")
    with pytest.raises(UsageError, match=r"optimization-log.tsv can't be read as a table \(it is not a regular file"):
        read_log(os.path.dirname(log))
    table = pipe("begun", "t.tsv.partial")[: -len(".partial")]
    assert settings_of(table) == ({}, {})
    for make in (lambda: ResumableTable(table, ["FILE", "PREDICTION"], {}), lambda: Embeddings(table, {})):
        with pytest.raises(WorkError, match=r"t.tsv can't be written \(it is not a regular file\)\.$"):
            make()
    table = pipe("done", "t.tsv.settings.json")[: -len(".settings.json")]
    Path(table).write_text("FILE\tPREDICTION\na\tb\n")
    assert settings_of(table) == ({}, {})
    with pytest.raises(UsageError, match="has no valid t.tsv.settings.json beside it"):
        ResumableTable(table, ["FILE", "PREDICTION"], {})
    with pytest.raises(UsageError, match="errors.tsv is not a table of errors"):
        check_errors_table(pipe("done", "t.tsv.errors.tsv"), "-o/--output")
    with pytest.raises(UsageError, match="sorted.tsv was not written by --sort"):
        sort_images({}, os.path.dirname(pipe("sorted", "sorted.tsv")))


def test_reasons_that_would_mislead(tmp_path, monkeypatch):
    import builtins

    from lib.data.shards import of_file
    from toys import write_records

    from lib.data import records
    from lib.data.images import ImageError, read_image

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied", str(arguments[0]))

    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8")
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", refuse)
        with pytest.raises(ImageError, match="^can't be read whole: Permission denied$"):
            read_image(str(tmp_path / "a.jpg"), 16)
    with pytest.raises(records.BadRecordError, match=r"can't be decoded \(its header is damaged or cut short\)"):
        records.decode(b"\xff\xd8")

    found = records.open_records([write_records(tmp_path / "a.tfr", 2, 1)], "-t")
    with monkeypatch.context() as patch:
        patch.setattr(records.np, "empty", lambda *arguments: refuse(""))
        with pytest.raises(
            WorkError, match=r"^--cache memory: there is no room for .* MB of pixels .*another --cache\.$"
        ):
            records.load_images(found, cache="memory", report=lambda message: None)
        patch.setattr(records, "choose_cache", lambda need: "memory")
        with pytest.raises(WorkError, match=r"^there is no room for .* MB of pixels or answers in memory\.$"):
            records.load_images(found, report=lambda message: None)

    for content, words in (
        (b"a.jpg\r\nb.jpg\r\n", "lists no images .*; its lines end in CR and LF"),
        (b"\xef\xbb\xbfa.jpg\nb.jpg\n", "begins with a byte order mark, which would belong to the first name"),
        (b"a\nb\n", r"lists no images \(JPEG.*…\)\.$"),
    ):
        (tmp_path / "list.txt").write_bytes(content)
        with pytest.raises(UsageError, match=words):
            of_file(str(tmp_path / "list.txt"), lambda name: name.endswith(".jpg"))


class Touch:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def write_npz(path, arrays, packing=None):
    """Write arrays as `.npz`, those in `packing` (name -> way) packed."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with tempfile.TemporaryFile() as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=True)
                file.seek(0)
                archive.writestr(f"{name}.npy", file.read(), (packing or {}).get(name, zipfile.ZIP_STORED))


def test_arrays_that_are_pickles_are_not_unpickled(tmp_path):
    from lib.data.embeddings import load

    path, made = str(tmp_path / "a.npz"), tmp_path / "made"
    pickled = np.empty(1, object)
    pickled[0] = Touch(str(made))
    good = {"embeddings": np.zeros((1, 2), "float32"), "paths": np.array(["a"]), "settings": np.array("{}")}
    write_npz(path, good)
    assert load(path).paths.tolist() == ["a"]
    for name in good:
        write_npz(path, {**good, name: pickled})
        with pytest.raises(UsageError, match="a.npz holds no features of images"):
            load(path)
    assert not made.exists()
    with open(path, "wb") as file:
        np.save(file, pickled, allow_pickle=True)
    np.load(path, allow_pickle=True)[0].close()
    assert made.exists()  # else the test would show nothing


def test_arrays_packed_to_fill_the_memory(tmp_path):
    from lib.data.embeddings import load

    path, count = str(tmp_path / "a.npz"), (65 << 20) // 4
    large = {
        "embeddings": np.zeros((count, 0), "float32"),
        "paths": np.zeros(count, "<U1"),
        "settings": np.array("{}"),
    }
    write_npz(path, large, {"paths": zipfile.ZIP_DEFLATED})
    assert os.path.getsize(path) < 200_000
    with pytest.raises(UsageError, match="a.npz holds no features of images"):
        load(path)
    small = {**large, "embeddings": np.zeros((1, 2), "float32"), "paths": np.array(["a"])}
    for packing in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        write_npz(path, small, {"paths": packing})
        with pytest.raises(UsageError, match="a.npz holds no features of images"):
            load(path)


def test_records_of_which_none_can_be_read(tmp_path):
    from lib.data.records import open_records

    none = write_damaged_records(tmp_path / "c.tfr", first=0)
    with pytest.raises(UsageError, match="there are no records in .*c.tfr but bad ones: .*record 0, has a damaged le"):
        open_records([none], "-t/--test", skip_bad=True)

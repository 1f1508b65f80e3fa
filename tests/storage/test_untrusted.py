"""What comes from outside is read right or refused in a sentence."""

import json
import os
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.errors import UsageError, WorkError
from lib.storage.names import escape_name, unescape_name
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


@many
@given(st.lists(names, min_size=1, max_size=6, unique=True), st.data())
def test_what_was_written_to_a_table_survives_any_cut(found, data):
    from lib.storage.tables import ResumableTable, read_table

    kind = data.draw(st.sampled_from(["tsv", "csv", "jsonl"]))
    with folder() as here:
        path = os.path.join(here, f"t.{kind}")
        written = [escape_name(name) for name in found]
        table = ResumableTable(path, ["FILE", "PREDICTION"], {"--top": 1})
        ends = []
        for name in written:
            table.append([[name, "Live"]])
            ends.append(os.path.getsize(path + ".partial"))
        del table
        cut = data.draw(st.integers(ends[0], ends[-1]))
        os.truncate(path + ".partial", cut)
        with ResumableTable(path, ["FILE", "PREDICTION"], {"--top": 1}) as table:
            assert set(table) == {name for name, end in zip(written, ends) if end <= cut}
            table.append([[name, "Live"] for name in written if name not in table])
            table.finish({})
        rows = list(read_table(path))[1:]
        assert sorted(unescape_name(row[0]) for row in rows) == sorted(map(unescape_name, written))


@many
@given(st.sampled_from(["tsv", "csv", "jsonl"]), st.lists(lines | any_json.map(json.dumps), max_size=4).map("\n".join))
def test_any_text_as_a_table(kind, text):
    from lib.prediction.reporting import labels_of_table, read_predictions

    with folder() as here:
        path = Path(here) / f"t.{kind}"
        path.write_text(text, encoding="utf-8")
        (Path(here) / f"t.{kind}.settings.json").write_text(text, encoding="utf-8")
        assert all(isinstance(label, str) for label in labels_of_table(str(path)))
        try:
            rows, _ = read_predictions(str(path))
            assert all(row.name and row.category for row in rows)
        except UsageError as error:
            assert str(path) in str(error)


@many
@given(st.dictionaries(names, lines.filter(bool), min_size=1, max_size=5))
def test_images_of_any_name_are_sorted_into_folders_of_any_name(categories):
    from lib.prediction.sorting import INDEX, sort_images

    with folder() as here:
        data, sorted_ = os.path.join(here, "data"), os.path.join(here, "sorted")
        os.mkdir(data)
        found = {}
        for name, category in categories.items():
            if name not in (".", ".."):
                Path(data, name).write_bytes(b"x")
                found[escape_name(os.path.join(data, name))] = category * 20
        sort_images(found, sorted_)
        made = [os.path.join(parent, name) for parent, _, names in os.walk(sorted_) for name in names if name != INDEX]
        assert sorted(map(os.path.realpath, made)) == sorted(os.path.realpath(unescape_name(name)) for name in found)
        assert all(os.path.dirname(os.path.dirname(path)) == sorted_ for path in made)
        assert sort_images(found, sorted_).made == 0
        assert sorted(os.listdir(here)) == ["data", "sorted"]


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


@pytest.mark.parametrize("text", [DEEP, '{"FILE": "\\ud800.jpg", "PREDICTION": "a"}'])
def test_a_table_of_json_lines_that_is_none(text, tmp_path):
    from lib.prediction.reporting import read_predictions
    from lib.storage.tables import settings_of

    path = str(tmp_path / "t.jsonl")
    for name in (path, path + ".settings.json"):
        Path(name).write_text(text)
    Path(path + ".partial").write_text("herbariograph " + text + "\n")
    with pytest.raises(UsageError, match="t.jsonl can't be read as a table"):
        read_predictions(path)
    assert settings_of(path) == ({}, {})


def test_settings_beside_a_table_may_hold_anything(tmp_path):
    from lib.prediction.reporting import report_table

    table, page = tmp_path / "t.tsv", tmp_path / "p.html"
    table.write_text("FILE\tPREDICTION\nmissing.jpg\tText\n")
    for value in (5, [], {"a": "<script>alert(1)</script>"}, None, True):
        recorded = {"settings": {"-d/--data": value, "-m/--model": value, "--top": value}, "versions": {"a": value}}
        Path(f"{table}.settings.json").write_text(json.dumps(recorded))
        report_table(str(table), str(page), report=lambda message: None)
        assert "<script>alert" not in page.read_text()


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


def test_names_whose_ending_is_longer_than_a_name_may_be(tmp_path):
    from lib.prediction.sorting import sort_images

    for parent in ("one", "two"):
        (tmp_path / parent).mkdir()
        (tmp_path / parent / ("a." + "x" * 253)).write_bytes(b"")
    found = {f"{tmp_path}/{parent}/a.{'x' * 253}": "b." + "y" * 300 for parent in ("one", "two")}
    assert sort_images(found, str(tmp_path / "sorted")).made == 2


def test_a_row_whose_file_is_no_text_ends_what_is_gone_on_with(tmp_path):
    from lib.storage.tables import ResumableTable

    path = str(tmp_path / "t.jsonl")
    start = 'herbariograph {"settings": {}, "fresh": true}\n{"FILE": "a", "PREDICTION": "x"}\n'
    for spoilt in ('{"FILE": ["b"], "PREDICTION": "x"}\n', '{"FILE": 5, "PREDICTION": "x"}\n', DEEP + "\n"):
        Path(path + ".partial").write_text(start + spoilt)
        with ResumableTable(path, ["FILE", "PREDICTION"], {}) as table:
            assert set(table) == {"a"}
    Path(path + ".partial").write_text(start.replace("true", "false"))
    with pytest.raises(UsageError, match="t.jsonl, which .*t.jsonl.partial continues, is gone"):
        ResumableTable(path, ["FILE", "PREDICTION"], {})


def test_features_that_are_none(tmp_path):
    from lib.data.embeddings import Embeddings, load

    path, partial = str(tmp_path / "e.npz"), tmp_path / "e.npz.partial"
    for first in (b"{", DEEP.encode(), b"5"):
        partial.write_bytes(b"herbariograph embeddings " + first + b"\n")
        with pytest.raises(UsageError, match="e.npz.partial is damaged"):
            Embeddings(path, {})
    row = struct.pack("<II", 1, 2) + b"a" + bytes(8)
    for spoilt in (struct.pack("<II", 1, 2) + b"\xff" + bytes(8), struct.pack("<II", 1, 3) + b"b" + bytes(12)):
        partial.write_bytes(b"herbariograph embeddings {}\n" + row + spoilt)
        with Embeddings(path, {}) as rows:
            assert "a" in rows and "b" not in rows
    settings_ = np.array(json.dumps({}))
    for arrays in (
        {"embeddings": np.array([["a"]]), "paths": np.array(["a"])},
        {"embeddings": np.zeros((1, 2), "float32"), "paths": np.array([1.0])},
        {"embeddings": np.zeros((1, 2), "float32"), "paths": np.array(["\ud800"])},
    ):
        np.savez(path, settings=settings_, **arrays)
        with pytest.raises(UsageError, match="e.npz holds no features of images"):
            load(path)
    np.savez_compressed(
        path, settings=settings_, embeddings=np.zeros((1, 2), "float32"), paths=np.zeros(20 << 20, "<U1")
    )
    with pytest.raises(UsageError, match="e.npz holds no features of images"):
        load(path)


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


def test_folders_that_are_linked_with_each_other_end(tmp_path, at_once, monkeypatch):
    from lib.data import images

    monkeypatch.setattr(images, "_MOST_VISITS", 50)
    for number in range(9):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "a.jpg").write_bytes(b"")
        for other in range(9):
            if other != number:
                (tmp_path / str(number) / f"to-{other}").symlink_to(tmp_path / str(other))
    paths, problems = images.list_images(str(tmp_path))
    assert {str(tmp_path / str(number) / "a.jpg") for number in range(9)} <= set(paths)
    assert len(paths) == len(set(paths)) <= 9 * 50
    assert 1 <= len(problems) <= 9 and all("is linked from more than 50 places" in text for text in problems.values())


def test_a_folder_that_is_linked_from_several_places_is_listed_in_each(tmp_path):
    from lib.data.images import list_images

    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jpg").write_bytes(b"")
    for number in range(30):
        (tmp_path / f"link-{number}").symlink_to(tmp_path / "real")
    paths, problems = list_images(str(tmp_path))
    assert len(paths) == 31 and not problems


def test_reasons_that_would_mislead(tmp_path, monkeypatch):
    import builtins

    from toys import write_records

    from lib.data import records
    from lib.data.images import ImageError, read_image
    from lib.data.shards import of_file

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

"""What comes from outside is read right or refused in a sentence."""

import json
import random
import zipfile

import pytest

from lib.errors import UsageError
from lib.storage.untrusted import (
    RefusedError,
    check_text,
    check_zip_member,
    is_whole_number,
    json_text,
    parse_json,
    refusing,
)

DEEP, LONG = "[" * 100_000, "9" * 5000


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
    assert is_whole_number("017") and is_whole_number("9" * 18)
    for text in ("", "-1", "1.0", "٣", "9" * 19):
        assert not is_whole_number(text)


def test_json_is_refused_by_its_levels_not_by_what_its_texts_look_like():
    deepest = "[" * 300 + "]" * 300
    for text in (deepest, deepest.encode(), deepest.encode("utf-16"), json.dumps(["[" * 1000, '\\"' + "{" * 1000] * 3)):
        assert parse_json(text) == json.loads(text)
    for text in (f"[{deepest}]", '{"a": ' * 301, '[{"[[]]": ' * 151):
        with pytest.raises(ValueError, match="nested too deeply"):
            parse_json(text)
    assert len(parse_json(json.dumps([[]] * 1000))) == 1000
    rng = random.Random(4)
    for _ in range(2000):  # whatever quotes, backslashes and brackets are in its texts
        text = json.dumps(
            ["".join(rng.choices('\\"[]{}a', k=rng.randrange(9))) for _ in range(rng.randrange(1, 80))] * 8
        )
        assert parse_json(text) == json.loads(text)

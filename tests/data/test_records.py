"""Records are found and checked, and every cache gives the same pixels."""

import logging

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import jpeg, write_damaged_records, write_records

from lib.cli.types import record_files
from lib.data import records
from lib.data.record_format import decode, make_record
from lib.data.records import load_images, make_room, map_images, open_records, read_number_map, tell_left_out
from lib.errors import UsageError, WorkError


@pytest.fixture
def two_files(tmp_path):
    for name, numbers in (("a", range(5)), ("b", range(5, 8))):
        (tmp_path / f"{name}.tfr").write_bytes(b"".join(make_record(number % 3, jpeg(number)) for number in numbers))
    return str(tmp_path / "a.tfr"), str(tmp_path / "b.tfr")


@pytest.mark.parametrize("cache", ["memory", "disk", "none", None])
def test_every_cache_gives_the_same_pixels(cache, two_files, caplog):
    with caplog.at_level(logging.INFO, "lib"):
        images = load_images(open_records(two_files, "train"), cache=cache, processors=1)
    assert images.shape == (12, 16, 3) and len(images) == 8
    taken = images.take(np.array([7, 0, 0, 3]))
    assert taken.dtype == np.uint8
    np.testing.assert_array_equal(taken, [decode(jpeg(number)) for number in (7, 0, 0, 3)])
    (said,) = caplog.messages
    assert said.startswith("8 images of 16 x 12 pixels, ")


def test_grey_images_are_decoded_to_the_bands_that_are_asked_for(tmp_path):
    (tmp_path / "a.tfr").write_bytes(make_record(0, jpeg(1, mode="L")) + make_record(0, jpeg(2)))
    for bands in (1, 3):
        images = load_images(open_records([str(tmp_path / "a.tfr")], "train"), bands=bands)
        assert images.take([0, 1]).shape == (2, 12, 16, bands)


def test_the_cache_is_chosen_by_what_fits(monkeypatch):
    monkeypatch.setattr(records, "free_memory", lambda: 1000)
    assert records.choose_cache(500) == "memory"
    assert records.choose_cache(501) == "disk"
    assert records.choose_cache(1 << 60) == "none"


def test_no_room_is_one_sentence(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise MemoryError

    found = open_records([write_records(tmp_path / "a.tfr", 2, 1)], "train")
    monkeypatch.setattr(records.np, "empty", refuse)
    with pytest.raises(WorkError, match=r"^there is no room for .* MB of pixels .* in memory; choose another") as error:
        load_images(found, cache="memory")
    assert error.value.setting == "cache"
    monkeypatch.setattr(records, "choose_cache", lambda need: "memory")
    with pytest.raises(WorkError, match=r"^there is no room for .* MB of pixels or answers in memory\.$"):
        load_images(found)
    assert make_room("none", (2, 3)) is None and make_room("disk", (2, 3), "float32").shape == (2, 3)


def test_a_jpeg_that_cannot_be_decoded_is_named_and_can_be_skipped(tmp_path, caplog):
    broken = jpeg(1, (64, 64))[:-900] + b"\xff\xd9"
    (tmp_path / "a.tfr").write_bytes(make_record(0, jpeg(0)) + make_record(1, broken) + make_record(2, jpeg(2)))
    found = open_records([str(tmp_path / "a.tfr")], "train")
    for cache in ("memory", "none"):
        with pytest.raises(WorkError, match=r"a\.tfr, record 1, holds a JPEG that can't be decoded.*⟦skip_bad⟧"):
            load_images(found, cache=cache)
        images = load_images(found, cache=cache, skip_bad=True)
        assert images.records.category.tolist() == [0, 2]
        np.testing.assert_array_equal(images.take([1, 0]), [decode(jpeg(2)), decode(jpeg(0))])
    caplog.clear()
    with caplog.at_level(logging.INFO, "lib"):
        (sentence,) = tell_left_out([images])
    assert "a.tfr, record 1, holds a JPEG" in sentence
    assert caplog.messages == [f"Left out 1 bad record, such as {sentence}."]


def test_images_of_which_none_can_be_decoded_are_an_error_with_the_reason(tmp_path):
    (tmp_path / "a.tfr").write_bytes(make_record(0, b"\xff\xd8nothing") * 2)
    found = open_records([str(tmp_path / "a.tfr")], "train")
    with pytest.raises(
        WorkError, match=r"a\.tfr: no image can be decoded; .*a\.tfr, record 0, holds a JPEG that can't"
    ):
        load_images(found, skip_bad=True)


def test_images_of_different_sizes_are_refused(tmp_path):
    (tmp_path / "a.tfr").write_bytes(make_record(0, jpeg(0)) + make_record(1, jpeg(1, (20, 12))))
    found = open_records([str(tmp_path / "a.tfr")], "train")
    with pytest.raises(UsageError, match=r"a\.tfr, record 1, is 20 x 12 pixels where others are 16 x 12"):
        load_images(found)


def test_large_images_are_decoded_a_few_at_once(two_files, monkeypatch):
    decoding = []

    def decode_one(content, bands):
        decoding.append(1)
        return decode(content, bands)

    monkeypatch.setattr(records, "decode", decode_one)
    monkeypatch.setattr(records, "_CHUNK_BYTES", 2 * 12 * 16 * 3)
    images = load_images(open_records(two_files, "train"), cache="none", processors=1)
    found, first = open_records(two_files, "train"), []
    for indices, results, bad in map_images(lambda index, picture: picture.shape, found, range(8), chunk=3):
        first.append(len(indices))
        assert results == [(12, 16, 3)] * len(indices) and not bad
    assert first == [3, 3, 2] and images.take(range(8)).shape == (8, 12, 16, 3) and sum(decoding) == 1 + 8 + 8 + 8


def test_categories_are_checked(two_files):
    with pytest.raises(UsageError, match=r"a\.tfr, record 2, has the category 2; 0 to 1 are right for ⟦cat") as error:
        open_records(two_files, "train", 2)
    assert error.value.setting == "train"
    found = open_records(two_files, "train", 2, number_map={0: 1, 1: 0, 2: 1})
    assert found.category.tolist() == [1, 0, 1, 1, 0, 1, 1, 0]
    with pytest.raises(UsageError, match=r"the map has no category 1, which .*record 1, has") as error:
        open_records(two_files, "train", number_map={0: 0, 2: 1})
    assert error.value.setting == "number_map"


def test_no_records_is_an_error(tmp_path):
    (tmp_path / "a.tfr").write_bytes(b"")
    with pytest.raises(UsageError, match=r"there are no records in .*a\.tfr") as error:
        open_records([str(tmp_path / "a.tfr")], "validate")
    assert error.value.setting == "validate"
    none = write_damaged_records(tmp_path / "b.tfr", first=0)
    with pytest.raises(
        UsageError, match=r"there are no records in .*b\.tfr but bad ones: .*record 0, has a damaged le"
    ):
        open_records([none], "test", skip_bad=True)


def test_number_maps(tmp_path):
    path = tmp_path / "map.tsv"
    path.write_text("OLD\tNEW\tnote\n3\t0\tx\n5\t1\n")
    assert read_number_map(path) == {3: 0, 5: 1}
    wrong = ("OLD\tNEW\n", "OLD\tNEW\n1\n", "OLD\tNEW\n1\tx\n", "OLD\tNEW\n1\t2\n1\t3\n", f"O\tN\n{'9' * 5000}\t1\n")
    for text in wrong:
        path.write_text(text)
        with pytest.raises(UsageError, match=r"map\.tsv") as error:
            read_number_map(path)
        assert error.value.setting == "number_map"
    with pytest.raises(UsageError, match="can't be read"):
        read_number_map(tmp_path / "missing.tsv")


@settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1), min_size=1),
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=30),
)
def test_any_text_after_a_number_map(tmp_path_factory, numbers, more):
    path = tmp_path_factory.mktemp("maps") / "map.tsv"
    path.write_text("OLD\tNEW\n" + "".join(f"{old}\t{new}\n" for old, new in numbers.items()))
    assert read_number_map(str(path)) == numbers
    path.write_text(path.read_text() + more, encoding="utf-8")
    try:
        assert numbers.items() <= read_number_map(str(path)).items()
    except UsageError as error:
        assert str(path) in str(error)


def test_files_are_lists_and_globs(two_files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert record_files("a.tfr") == ("a.tfr",)
    assert record_files("b.tfr,a.tfr") == ("b.tfr", "a.tfr")
    assert record_files("*.tfr") == ("a.tfr", "b.tfr") == record_files("a.tfr,*.tfr")
    for wrong in ("c.tfr", "a.tfr,c*.tfr", ""):
        with pytest.raises(Exception, match="not an existing file"):
            record_files(wrong)
